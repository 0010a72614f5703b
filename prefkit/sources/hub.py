"""Hub datasets: by name, streamed through `datasets`, or a dataset folder on disk, without the network.

Planning never reaches for the network: what a named dataset's columns mean is known from its layout, given or
well known, and the columns themselves are checked when they are read.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from prefkit.errors import DataError
from prefkit.sources.chunks import CHUNK_ROWS, Chunk
from prefkit.sources.columnar import tables
from prefkit.sources.files import DataFile, inspect
from prefkit.sources.layouts import Head, by_name, known_hub
from prefkit.sources.shape import placeholders
from prefkit.sources.source import Source

__all__ = ["hub_chunks", "hub_files", "hub_folder", "settled", "unseen_head"]

_ABOUT = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
_SUFFIXES = (".parquet", ".arrow", ".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz")


def hub_folder(source: Source, folder: Path) -> Path | None:
    """Return the folder of a dataset on disk; None for one on the hub. Raises DataError for a path that is not there."""
    assert source.hub is not None
    path = folder / source.hub
    if path.is_dir():
        return path / (source.data_dir or "")
    if source.hub.startswith((".", "/", "~")) or source.hub.count("/") > 1:
        raise DataError(
            f"there is no folder '{source.hub}'", where=str(path), hint="paths are relative to the recipe"
        )
    return None


def hub_files(source: Source, path: Path) -> list[DataFile]:
    """Return the data files of a dataset on disk that belong to the split, by name. Raises DataError if none does."""
    found = sorted(file for file in path.rglob("*") if file.name.endswith(_SUFFIXES) and file.is_file())
    found = [file for file in found if file.name not in _ABOUT]
    found = [file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    split = source.split or "train"
    of_split = [file for file in found if split in str(file.relative_to(path))]
    if not found:
        raise DataError(
            f"'{source.hub}' has no data files", where=str(path), hint=f"known are {', '.join(_SUFFIXES)}"
        )
    return [inspect(file, str(file.relative_to(path))) for file in of_split or found]


def settled(source: Source) -> Source:
    """Return the source with its layout named, if it is a well-known dataset whose columns nobody has mapped."""
    assert source.hub is not None
    layout = known_hub("/".join(filter(None, (source.hub, source.data_dir))))
    if layout is None or source.format != "auto" or source.columns or source.prompt_template:
        return source
    return source.model_copy(update={"format": layout.name})


def unseen_head(source: Source) -> Head:
    """Return what is known of a named dataset without looking. Raises DataError if that is not enough."""
    assert source.hub is not None
    layout = by_name(source.format)
    named = [
        name for names in source.columns.values() for name in ([names] if isinstance(names, str) else names)
    ]
    others = [
        *source.scores.values(),
        *source.keep.values(),
        *source.where,
        *placeholders(source.prompt_template),
    ]
    joined = list(source.join.on) if source.join else []
    if layout is None and not named and not source.prompt_template:
        hint = "say what its columns mean: `columns: { prompt: ..., response: ... }`, or name its layout: `format: ...`"
        raise DataError(
            f"the columns of '{source.hub}' are not known without reading it", where="hub", hint=hint
        )
    names = [
        *(layout.typical() if layout else ()),
        *named,
        *others,
        *joined,
        *([source.explode] if source.explode else []),
    ]
    return Head(tuple(dict.fromkeys(names)), ())


def hub_chunks(source: Source, folder: Path) -> Iterator[Chunk]:
    """Yield the rows of a dataset, streaming."""
    yield from tables(_arrow_tables(_opened(source, folder), source))


def _arrow_tables(data: Any, source: Source) -> Iterator[pa.Table]:
    batches = iter(data.with_format("arrow").iter(batch_size=CHUNK_ROWS))
    while True:
        try:
            table = next(batches, None)
        except Exception as error:
            # The library raises many kinds: of the network, of the hub, of the files' formats.
            raise _failed(source, error) from error
        if table is None:
            return
        yield table


def _opened(source: Source, folder: Path) -> Any:
    import datasets

    path, split = hub_folder(source, folder), source.split or "train"
    try:
        if path is not None and any((path / name).exists() for name in ("state.json", "dataset_dict.json")):
            data = datasets.load_from_disk(str(path))
            return data[split] if isinstance(data, datasets.DatasetDict) else data
        return datasets.load_dataset(
            source.hub if path is None else str(path),
            name=source.config,
            data_dir=source.data_dir if path is None else None,
            split=split,
            revision=source.revision,
            streaming=True,
        )
    except Exception as error:
        raise _failed(source, error) from error


def _failed(source: Source, error: Exception) -> DataError:
    said = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
    where = f"hub: {source.hub}" + (f", split: {source.split}" if source.split else "")
    hint = "check the name, `config`, `split` and `revision`, and the network; a gated dataset needs `hf auth login`"
    return DataError(f"dataset '{source.hub}' cannot be read: {said}", where=where, hint=hint)
