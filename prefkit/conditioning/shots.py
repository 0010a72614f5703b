"""Shots: which of a person's pairs are shown before another one, and how they are written down.

Source: Few-Shot Preference Optimization (Singh et al., 2025), arXiv 2502.19312. Its released windows step k + 2 rows and
leave one of each unused; ours step k + 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from prefkit.prompts import fill, template

__all__ = ["Shot", "examples_text", "windows"]


class Shot(NamedTuple):
    """One choice to show."""

    question: str
    chosen: str
    rejected: str


def windows(count: int, k: int, stride: int | None = None) -> np.ndarray:
    """Return which of `count` rows, in the order given, stand together: int64 [windows, k + 1].

    The last of each window is the row that is asked; those before it are its shots. `stride` is k + 1 unless said
    otherwise, so that no row is in two windows of a pass.
    """
    step = k + 1 if stride is None else stride
    starts = np.arange(0, count - max(step, k + 1) + 1, step)
    return starts[:, None] + np.arange(k + 1)


def examples_text(shots: Sequence[Shot]) -> str:
    """Return shots as numbered examples, preferred answer first, and a heading for the request that follows."""
    blocks = [
        f"# Example {number}\n## Question\n{shot.question}\n## Preferred answer\n{shot.chosen}"
        f"\n## Other answer\n{shot.rejected}"
        for number, shot in enumerate(shots, start=1)
    ]
    return fill(template("condition.examples.v1"), {"examples": "\n\n".join(blocks)})
