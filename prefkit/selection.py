"""Selection: which of a prompt's candidates are kept, as pure functions of arrays.

Candidates of one prompt are adjacent; `starts` says where each prompt's begin. What is kept has an order of its own, and
whoever pairs in turn (`first-round`, `tournament`) pairs in that order.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["Kept", "best_of", "rejection_sampled"]


class Kept(NamedTuple):
    """What became of each candidate. Every array is [candidates]."""

    place: np.ndarray
    """Its place among those kept of its prompt, from 0; -1 where it is not kept. int64."""
    passes: np.ndarray
    """In which pass it was accepted, from 1; 0 where it was not. int64."""
    chance: np.ndarray
    """How likely it was to be accepted in that pass, or in the last one it went through; NaN if it went through none."""


def rejection_sampled(
    rewards: np.ndarray,
    starts: np.ndarray,
    n: int,
    beta: float,
    draws: Callable[[int], np.ndarray],
) -> Kept:
    """Accept up to `n` candidates of each prompt as if they came from the optimal policy of these rewards.

    In a pass, each candidate that is left is accepted with chance `exp((reward - highest reward left) / beta)`, in turn,
    until `n` are. The best one left is always accepted, so there are at most `n` passes.

    Shapes: `rewards` finite, float64 [candidates]; `starts` int64 [prompts], rising from 0. `draws` takes the number of a
    pass, from 0, and returns one uniform number a candidate.
    Source: Liu et al. (2024), Statistical Rejection Sampling Improves Preference Optimization, algorithm 1, with the
    highest reward of a pass found before it, and no pass over an empty pool.
    """
    prompt = _prompts(len(rewards), starts)
    place, passes = np.full(len(rewards), -1), np.zeros(len(rewards), np.int64)
    chance, kept = np.full(len(rewards), np.nan), np.zeros(len(starts), np.int64)
    left = np.arange(len(rewards))
    turn = 0
    while len(left):
        where = prompt[left]
        highest = np.full(len(starts), -np.inf)
        np.maximum.at(highest, where, rewards[left])
        odds = np.exp((rewards[left] - highest[where]) / beta)
        accepted = draws(turn)[left] < odds
        before = np.cumsum(accepted) - accepted
        first = np.searchsorted(where, where)
        at = kept[where] + before - before[first]  # the place it takes, or would
        gone_through = at < n
        accepted &= gone_through
        chance[left[gone_through]] = odds[gone_through]
        place[left[accepted]], passes[left[accepted]] = at[accepted], turn + 1
        kept += np.bincount(where[accepted], minlength=len(starts))
        left = left[~accepted & (kept[where] < n)]
        turn += 1
    return Kept(place, passes, chance)


def best_of(rewards: np.ndarray, starts: np.ndarray, n: int) -> Kept:
    """Keep the `n` candidates of each prompt with the highest rewards, best first; of equal ones the first.

    Shapes as for `rejection_sampled`.
    """
    prompt = _prompts(len(rewards), starts)
    order = np.lexsort((np.arange(len(rewards)), -rewards, prompt))
    place = np.empty(len(rewards), np.int64)
    place[order] = np.arange(len(rewards)) - starts[prompt[order]]
    is_kept = place < n
    chance = np.where(is_kept, 1.0, 0.0)
    return Kept(np.where(is_kept, place, -1), is_kept.astype(np.int64), chance)


def _prompts(count: int, starts: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, count)))
    return found
