"""Stopping early without more false alarms: planned looks, and a look after every prompt.

An interval that is looked at again and again misses more often than it says. Planned looks share the error: `spent` says how
much of it may be used by then, so that little is spent while there is little to see. `confidence_sequence` holds at every
prompt at once, so anyone may stop at any moment; it speaks of these trained models only, and `with_seeds` widens it by what
seeds differ before anything is claimed of datasets.

Sources: Lan and DeMets (1983), Biometrika 70, 659; O'Brien and Fleming (1979), Biometrics 35, 549; Waudby-Smith and
Ramdas (2024), JRSS B 86, 1 (predictable plug-in empirical Bernstein), arXiv 2010.09686.
"""

from typing import Literal, NamedTuple

import numpy as np

from prefkit.comparing.differences import Difference, at_level
from prefkit.errors import EstimateError

__all__ = [
    "Bounds",
    "Ending",
    "Look",
    "Spending",
    "Stop",
    "confidence_sequence",
    "look",
    "shares",
    "spent",
    "stop",
    "with_seeds",
]

Spending = Literal["obrien-fleming", "pocock"]
Ending = Literal["better", "worse", "too small", "out of prompts"]


class Look(NamedTuple):
    """A planned look at the difference so far."""

    difference: Difference
    """With the interval of this look, wider than 95 %."""
    stop: bool
    """The interval does not hold 0: the question is settled."""


class Bounds(NamedTuple):
    """An interval after each prompt, in the unit of the values: float64 [prompts]."""

    low: np.ndarray
    high: np.ndarray


class Stop(NamedTuple):
    """Where a run of prompts ends."""

    at: int
    """Prompts looked at."""
    why: Ending
    """`too small`: any gain is below the smallest worth having."""
    low: float
    high: float


def spent(fraction: np.ndarray, alpha: float = 0.05, how: Spending = "obrien-fleming") -> np.ndarray:
    """Return the error that may be used up when this fraction of the information is there. Shape [looks], in (0, 1]."""
    if how == "pocock":
        told: np.ndarray = alpha * np.log1p((np.e - 1) * fraction)
        return told
    from scipy.special import ndtr, ndtri  # type: ignore[import-untyped]

    return np.asarray(2 * ndtr(ndtri(alpha / 2) / np.sqrt(fraction)))


def shares(fraction: np.ndarray, alpha: float = 0.05, how: Spending = "obrien-fleming") -> np.ndarray:
    """Return what each planned look may use: the error added since the one before. They sum to `alpha` where the last is 1.

    Looks are tested one by one at their share, which needs no integral over their joint law and errs on the safe side.
    """
    if not (np.diff(fraction, prepend=0.0) > 0).all() or fraction[-1] > 1:
        raise EstimateError(f"looks must be at growing fractions of at most 1, got {fraction.tolist()}")
    return np.diff(spent(fraction, alpha, how), prepend=0.0)


def look(found: Difference, share: float) -> Look:
    """Look at the difference so far, with the share of the error that is this look's."""
    told = at_level(found, 1 - share)
    return Look(told, stop=told.low > 0 or told.high < 0)


def confidence_sequence(values: np.ndarray, alpha: float = 0.05) -> Bounds:
    """Return bounds of the mean that hold after every prompt at once, with probability 1 - alpha.

    Values are in [-1, 1], NaN-free, one a prompt in an order drawn at random: float64 [prompts]. With several arms raced
    against one, alpha is shared: alpha / arms.
    Raises: EstimateError for values outside [-1, 1].
    """
    if len(values) and not (np.abs(values) <= 1).all():
        raise EstimateError("the values of a confidence sequence lie in [-1, 1]")
    x, t = (values + 1) / 2, np.arange(1, len(values) + 1)
    mean = (0.5 + np.cumsum(x)) / (t + 1)
    before = np.append(0.5, mean[:-1])
    variance = (0.25 + np.cumsum(np.square(x - mean))) / (t + 1)
    known = np.append(0.25, variance[:-1])
    bet = np.minimum(np.sqrt(2 * np.log(2 / alpha) / (known * t * np.log1p(t))), 0.5)
    price = (-np.log1p(-bet) - bet) / 4
    total = np.cumsum(bet)
    middle = np.cumsum(bet * x) / total
    reach = (np.log(2 / alpha) + np.cumsum(4 * np.square(x - before) * price)) / total
    return Bounds(2 * (middle - reach) - 1, 2 * (middle + reach) - 1)


def stop(bounds: Bounds, smallest: float = 0.0) -> Stop:
    """Return where to stop: at the first prompt whose bounds leave out 0, or any gain of `smallest` or more."""
    better, worse = bounds.low > 0, bounds.high < 0
    small = (bounds.high < smallest) if smallest > 0 else np.zeros(len(better), bool)
    ends = better | worse | small
    at = int(ends.argmax()) if ends.any() else len(ends) - 1
    why: Ending = "out of prompts"
    if ends.any():
        why = "better" if better[at] else "worse" if worse[at] else "too small"
    return Stop(at + 1, why, float(bounds.low[at]), float(bounds.high[at]))


def with_seeds(found: Stop, seed_variance: float, seeds: int, alpha: float = 0.05) -> Stop:
    """Widen the bounds by what seeds differ, t sqrt(variance / seeds): from these models to what the datasets give."""
    from scipy.special import stdtrit

    if seeds < 2:
        raise EstimateError("one seed says nothing of others")
    reach = float(stdtrit(seeds - 1, 1 - alpha / 2)) * float(np.sqrt(seed_variance / seeds))
    low, high = found.low - reach, found.high + reach
    settled = low > 0 if found.why == "better" else high < 0 if found.why == "worse" else True
    return found._replace(low=low, high=high, why=found.why if settled else "out of prompts")
