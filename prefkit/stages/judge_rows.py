"""What a judge makes of the rows of a table: pairs, responses against each other, lists, single responses, steps."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import stdev
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from prefkit.columns import SPANS
from prefkit.judging import records
from prefkit.judging.matches import Match, neighbours, win_rates
from prefkit.judging.tasks import Ask, Side
from prefkit.judging.work import (
    Drawn,
    Found,
    List,
    Work,
    ask_each,
    ask_lists,
    foresee,
    play,
    settle,
    watch_matches,
    watch_rows,
)
from prefkit.prompts import spoken
from prefkit.tables import floats, last_content, message_tuples, prompt_offsets, put

__all__ = ["Asked", "errors", "of_lists", "of_pairs", "of_prompts", "of_responses", "of_steps"]


class Asked(NamedTuple):
    """Rows, and how a judge is asked about them."""

    table: pa.Table
    work: Work
    foresight: Work | None
    """How it is asked what comes of a response, where that counts."""
    reference: str | None
    """Column of trusted answers."""
    found: Found


class _Group(NamedTuple):
    """The responses of a prompt: row numbers of those that have one."""

    number: int
    prompt: str
    rows: tuple[int, ...]


def of_pairs(asked: Asked) -> pa.Table:
    """Add `votes` and `judgements` to pairs. A pair that lacks a side gets none."""
    table, found = asked.table, asked.found
    prompts = [spoken(turns) for turns in message_tuples(table["prompt"])]
    references = _references(asked)
    sides = [_sides(table, name, f"{name}_id") for name in ("chosen", "rejected")]
    matches = [
        Match(row, prompts[row], one, other, (row, row), references[row])
        for row, (one, other) in enumerate(zip(*sides, strict=True))
        if one is not None and other is not None
    ]
    matches = _foreseen(asked, matches)
    told = settle(asked.work, matches, found)
    places = []
    for match, p in zip(matches, told, strict=True):
        lower = min(match.one, match.other, key=lambda side: side.id)
        key = "|".join(sorted((match.one.id, match.other.id)))
        places.append(Drawn(key, match.group, lower, match, p))
    watch_matches(asked.work, places, found)
    judgements = records.column(found.entries)
    votes = records.votes_from([judgements], table["chosen_id"], table["rejected_id"])
    table = put(table, "votes", records.appended(table, "votes", votes))
    return put(table, "judgements", records.appended(table, "judgements", judgements))


def of_prompts(asked: Asked, topology: str, by: str, baseline: str | None, into: str | None) -> pa.Table:
    """Add `judgements` on the responses of each prompt against each other, and their score."""
    table, groups = asked.table, _groups(asked)
    sides, references = _sides(table, "response", "id"), _references(asked)
    if asked.foresight is not None:
        several = [group for group in groups if len(group.rows) > 1]
        alone = {
            row: Ask(group.number, group.prompt, (side,), reference=references[row])
            for group in several
            for row in group.rows
            if (side := sides[row]) is not None
        }
        came = foresee(asked.foresight, list(alone.values()), list(alone), asked.found)
        sides = [side and side._replace(consequence=came.get(side.id, "")) for side in sides]
        groups = [group for group in groups if group.number not in asked.found.errors]
    group_of = {row: group for group in groups for row in group.rows}

    def match_of(one: int, other: int) -> Match:
        group, first, second = group_of[one], sides[one], sides[other]
        if first is None or second is None:  # groups hold only rows with a response
            raise AssertionError(one, other)
        return Match(group.number, group.prompt, first, second, (one, other), references[one])

    met = _meet(asked, groups, topology, by, baseline, match_of)
    firsts = {row: pair for pair in reversed(list(met)) for row in pair}
    places = [
        Drawn(
            match.one.id if row == pair[0] else match.other.id,
            row,
            match.one if row == pair[0] else match.other,
            match,
            met[pair],
        )
        for row, pair in sorted(firsts.items())
        for match in (match_of(*pair),)
    ]
    watch_matches(asked.work, places, asked.found)
    table = _with_judgements(asked)
    if into is None:
        return table
    return put(table, into, _column(table, _scores(met, topology)))


def of_lists(asked: Asked, into: str) -> pa.Table:
    """Add `judgements` on the responses of each prompt as a list, and the mean share of others that each is ahead of."""
    sides, references = _sides(asked.table, "response", "id"), _references(asked)
    lists = []
    for group in _groups(asked):
        alike: dict[tuple[str, ...], list[int]] = {}
        for row in group.rows:
            alike.setdefault(tuple(_side(sides, row).text.split()), []).append(row)
        if len(group.rows) < 2:
            continue
        shown = tuple(_side(sides, rows[0]) for rows in alike.values())
        held = tuple(tuple((row, _side(sides, row).id) for row in rows) for rows in alike.values())
        lists.append(List(group.number, group.prompt, shown, held, references[group.rows[0]]))
    scores = ask_lists(asked.work, lists, asked.found)
    places = []
    for each in lists:
        for side, rows in zip(each.sides, each.rows, strict=True):
            match = Match(each.group, each.prompt, side, side, (rows[0][0], rows[0][0]), each.reference)
            places.append(Drawn(side.id, rows[0][0], side, match, None))
    watch_matches(asked.work, places, asked.found)
    return put(
        _with_judgements(asked),
        into,
        _column(asked.table, {row: _mean(told) for row, told in scores.items()}),
    )


def of_responses(asked: Asked, into: str, *, has_std: bool) -> pa.Table:
    """Add `judgements` on each response alone, the mean of its scores, and their spread."""
    asks = _each(asked)
    read = {row: told for row, told in ask_each(asked.work, asks, asked.found).items() if told}
    own = {row: _mean(told) for row, told in read.items()}
    watch_rows(asked.work, asks, own, asked.found)
    table = put(_with_judgements(asked), into, _column(asked.table, own))
    if not has_std:
        return table
    spreads = {row: stdev(told) for row, told in read.items() if len(told) > 1}
    return put(table, f"{into}_std", _column(table, spreads))


def of_steps(asked: Asked, separator: str) -> pa.Table:
    """Add `judgements` on the steps of each response, the first wrong one, and where the steps up to it stand."""
    texts = last_content(asked.table["response"]).to_pylist()
    where = [_steps(text or "", separator) for text in texts]
    asks = {}
    for row, ask in _each(asked).items():
        steps = tuple((texts[row] or "")[start:end].strip() for start, end in where[row])
        if steps:
            asks[row] = ask._replace(sides=(ask.sides[0]._replace(steps=steps),))
    read = ask_each(asked.work, asks, asked.found)
    first: list[int | None] = [None] * len(texts)
    spans: list[list[dict[str, int | float | str]] | None] = [None] * len(texts)
    for row, told in read.items():
        if told:
            counts = Counter(int(step) for step in told)
            first[row] = wrong = min(counts, key=lambda step: (-counts[step], step))
            right = where[row] if wrong == 0 else where[row][:wrong]
            spans[row] = [
                {"start": start, "end": end, "kind": "sentence", "id": at, "value": float(at != wrong)}
                for at, (start, end) in enumerate(right, start=1)
            ]
    table = put(_with_judgements(asked), "first_error", pa.array(first, pa.int32()))
    return put(table, "spans", pa.array(spans, SPANS))


def errors(asked: Asked, *, by_row: bool) -> list[str | None]:
    """Return why each row has failed: groups are rows, or prompts."""
    if by_row:
        return [asked.found.errors.get(row) for row in range(asked.table.num_rows)]
    runs = prompt_offsets(asked.table)
    numbers = np.repeat(np.arange(len(runs.starts)), runs.lengths).tolist()
    return [asked.found.errors.get(number) for number in numbers]


def _meet(
    asked: Asked,
    groups: Sequence[_Group],
    topology: str,
    by: str,
    baseline: str | None,
    match_of: Callable[[int, int], Match],
) -> dict[tuple[int, int], float | None]:
    """Let responses meet and return P(the former is better) by rows."""
    if topology == "tournament":
        return play(asked.work, {group.number: group.rows for group in groups}, match_of, asked.found)
    pairs: list[tuple[int, int]] = []
    scores = floats(asked.table[by]) if topology == "adjacent" else None
    named = _named(asked.table, baseline) if baseline is not None else ()
    for group in groups:
        rows = group.rows
        if scores is not None:
            pairs += [(rows[one], rows[other]) for one, other in neighbours(scores[list(rows)])]
        elif topology == "all":
            pairs += [(one, other) for at, one in enumerate(rows) for other in rows[at + 1 :]]
        else:
            base = next((row for row in rows if row in named), None)
            pairs += [(row, base) for row in rows if base is not None and row != base]
    told = settle(asked.work, [match_of(*pair) for pair in pairs], asked.found)
    return dict(zip(pairs, told, strict=True))


def _scores(met: Mapping[tuple[int, int], float | None], topology: str) -> dict[int, float]:
    """Return each response's mean probability of winning, in a tournament how often it went on."""
    known = {pair: p for pair, p in met.items() if p is not None}
    if topology != "tournament":
        return win_rates(known)
    wins: dict[int, float] = defaultdict(float)
    for (one, other), p in met.items():
        winner, loser = (other, one) if p is not None and p < 0.5 else (one, other)
        wins[winner] += 1.0
        wins[loser] += 0.0
    return dict(wins)


def _foreseen(asked: Asked, matches: Sequence[Match]) -> list[Match]:
    """Return the matches with what comes of both sides; those of which that is not known are left out."""
    if asked.foresight is None:
        return list(matches)
    differ = [match for match in matches if match.one.text.split() != match.other.text.split()]
    asks = [
        Ask(match.group, match.prompt, (side,), reference=match.reference)
        for match in differ
        for side in (match.one, match.other)
    ]
    came = foresee(asked.foresight, asks, [ask.group for ask in asks], asked.found)
    return [
        match._replace(
            one=match.one._replace(consequence=came.get(match.one.id, "")),
            other=match.other._replace(consequence=came.get(match.other.id, "")),
        )
        for match in matches
        if match.group not in asked.found.errors
    ]


def _groups(asked: Asked) -> list[_Group]:
    runs, has = prompt_offsets(asked.table), asked.table["response"].is_valid().to_pylist()
    firsts = message_tuples(asked.table["prompt"].take(pa.array(runs.starts)))
    return [
        _Group(number, spoken(prompt), tuple(row for row in range(start, start + length) if has[row]))
        for number, (prompt, start, length) in enumerate(
            zip(firsts, runs.starts.tolist(), runs.lengths.tolist(), strict=True)
        )
    ]


def _each(asked: Asked) -> dict[int, Ask]:
    prompts, references = message_tuples(asked.table["prompt"]), _references(asked)
    return {
        row: Ask(row, spoken(prompts[row]), (side,), reference=references[row])
        for row, side in enumerate(_sides(asked.table, "response", "id"))
        if side is not None
    }


def _sides(table: pa.Table, name: str, id_: str) -> list[Side | None]:
    """Return the responses of a column as a judge is shown them; None where there is none."""
    rows = zip(
        table[id_].to_pylist(), message_tuples(table[name]), table[name].is_valid().to_pylist(), strict=True
    )
    return [Side(key, spoken(turns)) if is_there and turns else None for key, turns, is_there in rows]


def _side(sides: Sequence[Side | None], row: int) -> Side:
    side = sides[row]
    if side is None:  # groups hold only rows with a response
        raise AssertionError(row)
    return side


def _references(asked: Asked) -> list[str]:
    if asked.reference is None:
        return [""] * asked.table.num_rows
    return [text or "" for text in asked.table[asked.reference].to_pylist()]


def _named(table: pa.Table, name: str) -> frozenset[int]:
    either = zip(table["model"].to_pylist(), table["origin"].to_pylist(), strict=True)
    return frozenset(row for row, names in enumerate(either) if name in names)


def _steps(text: str, separator: str) -> list[tuple[int, int]]:
    """Return where each step starts and ends; what is blank is none."""
    found, start = [], 0
    for part in text.split(separator):
        bare = part.strip()
        if bare:
            begin = start + part.index(bare)
            found.append((begin, begin + len(bare)))
        start += len(part) + len(separator)
    return found


def _with_judgements(asked: Asked) -> pa.Table:
    judgements = records.column(asked.found.entries)
    return put(asked.table, "judgements", records.appended(asked.table, "judgements", judgements))


def _column(table: pa.Table, values: Mapping[int, float]) -> pa.Array:
    return pa.array([values.get(row) for row in range(table.num_rows)], pa.float64())


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 12)
