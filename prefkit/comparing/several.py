"""Several metrics at once: p-values that keep the chance of any false alarm, and two tests for rates.

One metric is primary and named beforehand; the others share one error rate.
"""

import numpy as np

__all__ = ["holm", "mcnemar"]


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values adjusted for their number: below 0.05 is a finding, and the chance of any false one is 5 %.

    Shape [metrics]; NaN stays NaN and does not count. Source: Holm (1979), Scandinavian Journal of Statistics 6, 65.
    """
    told = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    left = np.arange(len(order), 0, -1)
    told[order] = np.minimum(1.0, np.maximum.accumulate(left * p[order]))
    return told


def mcnemar(gained: int, lost: int) -> float:
    """Return the exact p-value that a pair is as likely to be gained as lost. Source: McNemar (1947), Psychometrika 12, 153."""
    from scipy.special import bdtr  # type: ignore[import-untyped]

    return min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))
