"""Cells: pairs by whether chosen is good and whether the gap is wide, each against the median of the dataset.

What chosen is worth matters most to what is learned, the gap less, and rejected alone little; so a set of wide gaps between
poor answers is not what it seems. The score should not be the one that pairs were filtered by.

Source: What Matters in Data for DPO? (NeurIPS 2025), arXiv 2508.18312.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["CELLS", "Cells", "cells"]

CELLS = ("wide-good", "wide-poor", "narrow-good", "narrow-poor")


class Cells(NamedTuple):
    """Where pairs lie."""

    cell: np.ndarray
    """Into `CELLS`, int64 [pairs]; -1 where a score is missing."""
    median_chosen: float
    median_gap: float


def cells(chosen: np.ndarray, rejected: np.ndarray) -> Cells:
    """Put pairs into cells: wide where the gap is at least its median, good where chosen is. Shapes: both [pairs].

    With many equal gaps no pair may be narrow; then the median is the least.
    """
    gap = chosen - rejected
    known = np.isfinite(chosen) & np.isfinite(gap)
    if not known.any():
        return Cells(np.full(len(gap), -1, np.int64), float("nan"), float("nan"))
    middle, wide = float(np.median(chosen[known])), float(np.median(gap[known]))
    cell = 2 * (gap < wide) + (chosen < middle)
    return Cells(np.where(known, cell, -1), middle, wide)
