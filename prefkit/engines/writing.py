"""Writing: rows of a batch write some tokens in step with each other.

What a row writes depends on its request and on the bits of its logits alone. Rows that are done go on in the batch until
all are, or until the batch has gone as far as it should; nobody reads what they write. Stop strings are a matter of
text, not of tokens: they are looked for every few tokens, at places that a row's own count decides, and what was
written behind one is dropped.

Shapes: R rows of the batch, D drafts (rows that somebody reads), S tokens written in a go.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prefkit.engines.prefill import State, onward
from prefkit.engines.sampling import Knobs, choose, knobs, likeliest, odds, told, uniforms

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Draft", "Likeliest", "Row", "Writer", "Written"]

_STOPS_EVERY = 8
_FREE = -1
_BYTES = 4
"""A character has at most that many tokens."""


class Row(NamedTuple):
    """One request, ready to decode."""

    ids: tuple[int, ...]
    limit: int
    """Most tokens to write, the end-of-turn token included."""
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop: tuple[str, ...] = ()
    tops: int = 0
    """How many of the likeliest tokens to tell at each place."""
    forced: tuple[int, ...] = ()
    """What to write, as many tokens as `limit`; empty to write what is drawn."""


class Likeliest(NamedTuple):
    """The likeliest tokens at each place, best first."""

    ids: np.ndarray
    """int64 [tokens, k]."""
    logps: np.ndarray
    """At temperature 1, nats, float64 [tokens, k]."""


class Written(NamedTuple):
    """What was decoded for a row."""

    ids: list[int]
    """The end-of-turn token included, if it came."""
    logp: float
    """Summed log-prob of `ids` under the model at temperature 1, in nats."""
    is_finished: bool
    """Whether it ended by itself: at an end-of-turn token or a stop string."""
    tops: Likeliest | None = None


class Draft:
    """What a row has written so far."""

    def __init__(self, row: Row) -> None:
        """Begin with nothing."""
        self.row = row
        self.ids: list[int] = []
        self.is_finished = False
        self._logp = 0.0
        self._tops: list[Likeliest] = []

    @property
    def is_done(self) -> bool:
        """Whether there is nothing more to write."""
        return self.is_finished or len(self.ids) >= self.row.limit

    def add(self, ids: np.ndarray, logps: np.ndarray, tops: Likeliest | None, *, finished: bool) -> None:
        """Append tokens and their log-probs."""
        self.ids += ids.tolist()
        self._logp += float(logps.sum())
        self._tops += [] if tops is None else [tops]
        self.is_finished = finished

    def written(self) -> Written:
        """Return the whole."""
        both = zip(*self._tops, strict=True)
        tops = Likeliest(*(np.concatenate(each) for each in both)) if self._tops else None
        return Written(self.ids, self._logp, self.is_finished, tops)


class Writer(NamedTuple):
    """A model that writes."""

    network: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    ends: np.ndarray
    """Token ids that end a turn, int64."""

    def write(self, drafts: Sequence[Draft], places: Sequence[int], state: State, most: int) -> State:
        """Write up to `most` tokens into drafts, and return where the batch then stands.

        `places` says which row of the batch each draft is.
        """
        limits = np.array([draft.row.limit - len(draft.ids) for draft in drafts])
        plan = _plan(drafts, places, state, min(most, int(limits.max())))
        count, is_open = np.zeros(len(drafts), dtype=np.int64), np.ones(len(drafts), dtype=bool)
        finished = np.zeros(len(drafts), dtype=bool)
        steps: list[_Step] = []
        for at in range(plan.steps):
            steps.append(_step(state, plan, at))
            new = steps[-1].tokens.cpu().numpy()[plan.places]
            plan.ids[:, at] = new
            count += is_open
            finished |= is_open & (new[:, None] == self.ends).any(axis=1)
            is_open &= ~finished & (count < limits)
            if plan.stopping and ((at + 1) % _STOPS_EVERY == 0 or at + 1 == plan.steps or not is_open.any()):
                self._stop(drafts, plan, count, finished)
                is_open &= ~finished
            if not is_open.any():
                break
            state = onward(self.network, state, steps[-1].tokens[:, None], plan.last_place)
        _add(drafts, plan, steps, count, finished)
        return state

    def _stop(self, drafts: Sequence[Draft], plan: "_Plan", count: np.ndarray, finished: np.ndarray) -> None:
        """Cut the drafts in which a stop string has come since the last look."""
        for at in plan.stopping:
            draft, since = drafts[at], int(plan.looked[at])
            ids = [*draft.ids, *plan.ids[at, : count[at]].tolist()]
            found = self._stopped_at(ids, len(draft.ids) + since, draft.row.stop)
            if found is not None:
                count[at], finished[at] = found - len(draft.ids), True
            plan.looked[at] = count[at]

    def _stopped_at(self, ids: list[int], since: int, stops: Sequence[str]) -> int | None:
        """Return how many tokens it takes until a stop string is there, None if it does not end behind `since`."""
        start = max(0, since - _BYTES * max(len(stop) for stop in stops) - _BYTES)

        def has_stop(end: int) -> bool:
            text = self.tokenizer.decode(ids[start:end], skip_special_tokens=True)
            return any(stop in text for stop in stops)

        if len(ids) == since or not has_stop(len(ids)):
            return None
        return next(end for end in range(since + 1, len(ids) + 1) if has_stop(end))


class _Plan(NamedTuple):
    """What is known before a go begins."""

    steps: int
    places: np.ndarray
    """[D]."""
    knobs: Knobs
    draws: "torch.Tensor"
    """float64 [S, R]."""
    forced: "torch.Tensor | None"
    """int64 [S, R], -1 where a row writes what is drawn; None if all do."""
    last_place: "torch.Tensor"
    """int64 [R, 1]."""
    tops: "dict[int, tuple[np.ndarray, torch.Tensor]]"
    """For each number of likeliest tokens, the drafts that want it, and their rows."""
    stopping: list[int]
    """Drafts with stop strings."""
    looked: np.ndarray
    """[D], how many of the new tokens have been searched for stop strings."""
    ids: np.ndarray
    """int64 [D, S], what is written."""


class _Step(NamedTuple):
    """One token a row."""

    tokens: "torch.Tensor"
    """[R]."""
    logps: "torch.Tensor"
    """[R]."""
    tops: "dict[int, tuple[torch.Tensor, torch.Tensor]]"


def _plan(drafts: Sequence[Draft], places: Sequence[int], state: State, steps: int) -> _Plan:
    """Lay out the settings of a batch; rows that nobody reads have those of the first draft."""
    import torch

    device, size = state.mask.device, len(state.mask)
    of_row = [drafts[0].row] * size
    for draft, place in zip(drafts, places, strict=True):
        of_row[place] = draft.row
    draws, forced = np.zeros((steps, size)), np.full((steps, size), _FREE)
    for draft, place in zip(drafts, places, strict=True):
        start = len(draft.ids)  # its own: rows that meet are as long, and need not have written as much
        new = min(steps, draft.row.limit - start)
        if draft.row.forced:
            forced[:new, place] = draft.row.forced[start : start + new]
        elif draft.row.temperature > 0:
            draws[:new, place] = uniforms(draft.row.seed, start + new)[start:]
    tops: dict[int, list[int]] = {}
    for at, draft in enumerate(drafts):
        if draft.row.tops:
            tops.setdefault(draft.row.tops, []).append(at)
    where = np.array(places)
    return _Plan(
        steps,
        where,
        knobs([(row.temperature, row.top_p, row.top_k) for row in of_row], device),
        torch.from_numpy(draws).to(device),
        torch.from_numpy(forced).to(device) if (forced != _FREE).any() else None,
        torch.tensor([[len(row.ids) + row.limit - 1] for row in of_row], device=device),
        {k: (np.array(some), torch.from_numpy(where[some]).to(device)) for k, some in tops.items()},
        [at for at, draft in enumerate(drafts) if draft.row.stop and not draft.row.forced],
        np.zeros(len(drafts), dtype=np.int64),
        np.zeros((len(drafts), steps), dtype=np.int64),
    )


def _step(state: State, plan: _Plan, at: int) -> _Step:
    """Choose the next token of each row."""
    import torch

    found = odds(state.logits)
    tokens, logps = choose(found, plan.knobs, plan.draws[at])
    if plan.forced is not None:
        tokens = torch.where(plan.forced[at] == _FREE, tokens, plan.forced[at])
        logps = told(found, tokens[:, None])[:, 0]
    tops = {k: likeliest(found, rows, k) for k, (_, rows) in plan.tops.items()}
    return _Step(tokens, logps, tops)


def _add(
    drafts: Sequence[Draft], plan: _Plan, steps: Sequence[_Step], count: np.ndarray, finished: np.ndarray
) -> None:
    """Append to each draft what it wrote."""
    import torch

    logps = torch.stack([step.logps for step in steps]).cpu().numpy()[:, plan.places]
    tops: dict[int, Likeliest] = {}
    for k, (some, _) in plan.tops.items():
        ids, theirs = (
            torch.stack(each).cpu().numpy() for each in zip(*(step.tops[k] for step in steps), strict=True)
        )
        tops |= {
            at: Likeliest(ids[: count[at], row], theirs[: count[at], row])
            for row, at in enumerate(some.tolist())
        }
    for at, draft in enumerate(drafts):
        mine = slice(int(count[at]))
        draft.add(plan.ids[at, mine], logps[mine, at], tops.get(at), finished=bool(finished[at]))
