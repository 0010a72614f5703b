"""Kept: what is remembered of every text between sketching and comparing, in memory or on disk.

A sketch is 384 bytes at the default threshold, and ten million of them are more than some machines have. They are
written one after the other and read band by band, or at a few places, so they may as well lie in files.
"""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from prefkit.maps import map_numbers
from prefkit.near.minhash import Banding, Sketch

__all__ = ["Kept", "Shelf", "keep_at"]

_HELD = 1 << 16
"""Texts whose sketches are gathered before they are written."""


class Shelf:
    """Arrays by name, in memory or, given a folder, in files of it."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._arrays: dict[str, np.ndarray] = {}

    def put(self, name: str, array: np.ndarray) -> None:
        """Keep an array."""
        if self._folder is None:
            self._arrays[name] = array
        else:
            np.save(self._folder / f"{name}.npy", array)

    def get(self, name: str) -> np.ndarray:
        """Return it."""
        found: np.ndarray = (
            self._arrays[name] if self._folder is None else np.load(self._folder / f"{name}.npy")
        )
        return found


class Kept:
    """Sketches of texts, added in order."""

    def __init__(self, banding: Banding, folder: Path | None) -> None:
        self._banding = banding
        self._folder = folder
        self._waiting: list[Sketch] = []
        self._sketches: list[Sketch] = []
        self._written = 0
        self._bits: np.ndarray | None = None
        self._area: mmap.mmap | None = None

    def add(self, sketch: Sketch) -> None:
        """Keep the sketches of further texts."""
        self._waiting.append(sketch)
        if sum(len(each.bits) for each in self._waiting) >= _HELD:
            self._write()

    def bands(self) -> Iterator[np.ndarray]:
        """Yield the keys of each band: uint64 [texts]."""
        self._write()
        for band in range(self._banding.bands):
            if self._folder is None:
                pieces = [sketch.keys[:, band] for sketch in self._sketches]
                yield np.concatenate([np.zeros(0, np.uint64), *pieces])
            else:
                path = self._folder / f"keys-{band}"
                yield np.fromfile(path, np.uint64) if path.exists() else np.zeros(0, np.uint64)

    def bits(self) -> np.ndarray:
        """Return the lowest bits of each hash: uint8 [texts, hashes], of a file where there is a folder."""
        self._write()
        if self._bits is None:
            hashes = self._banding.bands * self._banding.rows
            path = self._folder / "bits" if self._folder else None
            if path is not None and path.exists():
                self._bits, self._area = map_numbers(path, np.dtype(np.uint8))
                self._bits = self._bits.reshape(-1, hashes)
            else:
                pieces = [sketch.bits for sketch in self._sketches]
                self._bits = np.concatenate([np.zeros((0, hashes), np.uint8), *pieces])
        return self._bits

    def let_go(self) -> None:
        """Give back what was read of the bits."""
        if self._area is not None:
            self._area.madvise(mmap.MADV_DONTNEED)

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        if self._folder is None or not waiting:
            self._sketches += waiting
            return
        sketch = Sketch(*(np.concatenate(arrays) for arrays in zip(*waiting, strict=True)))
        keep_at(self._folder, self._written, sketch)
        self._written += len(sketch.bits)


def keep_at(folder: Path, start: int, sketch: Sketch) -> None:
    """Keep, in a folder that a `Kept` will look into, the sketches of texts from the number `start` on.

    Several processes may do so at once, each with its own texts.
    """
    for band, keys in enumerate(sketch.keys.T):
        _write_at(folder / f"keys-{band}", start, np.ascontiguousarray(keys))
    _write_at(folder / "bits", start, sketch.bits)


def _write_at(path: Path, start: int, rows: np.ndarray) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.seek(start * rows[:1].nbytes)
        file.write(rows.data)
