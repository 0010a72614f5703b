"""Records: judgements as a column, every answer as it came, and the votes that follow from them.

A judgement names the responses in the order in which they were shown, and says which of these two is better. So it
stays true when a pair is turned round, and no step ever has to rewrite it; votes, which speak of chosen and rejected,
are made from it where the pair is known. Each comparison is kept once, with the response that came first in its prompt.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.columns import JUDGEMENTS, VOTES
from prefkit.judging.matches import Match
from prefkit.judging.tasks import Outcome, Terms

__all__ = [
    "about",
    "appended",
    "column",
    "entries",
    "even",
    "joined",
    "listed",
    "votes_from",
    "win_rate_from",
]

_COMPARED = ("pairwise", "hindsight")
_P = {"first": 1.0, "tie": 0.5, "second": 0.0}


def entries(terms: Terms, outcome: Outcome, task: str = "", label: str = "") -> list[dict[str, Any]]:
    """Return every attempt at an ask; the last one `counts`, unless it was a canary."""
    ask, found = outcome.ask, []
    task = task or (f"canary/{ask.canary}" if ask.canary else terms.task)
    is_verdict = task != "consequence"
    for at, attempt in enumerate(outcome.attempts):
        is_last = at == len(outcome.attempts) - 1
        found.append(
            {
                "judge": terms.model.id,
                "template": label or terms.label,
                "task": task,
                "first": ask.sides[0].id,
                "second": ask.sides[1].id if len(ask.sides) == 2 and task != "listwise" else None,
                "sample": 2 * ask.sample + ask.order if task == "listwise" else ask.sample,
                "attempt": at,
                "verdict": outcome.value
                if is_last and isinstance(outcome.value, str) and is_verdict
                else None,
                "value": float(outcome.value) if is_last and isinstance(outcome.value, int | float) else None,
                "p": outcome.p if is_last else None,
                "flaw": attempt.flaw,
                "counts": is_last and not ask.canary and is_verdict,
                "raw": attempt.answer.text,
                "prompt_tokens": attempt.answer.prompt_tokens,
                "tokens": attempt.answer.tokens,
            }
        )
    return found


def listed(
    terms: Terms, outcome: Outcome, ids: Mapping[str, Sequence[tuple[int, str]]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield what each row gets of a ranking: its place, from 1; the answer itself stands in the first row alone.

    `ids` has the row and id of every response that stands behind a side, since equal texts are shown once.
    """
    told = entries(terms, outcome)
    holder = min(row for rows in ids.values() for row, _ in rows)
    places = {outcome.ask.sides[at].id: place for place, at in enumerate(outcome.value or (), start=1)}
    silent = {"raw": None, "prompt_tokens": None, "tokens": None}
    for side, rows in ids.items():
        for row, id_ in rows:
            for entry in told if row == holder else told[-1:]:
                value = places.get(side) if entry["counts"] else None
                own = {"first": id_, "value": None if value is None else float(value)}
                yield row, {**entry, **own, **({} if row == holder else silent)}


def even(terms: Terms, match: Match) -> dict[str, Any]:
    """Return the tie of a match that nobody had to be asked about."""
    known = {"judge": terms.model.id, "task": terms.task, "first": match.one.id, "second": match.other.id}
    return {**known, "verdict": "tie", "p": 0.5, "counts": True}


def appended(table: pa.Table, name: str, more: pa.Array) -> pa.Array:
    """Return a list column with more entries at the end of each list; `more` where there was no such column."""
    return joined(table[name], more) if name in table.column_names else more


def joined(kept: pa.ChunkedArray | pa.Array, more: pa.Array) -> pa.Array:
    """Return lists with more entries at the end of each; a row without any in either has null."""
    one, other = pl.lit(_series(kept)), pl.lit(_series(more))
    both = pl.when(one.is_null()).then(other).when(other.is_null()).then(one)
    return _plain(pl.select(both.otherwise(pl.concat_list(one, other))).to_series(), more.type)


def about(judgements: Sequence[pa.ChunkedArray], chosen: pa.Array, rejected: pa.Array) -> pa.Array:
    """Return what was said of each pair, from columns of what was said of either side: JUDGEMENTS [pairs].

    That is: of both together, and of either alone or in a list; what was said of it and a third response is not.
    """
    frame, rows = _with_ids(judgements, chosen, rejected)
    found = frame.filter(_is_about_both() | pl.col("second").is_null())
    return _listed(found, rows, JUDGEMENTS)


def votes_from(
    judgements: Sequence[pa.ChunkedArray | pa.Array], chosen: pa.Array, rejected: pa.Array
) -> pa.Array:
    """Return the votes on pairs that follow from lists of judgements on their responses: VOTES [pairs].

    `judgements` are columns, [pairs] each: of the pair, or of either side. `chosen` and `rejected` are the ids of the
    responses. An answer that could not be read is a vote without a winner; a pair that nobody judged has null.
    Judgements that rank a list say of two of its members which is better, without an order of presentation.
    """
    frame, rows = _with_ids(judgements, chosen, rejected)
    frame = frame.filter(pl.col("counts"))
    return _listed(pl.concat([_compared(frame), _ranked(frame)]), rows, VOTES)


def win_rate_from(table: pa.Table) -> np.ndarray:
    """Return how often each response beats one of those it was compared with, itself included: float64 [rows].

    Reads `id`, `prompt_id` and `judgements`; NaN for a response that was compared with none. Both orders of a pair count
    alike, however many answers each has.
    """
    prompts = pl.DataFrame({"prompt": _series(table["prompt_id"])}).with_row_index("row")
    frame = _exploded(table["judgements"]).filter(
        pl.col("counts") & pl.col("verdict").is_not_null() & pl.col("task").is_in(_COMPARED)
    )
    frame = frame.join(prompts, on="row", how="inner")
    p = pl.coalesce("p", pl.col("verdict").replace_strict(_P, return_dtype=pl.Float64))
    frame = frame.select("prompt", a="first", b="second", shown="first", p=p)
    other = frame.select("prompt", a="b", b="a", shown="shown", p=1 - pl.col("p"))
    orders = pl.concat([frame, other]).group_by("prompt", "a", "b", "shown").agg(pl.col("p").mean())
    pairs = orders.group_by("prompt", "a", "b").agg(pl.col("p").mean()).sort("prompt", "a", "b")
    rates = pairs.group_by("prompt", "a").agg(rate=(pl.col("p").sum() + 0.5) / (pl.len() + 1))
    rows = prompts.with_columns(a=_series(table["id"])).join(
        rates, on=["prompt", "a"], how="left", maintain_order="left"
    )
    return rows["rate"].to_numpy().astype(np.float64)


def _with_ids(
    judgements: Sequence[pa.ChunkedArray | pa.Array], chosen: pa.Array, rejected: pa.Array
) -> tuple[pl.DataFrame, int]:
    """Return every entry with its row and the ids of the responses of that row, and how many rows there are."""
    ids = pl.DataFrame({"chosen": _series(chosen), "rejected": _series(rejected)}).with_row_index("row")
    told = pl.concat([_exploded(column) for column in judgements])
    return told.join(ids, on="row", how="inner", maintain_order="left"), len(ids)


def _is_about_both() -> pl.Expr:
    first, second, chosen, rejected = (pl.col(name) for name in ("first", "second", "chosen", "rejected"))
    return ((first == chosen) & (second == rejected)) | ((first == rejected) & (second == chosen))


def _listed(entries: pl.DataFrame, rows: int, kind: pa.DataType) -> pa.Array:
    """Return entries as one list a row, null where there is none."""
    fields = [field.name for field in kind.value_type]
    lists = entries.group_by("row", maintain_order=True).agg(pl.struct(fields).alias("list"))
    every = pl.DataFrame({"row": pl.Series(range(rows), dtype=pl.UInt32)})
    return _plain(every.join(lists, on="row", how="left", maintain_order="left")["list"], kind)


def _compared(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the votes of answers that compared two responses."""
    is_first = pl.col("first") == pl.col("chosen")
    wins = (pl.col("verdict") == "first") == is_first
    side = pl.when(wins).then(pl.lit("chosen")).otherwise(pl.lit("rejected"))
    won = pl.when(pl.col("verdict") == "tie").then(pl.lit("tie")).otherwise(side)
    order = pl.when(is_first).then(pl.lit("chosen-first")).otherwise(pl.lit("rejected-first"))
    return frame.filter(_is_about_both()).select(
        "row",
        "judge",
        order=pl.when(pl.col("raw").is_not_null()).then(order),
        winner=pl.when(pl.col("verdict").is_not_null()).then(won),
        p=pl.when(is_first).then(pl.col("p")).otherwise(1 - pl.col("p")),
        strength=pl.lit(None, pl.Float64),
        rationale=pl.lit(None, pl.String),
    )


def _ranked(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the votes of rankings that hold both responses; `strength` is how many places they are apart."""
    ranked = frame.filter(pl.col("task") == "listwise")
    on = ["row", "judge", "template", "sample", "attempt"]
    one = ranked.filter(pl.col("first") == pl.col("chosen"))
    other = ranked.filter(pl.col("first") == pl.col("rejected")).select(*on, behind="value")
    gap = pl.col("behind") - pl.col("value")
    won = pl.when(gap > 0).then(pl.lit("chosen")).when(gap < 0).then(pl.lit("rejected"))
    won = won.when(gap == 0).then(pl.lit("tie"))
    return one.join(other, on=on, how="inner", maintain_order="left").select(
        "row",
        "judge",
        order=pl.lit(None, pl.String),
        winner=won,
        p=pl.lit(None, pl.Float64),
        strength=gap,
        rationale=pl.lit(None, pl.String),
    )


def _exploded(column: pa.ChunkedArray | pa.Array) -> pl.DataFrame:
    """Return the entries of a judgements column, one a row, with the `row` of each."""
    lists = pl.DataFrame({"entry": _series(column)}).with_row_index("row")
    return lists.explode("entry").filter(pl.col("entry").is_not_null()).unnest("entry")


def _series(values: pa.ChunkedArray | pa.Array) -> pl.Series:
    found = pl.from_arrow(values)
    if not isinstance(found, pl.Series):
        raise TypeError(f"expected a column, got {type(found).__name__}")
    return found


def _plain(values: pl.Series, kind: pa.DataType) -> pa.Array:
    """Return a column of polars as Arrow again, of exactly this type."""
    found = values.to_arrow().cast(kind)
    return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found


def column(rows: Sequence[Sequence[dict[str, Any]]]) -> pa.Array:
    """Return lists of entries as a column; a row without any has null."""
    return pa.array([list(row) or None for row in rows], JUDGEMENTS)
