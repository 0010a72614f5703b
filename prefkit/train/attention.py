"""Attention over packed rows: every token goes through the network once, every row attends as if it were alone.

A batch is one long line of tokens in which a prompt stands once, followed by each of its distinct responses. Linear
layers do not care; attention does. So queries, keys and values are gathered into rows (prompt + one response), which
are plainly causal and need no mask, and each token's output is taken from the first row that holds it. Rows of
similar length share one call; their padding exists inside that call only, where a causal row never looks at it.

The same layout serves CPU and GPU: FlexAttention has no backward on CPU, and an explicit mask over the whole line
would cost the square of the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prefkit.errors import TrainError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["NAME", "Layout", "layout", "register"]

NAME = "prefkit_packed"
"""The attention implementation that a model must be loaded with."""

_TIGHT = 0.8
"""A row joins a bucket if it is at least this share of its longest: at most 20% of a call is padding, 10% on average."""


class Layout(NamedTuple):
    """Where each row finds its tokens, and each token its output."""

    buckets: tuple[Tensor, ...]
    """One [rows, longest] index into the packed line per bucket; padding points at token 0."""
    home: Tensor
    """[tokens]: where each token's output stands in the buckets' rows, laid end to end."""
    longest: int
    """Tokens of the longest row."""


def layout(rows: list[np.ndarray], tokens: int, device: torch.device) -> Layout:
    """Sort rows into buckets of similar length. `rows` holds each row's indices into a line of `tokens` tokens."""
    import torch

    order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
    home = np.full(tokens, -1, dtype=np.int64)
    buckets, start, done = [], 0, 0
    while start < len(order):
        longest = len(rows[order[start]])
        end = start
        while end < len(order) and len(rows[order[end]]) >= _TIGHT * longest:
            end += 1
        index = np.zeros((end - start, longest), dtype=np.int64)
        for at, row in enumerate(order[start:end]):
            size = len(rows[row])
            index[at, :size] = rows[row]
            fresh = home[rows[row]] < 0
            home[rows[row][fresh]] = done + at * longest + np.flatnonzero(fresh)
        buckets.append(torch.from_numpy(index).to(device))
        done += index.size
        start = end
    longest = len(rows[order[0]])
    return Layout(tuple(buckets), torch.from_numpy(home).to(device), longest)


def register() -> None:
    """Tell transformers about the packed attention; safe to call again."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,  # noqa: ARG001 - rows are causal, and need none
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    rows: Layout | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attend within rows. Shapes: query [batch, heads, tokens, dim], key and value with as many or fewer heads.

    Without `rows` it is plain causal attention, which the self-check compares with. Returns [batch, tokens, heads, dim].
    Raises TrainError for a softcap or a window that would cut a row: neither has a fused kernel here.
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention as attend

    longest = query.shape[2] if rows is None else rows.longest
    if softcap or (sliding_window is not None and sliding_window < longest):
        what = f"{type(module).__name__} limits attention to a window or caps it, which packed training does not do"
        raise TrainError(what, hint="set `max_length` below the model's window, or train another model")
    shared = query.shape[1] != key.shape[1]
    if rows is None:
        whole = attend(query, key, value, is_causal=True, scale=scaling, dropout_p=dropout, enable_gqa=shared)
        return whole.transpose(1, 2), None
    # [tokens, heads, dim]: a row's tokens are then contiguous stretches of memory to copy. Rotary positions leave query
    # and key in float32 under autocast, of which attention would take only the half that `value` has.
    line = [part[0].transpose(0, 1).to(value.dtype) for part in (query, key, value)]
    outputs = []
    for index in rows.buckets:
        count, length = index.shape
        where = index.reshape(-1)
        q, k, v = (
            part.index_select(0, where).view(count, length, *part.shape[1:]).transpose(1, 2) for part in line
        )
        out = attend(q, k, v, is_causal=True, scale=scaling, dropout_p=dropout, enable_gqa=shared)
        outputs.append(out.transpose(1, 2).reshape(count * length, *out.shape[1:2], out.shape[-1]))
    flat = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return flat.index_select(0, rows.home).unsqueeze(0), None
