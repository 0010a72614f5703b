"""Log-probs of scored tokens: the head is applied to them alone, and never leaves all its logits in memory.

The log-prob of a token has a slope that does not depend on the loss: one-hot minus softmax. So the forward pass, while
it has a chunk's probabilities in hand, takes them through the head once more and keeps one vector a token, which the
backward pass only has to scale. The head's own gradient needs the probabilities again: those of the first chunks are
kept, as many as ever fit a fixed buffer, and those of the others are made anew. So memory does not grow with the
vocabulary times the batch, and a batch that fits pays three products with the head, as many as without chunks.

Softmax and sums run in float32 whatever the model computes in, since bfloat16 has three digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from prefkit.errors import TrainError
from prefkit.train.batches import Packed, pack
from prefkit.train.tokenise import Pair

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

__all__ = [
    "LogProbs",
    "Uncertainty",
    "check_model",
    "chunks",
    "head_of",
    "log_probs",
    "scored_hidden",
    "sums",
    "token_log_probs",
    "uncertainty",
]

CHUNK_BYTES = 24 << 20
"""Float32 logits of one chunk on a CPU, where every block over 32 MiB is asked of the system, page by page."""
GPU_CHUNK_BYTES = 512 << 20
"""The same on a GPU, which is kept busy by long products only."""
KEPT_CHUNKS = 8
"""Of how many chunks the probabilities are kept for the backward pass."""


class LogProbs(NamedTuple):
    """What a model says of a micro-batch."""

    tokens: Tensor
    """[scored] log-prob of each scored token, nats, float32."""
    responses: Tensor
    """[responses] their sums."""


def log_probs(model: PreTrainedModel, packed: Packed) -> LogProbs:
    """Run the body once over the packed line and the head over the scored tokens. Differentiable."""
    tokens = token_log_probs(scored_hidden(model, packed), head_of(model), packed.targets)
    return LogProbs(tokens, sums(tokens, packed))


def scored_hidden(model: PreTrainedModel, packed: Packed, embeddings: Tensor | None = None) -> Tensor:
    """Return the hidden state that predicts each scored token, [scored, dim].

    `embeddings` [1, tokens, dim] stand in for the embedded tokens where a gradient with respect to them is wanted.
    """
    out = model.base_model(
        input_ids=packed.tokens if embeddings is None else None,
        inputs_embeds=embeddings,
        position_ids=packed.positions,
        rows=packed.rows,
        use_cache=False,
        return_dict=True,
    )
    hidden: Tensor = out.last_hidden_state[0].index_select(0, packed.sources)
    scale = _logit_scale(model)
    return hidden if scale == 1 else hidden * scale


def _logit_scale(model: PreTrainedModel) -> float:
    """Return what a model multiplies its logits by, under the two names that configurations have for it."""
    told = model.config.get_text_config().to_dict()
    return float(told.get("logit_scale") or 1.0) / float(told.get("logits_scaling") or 1.0)


def head_of(model: PreTrainedModel) -> Tensor:
    """Return the matrix that makes logits of hidden states, [vocab, dim]."""
    weight: Tensor = model.get_output_embeddings().weight
    return weight


def sums(values: Tensor, packed: Packed) -> Tensor:
    """Return the sum of a number per scored token over each distinct response, [responses], summed in float64."""
    import torch

    total = packed.sizes.new_zeros(len(packed.sizes), dtype=torch.float64)
    return total.index_add(0, packed.response, values.double()).float()


def token_log_probs(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Return log softmax(hidden @ head.T)[target], float32 [tokens].

    Shapes: `hidden` [tokens, dim], `head` [vocab, dim], `targets` [tokens].
    """
    import torch

    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        hidden = hidden.to(torch.get_autocast_dtype(kind))
    result: Tensor = _fused().apply(hidden, head, targets, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
    return result


class Uncertainty(NamedTuple):
    """How widely a model spreads its probability over the vocabulary, at some tokens. Both are float32 [tokens]."""

    entropy: Tensor
    """Nats."""
    top: Tensor
    """Share of the most likely tokens."""

    def means(self) -> tuple[float, float, int]:
        """Return both means, and over how many tokens."""
        return float(self.entropy.mean()), float(self.top.mean()), len(self.top)


def uncertainty(hidden: Tensor, head: Tensor, *, most: int = 64, top: int = 10) -> Uncertainty:
    """Return entropy and the mass of the `top` likeliest tokens at up to `most` scored tokens, evenly spaced.

    Without gradient. They are for watching: sorting out the vocabulary at every token would cost as much as its
    log-prob, and the mean of a sample tells as well.
    """
    import torch

    step = -(-len(hidden) // most)
    with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
        logits = (hidden[::step] @ head.to(hidden.dtype).T).float()
        p = logits.softmax(-1)
        below = logits - logits.amax(-1, keepdim=True)
        entropy = -p.amax(-1).log() - torch.linalg.vecdot(p, below)
        return Uncertainty(entropy, p.topk(min(top, p.shape[-1]), -1).values.sum(-1))


@cache
def _fused() -> type[torch.autograd.Function]:
    """Linear, log-softmax and pick as one operation. Made on first use, since only then torch is imported."""
    import torch

    class Fused(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, learn: bool) -> Tensor:
            room = KEPT_CHUNKS if ctx.needs_input_grad[1] else 0
            logps, slopes, kept = _forward(hidden, head, targets, learn, room)
            ctx.save_for_backward(hidden, head, targets, slopes, *kept)
            return logps

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
            hidden, head, targets, slopes, *kept = ctx.saved_tensors
            weights = -gradient[:, None]
            for_head = None
            if ctx.needs_input_grad[1]:
                for_head = _head_gradient((hidden * weights).to(hidden.dtype), hidden, head, targets, kept)
            return (slopes * weights).to(hidden.dtype), for_head, None, None

    return Fused


class _Scored(NamedTuple):
    logps: Tensor
    """Float32 [tokens]."""
    slopes: Tensor | None
    """-d log-prob / d hidden, [tokens, dim]."""
    kept: list[Tensor]
    """-d log-prob / d logits of the first chunks, [chunk, vocab]."""


def _forward(hidden: Tensor, head: Tensor, targets: Tensor, learn: bool, room: int) -> _Scored:
    import torch

    small = head.to(hidden.dtype)
    logps = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
    found = _Scored(logps, torch.empty_like(hidden) if learn else None, [])
    with torch.autocast(hidden.device.type, enabled=False):
        for part in chunks(hidden, head):
            logits = hidden[part] @ small.T
            p = logits.softmax(-1, dtype=torch.float32)
            logps[part] = _log_prob(logits, p, targets[part])
            if found.slopes is not None:
                miss = _miss(p, targets[part]).to(hidden.dtype)
                found.slopes[part] = miss @ small
                if len(found.kept) < room:
                    found.kept.append(miss)
    return found


def _log_prob(logits: Tensor, p: Tensor, targets: Tensor) -> Tensor:
    """Return the log-prob of each target, float32, by way of the likeliest token, whose `p` never underflows."""
    own = logits.gather(-1, targets[:, None])[:, 0]
    return (own.float() - logits.amax(-1).float()) + p.amax(-1).log()


def _miss(p: Tensor, targets: Tensor) -> Tensor:
    """Return softmax minus one-hot, the slope of a log-prob in the logits but for its sign, in place of `p`."""
    return p.scatter_add_(1, targets[:, None], -p.new_ones(len(targets), 1))


def _head_gradient(
    weighted: Tensor, hidden: Tensor, head: Tensor, targets: Tensor, kept: list[Tensor]
) -> Tensor:
    """Return the gradient of `head`. `weighted` is `hidden`, each row times minus the gradient of its log-prob."""
    import torch

    small, gradient = head.to(hidden.dtype), torch.zeros_like(head)
    for part, known in zip_longest(chunks(hidden, head), kept):
        miss = known
        if miss is None:
            p = (hidden[part] @ small.T).softmax(-1, dtype=torch.float32)
            miss = _miss(p, targets[part]).to(hidden.dtype)
        if gradient.dtype == miss.dtype:
            gradient.addmm_(miss.T, weighted[part])
        else:
            gradient += miss.T @ weighted[part]
    return gradient


def chunks(hidden: Tensor, head: Tensor) -> Iterator[slice]:
    """Cut scored tokens into chunks whose logits may be in memory at once."""
    allowed = CHUNK_BYTES if hidden.device.type == "cpu" else GPU_CHUNK_BYTES
    size = max(1, allowed // (4 * head.shape[0]))
    return (slice(start, start + size) for start in range(0, len(hidden), size))


def check_model(model: PreTrainedModel, pair: Pair) -> None:
    """Raise TrainError unless packed log-probs equal those of the model's own plain forward pass, token by token.

    Architectures that do not take the attention interface, mix tokens in other ways than by attention, attend to more
    than keys and values, or change logits after the head would train on wrong numbers; one pair tells. Both passes
    run in float32, so 0.01 nats are far above what kernels differ by; what is below could not be told from noise.
    """
    import torch

    device = model.get_output_embeddings().weight.device
    packed = pack([pair], device)
    with torch.no_grad():
        found = log_probs(model, packed).tokens
        with _own_attention(model):
            for number, response in (
                (int(packed.chosen[0]), pair.chosen),
                (int(packed.rejected[0]), pair.rejected),
            ):
                line = torch.tensor([[*pair.prompt, *response[:-1]]], device=device)
                logits = model(input_ids=line, use_cache=False).logits[0, len(pair.prompt) - 1 :].float()
                plain = logits.log_softmax(-1).gather(-1, torch.tensor(response, device=device)[:, None])[
                    :, 0
                ]
                start = int(packed.starts[number])
                apart = float((plain - found[start : start + len(response)]).abs().max())
                if not apart <= 0.01:
                    what = f"packed log-probs of {type(model).__name__} differ from its own by {apart:.2g} nats a token"
                    raise TrainError(
                        what, hint="this architecture cannot be trained packed; train another model"
                    )


@contextmanager
def _own_attention(model: PreTrainedModel) -> Iterator[None]:
    """Let a model attend as its authors wrote it."""
    packed = model.config._attn_implementation  # noqa: SLF001 - transformers has no other name for it
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(packed)
