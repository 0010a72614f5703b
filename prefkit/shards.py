"""Shards: cut tables at prompt boundaries, so that a prompt is never in two of them."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa

from prefkit.errors import ContractError
from prefkit.tables import numbered, prompt_offsets

__all__ = ["SHARD_ROWS", "cut"]

SHARD_ROWS = 10_000
"""Rows a shard holds by default: about 20 MB of text, small enough to hold several in memory."""


def cut(table: pa.Table, rows: int = SHARD_ROWS) -> Iterator[pa.Table]:
    """Yield slices of about `rows` rows that never cut a prompt in two. An empty table gives one empty slice.

    In a table that would be one shard by default, rows of a prompt may stand apart: all between them stay in one slice.
    Raises ContractError if they do in a larger one, whose slices could be of any size.
    """
    if table.num_rows <= rows:
        yield table
        return
    starts = _starts(table)
    wanted = np.arange(rows, table.num_rows, rows)
    at = np.unique(starts[np.searchsorted(starts, wanted, side="right") - 1])
    edges = [0, *(int(edge) for edge in at if edge > 0), table.num_rows]
    for begin, end in pairwise(edges):
        yield table.slice(begin, end - begin)


def _starts(table: pa.Table) -> np.ndarray:
    """Return the rows before which no prompt has begun that comes again: int64."""
    try:
        return prompt_offsets(table).starts
    except ContractError:
        if table.num_rows > SHARD_ROWS:
            raise
        prompts = numbered(table["prompt_id"])
        rows = np.arange(len(prompts))
        last = np.zeros(int(prompts.max()) + 1, np.int64)
        last[prompts] = rows  # of equal places, the last one is written last
        reach = np.maximum.accumulate(last[prompts])
        return np.append(0, rows[1:][reach[:-1] < rows[1:]])
