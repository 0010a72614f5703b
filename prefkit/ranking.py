"""Ranking rows of a table by a column: ties go by id, so that the order of rows never matters."""

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.tables import floats

__all__ = ["ranked", "share_of"]


def ranked(table: pa.Table, column: str, *, descending: bool = False) -> np.ndarray:
    """Return the row numbers by a numeric column, then by id: int64 [rows]. Null, NaN and infinities come last."""
    values = floats(table[column])
    there = np.isfinite(values)
    keys = np.where(there, -values if descending else values, 0.0)
    frame = pl.DataFrame({"missing": ~there, "key": keys, "id": pl.Series(table["id"])})
    return frame.select(pl.arg_sort_by("missing", "key", "id")).to_series().to_numpy().astype(np.int64)


def share_of(count: int, share: float) -> int:
    """Return the whole number of rows in a share of them, rounded down; 0.29 of 100 is 29."""
    return int(count * share + 1e-9)
