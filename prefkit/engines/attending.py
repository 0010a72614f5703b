"""Attention of one new token a row to all before it, on a CPU.

Two plain products, of a row's queries with its keys and of their weights with its values. The fused kernel cuts the
work among threads in the middle of rows, so with two threads or more a row's last bits would depend on where it stands
(seen with torch 2.13); the library's plain one copies all keys at every token. Measured on one core, with 8 heads of
64 and 128 places: 16 rows 0.44 ms against 0.47 fused and 1.07 plain, 64 rows 4.4 against 5.4 and 6.8.

Shapes: R rows, H heads, G heads of keys and values, T places, D head size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

__all__ = ["attending_by_row"]

_NAME = "prefkit_by_row"


@contextmanager
def attending_by_row(network: "PreTrainedModel") -> Iterator[None]:
    """Let a model on a CPU attend by rows, if it would leave attention to torch."""
    if network.device.type != "cpu" or network.config._attn_implementation != "sdpa":  # noqa: SLF001 - its only name
        yield
        return
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    network.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        network.set_attn_implementation("sdpa")


def _attend(
    module: "torch.nn.Module",
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    attention_mask: "Tensor | None" = None,
    *,
    scaling: float | None = None,
    position_bias: "Tensor | None" = None,
    **more: Any,
) -> "tuple[Tensor, None]":
    """Attend as the library does. Shapes: [R, H, 1, D], two [R, G, T, D] and bool [R, 1, 1, T] to [R, 1, H, D]."""
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    rows, heads, new, size = query.shape
    if new != 1 or attention_mask is None or attention_mask.dtype != torch.bool or position_bias is not None:
        settings = {"scaling": scaling, "position_bias": position_bias, **more}
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **settings
        )
        return found
    groups = key.shape[1]
    asked = query.reshape(rows, groups, heads // groups, size) * (size**-0.5 if scaling is None else scaling)
    scores = torch.matmul(asked, key.transpose(-1, -2)).masked_fill_(~attention_mask, float("-inf"))
    out = torch.matmul(scores.softmax(-1), value)
    return out.reshape(rows, 1, heads, value.shape[-1]), None
