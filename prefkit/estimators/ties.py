"""Models of comparisons that may end in a tie: from a strength difference to three probabilities, and fitted.

Two conventions of the tie parameter go round. Here Davidson's is the one in which win, loss and tie are as exp(d / 2),
exp(-d / 2) and nu, and Rao and Kupper's is kappa with P(win) = logistic(d - ln kappa). Work on DPO with ties (2024)
writes nu for half of our nu, and nu for kappa: its nu_D = 1 is our nu = 2, its nu_RK = 3 our kappa = 3. Both make a tie
of equals as probable as not. A fit says which parameter it holds, so that no reader has to guess.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from prefkit.errors import EstimateError
from prefkit.estimators.graph import (
    Descent,
    Matches,
    Slope,
    centred,
    check_wins,
    descend,
    inverse,
    laplacian,
    scatter,
    slope_of_gaps,
    start_strengths,
)
from prefkit.estimators.preference import logistic

__all__ = [
    "ENOUGH_TIES",
    "KAPPA",
    "NU",
    "Convention",
    "Outcomes",
    "TieStrengths",
    "davidson",
    "fit_davidson",
    "fit_rao_kupper",
    "predict_outcomes",
    "rao_kupper",
    "tie_covariance",
]

NU = 2.0
"""Davidson's parameter where it is not fitted: equals tie every other time."""
KAPPA = 3.0
"""Rao and Kupper's parameter where it is not fitted: equals tie every other time."""
ENOUGH_TIES = 200
"""Tied votes from which `auto` fits the parameter."""

Convention = Literal["nu of exp(d/2) : exp(-d/2) : nu", "kappa of logistic(d - ln kappa)"]
_NU: Convention = "nu of exp(d/2) : exp(-d/2) : nu"
_KAPPA: Convention = "kappa of logistic(d - ln kappa)"
_FAR = 300.0
"""Logarithm of a tie parameter beyond which nothing is told any more."""


class Outcomes(NamedTuple):
    """Probabilities of the three ends of a comparison, each of the shape of the strength difference."""

    win: np.ndarray
    lose: np.ndarray
    tie: np.ndarray


class TieStrengths(NamedTuple):
    """Strengths of items and how readily equals tie."""

    strength: np.ndarray
    """float64 [items], nats, mean 0 in each part."""
    part: np.ndarray
    """Which part of the graph an item is in, int64 [items]; strengths of different parts are not comparable."""
    tie: float
    """The tie parameter, as `convention` reads it."""
    convention: Convention
    is_fitted: bool
    """Whether the tie parameter was fitted too, or given."""
    cost: float
    """Negative log-likelihood without the ridge, nats."""
    ridge: float
    steps: int


class _Curve(NamedTuple):
    """The cost of every pair and its derivatives by the gap (g) and by the logarithm of the tie parameter (t)."""

    cost: float
    g: np.ndarray
    gg: np.ndarray
    gt: np.ndarray
    t: float
    tt: float


_Model = Callable[[Matches, np.ndarray, float], _Curve]


def davidson(gap: np.ndarray, nu: float) -> Outcomes:
    """Return the outcomes at a strength difference in nats. `nu` is at least 0; at 0 there are no ties.

    Source: Davidson (1970), JASA 65, in the symmetric form exp(d / 2) : exp(-d / 2) : nu.
    """
    half = gap / 2
    top = np.abs(half)
    win, lose, tie = np.exp(half - top), np.exp(-half - top), nu * np.exp(-top)
    total = win + lose + tie
    return Outcomes(win / total, lose / total, tie / total)


def rao_kupper(gap: np.ndarray, kappa: float) -> Outcomes:
    """Return the outcomes at a strength difference in nats. `kappa` is at least 1; at 1 there are no ties.

    Source: Rao and Kupper (1967), JASA 62.
    """
    win, lose = logistic(gap - np.log(kappa)), logistic(-gap - np.log(kappa))
    return Outcomes(win, lose, (kappa**2 - 1) * win * lose)


def fit_davidson(
    matches: Matches,
    nu: float | Literal["fit", "auto"] = "fit",
    ridge: float = 0.0,
    *,
    tolerance: float = 1e-8,
    limit: int = 100,
) -> TieStrengths:
    """Fit strengths, and `nu` unless it is given, less ridge / 2 times the sum of squared strengths.

    `auto` fits `nu` to 200 tied votes or more and takes 2 with fewer. A `nu` from work that writes 2 nu is half of
    the one here. Stops as `fit_bradley_terry`; concave in the strengths and ln nu.
    Raises: EstimateError as `fit_bradley_terry` (a tie counts as half a win of each), and where `nu` cannot be told:
    no tie, nothing but ties, or ties and wins that some order of the items explains without error.
    Source: Davidson (1970), JASA 65.
    """
    given = _given(matches, nu, NU, lowest=0.0)
    share = _tie_share(matches)
    start = np.log(2 * share / (1 - share)) if given is None else _log(given)
    return _fit(matches, _davidson_curve, given, start, _NU, ridge, tolerance, limit)


def fit_rao_kupper(
    matches: Matches,
    kappa: float | Literal["fit", "auto"] = "fit",
    ridge: float = 0.0,
    *,
    tolerance: float = 1e-8,
    limit: int = 100,
) -> TieStrengths:
    """Fit strengths, and `kappa` unless it is given, as `fit_davidson` does; `auto` takes 3 with few ties.

    Concave in the strengths and ln kappa. Source: Rao and Kupper (1967), JASA 62.
    """
    given = _given(matches, kappa, KAPPA, lowest=1.0)
    share = _tie_share(matches)
    start = np.log1p(share) - np.log1p(-share) if given is None else _log(given)
    return _fit(matches, _rao_kupper_curve, given, start, _KAPPA, ridge, tolerance, limit)


def predict_outcomes(fit: TieStrengths, first: np.ndarray, second: np.ndarray) -> Outcomes:
    """Return the probabilities that item `first` beats, loses to and ties with `second`, elementwise."""
    gap = fit.strength[first] - fit.strength[second]
    return davidson(gap, fit.tie) if fit.convention == _NU else rao_kupper(gap, fit.tie)


def tie_covariance(matches: Matches, fit: TieStrengths) -> np.ndarray:
    """Return the covariance of the strengths, and last of the logarithm of the tie parameter where it was fitted.

    From the observed information: [items (+ 1), items (+ 1)]. See `bradley_terry.covariance`.
    """
    curve = _model_of(fit)(matches, fit.strength[matches.first] - fit.strength[matches.second], _log(fit.tie))
    dense = laplacian(matches, curve.gg, fit.ridge)
    if fit.is_fitted:
        border = scatter(matches, curve.gt)
        dense = np.block([[dense, border[:, None]], [border[None, :], np.array([[curve.tt]])]])
    return inverse(dense, matches.items, fit.ridge)


def _fit(
    matches: Matches,
    model: _Model,
    given: float | None,
    start: float,
    convention: Convention,
    ridge: float,
    tolerance: float,
    limit: int,
) -> TieStrengths:
    part, count = check_wins(matches, ridge), matches.items
    low = 0.0 if convention == _KAPPA else -_FAR

    def slope_at(point: np.ndarray) -> Slope:
        strength = point[:count]
        log_tie = start if given is not None else float(point[count])
        if given is None and not low < log_tie < _FAR:
            return Slope(np.inf, point, np.copy, point)
        curve = model(matches, strength[matches.first] - strength[matches.second], log_tie)
        inner = slope_of_gaps(matches, part, strength, ridge, (curve.cost, curve.g, curve.gg))
        return (
            inner if given is not None else _bordered(inner, centred(scatter(matches, curve.gt), part), curve)
        )

    begin = start_strengths(matches, part)
    begin = begin if given is not None else np.append(begin, start)
    name = "davidson's model" if convention == _NU else "rao and kupper's model"
    end: Descent = descend(slope_at, begin, model=name, tolerance=tolerance, limit=limit)
    strength = centred(end.point[:count], part)
    tie = given if given is not None else float(np.exp(end.point[count]))
    cost = end.slope.cost - ridge / 2 * float(strength @ strength)
    return TieStrengths(strength, part, tie, convention, given is None, cost, ridge, end.steps)


def _bordered(inner: Slope, border: np.ndarray, curve: _Curve) -> Slope:
    """Add the tie parameter as the last of the parameters."""

    def product(vector: np.ndarray) -> np.ndarray:
        strength, tie = vector[:-1], vector[-1]
        return np.append(inner.product(strength) + border * tie, border @ strength + curve.tt * tie)

    gradient, diagonal = np.append(inner.gradient, curve.t), np.append(inner.diagonal, curve.tt)
    return Slope(inner.cost, gradient, product, diagonal)


def _davidson_curve(matches: Matches, gap: np.ndarray, log_nu: float) -> _Curve:
    odds = davidson(gap, float(np.exp(log_nu)))
    total, lead = matches.wins + matches.losses + matches.ties, matches.wins - matches.losses
    tied, tilt = float(matches.ties.sum()), odds.win - odds.lose
    small = np.exp(-np.abs(gap) / 2)
    height = np.abs(gap) / 2 + np.log1p(small * small + np.exp(log_nu) * small)
    return _Curve(
        float(total @ height - lead @ gap / 2) - (tied * log_nu if tied else 0.0),
        (total * tilt - lead) / 2,
        total * (odds.win + odds.lose - tilt**2) / 4,
        -total * odds.tie * tilt / 2,
        float(total @ odds.tie) - tied,
        float(total @ (odds.tie * (1 - odds.tie))),
    )


def _rao_kupper_curve(matches: Matches, gap: np.ndarray, log_kappa: float) -> _Curve:
    forth, back = matches.wins + matches.ties, matches.losses + matches.ties
    u, v = logistic(log_kappa - gap), logistic(log_kappa + gap)
    tied = float(matches.ties.sum())
    cost = forth @ np.logaddexp(0, log_kappa - gap) + back @ np.logaddexp(0, log_kappa + gap)
    bend_u, bend_v = forth * u * (1 - u), back * v * (1 - v)
    t, tt = float(forth @ u + back @ v), float((bend_u + bend_v).sum())
    if tied:  # P(tie) = (kappa^2 - 1) P(win) P(lose), and kappa is above 1
        twice = np.expm1(2 * log_kappa)
        cost, t = cost - tied * np.log(twice), t - 2 * tied * (1 + 1 / twice)
        tt += 4 * tied * (1 + 1 / twice) / twice
    return _Curve(float(cost), back * v - forth * u, bend_u + bend_v, bend_v - bend_u, t, tt)


def _model_of(fit: TieStrengths) -> _Model:
    return _davidson_curve if fit.convention == _NU else _rao_kupper_curve


def _given(
    matches: Matches, parameter: float | Literal["fit", "auto"], usual: float, lowest: float
) -> float | None:
    """Return the tie parameter to hold, or None to fit it."""
    tied, decided = float(matches.ties.sum()), float((matches.wins + matches.losses).sum())
    if parameter == "auto":
        parameter = "fit" if tied >= ENOUGH_TIES and decided else usual
    if parameter == "fit":
        if tied and decided:
            return None
        what = "every comparison is a tie" if tied else "there are no ties"
        hint = "give the tie parameter" if tied else "use fit_bradley_terry, or give the tie parameter"
        raise EstimateError(f"{what}, so how readily equals tie cannot be told", hint=hint)
    if not lowest <= parameter < np.exp(_FAR):
        raise EstimateError(f"the tie parameter must be finite and at least {lowest:g}, got {parameter}")
    if tied and parameter == lowest:
        raise EstimateError(f"there are ties, which a tie parameter of {lowest:g} rules out")
    return float(parameter)


def _tie_share(matches: Matches) -> float:
    tied = float(matches.ties.sum())
    return tied / max(tied + float((matches.wins + matches.losses).sum()), np.finfo(np.float64).tiny)


def _log(parameter: float) -> float:
    return float(np.log(parameter)) if parameter else -np.inf
