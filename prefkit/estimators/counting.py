"""Counting: majority, win rates, Copeland's and Borda's counts, and the circles that no order of items can explain.

Counts need no model and no convergence, but a win rate depends on whom an item met: between items that met different
opponents only a fitted strength compares (`bradley_terry.py`). Missing is NaN, and never even.
"""

from typing import Literal

import numpy as np

from prefkit.errors import EstimateError
from prefkit.estimators.graph import Matches, strong_parts
from prefkit.estimators.plackett_luce import Rankings
from prefkit.estimators.preference import vote_share

__all__ = ["borda", "copeland", "cyclic_groups", "majority", "pair_shares", "win_rates"]

_ROUNDING = 1e-9  # .6 is not within .1 of one half


def majority(
    wins: np.ndarray,
    losses: np.ndarray,
    ties: np.ndarray,
    *,
    count_ties: Literal["half", "drop", "class"] = "half",
    band: float = 0.0,
) -> np.ndarray:
    """Return what most votes say of each pair: 1 won, -1 lost, 0 a tie, NaN where there is no vote.

    Shapes: all [pairs], weights of votes. Ties count as `half` a vote for each side, or are `drop`ped (NaN if there
    is nothing else), or are a `class` of their own: a tie is what neither side outnumbers, nor the two when they are
    level. With `half` and `drop` a share of wins within `band` of one half is a tie too.
    """
    if not 0 <= band < 0.5:
        raise EstimateError(f"the band must be at least 0 and below one half, got {band}")
    if count_ties == "class":
        leads = np.sign(wins - losses) * (np.maximum(wins, losses) > ties)
        return _told(wins + losses + ties > 0, leads)
    share = vote_share(wins, ties if count_ties == "half" else np.zeros_like(ties), losses)
    return _told(np.isfinite(share), np.sign(share - 0.5) * (np.abs(share - 0.5) > band + _ROUNDING))


def pair_shares(matches: Matches, pseudo: float = 0.0) -> np.ndarray:
    """Return the share of each pair's comparisons that `first` won, ties counting half: float64 [pairs].

    `pseudo` is votes made up for either side; 0.5 keeps one vote from being a certainty.
    """
    return vote_share(matches.wins, matches.ties, matches.losses, pseudo)


def win_rates(matches: Matches, pseudo: float = 0.0) -> np.ndarray:
    """Return the mean of an item's shares over the opponents it met, NaN if it met none: float64 [items].

    Where all met all it orders items as Borda's count of comparisons does.
    """
    share, count = pair_shares(matches, pseudo), matches.items
    sums = np.bincount(matches.first, share, count) + np.bincount(matches.second, 1 - share, count)
    met = np.bincount(matches.first, minlength=count) + np.bincount(matches.second, minlength=count)
    with np.errstate(invalid="ignore"):
        rates: np.ndarray = sums / met
    return rates


def copeland(matches: Matches) -> np.ndarray:
    """Return how many opponents an item beat by majority, less how many beat it, NaN if it met none: [items]."""
    sign, count = np.sign(matches.wins - matches.losses), matches.items
    score = np.bincount(matches.first, sign, count) - np.bincount(matches.second, sign, count)
    met = np.bincount(matches.first, minlength=count) + np.bincount(matches.second, minlength=count)
    return _told(met > 0, score)


def borda(rankings: Rankings) -> np.ndarray:
    """Return the mean of (length - rank) / (length - 1) over the rankings an item is in: float64 [items].

    Ranks are from 1; entries below the ordered ones share their mean rank. NaN for items in no ranking of two or more.
    """
    length = np.repeat(rankings.lengths, rankings.lengths)
    ordered = np.repeat(rankings.ordered, rankings.lengths)
    start = np.repeat(np.cumsum(rankings.lengths) - rankings.lengths, rankings.lengths)
    rank = np.arange(len(rankings.item)) - start + 1
    rank = np.where(rank > ordered, (ordered + 1 + length) / 2, rank)
    there = length > 1
    points = (length - rank)[there] / (length - 1)[there]
    item, count = rankings.item[there], rankings.items
    with np.errstate(invalid="ignore"):
        means: np.ndarray = np.bincount(item, points, count) / np.bincount(item, minlength=count)
    return means


def cyclic_groups(matches: Matches) -> tuple[tuple[int, ...], ...]:
    """Return the groups of items of which each beats each by majorities in a chain: Condorcet's circles.

    No strengths can explain all majorities within a group. Ties are no majority.
    """
    forth, back = matches.wins > matches.losses, matches.losses > matches.wins
    winner = np.concatenate([matches.first[forth], matches.second[back]])
    loser = np.concatenate([matches.second[forth], matches.first[back]])
    part = strong_parts(winner, loser, matches.items)
    large = np.flatnonzero(np.bincount(part) > 1)
    return tuple(tuple(np.flatnonzero(part == number).tolist()) for number in large)


def _told(there: np.ndarray, values: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.where(there, values, np.nan)
    return result
