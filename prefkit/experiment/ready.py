"""A comparison that could begin, where its runs stand, and what was kept of each."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
from pyarrow import ipc

from prefkit.experiment import table
from prefkit.experiment.arms import Arm, HeldOut
from prefkit.experiment.protocol import Planned, Protocol
from prefkit.store import Store
from prefkit.tables import put

__all__ = ["Ready", "collected", "read_answers", "run_folder", "slug", "write_answers"]


class Ready(NamedTuple):
    """A comparison that could begin."""

    store: Store
    told: Protocol
    arms: Sequence[Arm]
    """The first is the one that all others are compared with; controls last."""
    test: HeldOut
    steps: Mapping[str, int]
    planned: Planned
    out: Path
    seed: int
    folder: Path
    """What paths in the recipe are relative to."""


def run_folder(ready: Ready, arm: Arm, seed: int) -> Path:
    """Return where a run of an arm stands."""
    number = [one.name for one in ready.arms].index(arm.name) + 1
    return ready.out / "runs" / f"{number}-{slug(arm.name)}" / str(seed)


def write_answers(drawn: pa.Table, arm: str, seed: int, path: Path) -> None:
    """Keep the answers of one run; `arm` is empty for the untrained model."""
    if arm:  # the folder of the model goes once it is measured
        drawn = put(drawn, "model", pa.array([arm] * drawn.num_rows, pa.string()))
    drawn = drawn.append_column("arm", pa.array([arm] * drawn.num_rows, pa.string()))
    drawn = drawn.append_column("seed", pa.array([seed] * drawn.num_rows, pa.int64()))
    with ipc.new_file(str(path), drawn.schema) as file:
        file.write_table(drawn)


def read_answers(path: Path) -> pa.Table:
    """Read the answers of one run. Raises DataError."""
    with table.reading(path), pa.memory_map(str(path)) as file:
        return ipc.open_file(file).read_all()


def collected(ready: Ready, seeds: Sequence[int]) -> pl.DataFrame:
    """Return everything that was measured with these seeds."""
    base = ready.out / "runs" / "reference"
    folders = [base / str(seed) for seed in seeds]
    folders += [run_folder(ready, arm, seed) for arm in ready.arms for seed in seeds]
    paths = [base / "pairs.arrow"]
    paths += [folder / name for folder in folders for name in ("measured.arrow", "judged.arrow")]
    return pl.concat([table.read(path) for path in paths if path.is_file()])


def slug(name: str) -> str:
    """Return a name as a folder can have it."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")
