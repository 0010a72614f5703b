"""Log-odds: the scale on which a score difference says how probable it is that people prefer chosen."""

import numpy as np

from prefkit.errors import EstimateError
from prefkit.estimators.preference import logistic

__all__ = ["log_odds_slope"]

_STEPS = 100


def log_odds_slope(margin: np.ndarray, p: np.ndarray) -> float:
    """Return the slope a under which logistic(a margin) is likeliest to give these verdicts.

    There is no intercept, since a pair and its mirror image must give the same slope. Newton's method, halved where it
    would climb; the cost is convex.
    Shapes: `margin` and `p` float64 [pairs], p being how probable people make it that chosen is better; rows with NaN
    are left out.
    Raises: EstimateError if no slope above 0 is the best, or none is, margins telling the verdicts without a mistake.
    Source: Platt (1999), of differences; needed by Margin Adaptive DPO (2025), whose margins are log-odds.
    """
    there = np.isfinite(margin) & np.isfinite(p) & (margin != 0)
    gap, told = margin[there], p[there]
    if not len(gap):
        raise EstimateError(
            "no pair has both a margin other than 0 and a verdict, so the scale cannot be told"
        )
    scale = float(np.abs(gap).max())
    gap = gap / scale
    lead = float((gap * (told - 0.5)).sum())
    if lead <= 0:
        what = "scores and verdicts point opposite ways, or nowhere: no scale above 0 makes log-odds of these margins"
        raise EstimateError(what, hint="check which score is read, and that higher is better")
    if ((told - np.where(gap > 0, 1.0, 0.0)) == 0).all():
        what = f"margins tell all {len(gap)} verdicts without a mistake, so their scale has no bound"
        raise EstimateError(
            what, hint="calibrate on verdicts that the scorer was not trained on, or on more of them"
        )
    return _newton(gap, told) / scale


def _newton(gap: np.ndarray, told: np.ndarray) -> float:
    def cost(slope: float) -> float:
        return float((np.logaddexp(0.0, slope * gap) - told * slope * gap).sum())

    slope, here = 0.0, cost(0.0)
    for _ in range(_STEPS):
        p = logistic(slope * gap)
        gradient = float((gap * (p - told)).sum())
        step = gradient / max(float((np.square(gap) * p * (1 - p)).sum()), 1e-300)
        while cost(slope - step) > here + 1e-12 * abs(here):
            step /= 2
        slope, here = slope - step, cost(slope - step)
        if abs(step) < 1e-12 * max(abs(slope), 1.0):
            return slope
    raise EstimateError(f"the scale of margins did not settle in {_STEPS} steps")
