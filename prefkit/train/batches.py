"""Batches: which pairs make an optimizer step, in which order, and how they are packed into memory.

The order is a pure function of the seed and the ids, or of the columns `phase` and `rank` where the pairs have them;
it does not depend on where training was interrupted. A step is cut into micro-batches by tokens; pairs of one prompt
stay together, so that the prompt, and a response that several pairs share, are computed once. A listwise objective
gets every pair of a prompt in one step and in one micro-batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapreplace
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from prefkit import rng
from prefkit.errors import TrainError
from prefkit.train.attention import Layout, layout
from prefkit.train.settings import TrainSettings
from prefkit.train.tokenise import Ids, Pair

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Batch", "Packed", "pack", "schedule", "split_by_tokens", "units"]


class Packed(NamedTuple):
    """One micro-batch on its device: a line of tokens, and what to read off it."""

    tokens: Tensor
    """[1, tokens], the last token of each response left out: nothing is predicted from it."""
    positions: Tensor
    """[1, tokens]: restarts for each prompt, and goes on from the prompt for each response."""
    rows: Layout
    sources: Tensor
    """[scored]: the token whose hidden state predicts each scored token."""
    targets: Tensor
    """[scored]: ids of the scored tokens."""
    response: Tensor
    """[scored]: which distinct response each scored token belongs to."""
    chosen: Tensor
    """[pairs]: the distinct response that is chosen."""
    rejected: Tensor
    sizes: Tensor
    """[responses]: scored tokens of each distinct response, float32."""
    starts: Tensor
    """[responses]: where the scored tokens of each distinct response begin."""
    owners: Tensor
    """[tokens]: the pair a token was first laid out for; of use only where nothing is shared."""


class Batch(NamedTuple):
    """One optimizer step's worth of pairs."""

    step: int
    """From 0."""
    epoch: int
    """Passes begun before this one, over all pairs or, with epochs of their own, over those of its phase."""
    phase: int
    """Which phase it belongs to; 0 unless phases have epochs of their own."""
    pairs: Sequence[Pair]


def schedule(pairs: Sequence[Pair], settings: TrainSettings, table: pa.Table) -> Sequence[Batch]:
    """Return every step of a run. `table` is the one that the pairs' rows refer to."""
    if settings.phase_epochs is None:
        return _passes(pairs, settings, table, 0, 0, settings.epochs)
    phases = _column(table, "phase", pairs) if "phase" in table.column_names else np.zeros(0)
    if not np.isfinite(phases).all():
        name = next(pair.id for pair, phase in zip(pairs, phases, strict=True) if not np.isfinite(phase))
        what = f"pair '{name}' is in no phase, and `phase_epochs` says how often each phase is seen"
        raise TrainError(what, where="column 'phase'", hint="write the column by an `order` stage")
    found = np.unique(phases)
    if len(found) != len(settings.phase_epochs):
        what = f"`phase_epochs` names {len(settings.phase_epochs)} phases, and the pairs have {len(found)}"
        raise TrainError(what, where="column 'phase'", hint="add an `order` stage that writes as many phases")
    plan: list[Batch] = []
    for number, (phase, epochs) in enumerate(zip(found, settings.phase_epochs, strict=True)):
        mine = [pair for pair, its in zip(pairs, phases, strict=True) if its == phase]
        plan += _passes(mine, settings, table, len(plan), number, epochs)
    return plan


def units(pairs: Sequence[Pair], *, listwise: bool) -> int:
    """Return over how many things a step is averaged: pairs, or lists."""
    return len({pair.prompt for pair in pairs}) if listwise else len(pairs)


def _passes(
    pairs: Sequence[Pair], settings: TrainSettings, table: pa.Table, done: int, phase: int, epochs: float
) -> list[Batch]:
    plan: list[Batch] = []
    most = settings.steps
    for epoch in count():
        steps = _steps(pairs, order(pairs, settings, table, epoch), settings)
        if most is None:
            most = max(1, int(epochs * len(steps) + 0.5))
        plan += [
            Batch(done + len(plan) + at, epoch, phase, [pairs[row] for row in rows])
            for at, rows in enumerate(steps)
        ]
        if len(plan) >= most:
            return plan[:most]
    raise AssertionError


def _steps(pairs: Sequence[Pair], rows: np.ndarray, settings: TrainSettings) -> list[list[int]]:
    if not settings.objective.listwise():
        return [rows[at : at + settings.batch].tolist() for at in range(0, len(rows), settings.batch)]
    steps: list[list[int]] = []
    for group in _by_prompt(pairs, rows.tolist()):
        if not steps or len(steps[-1]) + len(group) > settings.batch:
            steps.append([])
        steps[-1] += group
    return steps


def order(pairs: Sequence[Pair], settings: TrainSettings, table: pa.Table, epoch: int) -> np.ndarray:
    """Return the order of an epoch: by phase and rank where the table has them, else by a draw.

    The draw is addressed by each pair's id, so it does not depend on the table's order.
    """
    keys = [rng.uniform(settings.seed, "train", [pair.id for pair in pairs], epoch)]
    if settings.order == "auto":
        keys += [_column(table, name, pairs) for name in ("rank", "phase") if name in table.column_names]
    return np.lexsort(keys)  # by the last key first


def _column(table: pa.Table, name: str, pairs: Sequence[Pair]) -> np.ndarray:
    return np.asarray(table[name].to_numpy(), dtype=np.float64)[[pair.row for pair in pairs]]


def _by_prompt(pairs: Sequence[Pair], rows: Sequence[int]) -> list[list[int]]:
    together: dict[Ids, list[int]] = {}
    for row in rows:
        together.setdefault(pairs[row].prompt, []).append(row)
    return list(together.values())


def split_by_tokens(
    pairs: Sequence[Pair], budget: int, *, listwise: bool = False, ranks: int = 1
) -> list[list[int]]:
    """Cut a step into micro-batches of about as many tokens, at most `budget`; indices into `pairs`.

    Pairs of one prompt stay together; those that are over the budget alone are told apart, unless they are a list.
    There are as many micro-batches for each rank; only where the pairs are too few, some at the end are empty.
    """
    parts: list[list[int]] = []
    for group in _by_prompt(pairs, range(len(pairs))):
        fits = listwise or _tokens(pairs, group) <= budget
        parts += [group] if fits else [[index] for index in group]
    sizes = [_tokens(pairs, part) for part in parts]
    rounds, enough = -(-sum(sizes) // (budget * ranks)), -(-len(parts) // ranks)
    while True:
        micro, most = _deal(parts, sizes, ranks * min(rounds, enough))
        if rounds >= enough or most <= budget:
            return micro
        rounds += 1


def _deal(parts: Sequence[list[int]], sizes: Sequence[int], count: int) -> tuple[list[list[int]], int]:
    """Deal parts, the largest first, each to whom has least; return the hands and the size of the largest."""
    hands: list[list[int]] = [[] for _ in range(count)]
    heap = [(0, number) for number in range(count)]
    for size, part in sorted(zip(sizes, parts, strict=True), key=lambda one: -one[0]):
        held, number = heap[0]
        hands[number] += part
        heapreplace(heap, (held + size, number))
    return hands, max(heap)[0]


def pack(pairs: Sequence[Pair], device: torch.device, *, shared: bool = True) -> Packed:
    """Lay pairs out as one line, each distinct prompt and each distinct response of a prompt once.

    With `shared` off, every side of every pair has a prompt and a response of its own.
    """
    import torch

    line = _Line()
    # Without sharing, a number that no other side has keeps its prompt and response apart.
    own = [(-1, -1) if shared else (2 * at, 2 * at + 1) for at in range(len(pairs))]
    sides = [
        (
            line.add(own[at][0], at, pair.prompt, pair.chosen),
            line.add(own[at][1], at, pair.prompt, pair.rejected),
        )
        for at, pair in enumerate(pairs)
    ]
    sizes = np.asarray([len(target) for target in line.targets])

    def tensor(values: np.ndarray | Sequence[int]) -> Tensor:
        return torch.from_numpy(np.asarray(values, dtype=np.int64)).to(device)

    return Packed(
        tokens=tensor(line.tokens)[None],
        positions=tensor(line.positions)[None],
        rows=layout(line.rows, len(line.tokens), device),
        sources=tensor(np.concatenate(line.sources)),
        targets=tensor(np.concatenate(line.targets)),
        response=tensor(np.repeat(np.arange(len(sizes)), sizes)),
        chosen=tensor([chosen for chosen, _ in sides]),
        rejected=tensor([rejected for _, rejected in sides]),
        sizes=tensor(sizes).float(),
        starts=tensor(np.cumsum(sizes) - sizes),
        owners=tensor(line.owners),
    )


class _Line:
    """A line of tokens that grows by prompts and responses, and never holds one twice."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.rows: list[np.ndarray] = []
        self.sources: list[np.ndarray] = []
        self.targets: list[np.ndarray] = []
        self.owners: list[int] = []
        self._prompts: dict[tuple[int, Ids], np.ndarray] = {}
        self._responses: dict[tuple[int, Ids, Ids], int] = {}

    def add(self, scope: int, owner: int, prompt: Ids, response: Ids) -> int:
        """Return the number of this response, laying out what the line does not hold yet within the scope."""
        known = self._responses.get((scope, prompt, response))
        if known is not None:
            return known
        before = self._prompts.get((scope, prompt))
        if before is None:
            before = self._prompts[scope, prompt] = self._extend(prompt, 0)
        after = self._extend(response[:-1], len(prompt))
        row = np.concatenate([before, after])
        self.rows.append(row)
        self.sources.append(row[len(prompt) - 1 :])
        self.targets.append(np.asarray(response, dtype=np.int64))
        self.owners.extend([owner] * (len(self.tokens) - len(self.owners)))
        number = self._responses[scope, prompt, response] = len(self.rows) - 1
        return number

    def _extend(self, ids: Ids, position: int) -> np.ndarray:
        start = len(self.tokens)
        self.tokens.extend(ids)
        self.positions.extend(range(position, position + len(ids)))
        return np.arange(start, start + len(ids), dtype=np.int64)


def _tokens(pairs: Sequence[Pair], group: Sequence[int]) -> int:
    responses = {response for index in group for response in (pairs[index].chosen, pairs[index].rejected)}
    return len(pairs[group[0]].prompt) + sum(len(response) - 1 for response in responses)
