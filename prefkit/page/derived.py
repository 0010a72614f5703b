"""Columns that a page adds to rows for its filters: lengths, gaps between the sides, and what votes come to."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.columns import MESSAGES, VOTES
from prefkit.statistics.measure import chars, lighten
from prefkit.tables import floats

__all__ = ["DERIVED", "disagreement", "with_derived"]

DERIVED: Mapping[str, str] = {
    "length_gap": "characters of the first side less those of the second",
    "score_gap": "score of the first side less that of the second",
    "votes_count": "votes on the pair",
    "scored_lower": "whether the first side has the lower score",
    "raters_disagree": "whether the votes on the pair do not all say the same; not known below two votes",
    "votes_for_chosen": "share of the votes that are for the side stored as chosen; a tie counts one half",
}


def with_derived(table: pa.Table, sides: Sequence[str] = ()) -> pa.Table:
    """Return the table with the columns added that it has something for, and not under these names already.

    Every conversation `x` gets its characters, `x_chars`.
    """
    found: dict[str, np.ndarray] = {}
    texts = [field.name for field in table.schema if field.type == MESSAGES]
    measured = lighten(table.select(texts))
    for name in texts:
        found[f"{name}_chars"] = chars(measured[name])
    if sides:
        one, other = sides
        found["length_gap"] = found[f"{one}_chars"] - found[f"{other}_chars"]
        if all(_is(table, f"{side}_score", pa.float64()) for side in sides):
            found["score_gap"] = floats(table[f"{one}_score"]) - floats(table[f"{other}_score"])
    if _is(table, "votes", VOTES):
        found |= _votes(table["votes"])
    columns: dict[str, pa.Array] = {name: _numbers(values) for name, values in found.items()}
    if "score_gap" in found:
        columns["scored_lower"] = pc.less(columns["score_gap"], 0)
    if _is(table, "votes", VOTES):
        columns["raters_disagree"] = disagreement(table["votes"])
    for name, values in columns.items():
        if name not in table.column_names:
            table = table.append_column(name, values)
    return table


def disagreement(votes: pa.ChunkedArray) -> pa.Array:
    """Return for each pair whether its votes do not all say the same; null where fewer than two can be read."""
    said = pl.col("votes").list.eval(pl.element().struct.field("winner").drop_nulls())
    kinds = pl.when(said.list.len() >= 2).then(said.list.n_unique() > 1)
    return pl.DataFrame({"votes": pl.Series(votes)}).select(kinds.alias("votes"))["votes"].to_arrow()


def _is(table: pa.Table, name: str, kind: pa.DataType) -> bool:
    return name in table.column_names and table.schema.field(name).type == kind


def _numbers(values: np.ndarray) -> pa.Array:
    """Return whole numbers as such: a length of 12.0 characters reads ill."""
    known = values[np.isfinite(values)]
    whole = not np.any(known != np.round(known))
    return pa.array(values, pa.float64(), from_pandas=True).cast(pa.int64() if whole else pa.float64())


def _votes(column: pa.ChunkedArray) -> dict[str, np.ndarray]:
    frame = pl.DataFrame({"votes": pl.Series(column)}).select(
        count=pl.col("votes").list.len(),
        chosen=pl.col("votes").list.eval(pl.element().struct.field("winner") == "chosen").list.sum(),
        tie=pl.col("votes").list.eval(pl.element().struct.field("winner") == "tie").list.sum(),
    )
    count, chosen, tie = (frame[name].cast(pl.Float64).to_numpy() for name in ("count", "chosen", "tie"))
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"votes_count": count, "votes_for_chosen": (chosen + tie / 2) / count}
