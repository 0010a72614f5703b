"""Words: a text as a list of hashes, one for each word or character, and hashes of runs of them.

A word is a run of letters, marks and digits, in lower case; everything else only separates. Texts outside ASCII are
brought to normal form NFKC first, and invisible format characters go. Scripts of the Far East (Chinese, Japanese,
Korean, Thai, Lao), most of which put no spaces between words, give one word a character. A word of more than 32 bytes
is cut into pieces of 32, which keeps encoded files and the like from being one word.

Everything works on the bytes of a slice of texts at once; there is no string object a word.
"""

from typing import Literal, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Grams", "Unit", "Words", "grams", "mix", "multipliers", "parts", "spelled"]

Unit = Literal["words", "characters"]

_LONGEST = 32
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SPREAD = np.uint64(0xC2B2AE3D27D4EB4F)
_STEP = np.uint64(0xBF58476D1CE4E5B9)


class Words(NamedTuple):
    """The words of several texts, one after the other; or their characters."""

    hashes: np.ndarray
    """One of 64 bits for each word, uint64 [words]."""
    bounds: np.ndarray
    """Where each text's words begin, and the end: int64 [texts + 1]."""
    letters: np.ndarray
    """The texts in lower case with 0 for what separates, uint8 [bytes]."""
    starts: np.ndarray
    """Where in `letters` each word begins, int64 [words]."""
    lengths: np.ndarray
    """How many bytes each has, int64 [words]."""


class Grams(NamedTuple):
    """Hashes of runs of words, text after text."""

    hashes: np.ndarray
    """uint64 [runs]; a text that repeats itself has some twice."""
    bounds: np.ndarray
    """Where each text's runs begin, and the end: int64 [texts + 1]."""


def parts(texts: pa.StringArray, unit: Unit = "words") -> Words:
    """Return the words of texts, or their characters with one space for whatever separates words.

    Takes a slice of a few megabytes at a time: memory is about 30 bytes for each byte of text. Null has no words.
    """
    letters, ends = _letters(texts)
    starts, lengths = _words(letters, ends) if unit == "words" else _characters(letters, ends)
    bounds = np.searchsorted(starts, ends)
    return Words(_hashed(letters, starts, lengths), bounds, letters, starts, lengths)


def spelled(words: Words, text: int) -> list[str]:
    """Return one text's words as strings, for showing to people."""
    span = slice(words.bounds[text], words.bounds[text + 1])
    starts, ends = words.starts[span], words.starts[span] + words.lengths[span]
    if not len(starts):
        return []
    letters = words.letters[starts[0] : ends[-1]].tobytes().replace(b"\0", b" ")
    pairs = zip((starts - starts[0]).tolist(), (ends - starts[0]).tolist(), strict=True)
    return [letters[start:end].decode("utf-8", "replace") for start, end in pairs]


def grams(words: Words, n: int, *, short: bool = True) -> Grams:
    """Return the hashes of every run of n words. With `short`, a text of fewer words has one run: all it has."""
    counts = np.diff(words.bounds)
    most = counts - (n - 1)
    few = (counts > 0) & (most < 1) if short else np.zeros(len(counts), dtype=bool)
    kept = np.where(few, 1, np.maximum(most, 0))
    rolled = _rolled(words.hashes, n)
    if few.any():
        first = words.bounds[:-1][few]
        rolled[first] = _short_runs(words.hashes, first, counts[few])
    bounds = np.concatenate([[0], np.cumsum(kept)])
    if bounds[-1] == len(rolled):
        return Grams(mix(rolled), bounds)
    stays = np.repeat(words.bounds[:-1] - bounds[:-1], kept) + np.arange(bounds[-1])
    return Grams(mix(rolled[stays]), bounds)


def mix(values: np.ndarray) -> np.ndarray:
    """Return numbers that look drawn at random, a different one for each: uint64, of any shape."""
    mixed: np.ndarray = values ^ (values >> np.uint64(32))
    mixed *= _STEP
    mixed ^= mixed >> np.uint64(29)
    return mixed


def multipliers(count: int) -> np.ndarray:
    """Return odd numbers of 32 bits, the same ones on every machine: uint32 [count]."""
    drawn: np.ndarray = mix(mix(np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN)) >> np.uint64(32)
    return drawn.astype(np.uint32) | np.uint32(1)


def _rolled(hashes: np.ndarray, n: int) -> np.ndarray:
    """Return, for each word, the sum over the n words from it of hash times constant to the place, modulo 2**64.

    By doubling: a run of 2m is a run of m and the run of m after it, so 13 words take five sums and not twelve.
    """
    total, held = np.zeros_like(hashes), 0
    power, width, factor = hashes.copy(), 1, _SPREAD
    with np.errstate(over="ignore"):
        while True:
            if n & width:
                total += _shifted(power, held) * _power(held)
                held += width
            if 2 * width > n:
                return total
            power += _shifted(power, width) * factor
            factor *= factor
            width *= 2


def _shifted(values: np.ndarray, by: int) -> np.ndarray:
    """Return the values `by` places on, 0 after the end."""
    if by == 0:
        return values
    moved: np.ndarray = np.zeros_like(values)
    moved[: max(len(values) - by, 0)] = values[by:]
    return moved


def _power(exponent: int) -> np.uint64:
    return np.uint64(pow(int(_SPREAD), exponent, 1 << 64))


def _short_runs(hashes: np.ndarray, first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the hash of all words of texts that have few: uint64 [texts]."""
    total = counts.astype(np.uint64) * _GOLDEN  # so that a short text is no run of a longer one
    for place in range(int(counts.max())):
        there = counts > place
        total[there] += hashes[first[there] + place] * _power(place)
    return total


def _letters(texts: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """Return bytes in lower case with 0 for what is no letter, uint8 [bytes], and ends, int64 [texts + 1]."""
    plain = _plain(pc.fill_null(texts, ""))
    _, offsets, data = plain.buffers()
    if data is None or not len(plain):
        return np.zeros(8, np.uint8), np.zeros(len(plain) + 1, np.int64)
    width = np.int64 if pa.types.is_large_string(plain.type) else np.int32
    ends = np.frombuffer(offsets, width)[plain.offset : plain.offset + len(plain) + 1].astype(np.int64)
    shown = memoryview(data)[int(ends[0]) : int(ends[-1])].tobytes().translate(_table())
    padded = shown + bytes(8)  # so that eight bytes can be loaded from every place
    return np.frombuffer(padded, np.uint8), ends - ends[0]


def _plain(texts: pa.StringArray) -> pa.StringArray:
    """Bring texts outside ASCII to one form; the others are left to the table of bytes."""
    wide = pc.not_equal(pc.binary_length(texts), pc.utf8_length(texts))
    rows = np.flatnonzero(wide.to_numpy(zero_copy_only=False))
    if not len(rows):
        return texts
    column = pl.Series(texts)
    told = column.gather(rows).str.normalize("NFKC").str.to_lowercase()
    told = told.str.replace_all(r"\p{Cf}+", "").str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ")
    return column.scatter(rows, told).to_arrow().cast(pa.large_string())


def _table() -> bytes:
    """Return what each byte becomes: letters in lower case, digits and bytes outside ASCII as they are, else 0."""
    return bytes(code if code >= 0x80 or chr(code).isalnum() else 0 for code in bytes(range(256)).lower())


def _words(letters: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where words begin and how many bytes they have, int64 [words] each."""
    inside = letters != 0
    opens = inside.copy()
    opens[1:] &= ~inside[:-1]
    firsts = ends[:-1]
    opens[firsts] = inside[firsts]
    if letters.max(initial=0) >= 0xE0:
        _open_alone(letters, opens, inside)
    inside[:-1] &= ~inside[1:] | opens[1:]  # now: the last byte of each word
    starts, stops = np.flatnonzero(opens), np.flatnonzero(inside) + 1
    lengths = stops - starts
    if lengths.max(initial=0) <= _LONGEST:
        return starts, lengths
    pieces = -(-lengths // _LONGEST)
    starts, stops = np.repeat(starts, pieces), np.repeat(stops, pieces)
    starts += _LONGEST * _places(pieces)
    return starts, np.minimum(stops - starts, _LONGEST)


def _open_alone(letters: np.ndarray, opens: np.ndarray, inside: np.ndarray) -> None:
    """Let each character of a script without spaces be a word: from U+3000 on, and Thai and Lao."""
    alone = np.flatnonzero(
        (letters >= 0xE3) | ((letters == 0xE0) & (np.append(letters[1:], 0) - np.uint8(0xB8) < 4))
    )
    after = alone + np.where(letters[alone] >= 0xF0, 4, 3)
    opens[alone] = True
    opens[after] = inside[after]


def _characters(letters: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where characters begin and how many bytes they have; of separators between words one stays."""
    inside = letters != 0
    starts = (letters & 0xC0) != 0x80
    between = ~inside
    between[1:] &= inside[:-1]
    between[ends] = False  # neither before the first word of a text nor after the last text
    gaps = np.flatnonzero(between)
    filled = np.append(np.flatnonzero(inside), len(letters))
    # a gap that reaches the end of its text separates nothing
    closing = filled[np.searchsorted(filled, gaps)] >= ends[np.searchsorted(ends, gaps, side="right")]
    between[gaps[closing]] = False
    places = np.flatnonzero((starts & inside) | between)
    lead = letters[places]
    return places, 1 + (lead >= 0xC0).astype(np.int64) + (lead >= 0xE0) + (lead >= 0xF0)


def _places(counts: np.ndarray) -> np.ndarray:
    """Return 0, 1, 2... anew for each count, one after the other: int64 [sum of counts]."""
    total = np.cumsum(counts)
    found: np.ndarray = np.arange(total[-1] if len(total) else 0) - np.repeat(total - counts, counts)
    return found


def _hashed(letters: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return 64 bits for each stretch of at most 32 bytes, eight bytes at a time."""
    eights = np.ndarray((len(letters) - 7,), np.dtype("<u8"), letters, strides=(1,))
    masks = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)
    found: np.ndarray = eights[starts] & masks[np.minimum(lengths, 8)]
    found = mix(found * _GOLDEN + lengths.astype(np.uint64))
    for done in range(8, _LONGEST, 8):
        far = np.flatnonzero(lengths > done)
        if not len(far):
            break
        more = eights[starts[far] + done] & masks[np.minimum(lengths[far] - done, 8)]
        found[far] = mix((found[far] ^ more) * _GOLDEN)
    return found
