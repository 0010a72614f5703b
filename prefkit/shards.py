"""Shards: cut tables at prompt boundaries, so that a prompt is never in two of them."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa

from prefkit.tables import prompt_offsets

__all__ = ["SHARD_ROWS", "cut"]

SHARD_ROWS = 10_000
"""Rows a shard holds by default: about 20 MB of text, small enough to hold several in memory."""


def cut(table: pa.Table, rows: int = SHARD_ROWS) -> Iterator[pa.Table]:
    """Yield slices of about `rows` rows that never cut a prompt in two. An empty table gives one empty slice."""
    if table.num_rows <= rows:
        yield table
        return
    starts = prompt_offsets(table).starts
    wanted = np.arange(rows, table.num_rows, rows)
    at = np.unique(starts[np.searchsorted(starts, wanted, side="right") - 1])
    edges = [0, *(int(edge) for edge in at if edge > 0), table.num_rows]
    for begin, end in pairwise(edges):
        yield table.slice(begin, end - begin)
