"""Open a step of a build from Python: its rows as Arrow, polars or `datasets`, to read, to draw and to ask about.

    data = prefkit.open("quickstart")
    data                       # in a notebook: what it is, and where the rows went
    data.pairs.head()          # polars, lazily
    data.sample(10)            # pairs side by side, differences marked
    data.plot.length_bias()    # an Altair chart
    data.why("1a80cf7f")       # the life of one row
    data.dataset()             # datasets.Dataset: what TRL trains on as it is

All of it is over the same mapped memory: nothing is read before it is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from prefkit.columns import Level
from prefkit.errors import StoreError
from prefkit.manifest import Manifest
from prefkit.store import DEFAULT, Store
from prefkit.tables import to_polars

if TYPE_CHECKING:
    from datasets import Dataset

    from prefkit.engines.spend import Price
    from prefkit.opened.excerpts import Excerpt
    from prefkit.opened.plots import Plots
    from prefkit.opened.told import Changes, Life

__all__ = ["Opened", "open_ref"]


@dataclass(frozen=True, repr=False)
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

    @property
    def pairs(self) -> pl.LazyFrame:
        """The pairs: of this step, or of the last step of the run that has pairs. Raises StoreError if none has."""
        return self._of_level("pair")

    @property
    def responses(self) -> pl.LazyFrame:
        """The responses: of this step, or of the last step of the run that has responses."""
        return self._of_level("response")

    @property
    def prompts(self) -> pl.LazyFrame:
        """The prompts: of this step, or of the last step of the run that has rows of prompts alone."""
        return self._of_level("prompt")

    def _of_level(self, level: Level) -> pl.LazyFrame:
        if self.manifest.level == level:
            return self.frame
        run = self.name.partition("/")[0]
        steps = [(ref.step, self.store.manifest(ref)) for ref in self.store.refs(run)]
        matching = [manifest for _, manifest in steps if manifest.level == level]
        if not matching:
            there = ", ".join(f"{step} ({manifest.level}s)" for step, manifest in steps)
            raise StoreError(f"no step of run '{run}' has {level}s", hint=f"its steps: {there}")
        return to_polars(self.store.table(matching[-1])).lazy()

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

    # to read

    def sample(self, count: int = 10, seed: int = 0) -> "Excerpt":
        """Return some rows to read, the same for the same seed, whatever the order of the rows."""
        from prefkit.opened.excerpts import Excerpt, sampled

        rows = sampled(self.table, count, seed)
        return Excerpt(
            rows, f"{rows.num_rows} of {self.manifest.rows.kept:,} {self.manifest.level}s of {self.name}"
        )

    def find(self, text: str, most: int = 100) -> "Excerpt":
        """Return the rows whose prompt, response or sides have a text, whatever its case: at most so many."""
        from prefkit.opened.excerpts import Excerpt, found

        table = self.table
        at = found(table, text)
        title = f"{len(at):,} of {table.num_rows:,} {self.manifest.level}s of {self.name} have '{text}'"
        title += f", the first {most:,} are here" if len(at) > most else ""
        return Excerpt(table.take(pa.array(at[:most])), title, text)

    @property
    def plot(self) -> "Plots":
        """Charts of the rows: `data.plot.margin()`; all of them where it is shown itself."""
        from prefkit.card.reports import load_report
        from prefkit.opened.plots import Plots

        report = load_report(self.store, self.name.partition("/")[0], self.manifest.digest)
        return Plots(self.name, self.table, report)

    # to ask

    def diff(self, other: "Opened | str") -> "Changes":
        """Say what changed from this step to another: settings, columns, rows, labels that flipped."""
        from prefkit.diff import compare
        from prefkit.opened.told import Changes

        after = open_ref(other, self.store) if isinstance(other, str) else other
        return Changes(self.name, after.name, compare(self.store, self.manifest, after.manifest))

    def why(self, row: str, prices: "Mapping[str, Price] | None" = None, folder: Path = Path()) -> "Life":
        """Tell the life of a row, kept or dropped, by its id or its first digits, with every model call.

        `prices` are by what a model is served as; paths in settings are relative to `folder`. Raises StoreError if no
        row has the id, or several have.
        """
        from prefkit.opened.told import Life
        from prefkit.why import biography

        return Life(biography(self.store, self.name, row, prices=prices, folder=folder))

    # as shown

    def __repr__(self) -> str:
        return f"<{self.name}: {self.manifest.rows.kept:,} {self.manifest.level}s, {len(self.manifest.columns)} columns>"

    def _repr_html_(self) -> str:
        from prefkit.opened.overview import overview

        return overview(self.store, self.name, self.manifest)


def open_ref(name: str, store: Store | Path | str = DEFAULT) -> Opened:
    """Open `run`, `run/05-pair` or `run/pair`. Raises StoreError with what there is."""
    store = store if isinstance(store, Store) else Store(store)
    return Opened(name, store, store.resolve(name))
