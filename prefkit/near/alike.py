"""Alike: which rows of a table say nearly the same, by the runs of words they share.

The rows are read twice: once to sketch them, slice by slice, and once more, only those that share a bucket, to count
what they share. In memory stay 8 bytes a row and band and one a hash (384 in all at the default threshold, fewer above),
about 60 more a row, and the runs of the pairs being looked at, up to four million at a time.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.near.clusters import clusters
from prefkit.near.jaccard import blocks, jaccard, sets
from prefkit.near.minhash import Banding, Sketch, fingerprints, promising, sketched
from prefkit.near.words import Grams, Unit, grams, mix, parts
from prefkit.texts import contents, same_codes, squeeze

__all__ = ["Runs", "alike", "rows_of"]

_SLICE_ROWS, _SLICE_BYTES = 4096, 1 << 21
_LOOKED_AT = 1 << 22


class Runs(NamedTuple):
    """What texts are compared by."""

    n: int = 5
    unit: Unit = "words"


class _Sketched(NamedTuple):
    prints: np.ndarray
    """Equal where rows have the same runs, uint64 [rows, 2]."""
    sizes: np.ndarray
    """How many runs each row has, int64 [rows]."""
    sketch: Sketch


def alike(
    columns: Sequence[pa.ChunkedArray], runs: Runs, threshold: float, banding: Banding, within: np.ndarray
) -> np.ndarray:
    """Return the cluster of each row: int64 [rows], equal where a chain of pairs at the threshold joins two rows.

    `columns` are conversations; of several columns, runs count as shared within the same column only. Rows are
    compared where `within`, int64 [rows], is equal. Rows without a word are alike where they are equal, whitespace
    aside.
    """
    rows = _sketched(columns, runs, banding)
    codes = same_codes(rows.prints, within)
    first = np.full(int(codes.max(initial=-1)) + 1, len(codes))
    np.minimum.at(first, codes, np.arange(len(codes)))
    nodes = np.sort(first[rows.sizes[first] > 0])
    sizes, bits = rows.sizes[nodes], rows.sketch.bits[nodes]
    keys = mix(rows.sketch.keys[nodes] + mix(within[nodes].astype(np.uint64))[:, None])

    def look(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        found = promising(bits, left, right, threshold)
        hopeful = np.flatnonzero(found)
        left, right = left[hopeful], right[hopeful]
        for block in blocks(sizes[left] + sizes[right], _LOOKED_AT):
            texts, places = np.unique(np.stack([left[block], right[block]]), return_inverse=True)
            taken = [rows_of(column, nodes[texts]) for column in columns]
            known = sets(list(_read(taken, runs)))
            found[hopeful[block]] = jaccard(known, *places.reshape(2, -1)) >= threshold
        return found

    labels = np.arange(len(first)) + len(nodes)
    labels[codes[nodes]] = clusters(keys, look)
    found: np.ndarray = labels[codes]
    return found


def _sketched(columns: Sequence[pa.ChunkedArray], runs: Runs, banding: Banding) -> _Sketched:
    prints, sizes = [np.zeros((0, 2), np.uint64)], [np.zeros(0, np.int64)]
    sketches = [sketched(Grams(np.zeros(0, np.uint64), np.zeros(1, np.int64)), banding)]
    for texts in _slices(columns):
        found = _runs_of(texts, runs)
        sizes.append(np.diff(found.bounds))
        prints.append(fingerprints(found))
        sketches.append(sketched(found, banding))
        silent = np.flatnonzero(sizes[-1] == 0)
        prints[-1][silent] = _plain_prints([text.take(pa.array(silent)) for text in texts])
    together = Sketch(*(np.concatenate(column) for column in zip(*sketches, strict=True)))
    return _Sketched(np.concatenate(prints), np.concatenate(sizes), together)


def _read(columns: Sequence[pa.ChunkedArray], runs: Runs) -> Iterator[Grams]:
    return (_runs_of(texts, runs) for texts in _slices(columns))


def _slices(columns: Sequence[pa.ChunkedArray]) -> Iterator[list[pa.StringArray]]:
    """Yield the texts of a few thousand rows, 2 MB a time: one array a column."""
    names = [str(place) for place in range(len(columns))]
    for batch in pa.table(list(columns), names=names).to_batches():
        texts = [_whole(contents(pa.chunked_array([column]))) for column in batch.columns]
        lengths = [pc.fill_null(pc.binary_length(text), 0).to_numpy(zero_copy_only=False) for text in texts]
        sizes = np.sum(lengths, axis=0) + _SLICE_BYTES // _SLICE_ROWS
        for block in blocks(sizes, 2 * _SLICE_BYTES):
            yield [text.slice(block.start, block.stop - block.start) for text in texts]


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


def rows_of(column: pa.ChunkedArray, rows: np.ndarray) -> pa.ChunkedArray:
    """Return rows, ascending, chunk by chunk: a column of several chunks may not fit into one."""
    ends = np.cumsum([len(chunk) for chunk in column.chunks])
    cuts = np.searchsorted(rows, ends)
    begins = [0, *cuts[:-1]]
    pieces = [
        chunk.take(pa.array(rows[begin:cut] - (end - len(chunk))))
        for chunk, begin, cut, end in zip(column.chunks, begins, cuts, ends, strict=True)
        if cut > begin
    ]
    return pa.chunked_array(pieces, column.type)
