"""Agreement: how far annotators say the same beyond what chance gives, with votes missing.

Kappa is of two raters (Cohen) or of as many for each item (Fleiss: `prefkit.statistics.figures.fleiss`). Alpha is of any
number, with gaps, and of words, places or numbers. All are 1 where everyone agrees, 0 at chance and below it where raters
disagree more than that; none is defined where only one thing was ever said.
"""

from typing import Literal

import numpy as np

__all__ = ["Scale", "cohen", "krippendorff", "pairs_of_raters"]

Scale = Literal["nominal", "ordinal", "interval"]


def cohen(one: np.ndarray, other: np.ndarray, weights: Literal["none", "quadratic"] = "none") -> float:
    """Return Cohen's kappa of two raters; NaN where no item has both, or chance is certain.

    Shapes: both [items], categories from 0; below 0 is missing. `quadratic` is for categories in an order.
    Source: Cohen (1960), Educational and Psychological Measurement 20, 37; (1968), Psychological Bulletin 70, 213.
    """
    both = (one >= 0) & (other >= 0)
    if not both.any():
        return float("nan")
    size = int(max(one[both].max(), other[both].max())) + 1
    table = np.bincount(one[both] * size + other[both], minlength=size * size).reshape(size, size)
    table = table / table.sum()
    places = np.arange(size)
    apart = (places[:, None] != places) if weights == "none" else (places[:, None] - places) ** 2
    expected = float((np.outer(table.sum(axis=1), table.sum(axis=0)) * apart).sum())
    return 1 - float((table * apart).sum()) / expected if expected else float("nan")


def krippendorff(ratings: np.ndarray, scale: Scale = "nominal") -> float:
    """Return Krippendorff's alpha; NaN where no item has two ratings, or all say the same.

    Shapes: `ratings` float64 [items, raters], NaN for missing. On the ordinal scale two values are as far apart as their mid-ranks.
    Source: Krippendorff (2019), Content Analysis, 4th ed., chapter 12.
    """
    there = np.isfinite(ratings)
    useful = there.sum(axis=1) > 1
    item, rater = np.nonzero(there & useful[:, None])
    values = ratings[item, rater]
    n = len(values)
    if not n:
        return float("nan")
    found, codes = np.unique(values, return_inverse=True)
    if scale == "ordinal":
        counts = np.bincount(codes)
        values = (np.cumsum(counts) - counts / 2)[codes]
    sizes = np.bincount(item, minlength=len(ratings))
    if scale == "nominal":
        cells, many = np.unique(item * len(found) + codes, return_counts=True)
        same = np.bincount(cells // len(found), many * (many - 1.0), minlength=len(ratings))
        apart = sizes * (sizes - 1.0) - same
        total = n * (n - 1.0) - float((np.bincount(codes) * (np.bincount(codes) - 1.0)).sum())
    else:
        values = values - values.mean()
        sums, squares = (np.bincount(item, each, minlength=len(ratings)) for each in (values, values**2))
        apart = 2 * (sizes * squares - sums**2)
        total = 2 * (n * float((values**2).sum()) - float(values.sum()) ** 2)
    observed = float((apart[useful] / (sizes[useful] - 1)).sum()) / n
    expected = total / (n * (n - 1.0))
    return 1 - observed / expected if expected > 1e-15 else float("nan")


def pairs_of_raters(item: np.ndarray, rater: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return ratings as a table: float64 [items, raters], NaN for missing; of several of one rater on one item the mean.

    Shapes: `item` and `rater` int64 [ratings] from 0, `value` [ratings].
    """
    shape = (int(item.max(initial=-1)) + 1, int(rater.max(initial=-1)) + 1)
    at = item * shape[1] + rater
    counts = np.bincount(at, minlength=shape[0] * shape[1])
    sums = np.bincount(at, value, minlength=shape[0] * shape[1])
    with np.errstate(invalid="ignore"):
        table: np.ndarray = (sums / counts).reshape(shape)
    return table
