"""Length-controlled win rate: how often a model would win if its answers were as long as the baseline's.

Judges favour length. A logistic model of the preference has a term in the length difference, one in how hard the prompt is, and
one for the model itself; the win rate is what it says with the first set to nothing. That is AlpacaEval 2's regression, in
full with prompt difficulties and the rows of baselines told to be brief and to be long, `Gamed`, and in its minimal form,
without both, which is what test sets of one's own allow. There is no intercept: the model's own term is it.

Source: Length-Controlled AlpacaEval (Dubois et al., 2024), arXiv 2404.04475, and its code.
"""

from typing import NamedTuple

import numpy as np

from prefkit.comparing.bootstrap import Resampled, pigeonhole
from prefkit.comparing.logistic_fit import choose, fit
from prefkit.errors import DataError
from prefkit.estimators.preference import logistic

__all__ = [
    "LEAST_ROWS",
    "Gamed",
    "LengthControlled",
    "length_controlled",
    "length_controlled_interval",
    "length_controlled_values",
    "length_feature",
    "preference_of",
]

LEAST_ROWS = 30
"""With fewer rows, or none on one side of a half, length cannot be told from quality."""
_RIDGE = 0.01
"""Of the minimal form: as good as none, but finite where length tells every preference."""
_GAMED = 0.2
"""What the gamed rows weigh together, each of the two baselines half of it a row."""


class Gamed(NamedTuple):
    """Preferences for the baseline told to be brief and to be verbose, over itself. All float64 [rows]."""

    preference: np.ndarray
    gap: np.ndarray
    """Length difference over its standard deviation, before tanh."""
    difficulty: np.ndarray


class LengthControlled(NamedTuple):
    """Win rates of a model over a baseline, in [0, 1]."""

    rate: float
    """With the length difference set to none; `raw` where `controlled` is false."""
    raw: float
    error: float
    """Spread of the rate over prompts, over their root: what AlpacaEval prints. Not the error of the rate."""
    length: float
    """Coefficient of tanh(gap): below 0, length helps the model."""
    difficulty: float
    quality: float
    """Log-odds of the model itself, on a prompt of difficulty 0."""
    controlled: bool
    extreme: bool
    """The rate is far from the raw one: more than 10 points, and more than a quarter of what is between it and the end."""


def preference_of(coded: np.ndarray) -> np.ndarray:
    """Turn AlpacaEval's 1 (baseline) to 2 (model), ties 1.5 or 0, into the chance that the model wins; NaN stays."""
    told: np.ndarray = np.clip(np.where(coded == 0, 1.5, coded) - 1, 0.0, 1.0)
    return told


def length_feature(gap: np.ndarray) -> np.ndarray:
    """Return tanh(gap / its standard deviation), 0 where all gaps are equal. Gap: baseline's length less the model's."""
    spread = gap.std(ddof=1) if len(gap) > 1 else 0.0
    told: np.ndarray = np.tanh(gap / spread) if spread > 0 else np.zeros(len(gap))
    return told


def length_controlled(
    preference: np.ndarray,
    gap: np.ndarray,
    difficulty: np.ndarray | None = None,
    gamed: Gamed | None = None,
    ridge: float = _RIDGE,
    *,
    least: int = LEAST_ROWS,
) -> LengthControlled:
    """Return the length-controlled win rate.

    Shapes: all [rows]; `preference` the chance that the model is better, NaN not judged; `gap` the characters of the baseline's
    answer less those of the model's; `difficulty` of the prompt. The full form, with difficulties, is fitted as AlpacaEval does; the minimal
    form, without, with `ridge`. With fewer than `least` rows, or no preference on one side of a half, the raw rate is given.
    Raises: DataError if nothing was judged, or `gamed` comes without `difficulty`.
    """
    if gamed is not None and difficulty is None:
        raise DataError("gamed rows need the difficulty of every prompt")
    known = ~np.isnan(preference)
    if not known.any():
        raise DataError("no row has a preference")
    raw = float(preference[known].mean())
    if known.sum() < least or not _both_sides(preference[known]):
        return LengthControlled(raw, raw, np.nan, np.nan, np.nan, np.nan, controlled=False, extreme=False)
    x, target, scale = _rows(preference, length_feature(gap), difficulty, gamed)
    if difficulty is None:
        weights = fit(x[None], target, scale[None], ridge)[0]
        odds = np.full(len(gap), weights[-1])
    else:
        weights = choose(x, target, scale).weights
        odds = weights[-1] + weights[1] * difficulty
    told = logistic(odds)
    rate = float(told.mean())
    return LengthControlled(
        rate=rate,
        raw=raw,
        error=float(told.std(ddof=1) / np.sqrt(len(told))),
        length=float(weights[0]),
        difficulty=np.nan if difficulty is None else float(weights[1]),
        quality=float(weights[-1]),
        controlled=True,
        extreme=not min(0.75 * raw, raw - 0.1) <= rate <= max(raw + 0.25 * (1 - raw), raw + 0.1),
    )


def length_controlled_values(preference: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Return a value a cell whose mean is the rate of the minimal form: for `differences.difference`, against one half.

    Shapes: all [seeds, prompts]; NaN where the preference is. A value is the rate plus what the cell moves it by, to first order
    (the influence function; Hampel, 1974, JASA 69, 383), the standard deviation of gaps taken as fixed.
    Raises: DataError if nothing was judged, EstimateError if the regression does not converge.
    """
    known = ~np.isnan(preference)
    if not known.any():
        raise DataError("no row has a preference")
    x = np.stack([length_feature(gap[known]), np.ones(known.sum())], axis=1)
    weights = fit(x[None], preference[known], np.ones((1, len(x))), _RIDGE)[0]
    q, rate = logistic(x @ weights), logistic(weights[1:])[0]
    bend = x.T @ (x * (q * (1 - q))[:, None]) + _RIDGE * np.eye(2)
    moved = (x @ np.linalg.inv(bend)[1]) * (preference[known] - q)
    told = np.full(preference.shape, np.nan)
    told[known] = rate + len(x) * rate * (1 - rate) * (moved - moved.mean())
    return told


def length_controlled_interval(
    preference: np.ndarray,
    gap: np.ndarray,
    draw: np.random.Generator,
    draws: int = 2000,
    level: float = 0.95,
    clusters: np.ndarray | None = None,
) -> Resampled:
    """Return the rate of the minimal form with its bootstrap interval, the regression fitted in each draw: too wide, a check.

    Shapes: `preference` and `gap` [seeds, prompts]; NaN preferences count not. The p-value is that of a rate of one half.
    """
    known = ~np.isnan(preference).ravel()
    gaps, target = gap.ravel()[known], preference.ravel()[known]
    once = np.stack([length_feature(gaps), np.ones(len(gaps))], axis=1)
    start = fit(once[None], target, np.ones((1, len(gaps))), _RIDGE)[0]

    def statistic(seeds: np.ndarray, prompts: np.ndarray) -> np.ndarray:
        count = (seeds[:, :, None] * prompts[:, None, :]).reshape(len(seeds), -1)[:, known]
        x = np.stack([_drawn_feature(gaps, count), np.ones_like(count)], axis=2)
        return logistic(fit(x, target, count, _RIDGE, start)[:, 1])

    shape = (preference.shape[0], preference.shape[1])
    return pigeonhole(statistic, shape, draw, draws, level, null=0.5, clusters=clusters)


def _both_sides(preference: np.ndarray) -> bool:
    return bool((preference > 0.5).any() and (preference < 0.5).any())


def _rows(
    preference: np.ndarray, feature: np.ndarray, difficulty: np.ndarray | None, gamed: Gamed | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features [rows, 2 or 3], targets and weights of the rows that were judged, gamed ones first."""
    known = ~np.isnan(preference)
    columns = [feature] + ([] if difficulty is None else [difficulty]) + [np.ones(len(feature))]
    x, target = np.stack(columns, axis=1)[known], preference[known]
    scale = np.ones(len(x))
    if gamed is None:
        return x, target, scale
    played = np.stack([np.tanh(gamed.gap), gamed.difficulty, np.zeros(len(gamed.gap))], axis=1)
    light = np.full(len(played), _GAMED / 2)
    return (
        np.concatenate([played, x]),
        np.concatenate([gamed.preference, target]),
        np.concatenate([light, scale]),
    )


def _drawn_feature(gaps: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return tanh(gap / deviation), the deviation being that of each draw: [draws, rows]."""
    total = count.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = (count @ gaps)[:, None] / total
        squares = (count * np.square(gaps - middle)).sum(axis=1, keepdims=True)
        spread = np.sqrt(squares / np.maximum(total - 1, 1))
        return np.where(spread > 0, np.tanh(gaps / spread), 0.0)
