"""The graph of who met whom: counted once a pair, checked for what it can tell, and the ground of Newton's method.

Strengths are told by differences only. Two items can be compared if a chain of meetings joins them, and their
difference is finite only if each beat the other through some chain (Ford, 1957), unless a ridge holds them. So what
belongs together is found out first: a fit that drifts off to infinity looks like any number.

Costs are convex, and are brought down by Newton's method with conjugate gradients, which needs nothing larger than the
list of pairs. On 1,000 items and 200,000 comparisons that takes 5 steps and 0.07 CPU seconds, against 0.12 with
Cholesky's factors. Newman's iteration is as quick there, but where few items met it crawls: on a chain of 300 items
100,000 rounds were not enough, where 5 steps are.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from prefkit.errors import EstimateError

__all__ = [
    "Descent",
    "Matches",
    "Slope",
    "centred",
    "check_strongly_connected",
    "check_wins",
    "count_matches",
    "descend",
    "inverse",
    "laplacian",
    "matches_of",
    "parts",
    "scatter",
    "slope_of_gaps",
    "start_strengths",
    "strong_parts",
]

_SHOWN = 8
"""How many items or parts a message names."""
_FORCING = 1e-3
"""How far conjugate gradients go: what is left of the gradient, in the norm of the preconditioner."""


class Matches(NamedTuple):
    """What became of every pair of items that met. Arrays are [pairs]; a pair is there once, `first` below `second`."""

    first: np.ndarray
    """Item numbers from 0, int64."""
    second: np.ndarray
    wins: np.ndarray
    """Weight of comparisons that `first` won, float64."""
    losses: np.ndarray
    ties: np.ndarray
    items: int


class Slope(NamedTuple):
    """A convex cost at a point: its height, and its first and second derivatives."""

    cost: float
    """Infinite outside the cost's domain."""
    gradient: np.ndarray
    """[parameters]; zero along the directions that change no cost."""
    product: Callable[[np.ndarray], np.ndarray]
    """The matrix of second derivatives times a vector."""
    diagonal: np.ndarray
    """Of that matrix, [parameters]."""


class Descent(NamedTuple):
    """Where the descent stopped."""

    point: np.ndarray
    slope: Slope
    steps: int


def count_matches(
    winner: np.ndarray,
    loser: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    tie: np.ndarray | None = None,
    items: int | None = None,
) -> Matches:
    """Count comparisons by pair of items.

    Shapes: `winner` and `loser` are item numbers from 0, [comparisons]; `weight` (default 1) and `tie` (bool, default
    none; then the two are merely the sides) likewise. `items` is the number of items, at least the highest number
    plus one. Comparisons of weight 0 are no meeting.
    Raises: EstimateError if there is no comparison, or one with a bad number, a bad weight or an item against itself.
    """
    winner, loser, weight = _checked(winner, loser, weight)
    count = int(max(winner.max(), loser.max())) + 1
    items = count if items is None else items
    if items < count:
        raise EstimateError(f"item {count - 1} is beyond the {items} items")
    pair = np.minimum(winner, loser) * items + np.maximum(winner, loser)
    if items * items <= max(8 * len(winner), 1 << 20):
        kinds, place, size = None, pair, items * items
    else:
        kinds, place = np.unique(pair, return_inverse=True)
        size = len(kinds)
    won, tied = winner < loser, np.zeros(len(winner), bool) if tie is None else np.asarray(tie, bool)
    wins = np.bincount(place, weight * (won & ~tied), size)
    losses = np.bincount(place, weight * ~(won | tied), size)
    ties = np.bincount(place, weight * tied, size) if tied.any() else np.zeros(size)
    there = np.flatnonzero(wins + losses + ties)
    kinds = there if kinds is None else kinds[there]
    return Matches(kinds // items, kinds % items, wins[there], losses[there], ties[there], items)


def matches_of(wins: np.ndarray, ties: np.ndarray | None = None) -> Matches:
    """Return the matches that a table counts.

    Shapes: `wins` [items, items], wins[i, j] weighs the wins of i over j; `ties` likewise and symmetric, ties[i, j]
    weighs the ties of i and j once. Diagonals are not read.
    Raises: EstimateError if a table is not square, symmetric, finite and at least 0.
    """
    wins = _table(wins)
    ties = np.zeros_like(wins) if ties is None else _table(ties)
    if wins.shape != ties.shape or not (ties == ties.T).all():
        raise EstimateError("ties must be symmetric and of the shape of wins: ties[i, j] is ties[j, i]")
    first, second = np.nonzero(np.triu(wins + wins.T + ties, 1))
    return Matches(
        first, second, wins[first, second], wins[second, first], ties[first, second], items=len(wins)
    )


def parts(first: np.ndarray, second: np.ndarray, items: int) -> np.ndarray:
    """Return the part that each item is in, where pairs [pairs] join items: int64 [items].

    Parts are numbered from 0 by their lowest items.
    """
    return _components(first, second, items, "weak")


def strong_parts(winner: np.ndarray, loser: np.ndarray, items: int) -> np.ndarray:
    """Return the strong part that each item is in: there each beat each through some chain of wins. As `parts`."""
    return _components(winner, loser, items, "strong")


def check_strongly_connected(winner: np.ndarray, loser: np.ndarray, items: int) -> None:
    """Check that each item beat each other through some chain of wins. `winner` and `loser` are items, [wins].

    Raises: EstimateError that names the parts that never met, or the items that never lost to the others.
    """
    strong = strong_parts(winner, loser, items)
    if not strong.any():
        return
    hint = "give a ridge above 0, or fit each part by itself"
    weak = parts(winner, loser, items)
    if weak.any():
        told = "; ".join(_named(np.flatnonzero(weak == part)) for part in range(min(weak.max() + 1, _SHOWN)))
        what = f"the comparisons fall into {weak.max() + 1} parts that never met, so they cannot be compared: {told}"
        raise EstimateError(what, hint=hint)
    across = strong[winner] != strong[loser]
    unbeaten = np.setdiff1d(strong, strong[loser[across]])[0]
    told = _named(np.flatnonzero(strong == unbeaten))
    what = f"no chain of wins leads from the others to {told} of {items}, so their strengths are infinite"
    raise EstimateError(what, hint=hint)


def check_wins(matches: Matches, ridge: float) -> np.ndarray:
    """Return the part of each item, and refuse what has no finite optimum; a tie is half a win of each."""
    if not 0 <= ridge < np.inf:
        raise EstimateError(f"ridge must be finite and at least 0, got {ridge}")
    if not len(matches.first):
        raise EstimateError("there are no comparisons")
    if ridge > 0:
        return parts(matches.first, matches.second, matches.items)
    forth, back = matches.wins + matches.ties > 0, matches.losses + matches.ties > 0
    winner = np.concatenate([matches.first[forth], matches.second[back]])
    loser = np.concatenate([matches.second[forth], matches.first[back]])
    check_strongly_connected(winner, loser, matches.items)
    return np.zeros(matches.items, np.int64)


def start_strengths(matches: Matches, part: np.ndarray) -> np.ndarray:
    """Return where to start: the log-odds of each item's wins, as if its opponents were average."""
    lead = scatter(matches, matches.wins - matches.losses)
    total = matches.wins + matches.losses + matches.ties
    count = matches.items
    met = np.bincount(matches.first, total, count) + np.bincount(matches.second, total, count)
    share = lead / (met + 1.0)
    return centred(np.log1p(share) - np.log1p(-share), part)


def slope_of_gaps(
    matches: Matches,
    part: np.ndarray,
    strength: np.ndarray,
    ridge: float,
    by_gap: tuple[float, np.ndarray, np.ndarray],
) -> Slope:
    """Return the slope in the strengths from a cost and its first two derivatives by each pair's gap [pairs]."""
    cost, first, second = by_gap
    count = matches.items
    diagonal = np.bincount(matches.first, second, count) + np.bincount(matches.second, second, count) + ridge

    def product(vector: np.ndarray) -> np.ndarray:
        gap = vector[matches.first] - vector[matches.second]
        return scatter(matches, second * gap) + ridge * vector

    gradient = centred(scatter(matches, first) + ridge * strength, part)
    return Slope(float(cost + ridge / 2 * (strength @ strength)), gradient, product, diagonal)


def centred(values: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Take the mean of each part away: no cost depends on it, and rounding must not feed it."""
    sizes = np.bincount(part)
    means: np.ndarray = np.bincount(part, values) / sizes
    moved: np.ndarray = values - means[part]
    return moved


def inverse(information: np.ndarray, items: int, ridge: float) -> np.ndarray:
    """Return the pseudo-inverse; without ridge the first `items` parameters may shift together."""
    if ridge > 0:
        return np.linalg.inv(information)
    shift = np.zeros(len(information))
    shift[:items] = items**-0.5
    scale = float(np.diag(information).mean())
    gauge = np.outer(shift, shift)
    return np.linalg.inv(information + scale * gauge) - gauge / scale


def scatter(matches: Matches, values: np.ndarray) -> np.ndarray:
    """Add up values [pairs], plus at `first` and minus at `second`: float64 [items]."""
    count = matches.items
    sums: np.ndarray = np.bincount(matches.first, values, count) - np.bincount(matches.second, values, count)
    return sums


def laplacian(matches: Matches, weights: np.ndarray, ridge: float) -> np.ndarray:
    """Return the dense matrix of the quadratic form sum of w (x_i - x_j)^2 + ridge x^2: [items, items]."""
    dense = np.zeros((matches.items, matches.items))
    dense[matches.first, matches.second] = dense[matches.second, matches.first] = -weights
    np.fill_diagonal(dense, ridge - dense.sum(axis=1))
    return dense


def descend(
    slope_at: Callable[[np.ndarray], Slope], start: np.ndarray, *, model: str, tolerance: float, limit: int
) -> Descent:
    """Bring a convex cost down by Newton's method, with steps halved until it falls.

    Stops when a whole step moves no parameter by more than `tolerance`; what is then left is smaller by far.
    Raises: EstimateError after `limit` steps, or where the cost no longer falls, with the norm that was left.
    """
    point, slope = start, slope_at(start)
    moved = np.inf
    for taken in range(1, limit + 1):
        step = _solve(slope)
        scale, there = 1.0, slope_at(point - step)
        while not there.cost <= slope.cost + 1e-12 * abs(slope.cost) and scale > 1e-12:
            scale /= 2
            there = slope_at(point - scale * step)
        moved = float(np.abs(step).max(initial=0.0))
        point, slope = point - scale * step, there
        if moved <= tolerance:
            return Descent(point, slope, taken)
    left = float(np.abs(slope.gradient).max(initial=0.0))
    what = f"{model} did not converge in {limit} steps: the last was {moved:.2g} (at most {tolerance:.2g}), the gradient is {left:.2g}"
    raise EstimateError(what, hint="the optimum may be at infinity: give a ridge above 0")


def _solve(slope: Slope) -> np.ndarray:
    """Return Newton's step by conjugate gradients, preconditioned by the diagonal."""
    diagonal = np.maximum(slope.diagonal, np.finfo(np.float64).tiny)
    step, rest = np.zeros_like(slope.gradient), slope.gradient.copy()
    scaled = rest / diagonal
    way, size = scaled.copy(), float(rest @ scaled)
    enough = _FORCING**2 * size
    for _ in range(100 + 20 * len(rest)):
        if size <= enough:
            return step
        bent = slope.product(way)
        bend = float(way @ bent)
        if not bend > 0:  # rounding is all that is left
            return step
        step += (size / bend) * way
        rest -= (size / bend) * bent
        scaled = rest / diagonal
        before, size = size, float(rest @ scaled)
        way = scaled + (size / before) * way
    raise EstimateError(
        f"conjugate gradients did not converge in {100 + 20 * len(rest)} rounds: the norm is {size**0.5:.2g}",
        hint="give a ridge above 0",
    )


def _components(start: np.ndarray, end: np.ndarray, items: int, connection: str) -> np.ndarray:
    from scipy.sparse import coo_array  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    edges = coo_array((np.ones(len(start), np.int8), (start, end)), shape=(items, items))
    labels = connected_components(edges.tocsr(), connection=connection)[1]
    kinds, lowest, place = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(kinds), np.int64)
    rank[np.argsort(lowest)] = np.arange(len(kinds))
    numbered: np.ndarray = rank[place]
    return numbered


def _named(items: np.ndarray) -> str:
    listed = ", ".join(str(item) for item in items[:_SHOWN])
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return f"item{'s' if len(items) > 1 else ''} {listed}{more}"


def _checked(
    winner: np.ndarray, loser: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not len(winner) or len(winner) != len(loser):
        raise EstimateError(f"there are {len(winner)} winners and {len(loser)} losers")
    weight = np.ones(len(winner)) if weight is None else np.asarray(weight, np.float64)
    winner, loser = np.asarray(winner, np.int64), np.asarray(loser, np.int64)
    lowest = int(min(winner.min(), loser.min()))
    if lowest < 0:
        raise EstimateError(f"items are numbered from 0, got {lowest}")
    if len(weight) != len(winner) or not (np.isfinite(weight) & (weight >= 0)).all():
        raise EstimateError("weights must be one a comparison, finite and at least 0")
    alone = np.flatnonzero(winner == loser)
    if len(alone):
        raise EstimateError(f"comparison {alone[0]} is of item {winner[alone[0]]} with itself")
    return winner, loser, weight


def _table(counts: np.ndarray) -> np.ndarray:
    counts = np.array(counts, np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise EstimateError(f"counts must be items by items, got shape {counts.shape}")
    np.fill_diagonal(counts, 0.0)
    if not (np.isfinite(counts) & (counts >= 0)).all():
        raise EstimateError("counts must be finite and at least 0")
    return counts
