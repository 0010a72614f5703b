"""Work: all that a judge is asked about a table, put to the engine at once, and what each row gets of it.

What fails, fails whole: a match without an answer fails its pair, or every response of its prompt, so that no score
is ever the mean of those comparisons that happened to be answered.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from prefkit import rng
from prefkit.engines import Engines
from prefkit.judging import canaries, records
from prefkit.judging.canaries import KINDS, Canary, Kind
from prefkit.judging.matches import Match, asks_of, is_even, next_round, probability
from prefkit.judging.measures import measured
from prefkit.judging.tasks import Ask, Outcome, Side, Terms, consequences, put_to

__all__ = [
    "Drawn",
    "Found",
    "List",
    "Work",
    "ask_each",
    "ask_lists",
    "foresee",
    "play",
    "settle",
    "watch_matches",
    "watch_rows",
]


class Work(NamedTuple):
    """How a judge is asked."""

    terms: Terms
    engines: Engines
    votes: int = 1
    swap: bool = True
    must_read: bool = False
    """Whether an answer that cannot be read fails its row."""
    canaries: float = 0.0


class Found(NamedTuple):
    """What became of all asks; filled as they are answered."""

    entries: list[list[dict[str, Any]]]
    """Judgements of each row."""
    errors: dict[int, str]
    """Why a group has no result."""
    notes: Counter[str]


class List(NamedTuple):
    """The responses of a prompt that are ranked, equal texts taken together."""

    group: int
    prompt: str
    sides: tuple[Side, ...]
    rows: tuple[tuple[tuple[int, str], ...], ...]
    """Row and id of every response that has the text of each side."""
    reference: str = ""


class Drawn(NamedTuple):
    """Where a canary may be planted."""

    key: str
    """What its draw depends on."""
    row: int
    side: Side
    match: Match
    p: float | None
    """Of the match, where its verdict is known."""


def settle(work: Work, matches: Sequence[Match], found: Found) -> list[float | None]:
    """Return the probability that `one` is better in each match, None where nothing could be read."""
    open_ = [at for at, match in enumerate(matches) if not is_even(match)]
    orders = _orders(work, [matches[at] for at in open_])
    asks = [
        ask
        for at, order in zip(open_, orders, strict=True)
        for ask in asks_of(matches[at], work.votes, order)
    ]
    outcomes = iter(_heard(work, asks, found))
    results: list[float | None] = [0.5] * len(matches)
    for at, order in zip(open_, orders, strict=True):
        told = [next(outcomes) for _ in range(work.votes * len(order))]
        results[at] = probability(matches[at], told)
        for outcome in told:
            found.entries[matches[at].rows[0]] += records.entries(work.terms, outcome)
    for match in matches:
        if is_even(match):
            found.entries[match.rows[0]].append(records.even(work.terms, match))
            found.notes["equal-texts"] += 1
    return results


def play(
    work: Work, rounds: Mapping[int, Sequence[int]], match_of: Callable[[int, int], Match], found: Found
) -> dict[tuple[int, int], float | None]:
    """Play a tournament in each prompt, given the rows of each; return P(the former beats the latter) by match.

    The winner goes on, the former where nothing decides; all prompts play a round at the same time.
    """
    alive = {prompt: list(rows) for prompt, rows in rounds.items()}
    results: dict[tuple[int, int], float | None] = {}
    while any(len(rows) > 1 for rows in alive.values()):
        fixtures = [pair for rows in alive.values() for pair in next_round(rows)]
        told = settle(work, [match_of(*pair) for pair in fixtures], found)
        results.update(zip(fixtures, told, strict=True))
        lost = {
            (pair[0] if p is not None and p < 0.5 else pair[1])
            for pair, p in zip(fixtures, told, strict=True)
        }
        alive = {prompt: [row for row in rows if row not in lost] for prompt, rows in alive.items()}
    return results


def ask_each(work: Work, asks: Mapping[int, Ask], found: Found) -> dict[int, list[float]]:
    """Return what was read of each row's samples, for asks about one response."""
    samples = [ask._replace(sample=sample) for ask in asks.values() for sample in range(work.votes)]
    read: dict[int, list[float]] = {row: [] for row in asks}
    rows = [row for row in asks for _ in range(work.votes)]
    for row, outcome in zip(rows, _heard(work, samples, found), strict=True):
        found.entries[row] += records.entries(work.terms, outcome)
        if outcome.value is not None:
            read[row].append(float(outcome.value))
    return read


def ask_lists(work: Work, lists: Sequence[List], found: Found) -> dict[int, list[float]]:
    """Return what each row gets of each ranking: 1 for the best, 0 for the worst, evenly between.

    A list is shown in a drawn order, and in its reverse. Equal texts are shown once; where all are equal, nobody is
    asked and each gets one half. Source: Borda's count, over the other members.
    """
    asks, scores = list[Ask](), dict[int, list[float]]()
    by_group = {each.group: each for each in lists}
    for each in lists:
        if len(each.sides) < 2:
            scores |= {row: [0.5] for rows in each.rows for row, _ in rows}
            found.notes["equal-texts"] += 1
            continue
        keys = [side.id for side in each.sides]
        draws = rng.uniform(work.terms.seed, "judge|list", keys).tolist()
        shown = tuple(each.sides[at] for at in sorted(range(len(keys)), key=lambda at: (draws[at], keys[at])))
        for order in (0, 1) if work.swap else (0,):
            told = shown[::-1] if order else shown
            asks += [
                Ask(each.group, each.prompt, told, sample, order, each.reference)
                for sample in range(work.votes)
            ]
    for ask, outcome in zip(asks, _heard(work, asks, found), strict=True):
        each = by_group[ask.group]
        rows = {side.id: rows for side, rows in zip(each.sides, each.rows, strict=True)}
        for row, entry in records.listed(work.terms, outcome, rows):
            found.entries[row].append(entry)
        for place, at in enumerate(outcome.value or ()):
            for row, _ in rows[ask.sides[at].id]:
                scores.setdefault(row, []).append(1 - place / (len(ask.sides) - 1))
    return scores


def foresee(work: Work, asks: Sequence[Ask], rows: Sequence[int], found: Found) -> dict[str, str]:
    """Return what comes of acting on the response of each ask, by its id, and keep the answers with its row."""
    came: dict[str, str] = {}
    told = consequences(work.terms, asks, work.engines, work.terms.seed)
    for row, outcome in zip(rows, told, strict=True):
        found.entries[row] += records.entries(work.terms, outcome, "consequence", "judge.consequence.v1")
        if outcome.error is not None:
            found.errors.setdefault(outcome.ask.group, outcome.error)
        elif outcome.value is None:
            found.errors.setdefault(outcome.ask.group, "the simulator wrote no consequence")
        else:
            came[outcome.ask.sides[0].id] = str(outcome.value)
    return came


def watch_matches(work: Work, places: Sequence[Drawn], found: Found) -> None:
    """Plant canaries among matches."""
    kinds: Sequence[Kind] = ("identical", "swapped") if work.terms.task == "hindsight" else KINDS
    planted: list[tuple[int, Canary, Match, str]] = []
    for at, draws in _lots(work, [place.key for place in places]):
        _, row, side, match, p = places[at]
        canary = canaries.plant(side, draws, [kind for kind in kinds if kind != "swapped" or p is not None])
        if canary.kind == "swapped":
            original = "" if p is None or p == 0.5 else (match.one if p > 0.5 else match.other).id
            planted.append((row, canary, match, original))
        else:
            planted.append((row, canary, match._replace(one=canary.one, other=canary.copy), side.id))
    asks = [
        (ask, row, original)
        for row, canary, match, original in planted
        for ask in asks_of(match, 1, _orders(work, [match])[0], canary.kind)
    ]
    for (ask, row, original), outcome in zip(
        asks, put_to(work.terms, [ask for ask, *_ in asks], work.engines), strict=True
    ):
        found.entries[row] += records.entries(work.terms, outcome)
        graded = canaries.grade(ask, outcome, original)
        found.notes.update({f"canary/{name}": n for name, n in graded.items()})


def watch_rows(work: Work, asks: Mapping[int, Ask], own: Mapping[int, float], found: Found) -> None:
    """Plant canaries among single responses: a copy is scored apart, and compared with the row's own score."""
    rows = [row for row in asks if row in own]
    kinds: Sequence[Kind] = [kind for kind in KINDS if kind != "swapped"]
    planted = [
        (rows[at], canaries.plant(asks[rows[at]].sides[0], draws, kinds))
        for at, draws in _lots(work, [asks[row].sides[0].id for row in rows])
    ]
    copies = [asks[row]._replace(sides=(canary.copy,), canary=canary.kind) for row, canary in planted]
    for (row, _), outcome in zip(planted, put_to(work.terms, copies, work.engines), strict=True):
        found.entries[row] += records.entries(work.terms, outcome)
        value = None if outcome.value is None else float(outcome.value)
        won = (
            "unread"
            if value is None
            else "tie"
            if value == own[row]
            else "copy"
            if value > own[row]
            else "original"
        )
        found.notes[f"canary/{outcome.ask.canary}/{'failed' if outcome.error else won}"] += 1


def _heard(work: Work, asks: Sequence[Ask], found: Found) -> list[Outcome]:
    """Put asks to the judge, count what its answers say of it, and note which groups have failed."""
    outcomes = put_to(work.terms, asks, work.engines, must_read=work.must_read)
    for outcome in outcomes:
        flaws = [attempt.flaw for attempt in outcome.attempts if attempt.flaw is not None]
        found.notes.update(f"flaw/{flaw}" for flaw in flaws)
        error = outcome.error
        if error is None and outcome.value is None and work.must_read:
            error = f"the judge's answer cannot be read: {flaws[-1]}"
        if error is not None:
            found.errors.setdefault(outcome.ask.group, error)
    found.notes.update(_measures([outcome for outcome in outcomes if outcome.error is None]))
    return outcomes


def _measures(outcomes: Sequence[Outcome]) -> Counter[str]:
    return Counter({f"measure/{name}": n for name, n in measured(outcomes).items()})


def _orders(work: Work, matches: Sequence[Match]) -> list[tuple[bool, ...]]:
    """Return which orders to ask in, True for the smaller id first: both, or one that is drawn."""
    if work.swap:
        return [(True, False)] * len(matches)
    keys = ["|".join(sorted((match.one.id, match.other.id))) for match in matches]
    return [(bool(draw < 0.5),) for draw in rng.uniform(work.terms.seed, "judge|order", keys)]


def _lots(work: Work, keys: Sequence[str]) -> list[tuple[int, tuple[float, float]]]:
    """Return which keys are drawn for a canary, and two more draws of each."""
    draws = [rng.uniform(work.terms.seed, "judge|canary", keys, draw).tolist() for draw in range(3)]
    return [
        (at, (kind, copy))
        for at, (lot, kind, copy) in enumerate(zip(*draws, strict=True))
        if lot < work.canaries
    ]
