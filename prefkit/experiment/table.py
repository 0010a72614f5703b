"""What was measured: one long table, a number a row, from which every figure of a comparison can be computed again.

Arm "" holds what belongs to no arm: log-probs of the reference, lengths of held-out pairs, and answers of the untrained model.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.errors import DataError
from prefkit.objects import short

__all__ = ["COLUMNS", "Grid", "grid", "last_steps", "pair_grid", "read", "reading", "rows", "write"]

COLUMNS: dict[str, pl.DataType] = {
    "arm": pl.String(),
    "seed": pl.Int64(),
    "step": pl.Int64(),
    "metric": pl.String(),
    "of": pl.String(),
    "prompt_id": pl.String(),
    "row": pl.String(),
    "value": pl.Float64(),
}
"""`step`: optimizer steps done. `of`: the arm whose held-out pairs were read, or that was met. `row`: the id of a pair, or which
sample of its prompt."""

Grid = np.ndarray
"""float64 [seeds, prompts, samples] or [seeds, pairs]; NaN where nothing was measured."""


def rows(
    metric: str, prompts: Sequence[str], ids: Sequence[str], values: np.ndarray, of: str = ""
) -> pl.DataFrame:
    """Return rows of one metric, without arm, seed and step. Shapes: all [rows]."""
    return pl.DataFrame(
        {"prompt_id": list(prompts), "row": list(ids), "value": np.asarray(values, dtype=np.float64)},
        schema_overrides={"prompt_id": pl.String, "row": pl.String},
    ).with_columns(metric=pl.lit(metric), of=pl.lit(of))


def write(frame: pl.DataFrame, path: Path) -> None:
    """Write rows as an Arrow file, beside itself and then in place."""
    fresh = path.with_name(path.name + ".new")
    frame.write_ipc(fresh)
    fresh.replace(path)


def read(path: Path) -> pl.DataFrame:
    """Read what `write` wrote. Raises DataError."""
    with reading(path):
        return pl.read_ipc(path)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Read a file that a comparison kept. Raises DataError where it is not as it was written."""
    try:
        yield
    except (OSError, ValueError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        what = f"a file of this comparison cannot be read: {short(error)}"
        raise DataError(
            what, where=str(path), hint="`prefkit verify` says what to remove; the rest is kept"
        ) from error


def last_steps(frame: pl.DataFrame) -> pl.DataFrame:
    """Return only what was measured at the end of each run."""
    last = pl.col("step").max().over("arm", "seed")
    return frame.filter(pl.col("step") == last)


def grid(
    frame: pl.DataFrame, arm: str, metric: str, seeds: Sequence[int], prompts: Sequence[str], of: str = ""
) -> Grid:
    """Return one metric of an arm's answers, [seeds, prompts, samples]."""
    found = frame.filter(arm=arm, metric=metric, of=of)
    samples = found["row"].cast(pl.Int64)
    most = int(samples.to_numpy().max(initial=0)) + 1
    told = np.full((len(seeds), len(prompts), most), np.nan)
    _place(told, found, seeds, prompts, "prompt_id", samples)
    return told


def pair_grid(
    frame: pl.DataFrame, arm: str, metric: str, seeds: Sequence[int], pairs: Sequence[str], of: str
) -> Grid:
    """Return one metric of an arm on the held-out pairs of another, [seeds, pairs]."""
    told = np.full((len(seeds), len(pairs), 1), np.nan)
    _place(told, frame.filter(arm=arm, metric=metric, of=of), seeds, pairs, "row", None)
    return told[:, :, 0]


def _place(
    told: np.ndarray,
    found: pl.DataFrame,
    seeds: Sequence[int],
    names: Sequence[str],
    by: str,
    samples: pl.Series | None,
) -> None:
    """Write values where they belong; rows of other seeds and names are left out."""
    places = {
        "seed": pl.DataFrame(
            {"seed": list(seeds), "s": range(len(seeds))}, schema={"seed": pl.Int64, "s": pl.Int64}
        ),
        by: pl.DataFrame({by: list(names), "n": range(len(names))}, schema={by: pl.String, "n": pl.Int64}),
    }
    if samples is not None:
        found = found.with_columns(k=samples)
    for key, place in places.items():
        found = found.join(place, on=key)
    last = found["k"].to_numpy() if samples is not None else 0
    told[found["s"].to_numpy(), found["n"].to_numpy(), last] = found["value"].to_numpy()
