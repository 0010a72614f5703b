"""Embedded texts: one vector a row, each text asked for once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from prefkit.engines import Engines, Failure, Model
from prefkit.errors import EngineError

__all__ = ["EMBEDDED", "VECTOR", "Embedded", "cosines", "embedded"]

EMBEDDED = 3.0
"""How many times its width a text is held while it is embedded: as it came, as a Python string, and among the others."""
VECTOR = 8192.0
"""Bytes of a vector of 1024 numbers, which models of texts have about."""


class Embedded(NamedTuple):
    """Vectors of texts."""

    vectors: np.ndarray
    """As the model gives them, float64 [rows, size]; NaN where there is no text or no answer."""
    errors: Sequence[str | None]


def embedded(columns: Sequence[pa.Array | pa.ChunkedArray], model: Model, engines: Engines) -> list[Embedded]:
    """Return the vectors of each text of some columns; null has none. Equal texts of all columns are asked for once.

    Raises: EngineError if vectors differ in size.
    """
    texts = [column.to_pylist() for column in columns]
    distinct = {
        text: at for at, text in enumerate(dict.fromkeys(t for each in texts for t in each if t is not None))
    }
    answers = engines.embed(model, list(distinct)) if distinct else []
    sizes = {len(answer) for answer in answers if not isinstance(answer, Failure)}
    if len(sizes) > 1:
        raise EngineError(f"model '{model.id}' gives vectors of different sizes: {sorted(sizes)}")
    table = np.full((len(answers) + 1, max(sizes, default=1)), np.nan)  # the last row is for what has no text
    # A Python loop: engines give Python values.
    for at, answer in enumerate(answers):
        if not isinstance(answer, Failure):
            table[at] = answer
    whys = [answer.error if isinstance(answer, Failure) else None for answer in answers] + [None]
    places = [[len(answers) if text is None else distinct[text] for text in each] for each in texts]
    return [Embedded(table[rows], [whys[row] for row in rows]) for rows in places]


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the cosine of each two vectors: float64 [rows], exactly 1 for equal ones; NaN where one has no direction.

    Shapes: [rows, size] both.
    """
    largest = [np.abs(each).max(axis=1, keepdims=True) for each in (one, other)]
    with np.errstate(invalid="ignore", divide="ignore"):
        # by their largest number first: squares of tiny or huge numbers would be 0 or infinite
        left, right = one / largest[0], other / largest[1]
        squares = np.square(left).sum(axis=1) * np.square(right).sum(axis=1)
        told: np.ndarray = np.clip((left * right).sum(axis=1) / np.sqrt(squares), -1.0, 1.0)
    return told
