"""Agreeing: whether the files of a training or a comparison fit together: what one names is there, and says the same."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
from pyarrow import ipc

from prefkit.store import Store
from prefkit.verify.contents import Wrong, here

__all__ = ["Folder", "compared_wrongly", "trained_wrongly"]

_CHECKPOINT = ("weights.safetensors", "optimizer.safetensors", "state.safetensors", "checkpoint.json")
_RUN = ("answers.arrow", "changed.npy", "metrics.jsonl", "report.json")
"""What stands beside `measured.arrow`, which is written last."""
_GATHERED = ("measured.arrow", "answers.arrow", "plan.json", "report.html", "report.md")
"""What stands beside the report of a comparison, which is written last."""
_MISSING = Wrong("missing", "is not there")
_ORDER = ("pairs.arrow", "measured.arrow", "judged.arrow")


class Folder(NamedTuple):
    """The files of one training or comparison."""

    store: Store
    name: str
    files: Collection[str]
    """Names below the folder."""
    bad: Collection[str]
    """Those of them that cannot be read."""

    def readable(self, name: str) -> bool:
        """Say whether a file is there and can be read."""
        return name in self.files and name not in self.bad

    def json(self, name: str) -> Any:
        """Return what a JSON file says."""
        with here(self.store, f"{self.name}/{name}") as path:
            return json.loads(path.read_bytes())


def trained_wrongly(folder: Folder) -> Iterator[tuple[str, Wrong]]:
    """Yield files of a training that are missing or at odds with its report, by their names below the folder."""
    for kept in ("checkpoint", "checkpoint.old"):
        if any(name.startswith(f"{kept}/") for name in folder.files):
            yield from _missing(folder, [f"{kept}/{name}" for name in _CHECKPOINT])
    if "report.json" not in folder.files:
        return  # it is not finished
    yield from _missing(folder, ["model/config.json", *_weights(folder), "metrics.jsonl"])
    if folder.readable("report.json") and folder.readable("metrics.jsonl"):
        steps, lines = folder.json("report.json")["steps"], _lines(folder, "metrics.jsonl")
        if steps != lines:
            told = f"is of {lines:,} steps, and the report beside it of {steps:,}"
            yield "metrics.jsonl", Wrong("disagrees", told)


def _weights(folder: Folder) -> list[str]:
    """Return the files of the model's weights: one, or those that an index names."""
    index = "model/model.safetensors.index.json"
    if index not in folder.files:
        return ["model/model.safetensors"]
    named = folder.json(index).get("weight_map", {}) if folder.readable(index) else {}
    return sorted({f"model/{name}" for name in named.values()})


def compared_wrongly(folder: Folder) -> Iterator[tuple[str, Wrong]]:
    """Yield files of a comparison that are missing or at odds with others, by their names below the folder."""
    for name in sorted(folder.files):
        run, _, last = name.rpartition("/")
        if last == "measured.arrow" and run.startswith("runs/"):
            reference = run.startswith("runs/reference/")
            yield from _missing(folder, [f"{run}/{each}" for each in (_RUN[:1] if reference else _RUN)])
    if "report.json" in folder.files:
        yield from _missing(folder, _GATHERED)
        yield from _gathered(folder)


def _gathered(folder: Folder) -> Iterator[tuple[str, Wrong]]:
    """Yield the runs whose tables are not what was gathered from them.

    Holds the tables of one comparison in memory.
    """
    for whole, parts in (("measured.arrow", _ORDER), ("answers.arrow", ("answers.arrow",))):
        names = [
            name
            for part in parts
            for name in sorted(folder.files)
            if name.startswith("runs/") and name.endswith(f"/{part}") and "/training/" not in name
        ]
        if not folder.readable(whole) or any(name in folder.bad for name in names):
            continue
        kept, made = _by_run(folder, [whole]), _by_run(folder, names)
        for run in kept:
            if run not in made:
                told = f"has numbers of {_called(run)}, of which nothing is left in `runs/`"
                yield whole, Wrong("disagrees", told)
            elif not kept[run].equals(made[run]):
                told = f"says other things of {_called(run)} than the tables in `runs/` that it was gathered from"
                yield whole, Wrong("disagrees", told)


def _by_run(folder: Folder, names: Sequence[str]) -> Mapping[tuple[Any, ...], pl.DataFrame]:
    """Return the rows of each arm and seed, in the order of the files."""
    tables = []
    for name in names:
        with (
            here(folder.store, f"{folder.name}/{name}") as path,
            pa.OSFile(str(path)) as file,
            ipc.open_file(file) as reader,
        ):
            tables.append(reader.read_all())
    if not tables:
        return {}
    frame = pl.DataFrame(pa.concat_tables(tables, promote_options="permissive"))
    if not {"arm", "seed"} <= set(frame.columns):
        return {}
    frame = frame.select(sorted(frame.columns))
    return frame.partition_by("arm", "seed", as_dict=True, maintain_order=True)


def _called(run: tuple[Any, ...]) -> str:
    arm, seed = run
    return f"'{arm}', seed {seed}" if arm else f"the untrained model, seed {seed}"


def _missing(folder: Folder, names: Sequence[str]) -> Iterator[tuple[str, Wrong]]:
    yield from ((name, _MISSING) for name in names if name not in folder.files)


def _lines(folder: Folder, name: str) -> int:
    with here(folder.store, f"{folder.name}/{name}") as path, path.open("rb") as file:
        return sum(line.endswith(b"\n") for line in file)
