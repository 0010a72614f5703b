"""Planning: what a comparison can find before it is run, and how many prompts or seeds would settle one that found nothing.

The squared error of a difference is prompt / n + seed / S + rest / (n S). More prompts leave seed / S standing, so there is a
difference no number of prompts can show with few seeds. Until past runs tell, `TYPICAL` stands for head-to-head
differences in [-1, 1].

Source: the power formula, as for evaluations in Miller (2024), arXiv 2411.00640. With few seeds it promises too much, since their
spread is itself guessed from few: `student` takes Student's t in place of the normal law.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from prefkit.comparing.differences import Variance

__all__ = ["TYPICAL", "Detectable", "Settled", "detectable", "settle"]

TYPICAL = Variance(prompt=0.30, seed=0.0004, rest=0.20)
"""Of head-to-head differences (twice the win rate less one), before anything was run."""

_MOST = 1 << 24


class Detectable(NamedTuple):
    """The smallest true difference that a comparison of this size finds with the wanted power."""

    effect: float
    floor: float
    """What it falls to with endless prompts and these seeds."""
    error: float
    """The standard error to expect."""
    df: float


class Settled(NamedTuple):
    """How many would show a difference of this size; None where no number would."""

    effect: float
    prompts: int | None
    """With the seeds as they are."""
    seeds: int | None
    """With the prompts as they are."""


def detectable(
    variance: Variance,
    seeds: int,
    prompts: int,
    alpha: float = 0.05,
    power: float = 0.8,
    *,
    student: bool = True,
) -> Detectable:
    """Return what a comparison of this size detects. A seed variance that is not known (NaN) counts as none."""
    seed = 0.0 if np.isnan(variance.seed) else variance.seed
    rest = variance.rest
    of = np.array([prompts * seed + rest, seeds * variance.prompt + rest, rest])
    error = float(np.sqrt((of[0] + of[1] - of[2]) / (seeds * prompts)))
    df = np.inf
    if student:
        df = _freedom(of, seeds, prompts)
    reach = _reach(df, alpha, power)
    # With endless prompts only seeds are left, and their count less one in freedom.
    floor = _reach(seeds - 1.0 if student and seeds > 1 else np.inf, alpha, power) * np.sqrt(seed / seeds)
    return Detectable(reach * error, float(min(floor, reach * error)), error, df)


def settle(
    variance: Variance,
    effect: float,
    seeds: int,
    prompts: int,
    alpha: float = 0.05,
    power: float = 0.8,
    *,
    student: bool = True,
) -> Settled:
    """Return how many prompts, or how many seeds, find a difference of `effect` with the wanted power."""

    def of_prompts(count: int) -> float:
        return detectable(variance, seeds, count, alpha, power, student=student).effect

    def of_seeds(count: int) -> float:
        return detectable(variance, count, prompts, alpha, power, student=student).effect

    wanted = abs(effect)
    return Settled(wanted, _least(of_prompts, wanted, 2), _least(of_seeds, wanted, min(seeds, 2)))


def _least(of: Callable[[int], float], wanted: float, start: int) -> int | None:
    """Return the smallest count whose detectable effect is at most `wanted`, by doubling and halving; None if there is none."""
    if not wanted > 0:
        return None
    high = start
    while of(high) > wanted:
        high *= 2
        if high > _MOST:
            return None
    low = high // 2
    while high - low > 1 and high > start:
        middle = (low + high) // 2
        low, high = (low, middle) if of(middle) <= wanted else (middle, high)
    return high


def _freedom(of: np.ndarray, seeds: int, prompts: int) -> float:
    """Return Satterthwaite's degrees of freedom for the mean squares that are to be expected."""
    if seeds == 1:
        return float(prompts - 1)
    spread = (np.square(of) / [seeds - 1, prompts - 1, (seeds - 1) * (prompts - 1)]).sum()
    return float((of[0] + of[1] - of[2]) ** 2 / spread) if spread > 0 else np.inf


def _reach(df: float, alpha: float, power: float) -> float:
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    return float(stdtrit(df, 1 - alpha / 2) + stdtrit(df, power))
