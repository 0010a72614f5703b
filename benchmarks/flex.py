"""Attention over the packed line by FlexAttention: no row is copied out, a prompt's own attention is computed once.

Its backward pass exists on GPUs only, and is fast only when compiled.
"""

from collections.abc import Callable
from typing import Any

NAME = "bench_flex"


def use(model: Any) -> None:
    """Let a model attend this way in the trainer."""
    import torch
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
    from transformers import AttentionInterface

    from prefkit.train import forward

    attend = torch.compile(flex_attention, dynamic=True) if torch.cuda.is_available() else flex_attention
    plain = forward.pack

    def pack(pairs: Any, device: Any, **settings: Any) -> Any:
        packed = plain(pairs, device, **settings)
        size = packed.tokens.shape[1]
        return packed._replace(rows=create_block_mask(mask_of(packed), None, None, size, size, device))

    def packed_attention(  # noqa: ANN202 - transformers' own protocol
        _: Any,
        query: Any,
        key: Any,
        value: Any,
        __: Any = None,
        *,
        scaling: Any = None,
        rows: Any,
        **___: Any,
    ):
        shared = query.shape[1] != key.shape[1]
        query, key = query.to(value.dtype), key.to(value.dtype)
        out = attend(query, key, value, block_mask=rows, scale=scaling, enable_gqa=shared)
        return out.transpose(1, 2), None

    AttentionInterface.register(NAME, packed_attention)
    model.set_attn_implementation(NAME)
    forward.pack = pack


def mask_of(packed: Any) -> Callable[[Any, Any, Any, Any], Any]:
    """Return what says whether token q sees token k: k stands before it, in its own prompt or its own answer."""
    import torch

    prompt = (packed.positions[0] == 0).cumsum(0)
    answer = torch.zeros_like(prompt)
    inside = torch.ones_like(packed.sources, dtype=torch.bool)
    inside[packed.starts] = False  # the first token of an answer is predicted from the prompt
    answer[packed.sources[inside]] = packed.response[inside] + 1
    # An answer may stand after another prompt than its own: its own is where its first token is predicted.
    prompt[packed.sources[inside]] = prompt[packed.sources[packed.starts]][packed.response[inside]]

    def sees(_: Any, __: Any, q: Any, k: Any) -> Any:
        together = (answer[k] == 0) | (answer[k] == answer[q])
        return (k <= q) & (prompt[k] == prompt[q]) & together

    return sees
