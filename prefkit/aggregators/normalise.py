"""Normalisers: scores of different scales made alike, which every way of adding them up presumes.

    z        (r - mean) / standard deviation, with n in the denominator
    minmax   (r - min) / (max - min)
    rank     the share of scores below, equal ones counting half: (mean rank - 1/2) / n
    logit    ln(r / (1 - r)), of scores between 0 and 1

The first three compare a score with others: those of its prompt, or a reference set. Scores that are all equal say
nothing: z and minmax make them 0, rank makes them 1/2. Within a prompt, a prompt of bad responses looks like one of
good responses afterwards, so raw scores are kept beside.
"""

from typing import Literal

import numpy as np

__all__ = ["Kind", "by_group", "by_reference", "logit"]

Kind = Literal["z", "minmax", "rank"]


def by_group(kind: Kind, values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return each value compared with those of its group: float64 [rows]; NaN and infinities are NaN and count not.

    Shapes: `values` [rows]; `group` [rows], numbers from 0.
    """
    there = np.flatnonzero(np.isfinite(values))
    told = np.full(len(values), np.nan)
    order = there[np.lexsort((values[there], group[there]))]
    if not len(order):
        return told
    value, code = values[order], group[order]
    starts = np.flatnonzero(np.append(True, code[1:] != code[:-1]))
    sizes = np.diff(np.append(starts, len(code)))
    run = np.repeat(np.arange(len(starts)), sizes)
    if kind == "rank":
        told[order] = _ranks(value, run, starts, sizes)
        return told
    scaled = _stretched(value, value[starts][run], value[starts + sizes - 1][run])
    if kind == "minmax":
        told[order] = scaled
        return told
    # z does not change with scale and level, and between 0 and 1 no square can overflow.
    mean = np.bincount(run, scaled) / sizes
    gap = scaled - mean[run]
    spread = np.sqrt(np.bincount(run, gap**2) / sizes)[run]
    told[order] = np.where(spread > 0, gap / np.where(spread > 0, spread, 1.0), 0.0)
    return told


def by_reference(kind: Kind, values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return each value compared with a reference set of finite numbers: float64 [rows], NaN where not finite.

    Shapes: `values` [rows], `reference` [any number but none].
    """
    known = np.where(np.isfinite(values), values, np.nan)
    ordered = np.sort(np.asarray(reference, np.float64))
    if kind == "rank":
        below, upto = (np.searchsorted(ordered, known, side) for side in ("left", "right"))
        share: np.ndarray = np.where(np.isnan(known), np.nan, (below + upto) / (2 * len(ordered)))
        return share
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large to be told is NaN at the end
        low, high = ordered[0], ordered[-1]
        if low == high:
            flat: np.ndarray = np.where(np.isnan(known), np.nan, 0.0)
            return flat
        told: np.ndarray = known / 2 - low / 2
        told /= high / 2 - low / 2
        if kind == "z":
            inner = _stretched(ordered, low, high)
            told = (told - inner.mean()) / inner.std()
    told[~np.isfinite(told)] = np.nan
    return told


def logit(values: np.ndarray) -> np.ndarray:
    """Return ln(r / (1 - r)); NaN where r is not strictly between 0 and 1."""
    inside = (values > 0) & (values < 1)
    safe = np.where(inside, values, 0.5)
    told: np.ndarray = np.where(inside, np.log(safe) - np.log1p(-safe), np.nan)
    return told


def _stretched(value: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return values between `low` and `high` as between 0 and 1, and 0 where the two are equal."""
    room = high / 2 - low / 2  # halves, since the difference of two large numbers may be infinite
    told: np.ndarray = np.where(room > 0, (value / 2 - low / 2) / np.where(room > 0, room, 1.0), 0.0)
    return told


def _ranks(value: np.ndarray, run: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return (mean rank - 1/2) / n of values that are sorted within their runs."""
    fresh = np.append(True, (value[1:] != value[:-1]) | (run[1:] != run[:-1]))
    first = np.flatnonzero(fresh)
    tied = np.diff(np.append(first, len(value)))
    middle = np.repeat(first + (tied - 1) / 2, tied) - starts[run]
    told: np.ndarray = (middle + 0.5) / sizes[run]
    return told
