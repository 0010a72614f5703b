"""Answers of the models of a comparison beside each other, for the browser of its page."""

from collections.abc import Iterator

import polars as pl
import pyarrow as pa

from prefkit.columns import MESSAGES
from prefkit.experiment.report import Comparison
from prefkit.page.rows import About, Embedded, embed

__all__ = ["beside"]

_AT = ("prompt_id", "seed", "sample")
_OWN = frozenset({"id", "prompt", *_AT, "length_gap", "score_gap"})


def beside(report: Comparison, answers: pa.Table) -> Iterator[Embedded]:
    """Yield the answers of each other dataset, controls too, beside those of the first: to the same prompt, by seed and sample."""
    if not report.versus or not {*_AT, "arm", "prompt", "response"} <= set(answers.column_names):
        return
    frame = pl.DataFrame(answers)
    base = report.versus[0].base
    first = frame.filter(pl.col("arm") == base)
    for at, each in enumerate(report.versus):
        sides = _sides(each.arm, base)
        table = _joined(frame.filter(pl.col("arm") == each.arm), first, sides)
        if table.num_rows:
            yield embed(About(f"answers-{at}", f"by {sides[0]} and {sides[1]}", "answer", sides), table)


def _sides(arm: str, base: str) -> tuple[str, str]:
    """Return the columns of the two sides: the names of the datasets, which no other column may have."""
    used = {*_OWN, *(f"{name}{end}" for name in ("prompt", arm, base) for end in ("_chars", "_score"))}
    one, other = (f"dataset {name}" if name in used or not name else name for name in (arm, base))
    return one, other


def _joined(others: pl.DataFrame, first: pl.DataFrame, sides: tuple[str, str]) -> pa.Table:
    score = ["score"] if "score" in others.columns else []
    kept = [*_AT, "response", *score]
    joined = (
        others.select("id", "prompt", *kept)
        .join(first.select(kept), on=_AT, suffix="_of_first", maintain_order="left")
        .rename({"response": sides[0], "response_of_first": sides[1]})
    )
    if score:
        names = [f"{side}_score" for side in sides]
        joined = joined.rename(dict(zip(("score", "score_of_first"), names, strict=True)))
    table = joined.to_arrow()
    for name in ("prompt", *sides):
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(MESSAGES))
    return table.cast(pa.schema([(field.name, _plain(field.type)) for field in table.schema]))


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else kind
