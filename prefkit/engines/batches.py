"""Batches of a fixed shape, so that an answer does not depend on who else is in the batch.

A matrix product may sum in another order when its shape changes, so the same row computed in a batch of 3 and in one
of 64 can differ in the last bits: enough to change a digest and, now and then, a sampled token. Here the shape of a
batch is a function of the request alone: its length is rounded up to a bucket, and the number of rows follows from the
bucket and the token budget. A batch with too few rows is filled up with copies that nobody reads. Rows of a fixed
shape are computed alike wherever they stand, so the same request gives the same bits in any company. A mixture of
experts is the exception: each expert computes as many rows as are sent to it, so last bits may differ.

A bucket always leaves at least one empty slot. Libraries switch to another attention kernel when nothing is padded,
which would again depend on the company.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = ["Batch", "Shape", "bucket", "cut", "rows_for", "shape_for"]

_STEP = 32
_MOST_ROWS = 256


class Shape(NamedTuple):
    """How large a batch is computed, whatever it holds."""

    rows: int
    length: int
    """Tokens of the padded input; more than any row in it has."""


class Batch(NamedTuple):
    """Requests to be computed together."""

    shape: Shape
    positions: tuple[int, ...]
    """Which requests, at most `shape.rows` of them, in the order asked."""


def bucket(tokens: int) -> int:
    """Return the length a text of `tokens` is padded to: more than `tokens`, in steps of at most a quarter."""
    wanted = tokens + 1
    step = max(_STEP, (1 << wanted.bit_length()) >> 3)
    return -(-wanted // step) * step


def shape_for(tokens: int, budget: int) -> Shape:
    """Return the batch shape of a text of `tokens`: as many rows as fit a budget of tokens, at most 256."""
    length = bucket(tokens)
    return Shape(rows_for(length, budget), length)


def rows_for(length: int, budget: int, most: int = _MOST_ROWS) -> int:
    """Return how many rows of a padded length are computed together: a power of two, at least 1."""
    return _power(min(most, max(1, budget // length)))


def cut(shapes: Sequence[Shape | None]) -> Iterator[Batch]:
    """Yield batches of equal shape, longest first, the order asked kept within a shape; None is left out.

    Longest first: a batch that does not fit into memory shows at once. The order of batches and their cuts do not
    depend on which of them are already done, so work that is resumed goes on with the same batches.
    """
    groups: dict[Shape, list[int]] = {}
    for position, shape in enumerate(shapes):
        if shape is not None:
            groups.setdefault(shape, []).append(position)
    for shape in sorted(groups, key=lambda shape: (-shape.length, -shape.rows)):
        members = groups[shape]
        for start in range(0, len(members), shape.rows):
            yield Batch(shape, tuple(members[start : start + shape.rows]))


def _power(number: int) -> int:
    """Return the largest power of two that is not above a number."""
    return 1 << (number.bit_length() - 1)
