"""Forward: what the policy, and where it is asked the reference, say of a micro-batch, as an objective reads it.

The body runs once over the packed line. Log-probs are summed over each response, or over what the objective's mask
keeps of each side of a pair. Terms that need the whole distribution at a token are computed in chunks whose logits are
made anew in the backward pass, so that they too never hold [tokens, vocab].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from prefkit.errors import TrainError
from prefkit.objectives import SIDES, Lists, Objective, Pairs, Response, Side, TokenTerm
from prefkit.train.batches import Packed, pack, split_by_tokens
from prefkit.train.logps import (
    Uncertainty,
    chunks,
    head_of,
    scored_hidden,
    sums,
    token_log_probs,
    uncertainty,
)
from prefkit.train.ranks import Ranks
from prefkit.train.settings import TrainPlacement
from prefkit.train.tokenise import Pair

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

__all__ = ["Forward", "Task", "columns_of", "forward", "precision"]

REFERENCE = ("ref_chosen_logp", "ref_rejected_logp")
"""The columns that hold the reference's log-probs."""
HEADS = "per-dimension"
"""The name of the trained output heads, [dimensions, vocab, dim], in `Task.heads`."""


class Task(NamedTuple):
    """What is trained on what: all that a step needs to know of the world."""

    model: PreTrainedModel
    objective: Objective
    columns: Mapping[str, np.ndarray]
    """The objective's columns for the whole table, [rows, ...] each, addressed by `Pair.row`."""
    placement: TrainPlacement = TrainPlacement()
    heads: Mapping[str, Tensor] = {}
    """Trained matrices beside the model."""
    reference: Callable[[], AbstractContextManager[PreTrainedModel]] | None = None
    """Lends the reference, for objectives with terms that need its whole distribution."""
    lists: Mapping[str, pa.ChunkedArray] = {}
    """Columns with a list of (id, number) per scored token."""
    ranks: Ranks = Ranks()
    """The processes that share the work of a step."""

    def micro(self, pairs: Sequence[Pair]) -> list[list[int]]:
        """Cut pairs into what is in memory at once, as many parts for each rank; indices into `pairs`."""
        room = self.placement.room(self.model.device.type)
        return split_by_tokens(pairs, room, listwise=self.objective.listwise(), ranks=self.ranks.size)


class Forward(NamedTuple):
    """What was said of a micro-batch."""

    pairs: Pairs
    tokens: int
    """Tokens that went through the network."""
    embeddings: Tensor | None
    """[1, tokens, dim] the input embeddings, kept where the objective has a penalty on their gradient."""
    packed: Packed
    uncertainty: Uncertainty
    """Of the policy, at some of the scored tokens."""


def forward(
    task: Task, pairs: Sequence[Pair], more: Mapping[str, np.ndarray], step_tokens: float | None = None
) -> Forward:
    """Run the policy, and the reference if a term needs it. Differentiable in the policy.

    `more` are columns of the step that are no columns of the table, [pairs] each.
    """
    return task.ranks.enter(lambda: _forward(task, pairs, more, step_tokens))


def _forward(
    task: Task, pairs: Sequence[Pair], more: Mapping[str, np.ndarray], step_tokens: float | None
) -> Forward:
    device = task.model.device
    twice = bool(task.objective.penalty.active)
    packed = pack(pairs, device, shared=not twice)
    embeddings = task.model.get_input_embeddings()(packed.tokens) if twice else None
    with precision(task.model, task.placement), _twice(twice):
        hidden = scored_hidden(task.model, packed, embeddings)
        sides = [_Side(packed, pairs, side) for side in SIDES]
        logps = None if HEADS in task.heads else _log_probs(hidden, task, packed, twice)
        terms = {term.name: _term(task, term, packed, pairs, hidden) for term in task.objective.terms()}
    columns = columns_of(task, pairs, more, device)
    said = []
    for side in sides:
        own = side.head_log_probs(task, hidden, columns) if logps is None else logps
        masked = side.weights is not None
        said.append(
            Response(
                logp=side.sum(own, side.weights),
                tokens=side.mass(),
                ref_logp=columns.get(f"ref_{side.name}_logp"),
                plain_logp=side.sum(own) if masked else None,
                plain_tokens=packed.sizes[side.response] if masked else None,
                terms={
                    term.name: side.sum(terms[term.name], side.term_weights if term.masked else None)
                    for term in task.objective.terms()
                    if side.name in term.sides
                },
                hidden=side.mean(hidden) if any(extra.hidden for extra in task.objective.extras) else None,
            )
        )
    lists = _lists(packed, pairs) if task.objective.listwise() else None
    result = Pairs(said[0], said[1], columns, lists, task.heads, step_tokens)
    watched = uncertainty(hidden.detach(), head_of(task.model))
    return Forward(result, packed.tokens.shape[1], embeddings, packed, watched)


def columns_of(
    task: Task, pairs: Sequence[Pair], more: Mapping[str, np.ndarray], device: torch.device
) -> dict[str, Tensor]:
    """Return the columns of pairs as float32 tensors, [pairs, ...] each."""
    import torch

    rows = [pair.row for pair in pairs]
    own = {name: values[rows] for name, values in task.columns.items()}
    return {name: torch.from_numpy(values).float().to(device) for name, values in {**own, **more}.items()}


def precision(model: PreTrainedModel, placement: TrainPlacement) -> AbstractContextManager[None]:
    """Return the context to compute in: autocast to bfloat16, or plain float32."""
    import torch

    return torch.autocast(model.device.type, torch.bfloat16, enabled=placement.half(model.device.type))


class _Side:
    """One side of every pair of a micro-batch: which of the scored tokens are its own, and what they weigh."""

    def __init__(self, packed: Packed, pairs: Sequence[Pair], name: Side) -> None:
        import torch

        self.name, self._packed = name, packed
        self.response = packed.chosen if name == "chosen" else packed.rejected
        at = SIDES.index(name)
        self.weights = self.term_weights = None
        if pairs[0].masks is not None:
            masks = [pair.masks[at] for pair in pairs if pair.masks is not None]
            device = packed.sizes.device
            self.weights, self.term_weights = (
                torch.from_numpy(np.concatenate(part)).float().to(device)
                for part in ([mask.tokens for mask in masks], [mask.terms for mask in masks])
            )

    def sum(self, values: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the weighted sum of a number per scored token over each pair's side, [pairs]."""
        if weights is None:
            return sums(values, self._packed)[self.response]
        index, pair = self.index()
        return values.new_zeros(len(self.response)).index_add(0, pair, values[index] * weights)

    def mass(self) -> Tensor:
        """Return the sum of the weights of each pair's side, [pairs]."""
        if self.weights is None:
            return self._packed.sizes[self.response]
        _, pair = self.index()
        return self.weights.new_zeros(len(self.response)).index_add(0, pair, self.weights)

    def mean(self, hidden: Tensor) -> Tensor:
        """Return the mean hidden state over each pair's side, float32 [pairs, dim]."""
        total = hidden.new_zeros(len(self._packed.sizes), hidden.shape[1], dtype=self._packed.sizes.dtype)
        total = total.index_add(0, self._packed.response, hidden.to(total.dtype))
        return (total / self._packed.sizes[:, None])[self.response]

    def index(self) -> tuple[Tensor, Tensor]:
        """Return which scored tokens are of this side, pair by pair, and the pair of each."""
        import torch

        sizes = self._packed.sizes[self.response].long()
        pair = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)
        before = (sizes.cumsum(0) - sizes)[pair]
        within = torch.arange(len(pair), device=sizes.device) - before
        return self._packed.starts[self.response][pair] + within, pair

    def head_log_probs(self, task: Task, hidden: Tensor, columns: Mapping[str, Tensor]) -> Tensor:
        """Return the log-prob of each scored token under the output head of its pair's dimension; 0 elsewhere."""
        index, pair = self.index()
        which = columns["dimension"].long()[pair]
        logps = self._packed.sizes.new_zeros(len(hidden))
        for number, head in enumerate(task.heads[HEADS]):
            mine = index[which == number]
            if len(mine):
                found = token_log_probs(hidden[mine], head, self._packed.targets[mine])
                logps = logps.index_put((mine,), found)
        return logps


def _log_probs(hidden: Tensor, task: Task, packed: Packed, twice: bool) -> Tensor:
    if not twice:
        return token_log_probs(hidden, head_of(task.model), packed.targets)
    logits = (hidden @ head_of(task.model).to(hidden.dtype).T).float()
    return logits.log_softmax(-1).gather(-1, packed.targets[:, None])[:, 0]


def _twice(needed: bool) -> AbstractContextManager[None]:
    """Return the context in which the backward pass can itself be differentiated: only plain attention can."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH) if needed else nullcontext()


def _term(task: Task, term: TokenTerm, packed: Packed, pairs: Sequence[Pair], hidden: Tensor) -> Tensor:
    """Return a term's number for each scored token, float32 [scored]."""
    import torch
    from torch.utils.checkpoint import checkpoint

    head, other, other_head = head_of(task.model), None, None
    if term.reference:
        if task.reference is None:
            raise TrainError(
                f"term '{term.name}' needs the reference model", hint="give the task a `reference`"
            )
        with torch.no_grad(), task.reference() as reference:
            other, other_head = scored_hidden(reference, packed), head_of(reference).detach()
    known = None if term.column is None else _known(task, term, packed, pairs)

    def numbers(part: slice) -> Tensor:
        policy = (hidden[part] @ head.to(hidden.dtype).T).float().log_softmax(-1)
        under = None
        if other is not None and other_head is not None:
            under = (other[part] @ other_head.to(other.dtype).T).float().log_softmax(-1)
        return term.function(policy, under, None if known is None else (known[0][part], known[1][part]))

    parts = [checkpoint(numbers, part, use_reentrant=False) for part in chunks(hidden, head)]
    return torch.cat(parts)


def _known(task: Task, term: TokenTerm, packed: Packed, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    """Return ids and numbers of a term's column at each scored token, [scored, k]; -1 and 0 where there is none."""
    import torch

    told: dict[int, list[list[dict[str, float]]]] = {}
    for side in term.sides:
        numbers = (packed.chosen if side == "chosen" else packed.rejected).tolist()
        for pair, number in zip(pairs, numbers, strict=True):
            told.setdefault(number, task.lists[f"{side}_{term.column}"][pair.row].as_py())
    most = max(len(one) for lists in told.values() for one in lists)
    ids, values = np.full((len(packed.targets), most), -1), np.zeros((len(packed.targets), most), np.float32)
    for number, lists in told.items():
        start, size = int(packed.starts[number]), int(packed.sizes[number])
        if len(lists) < size:
            what = f"'{term.column}' tells of {len(lists)} tokens of a response that has {size}"
            raise TrainError(
                what, hint="the teacher must have the tokenizer and template of the model trained"
            )
        for at, token in enumerate(lists[:size]):
            for place, entry in enumerate(token):
                ids[start + at, place], values[start + at, place] = entry.values()
    return torch.from_numpy(ids).to(packed.targets.device), torch.from_numpy(values).to(packed.targets.device)


def _lists(packed: Packed, pairs: Sequence[Pair]) -> Lists:
    import torch

    numbers: dict[tuple[int, ...], int] = {}
    prompt = [numbers.setdefault(pair.prompt, len(numbers)) for pair in pairs]
    return Lists(torch.tensor(prompt, device=packed.chosen.device), packed.chosen, packed.rejected)
