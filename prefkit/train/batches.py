"""Batches: which pairs make an optimizer step, in which order, and how they are packed into memory.

The order is a pure function of the seed and the ids, or of the columns `phase` and `rank` where the pairs have them;
it does not depend on where training was interrupted. A step is cut into micro-batches by tokens; pairs of one prompt
stay together, so that the prompt, and a response that several pairs share, are computed once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from prefkit import rng
from prefkit.train.attention import Layout, layout
from prefkit.train.settings import TrainSettings
from prefkit.train.tokenise import Ids, Pair

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Batch", "Packed", "batches", "numeric", "pack", "split_by_tokens", "total_steps"]


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


class Batch(NamedTuple):
    """One optimizer step's worth of pairs."""

    step: int
    """From 0."""
    epoch: int
    pairs: Sequence[Pair]


def batches(
    pairs: Sequence[Pair], settings: TrainSettings, table: pa.Table, start: int = 0
) -> Iterator[Batch]:
    """Yield the steps of a run from step `start` on. `table` is the one that the pairs' rows refer to."""
    total = total_steps(len(pairs), settings)
    per_epoch = -(-len(pairs) // settings.batch)
    fixed = curriculum(pairs, table) if settings.order == "auto" else None
    epoch, order = -1, np.zeros(0, dtype=np.int64)
    for step in range(start, total):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = shuffled(pairs, settings.seed, epoch) if fixed is None else fixed
        at = (step % per_epoch) * settings.batch
        yield Batch(step, epoch, [pairs[row] for row in order[at : at + settings.batch]])


def total_steps(count: int, settings: TrainSettings) -> int:
    """Return how many optimizer steps a run over `count` pairs takes."""
    if settings.steps is not None:
        return settings.steps
    return max(1, round(settings.epochs * -(-count // settings.batch)))


def shuffled(pairs: Sequence[Pair], seed: int, epoch: int) -> np.ndarray:
    """Return the order of an epoch: by a draw addressed by each pair's id, so it does not depend on the table's order."""
    return np.argsort(rng.uniform(seed, "train", [pair.id for pair in pairs], epoch), kind="stable")


def curriculum(pairs: Sequence[Pair], table: pa.Table) -> np.ndarray | None:
    """Return the order that `phase` and `rank` ask for, or None where the table has neither."""
    keys = [
        np.asarray(table[name].to_pylist(), dtype=np.float64)[[pair.row for pair in pairs]]
        for name in ("rank", "phase")
        if name in table.column_names
    ]
    return np.lexsort(keys) if keys else None


def split_by_tokens(pairs: Sequence[Pair], budget: int) -> list[list[int]]:
    """Cut a step into micro-batches of at most `budget` tokens, pairs of one prompt together; indices into `pairs`."""
    together: dict[Ids, list[int]] = {}
    for index, pair in enumerate(pairs):
        together.setdefault(pair.prompt, []).append(index)
    groups = sorted(together.values(), key=lambda group: -_tokens(pairs, group))
    micro: list[list[int]] = []
    room = -1
    for group in groups:
        for part in [group] if _tokens(pairs, group) <= budget else [[index] for index in group]:
            size = _tokens(pairs, part)
            if size > room:
                micro.append([])
                room = budget
            micro[-1].extend(part)
            room -= size
    return micro


def pack(pairs: Sequence[Pair], device: torch.device) -> Packed:
    """Lay pairs out as one line, each distinct prompt and each distinct response of a prompt once."""
    import torch

    line = _Line()
    chosen = [line.add(pair.prompt, pair.chosen) for pair in pairs]
    rejected = [line.add(pair.prompt, pair.rejected) for pair in pairs]
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
        chosen=tensor(chosen),
        rejected=tensor(rejected),
        sizes=tensor(sizes).float(),
    )


class _Line:
    """A line of tokens that grows by prompts and responses, and never holds one twice."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.rows: list[np.ndarray] = []
        self.sources: list[np.ndarray] = []
        self.targets: list[np.ndarray] = []
        self._prompts: dict[Ids, np.ndarray] = {}
        self._responses: dict[tuple[Ids, Ids], int] = {}

    def add(self, prompt: Ids, response: Ids) -> int:
        """Return the number of this response, laying out what the line does not hold yet."""
        known = self._responses.get((prompt, response))
        if known is not None:
            return known
        before = self._prompts.get(prompt)
        if before is None:
            before = self._prompts[prompt] = self._extend(prompt, 0)
        after = self._extend(response[:-1], len(prompt))
        row = np.concatenate([before, after])
        self.rows.append(row)
        self.sources.append(row[len(prompt) - 1 :])
        self.targets.append(np.asarray(response, dtype=np.int64))
        number = self._responses[prompt, response] = len(self.rows) - 1
        return number

    def _extend(self, ids: Ids, position: int) -> np.ndarray:
        start = len(self.tokens)
        self.tokens.extend(ids)
        self.positions.extend(range(position, position + len(ids)))
        return np.arange(start, start + len(ids), dtype=np.int64)


def _tokens(pairs: Sequence[Pair], group: Sequence[int]) -> int:
    responses = {response for index in group for response in (pairs[index].chosen, pairs[index].rejected)}
    return len(pairs[group[0]].prompt) + sum(len(response) - 1 for response in responses)


def numeric(table: pa.Table, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the numeric columns among `names` as float64 [rows], booleans as 0 and 1, null as NaN."""
    return {
        name: np.asarray(table[name].cast(pa.float64()).to_numpy(), dtype=np.float64)
        for name in names
        if not pa.types.is_string(table[name].type)
    }
