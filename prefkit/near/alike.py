"""Alike: which rows of a table say nearly the same, by the runs of words they share.

The rows are read twice: once to sketch them, slice by slice, and once more, only those that share a bucket, to count
what they share. The sketches, 8 bytes a row and band and one a hash (384 in all at the default threshold, fewer above),
go to files where there is a folder for them, and so do shared buckets. In memory stay about 120 bytes a row, one band,
and the runs of the pairs being looked at, up to four million at a time.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.maps import map_file
from prefkit.near.clusters import clusters_of
from prefkit.near.jaccard import blocks, jaccard, sets
from prefkit.near.kept import Kept, Shelf, keep_at
from prefkit.near.minhash import Banding, Sketch, fingerprints, promising, sketched
from prefkit.near.words import Grams, Unit, grams, mix, parts
from prefkit.tables import rows_of
from prefkit.texts import contents, same_codes, squeeze
from prefkit.threads import Apart, in_threads

__all__ = ["Lying", "Runs", "alike"]

_SLICE_ROWS, _SLICE_BYTES = 2048, 1 << 20
_LOOKED_AT = 1 << 22


class Runs(NamedTuple):
    """What texts are compared by."""

    n: int = 5
    unit: Unit = "words"


class Lying(NamedTuple):
    """Where the columns lie, for worker processes that sketch them."""

    apart: Apart
    files: Sequence[tuple[Path, int]]
    """Arrow files, and how many rows each has."""
    names: Sequence[str]
    """Of the columns."""


class _Slice(NamedTuple):
    """What is known of some rows."""

    prints: np.ndarray
    """Equal where rows have the same runs, uint64 [rows, 2]."""
    sizes: np.ndarray
    """How many runs each row has, int32 [rows]."""


class _Sketched(NamedTuple):
    """What is known of all rows."""

    prints: np.ndarray
    sizes: np.ndarray
    sketches: Kept


def alike(
    columns: Sequence[pa.ChunkedArray],
    runs: Runs,
    threshold: float,
    banding: Banding,
    within: np.ndarray,
    *,
    rows: np.ndarray | None = None,
    work: Path | None = None,
    threads: int = 1,
    lying: Lying | None = None,
) -> np.ndarray:
    """Return the cluster of each row: int64 [rows], equal where a chain of pairs at the threshold joins two rows.

    `columns` are conversations; of several columns, runs count as shared within the same column only. Rows are
    compared where `within`, int64 [rows], is equal. Rows without a word are alike where they are equal, whitespace
    aside. `rows`, int64 and ascending, says which rows of the columns are meant, all by default. `work` is an empty
    folder for what need not be in memory. `threads` of them sketch at once, or worker processes where the rows are
    `lying` in several files.
    """
    told = _sketched(columns, rows, runs, banding, work, threads, lying)
    codes = same_codes(told.prints, within)
    first = np.full(int(codes.max(initial=-1)) + 1, len(codes))
    np.minimum.at(first, codes, np.arange(len(codes)))
    nodes = np.sort(first[told.sizes[first] > 0])
    sizes, spread = told.sizes[nodes].astype(np.int64), mix(within[nodes].astype(np.uint64))
    places_of = nodes if rows is None else rows[nodes]

    def look(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        found = promising(told.sketches.bits(), nodes[left], nodes[right], threshold)
        told.sketches.let_go()
        hopeful = np.flatnonzero(found)
        left, right = left[hopeful], right[hopeful]
        for block in blocks(sizes[left] + sizes[right], _LOOKED_AT):
            texts, places = np.unique(np.stack([left[block], right[block]]), return_inverse=True)
            taken = [rows_of(column, places_of[texts]) for column in columns]
            known = sets(list(_read(taken, runs)))
            found[hopeful[block]] = jaccard(known, *places.reshape(2, -1)) >= threshold
        return found

    keys = (mix(band[nodes] + spread) for band in told.sketches.bands())
    labels = np.arange(len(first)) + len(nodes)
    labels[codes[nodes]] = clusters_of(len(nodes), keys, look, Shelf(work))
    found: np.ndarray = labels[codes]
    return found


def _sketched(
    columns: Sequence[pa.ChunkedArray],
    rows: np.ndarray | None,
    runs: Runs,
    banding: Banding,
    work: Path | None,
    threads: int,
    lying: Lying | None,
) -> _Sketched:
    sketches = Kept(banding, work)

    def here() -> Iterator[_Slice]:
        slices = _slices(columns, rows)
        for part, sketch in in_threads(lambda texts: _sketch(texts, runs, banding), slices, threads):
            sketches.add(sketch)
            yield part

    parts = [_Slice(np.zeros((0, 2), np.uint64), np.zeros(0, np.int32))]
    if lying is None or work is None or len(lying.files) <= 1:
        parts += here()
    else:
        parts += lying.apart(_sketch_file, _tasks(lying, rows, runs, banding, work))
    return _Sketched(*_joined(parts), sketches)


def _joined(parts: Sequence[_Slice]) -> _Slice:
    return _Slice(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _sketch(texts: Sequence[pa.StringArray], runs: Runs, banding: Banding) -> tuple[_Slice, Sketch]:
    found = _runs_of(texts, runs)
    counts, marks = np.diff(found.bounds).astype(np.int32), fingerprints(found)
    silent = np.flatnonzero(counts == 0)
    marks[silent] = _plain_prints([text.take(pa.array(silent)) for text in texts])
    return _Slice(marks, counts), sketched(found, banding)


def _tasks(
    lying: Lying, rows: np.ndarray | None, runs: Runs, banding: Banding, work: Path
) -> Iterator[tuple[Any, ...]]:
    """Yield the arguments of `_sketch_file` for each file that has any of the rows."""
    start, before = 0, 0
    for path, count in lying.files:
        own = None
        if rows is not None:
            own = rows[slice(*np.searchsorted(rows, [start, start + count]))] - start
        wanted = count if own is None else len(own)
        if wanted:
            yield path, lying.names, own, runs, banding, work, before
        start, before = start + count, before + wanted


def _sketch_file(
    path: Path,
    names: Sequence[str],
    rows: np.ndarray | None,
    runs: Runs,
    banding: Banding,
    work: Path,
    before: int,
) -> _Slice:
    """Sketch rows of a file, in a worker; so many come before them in other files."""
    parts, sketches = list[_Slice](), list[Sketch]()
    for texts in _slices(map_file(path).table.select(names).columns, rows):
        part, sketch = _sketch(texts, runs, banding)
        parts.append(part)
        sketches.append(sketch)
    keep_at(work, before, Sketch(*(np.concatenate(arrays) for arrays in zip(*sketches, strict=True))))
    return _joined(parts)


def _read(columns: Sequence[pa.ChunkedArray], runs: Runs) -> Iterator[Grams]:
    return (_runs_of(texts, runs) for texts in _slices(columns, None))


def _slices(columns: Sequence[pa.ChunkedArray], rows: np.ndarray | None) -> Iterator[list[pa.StringArray]]:
    """Yield the texts of a few thousand rows, a megabyte or two a time: one array a column."""
    for batch in _batches(columns, rows):
        texts = [_whole(contents(pa.chunked_array([column]))) for column in batch.columns]
        lengths = [pc.fill_null(pc.binary_length(text), 0).to_numpy(zero_copy_only=False) for text in texts]
        sizes = np.sum(lengths, axis=0) + _SLICE_BYTES // _SLICE_ROWS
        for block in blocks(sizes, 2 * _SLICE_BYTES):
            yield [text.slice(block.start, block.stop - block.start) for text in texts]


def _batches(columns: Sequence[pa.ChunkedArray], rows: np.ndarray | None) -> Iterator[pa.RecordBatch]:
    """Yield the rows that are meant, chunk by chunk."""
    start = 0
    for batch in pa.table(list(columns), names=[str(at) for at in range(len(columns))]).to_batches():
        if rows is None:
            yield batch
            continue
        own = rows[slice(*np.searchsorted(rows, [start, start + batch.num_rows]))] - start
        start += batch.num_rows
        if len(own):
            yield batch.take(pa.array(own))


def _whole(texts: pa.ChunkedArray) -> pa.StringArray:
    return texts.chunk(0) if texts.num_chunks == 1 else pa.concat_arrays(texts.chunks)


def _runs_of(texts: Sequence[pa.StringArray], runs: Runs) -> Grams:
    """Return the runs of each row, those of each column told apart."""
    found = [grams(parts(text, runs.unit), runs.n) for text in texts]
    if len(found) == 1:
        return found[0]
    counts = np.array([np.diff(each.bounds) for each in found])
    starts = np.concatenate([[0], np.cumsum(counts.sum(axis=0))])
    hashes = np.zeros(starts[-1], np.uint64)
    begin = starts[:-1].copy()
    for place, (each, count) in enumerate(zip(found, counts, strict=True)):
        to = np.repeat(begin - each.bounds[:-1], count) + np.arange(len(each.hashes))
        hashes[to] = mix(each.hashes + np.uint64(place))
        begin += count
    return Grams(hashes, starts)


def _plain_prints(texts: Sequence[pa.StringArray]) -> np.ndarray:
    """Return 128 bits of texts as they stand, whitespace aside: uint64 [rows, 2]. Compare within a run only."""
    found = np.zeros((len(texts[0]), 2), np.uint64)
    for text in texts:
        plain = pl.Series(squeeze(text))
        found = mix(found + np.stack([plain.hash(0).to_numpy(), plain.hash(1).to_numpy()], axis=1))
    return found
