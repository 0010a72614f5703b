"""The rows that charts are of: measures in the place of texts, and what the rows of a prompt share."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from prefkit.charts.bins import drawable
from prefkit.columns import MESSAGES
from prefkit.statistics.measure import chars, flags, lighten, prompt_numbers, reals

__all__ = ["Rows", "measured"]


class Rows(NamedTuple):
    """Rows without their texts."""

    table: pa.Table
    """Conversations are measured; see `prefkit.statistics.measure.lighten`."""
    prompts: np.ndarray
    """The number of each row's prompt. Shape [rows], int64."""

    def has(self, *names: str) -> bool:
        """Whether there are these columns, each with a value."""
        there = set(self.table.column_names)
        return all(name in there and self.table[name].null_count < self.table.num_rows for name in names)

    def numbers(self, name: str) -> np.ndarray:
        """Return a column of numbers as float64, null as NaN. Shape [rows]."""
        return reals(self.table[name])

    def chars(self, name: str) -> np.ndarray:
        """Return the characters of a column of conversations, NaN where there is none. Shape [rows], float64."""
        return chars(self.table[name])

    def flags(self, name: str) -> np.ndarray:
        """Return a column of booleans, null as false. Shape [rows]."""
        return flags(self.table[name])

    def names(self, name: str) -> list[str | None]:
        """Return the values of a text column, the most frequent first, then by name."""
        found = self.table[name].value_counts().to_pylist()
        found.sort(key=lambda entry: (-entry["counts"], entry["values"] is None, entry["values"] or ""))
        return [entry["values"] for entry in found]

    def reals(self) -> list[str]:
        """Return the columns of floats that have something to draw."""
        floats = [field.name for field in self.table.schema if pa.types.is_floating(field.type)]
        return [name for name in floats if drawable(self.numbers(name)).any()]

    def is_of_pairs(self) -> bool:
        """Whether the rows are pairs."""
        return {"chosen", "rejected"} <= set(self.table.column_names)


def measured(table: pa.Table) -> Rows:
    """Measure rows for charts: a pass over the texts, after which their memory is free."""
    light = lighten(table)
    plain = [field.name for field in table.schema if field.type != MESSAGES]
    for name in plain:
        if name not in light.column_names:
            light = light.append_column(name, table[name])
    return Rows(light, prompt_numbers(light))
