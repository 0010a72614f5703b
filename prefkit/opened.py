"""Open a step of a build from Python: its rows as Arrow, polars or `datasets`, over the same mapped memory.

data = prefkit.open("quickstart/pair")
data.pairs.head()          # polars, lazily
data.dataset()             # datasets.Dataset: what TRL trains on as it is
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from prefkit.manifest import Manifest
from prefkit.store import DEFAULT, Store
from prefkit.tables import to_polars

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Opened", "open_ref"]


@dataclass(frozen=True)
class Opened:
    """One finished step: its manifest and its rows."""

    name: str
    store: Store
    manifest: Manifest

    @property
    def table(self) -> pa.Table:
        """The rows, memory-mapped."""
        return self.store.table(self.manifest)

    @property
    def frame(self) -> pl.LazyFrame:
        """The rows as a polars LazyFrame."""
        return to_polars(self.table).lazy()

    def dropped(self) -> list[pa.Table]:
        """Return the rows this step dropped, each with its `drop_reason`, shard by shard."""
        return [self.store.get(shard) for shard in self.manifest.dropped]

    def dataset(self) -> "Dataset":
        """Return the rows as a `datasets.Dataset` over the same memory.

        The fingerprint is given, because `datasets` would otherwise hash the whole table to find one.
        """
        from datasets import Dataset
        from datasets.table import InMemoryTable

        return Dataset(InMemoryTable(self.table), fingerprint=self.manifest.digest)


def open_ref(name: str, store: Store | Path | str = DEFAULT) -> Opened:
    """Open `run`, `run/05-pair` or `run/pair`. Raises StoreError with what there is."""
    store = store if isinstance(store, Store) else Store(store)
    return Opened(name, store, store.resolve(name))
