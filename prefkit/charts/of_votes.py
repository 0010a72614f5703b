"""Whether those who were asked agree: with each other, and with themselves when the sides change places.

A pair of annotators is compared on the pairs that both voted on, each by the balance of its votes, so that whoever
was asked twice counts once. Nothing here knows who is right.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl

from prefkit.charts.bins import edges_of, histogram
from prefkit.charts.drawn import counts, heat, outlines
from prefkit.charts.figure import Figure, count, figures, named, percent, short
from prefkit.charts.rows import Rows
from prefkit.charts.theme import COLOURS, HUES
from prefkit.votes import Said, said

__all__ = ["vote_figures"]

_MOST = 12
"""Judges drawn, those with the most votes."""
_NONE = 2
"""No verdict: beside -1 rejected, 0 tie, 1 chosen."""


def vote_figures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """Yield agreement, votes a pair, and the influence of order, where there are votes."""
    if not rows.has("votes"):
        return
    found = said(rows.table["votes"])
    if not len(found.pair):
        return
    tally = np.bincount(found.pair * 3 + found.verdict, minlength=3 * rows.table.num_rows).reshape(-1, 3)
    numbers = np.unique(tally.sum(axis=1))
    if len(numbers) > 1:  # one bar says no more than a sentence
        yield "votes", _number(tally.sum(axis=1))
    if (tally.sum(axis=1) > 1).any():
        yield "agreement", _agreement(tally)
    votes = _matrix(found, rows.table.num_rows)
    shared = _shared(votes)
    if shared.height:
        yield "agreement-matrix", _between(shared)
    yield "said", _said(found)
    yield from _orders(found)


def _number(votes: np.ndarray) -> Figure:
    values = votes[votes > 0].astype(np.float64)
    finding = f"{figures(len(values), 'pair')} of {count(len(votes))} have a vote, {short(float(values.mean()))} each on average"
    chart = outlines(
        histogram({"all": values}, edges_of(values)), {"all": COLOURS["all"]}, x="votes on a pair"
    )
    return Figure("How many votes a pair has", "judges", chart, finding)


def _agreement(tally: np.ndarray) -> Figure:
    several = tally[tally.sum(axis=1) > 1]
    n = several.sum(axis=1)
    alike = several.max(axis=1) / n
    agreeing = (several * (several - 1)).sum(axis=1) / (n * (n - 1))
    finding = f"two votes on one pair agree in {percent(float(agreeing.mean()))}; all agree in {percent(float((alike == 1).mean()))} of {figures(len(several), 'pair')} with two votes or more"
    if several.shape == tally.shape and len(np.unique(n)) == 1:
        finding += f"; each has {figures(int(n[0]), 'vote')}"
    edges: np.ndarray = np.arange(21) / 20
    chart = outlines(
        histogram({"all": alike}, edges),
        {"all": COLOURS["all"]},
        x="share of a pair's votes that say the same",
    )
    return Figure("How far the votes on a pair agree", "judges", chart, finding)


class _Opinions(NamedTuple):
    """The judges with the most votes, and what each says of each pair."""

    names: list[str]
    balance: np.ndarray
    """1 chosen, 0 tie, -1 rejected, `_NONE` not asked. Shape [judges, pairs], int8."""


def _matrix(found: Said, pairs: int) -> _Opinions:
    votes = np.bincount(found.judge, minlength=len(found.judges))
    top = np.argsort(-votes, kind="stable")[:_MOST]
    balance = np.full((len(top), pairs), _NONE, np.int8)
    for row, judge in enumerate(top):
        mine = found.judge == judge
        sums = np.bincount(found.pair[mine], 1.0 - found.verdict[mine], minlength=pairs)
        asked = np.bincount(found.pair[mine], minlength=pairs) > 0
        balance[row, asked] = np.sign(sums[asked]).astype(np.int8)
    return _Opinions(named([found.judges[int(judge)].as_py() for judge in top]), balance)


def _shared(votes: _Opinions) -> pl.DataFrame:
    """Return how often each two judges agree on the pairs they share. Columns: one, other, value, rows."""
    names, balance = votes
    rows = []
    for at, one in enumerate(names):
        for beside in range(at + 1, len(names)):
            both = (balance[at] != _NONE) & (balance[beside] != _NONE)
            if both.any():
                same = float((balance[at][both] == balance[beside][both]).mean())
                rows += [
                    {"one": first, "other": second, "value": same, "rows": int(both.sum())}
                    for first, second in ((one, names[beside]), (names[beside], one))
                ]
    kinds = {"one": pl.String, "other": pl.String, "value": pl.Float64, "rows": pl.Int64}
    return pl.DataFrame(rows, schema=kinds)


def _between(frame: pl.DataFrame) -> Figure:
    once = frame.filter(pl.col("one") < pl.col("other")).sort("value", "one", "other")
    least, most = once.row(0, named=True), once.row(-1, named=True)
    overall = float(np.average(once["value"].to_numpy(), weights=once["rows"].to_numpy()))
    finding = f"two of them agree in {percent(overall)} of what both voted on"
    if once.height > 1:
        ends = (
            f"{row['one']} and {row['other']} ({percent(row['value'])} of {count(row['rows'])})"
            for row in (most, least)
        )
        finding += "; most {}, least {}".format(*ends)
    return Figure("Who agrees with whom", "judges", heat(frame, what="agree"), finding)


def _said(found: Said) -> Figure:
    votes = np.bincount(found.judge, minlength=len(found.judges))
    top = np.argsort(-votes, kind="stable")[:_MOST]
    names = named([found.judges[int(judge)].as_py() for judge in top])
    parts = ("chosen", "tie", "rejected")
    frame = pl.DataFrame(
        [
            {
                "name": name,
                "part": part,
                "rows": int(((found.judge == judge) & (found.verdict == verdict)).sum()),
            }
            for name, judge in zip(names, top, strict=True)
            for verdict, part in enumerate(parts)
        ]
    )
    with_chosen = float((found.verdict == 0).mean())
    finding = (
        f"{percent(with_chosen)} of {figures(len(found.verdict), 'vote')} are for the side stored as chosen"
    )
    more = len(found.judges) - len(top)
    finding += f"; the {len(top)} who voted most are drawn, {figures(more, 'other')} not" if more else ""
    colours = {"chosen": COLOURS["chosen"], "tie": COLOURS["soft"], "rejected": COLOURS["rejected"]}
    return Figure("What each judge said", "judges", counts(frame, colours, x="votes"), finding)


# order


_CONSISTENT = ("same answer", "first shown wins", "second shown wins", "tie in one order")


def _orders(found: Said) -> Iterator[tuple[str, Figure]]:
    """Yield how judges that saw a pair in both orders answered."""
    known = found.order < 2
    if not known.any():
        return
    frame = pl.DataFrame(
        {
            "pair": found.pair[known],
            "judge": found.judge[known],
            "order": found.order[known],
            "verdict": 1.0 - found.verdict[known],
        }
    )
    seen = frame.group_by("pair", "judge").agg(
        one=pl.col("verdict").filter(pl.col("order") == 0).sum().sign(),
        other=pl.col("verdict").filter(pl.col("order") == 1).sum().sign(),
        orders=pl.col("order").n_unique(),
    )
    both = seen.filter(pl.col("orders") == 2)
    if not both.height:
        return
    one, other = pl.col("one"), pl.col("other")
    answered = both.with_columns(
        part=pl.when(one == other)
        .then(pl.lit(_CONSISTENT[0]))
        .when((one > 0) & (other < 0))
        .then(pl.lit(_CONSISTENT[1]))
        .when((one < 0) & (other > 0))
        .then(pl.lit(_CONSISTENT[2]))
        .otherwise(pl.lit(_CONSISTENT[3]))
    )
    yield "order", _order(answered, found)


def _order(answered: pl.DataFrame, found: Said) -> Figure:
    by_judge = answered.group_by("judge", "part").len("rows")
    top = (
        by_judge.group_by("judge").agg(pl.col("rows").sum()).sort(["rows", "judge"], descending=[True, False])
    )
    judges = top["judge"].to_list()[:_MOST]
    names = dict(zip(judges, named([found.judges[int(judge)].as_py() for judge in judges]), strict=True))
    at = {judge: place for place, judge in enumerate(judges)}
    frame = (
        by_judge.filter(pl.col("judge").is_in(judges))
        .with_columns(
            name=pl.col("judge").replace_strict(names, return_dtype=pl.String),
            at=pl.col("judge").replace_strict(at, return_dtype=pl.Int64),
        )
        .sort("at", "part")
        .select("name", "part", "rows")
    )
    parts = dict(answered["part"].value_counts().iter_rows())
    rates = [percent(parts.get(part, 0) / answered.height) for part in _CONSISTENT]
    finding = f"asked in both orders {figures(answered.height, 'time')}: the same answer in {rates[0]}, the first shown wins in {rates[1]}, the second in {rates[2]}"
    colours = dict(zip(_CONSISTENT, (COLOURS["good"], HUES[1], HUES[3], COLOURS["soft"]), strict=True))
    return Figure(
        "Whether the order of the sides changes the answer",
        "judges",
        counts(frame, colours, x="pairs asked both ways"),
        finding,
    )
