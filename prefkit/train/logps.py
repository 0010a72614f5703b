"""Log-probs of scored tokens: the head is applied to them alone, and never leaves all its logits in memory.

Of a chunk of scored tokens the logits exist for a moment; what stays is one number a token. The backward pass computes
them again, chunk by chunk: one more product with the head buys a memory that does not grow with the vocabulary times
the batch. Log-softmax and the sums run in float32 whatever the model computes in, since bfloat16 has three digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from prefkit.errors import TrainError
from prefkit.train.batches import Packed, pack
from prefkit.train.tokenise import Pair

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

__all__ = ["LogProbs", "check_model", "log_probs", "token_log_probs"]

CHUNK_BYTES = 32 << 20
"""Float32 logits of one chunk. 32 MiB is enough to keep the matrix products busy on a CPU and on a GPU."""


class LogProbs(NamedTuple):
    """What a model says of a micro-batch."""

    tokens: Tensor
    """[scored] log-prob of each scored token, nats, float32."""
    responses: Tensor
    """[responses] their sums."""


def log_probs(model: PreTrainedModel, packed: Packed) -> LogProbs:
    """Run the body once over the packed line and the head over the scored tokens. Differentiable."""
    import torch

    out = model.base_model(
        input_ids=packed.tokens,
        position_ids=packed.positions,
        rows=packed.rows,
        use_cache=False,
        return_dict=True,
    )
    hidden = out.last_hidden_state[0].index_select(0, packed.sources)
    tokens = token_log_probs(hidden, model.get_output_embeddings().weight, packed.targets)
    sums = torch.zeros_like(packed.sizes).index_add(0, packed.response, tokens)
    return LogProbs(tokens, sums)


def token_log_probs(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Return log softmax(hidden @ head.T)[target], float32 [tokens].

    Shapes: `hidden` [tokens, dim], `head` [vocab, dim], `targets` [tokens].
    """
    import torch

    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        hidden = hidden.to(torch.get_autocast_dtype(kind))
    result: Tensor = _fused().apply(hidden, head, targets)  # type: ignore[no-untyped-call]
    return result


@cache
def _fused() -> type[torch.autograd.Function]:
    """Linear, log-softmax and pick as one operation. Made on first use, since only then torch is imported."""
    import torch

    class Fused(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
            picked, scale = _forward(hidden, head, targets)
            ctx.save_for_backward(hidden, head, targets, scale)
            return picked - scale

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
            hidden, head, targets, scale = ctx.saved_tensors
            for_head = torch.zeros_like(head) if ctx.needs_input_grad[1] else None
            return _backward(hidden, head, targets, scale, gradient, for_head), for_head, None

    return Fused


def _forward(hidden: Tensor, head: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return each target's logit, and the log of the sum of all exponentials. Both float32 [tokens]."""
    import torch

    small = head.to(hidden.dtype)
    picked = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
    scale = torch.empty_like(picked)
    with torch.autocast(hidden.device.type, enabled=False):
        for part in _chunks(len(targets), head.shape[0]):
            logits = (hidden[part] @ small.T).float()
            scale[part] = logits.logsumexp(-1)
            picked[part] = logits.gather(-1, targets[part, None])[:, 0]
    return picked, scale


def _backward(
    hidden: Tensor, head: Tensor, targets: Tensor, scale: Tensor, gradient: Tensor, for_head: Tensor | None
) -> Tensor:
    """Return the gradient of `hidden`, and add that of `head` to `for_head`.

    d log-prob / d logits is one-hot minus softmax, each row times its gradient.
    """
    import torch

    small = head.to(hidden.dtype)
    for_hidden = torch.empty_like(hidden)
    for part in _chunks(len(targets), head.shape[0]):
        logits = (hidden[part] @ small.T).float()
        logits.sub_(scale[part, None]).exp_().mul_(-gradient[part, None])
        logits.scatter_add_(1, targets[part, None], gradient[part, None])
        inner = logits.to(hidden.dtype)
        for_hidden[part] = inner @ small
        if for_head is not None:
            for_head += inner.T @ hidden[part]
    return for_hidden


def _chunks(tokens: int, vocab: int) -> Iterator[slice]:
    size = max(1, CHUNK_BYTES // (4 * vocab))
    return (slice(start, start + size) for start in range(0, tokens, size))


def check_model(model: PreTrainedModel, pair: Pair) -> None:
    """Raise TrainError unless packed log-probs equal those of the model's own plain forward pass.

    Architectures that do not take the attention interface, mix tokens in other ways than by attention, or change
    logits after the head would train on wrong numbers; one pair tells. Tolerance: 0.02 nats a token on average, far
    above what bfloat16 kernels differ by and far below what a wrong prompt costs.
    """
    import torch

    device = model.get_output_embeddings().weight.device
    packed = pack([pair], device)
    with torch.no_grad():
        found = log_probs(model, packed).responses
        for number, response in (
            (int(packed.chosen[0]), pair.chosen),
            (int(packed.rejected[0]), pair.rejected),
        ):
            line = torch.tensor([[*pair.prompt, *response[:-1]]], device=device)
            logits = model(input_ids=line, use_cache=False).logits[0, len(pair.prompt) - 1 :].float()
            plain = logits.log_softmax(-1).gather(-1, torch.tensor(response, device=device)[:, None]).sum()
            if not abs(float(plain - found[number])) <= 0.02 * len(response):
                numbers = f"{float(found[number])}, not {float(plain)}"
                what = f"packed log-probs of {type(model).__name__} differ from its own: {numbers}"
                raise TrainError(what, hint="this architecture cannot be trained packed; train another model")
