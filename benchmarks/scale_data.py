"""Synthetic scored responses for `scale.py`: any number of them, the same every time, written piece by piece.

Four responses a prompt, which `pair: {kind: fold}` makes two pairs of. Texts are words drawn one by one from a
vocabulary by Zipf's law, so two texts share a run of five words by chance almost never. Every piece repeats some
prompts of the piece with half its number, with two words of each text replaced: near-duplicates that lie far apart,
in clusters whose size does not grow with the data.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["PAIRS_A_PIECE", "Piece", "Shape", "pieces", "write"]

PROMPTS_A_PIECE = 5_000
RESPONSES = 4
PAIRS_A_PIECE = PROMPTS_A_PIECE * RESPONSES // 2
REPEATED = 50
"""Prompts of a piece that repeat those of another."""
PIECES_A_FILE = 5
_LETTERS = 5
_WORDS = 1 << 16


class Shape(NamedTuple):
    """How much data, and how it lies in its files."""

    pairs: int
    bytes: int = 2000
    """Text of a pair: the prompt and two responses."""
    shuffled: bool = False
    """Whether the rows of a prompt lie far apart."""
    seed: int = 0


class Piece(NamedTuple):
    """Five thousand prompts with their responses; one row a response."""

    prompt: pa.Array
    response: pa.Array
    score: np.ndarray
    model: pa.Array


class _Texts(NamedTuple):
    """Texts as word numbers, all of one length a text: uint16 [texts, words], and how many words of each count."""

    words: np.ndarray
    lengths: np.ndarray


def pieces(shape: Shape) -> Iterator[Piece]:
    """Yield the data in order."""
    vocabulary = _vocabulary()
    for at in range(-(-shape.pairs // PAIRS_A_PIECE)):
        prompts = min(PROMPTS_A_PIECE, (shape.pairs - at * PAIRS_A_PIECE) * 2 // RESPONSES)
        yield _piece(at, prompts, shape, vocabulary)


def write(folder: Path, shape: Shape, kind: Literal["parquet", "jsonl"] = "parquet") -> int:
    """Write the data to `data-00000.parquet` and so on, holding one piece at a time. Returns the bytes on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    made = pieces(shape._replace(shuffled=False))
    count = -(-shape.pairs // PAIRS_A_PIECE)
    for file in range(-(-count // PIECES_A_FILE)):
        some = (next(made) for _ in range(min(PIECES_A_FILE, count - file * PIECES_A_FILE)))
        _FORMATS[kind](folder / f"data-{file:05d}.{kind}", (_table(piece) for piece in some))
    if shape.shuffled:
        _deal(folder, kind)
    return sum(path.stat().st_size for path in folder.iterdir())


def _piece(at: int, prompts: int, shape: Shape, vocabulary: np.ndarray) -> Piece:
    long = max((shape.bytes - shape.bytes // 10) // 2 // (_LETTERS + 1), 12)
    short = max(shape.bytes // 10 // (_LETTERS + 1), 6)
    rng = np.random.default_rng([shape.seed, at, 0])
    asked, said = _drawn(rng, prompts, short), _drawn(rng, prompts * RESPONSES, long)
    score = rng.normal(size=(prompts, RESPONSES))
    few = min(REPEATED, prompts // 4)
    _put(_originals(shape.seed, at, few, (short, long)), 0, asked, said, score)
    if at:
        copies = _originals(shape.seed, at // 2, few, (short, long))
        _put(_altered(copies, np.random.default_rng([shape.seed, at, 2])), few, asked, said, score)
    rows = np.arange(prompts * RESPONSES)
    models = pa.DictionaryArray.from_arrays(
        pa.array(rows % RESPONSES), [f"model-{n}" for n in range(RESPONSES)]
    )
    repeated = pa.array(np.repeat(np.arange(prompts), RESPONSES))
    return Piece(
        _spelled(asked, vocabulary).take(repeated),
        _spelled(said, vocabulary),
        score.reshape(-1).round(4),
        models.cast(pa.string()),
    )


class _Some(NamedTuple):
    """Prompts to be put into a piece."""

    asked: _Texts
    said: _Texts
    score: np.ndarray


def _originals(seed: int, at: int, count: int, words: tuple[int, int]) -> _Some:
    """Return the prompts of a piece that others may repeat: from a stream of their own, so that any piece can."""
    rng = np.random.default_rng([seed, at, 1])
    asked, said = _drawn(rng, count, words[0]), _drawn(rng, count * RESPONSES, words[1])
    return _Some(asked, said, rng.normal(size=(count, RESPONSES)))


def _altered(some: _Some, rng: np.random.Generator) -> _Some:
    for texts in (some.asked, some.said):
        for _ in range(2):
            places = (rng.random(len(texts.lengths)) * texts.lengths).astype(np.int64)
            texts.words[np.arange(len(places)), places] = rng.integers(0, _WORDS, len(places))
    return some


def _put(some: _Some, at: int, asked: _Texts, said: _Texts, score: np.ndarray) -> None:
    count = len(some.score)
    for to, given, each in ((asked, some.asked, 1), (said, some.said, RESPONSES)):
        to.words[at * each : (at + count) * each] = given.words
        to.lengths[at * each : (at + count) * each] = given.lengths
    score[at : at + count] = some.score


def _drawn(rng: np.random.Generator, count: int, words: int) -> _Texts:
    """Draw texts of half to one and a half times as many words, `words` in the mean."""
    most = words + words // 2
    lengths = rng.integers(words - words // 2, most + 1, count)
    return _Texts(rng.integers(0, _WORDS, (count, most), dtype=np.uint16), lengths)


def _vocabulary() -> np.ndarray:
    """Return 65,536 words by Zipf's law of 20,000 different ones, each with a space behind: uint8 [words, 6]."""
    rng = np.random.default_rng(0)
    names = rng.integers(ord("a"), ord("z") + 1, (20_000, _LETTERS + 1), dtype=np.uint8)
    names[:, -1] = ord(" ")
    chances = np.cumsum(1 / np.arange(10, len(names) + 10))
    return names[np.searchsorted(chances, (np.arange(_WORDS) + 0.5) / _WORDS * chances[-1])]


def _spelled(texts: _Texts, vocabulary: np.ndarray) -> pa.StringArray:
    counts = np.arange(texts.words.shape[1]) < texts.lengths[:, None]
    data = vocabulary[texts.words[counts]].reshape(-1)
    ends = np.concatenate([[0], np.cumsum(texts.lengths * (_LETTERS + 1))]).astype(np.int32)
    return pa.StringArray.from_buffers(len(texts.lengths), pa.py_buffer(ends), pa.py_buffer(data))


def _table(piece: Piece) -> pa.Table:
    return pa.table(
        {"prompt": piece.prompt, "response": piece.response, "score": piece.score, "model": piece.model}
    )


def _write_parquet(path: Path, tables: Iterator[pa.Table]) -> None:
    first = next(tables)
    with pq.ParquetWriter(path, first.schema, compression="zstd", compression_level=1) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def _write_jsonl(path: Path, tables: Iterator[pa.Table]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for table in tables:
            file.writelines(json.dumps(row) + "\n" for row in table.to_pylist())


_FORMATS: dict[str, Callable[[Path, Iterator[pa.Table]], None]] = {
    "parquet": _write_parquet,
    "jsonl": _write_jsonl,
}


def _deal(folder: Path, kind: str) -> None:
    """Write all rows anew, those of one prompt to four different quarters of the data, each quarter in an order of its own."""
    given = sorted(folder.glob(f"data-*.{kind}"))
    if kind != "parquet":
        raise SystemExit("only parquet is shuffled")
    for turn in range(RESPONSES):
        for at, path in enumerate(np.random.default_rng(turn).permutation(np.array(given, object))):
            rng = np.random.default_rng([turn, at])
            with pq.ParquetFile(path) as source:
                groups = rng.permutation(source.num_row_groups)
                tables = (_quarter(source.read_row_group(int(group)), turn, rng) for group in groups)
                _write_parquet(folder / f"part-{turn}-{at:05d}.parquet", tables)
    for path in given:
        path.unlink()


def _quarter(table: pa.Table, turn: int, rng: np.random.Generator) -> pa.Table:
    prompts = table.num_rows // RESPONSES
    which = (np.arange(prompts) + turn) % RESPONSES + np.arange(prompts) * RESPONSES
    return table.take(pa.array(rng.permutation(which)))
