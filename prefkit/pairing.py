"""Pairing: which responses of a prompt meet, as pure functions of arrays.

A *pool* holds the responses that may take part, prompt after prompt, in the order of their index. Each way of pairing
proposes matches from it, prompt after prompt; what a proposal must fulfil besides (a margin, a length ratio, different
texts) is the caller's business, so that `best-worst` always means the best and the worst.

Equal scores go by the order of the pool: of two best responses the first is the best, of two worst the first is the
worst. Everything is vectorised over all prompts at once; the only loop is over the rounds of a tournament.
"""

from typing import NamedTuple

import numpy as np

__all__ = [
    "Matches",
    "Pool",
    "adjacent",
    "all_ranked",
    "best_random",
    "best_rest",
    "best_second",
    "best_worst",
    "first_round",
    "fold",
    "places",
    "quantile",
    "tiers",
    "tournament",
]

TIERS = {"best": 0.0, "high": 0.25, "medium": 0.5, "low": 0.75, "worst": 1.0}


class Pool(NamedTuple):
    """Responses that may be paired. Every array is [responses]; the prompts' numbers never fall."""

    prompt: np.ndarray
    """Number of the prompt, int64, from 0."""
    score: np.ndarray
    """Finite, higher is better, float64."""
    can_win: np.ndarray
    """Whether it may be chosen, bool."""
    can_lose: np.ndarray
    """Whether it may be rejected, bool."""


class Matches(NamedTuple):
    """Proposed pairs: positions in the pool, int64 [pairs], prompt after prompt."""

    chosen: np.ndarray
    rejected: np.ndarray


def best_worst(pool: Pool) -> Matches:
    """Match the best response with the worst of the others."""
    best = _first(pool, _falling(pool), pool.can_win)
    worst = _first(pool, _rising(pool), pool.can_lose & _is_other(pool, best))
    return _both(best, worst)


def best_second(pool: Pool) -> Matches:
    """Match the best response with the best of the others."""
    best = _first(pool, _falling(pool), pool.can_win)
    second = _first(pool, _falling(pool), pool.can_lose & _is_other(pool, best))
    return _both(best, second)


def best_rest(pool: Pool) -> Matches:
    """Match the best response with every other, widest gap first."""
    best = _first(pool, _falling(pool), pool.can_win)
    order = _rising(pool)
    rest = order[(pool.can_lose & _is_other(pool, best))[order]]
    winners = best[pool.prompt[rest]]
    return Matches(winners[winners >= 0], rest[winners >= 0])


def best_random(pool: Pool, draw: np.ndarray, texts: np.ndarray, *, strict: bool) -> Matches:
    """Match the best response with the one of the others that drew the lowest number.

    One that has the text of the best, or if `strict` its score, takes part only where there is no other.
    `draw` is uniform in [0, 1), [responses]; `texts` [responses, k] has equal rows for equal texts.
    """
    best = _first(pool, _falling(pool), pool.can_win)
    top = best[pool.prompt]
    unfit = (texts == texts[top]).all(axis=1) | (strict & (pool.score >= pool.score[top]))
    order = np.lexsort((draw, unfit, pool.prompt))
    return _both(best, _first(pool, order, pool.can_lose & _is_other(pool, best)))


def all_ranked(pool: Pool) -> Matches:
    """Match each response with each one ranked below it, widest gap first, then in the order of the pool."""
    order = _falling(pool)
    prompt = pool.prompt[order]
    counts = _counts(prompt)
    partners = np.repeat(counts, counts) - 1 - _ranks(prompt)
    upper = np.repeat(np.arange(len(order)), partners)
    step = np.arange(len(upper)) - np.repeat(np.cumsum(partners) - partners, partners)
    matches = _allowed(pool, order[upper], order[upper + 1 + step])
    gap = pool.score[matches.chosen] - pool.score[matches.rejected]
    widest = np.lexsort((matches.rejected, matches.chosen, -gap, pool.prompt[matches.chosen]))
    return Matches(matches.chosen[widest], matches.rejected[widest])


def adjacent(pool: Pool) -> Matches:
    """Match neighbours in the ranking, from the top: n - 1 matches."""
    order = _falling(pool)
    here = np.flatnonzero(pool.prompt[order][:-1] == pool.prompt[order][1:])
    return _allowed(pool, order[here], order[here + 1])


def fold(pool: Pool) -> Matches:
    """Match best with worst, second best with second worst, and so on: n // 2 matches."""
    order = _falling(pool)
    prompt = pool.prompt[order]
    counts, ranks = _counts(prompt), _ranks(prompt)
    mirror = np.repeat(counts, counts) - 1 - ranks
    upper = np.flatnonzero(ranks < mirror)
    return _allowed(pool, order[upper], order[upper + mirror[upper] - ranks[upper]])


def tiers(pool: Pool, chosen: str, rejected: str) -> Matches:
    """Match two tiers of the ranking: `best`, `high`, `medium`, `low`, `worst`, a quarter of it apart.

    The nearest rank counts, a half towards the worse. Where both tiers fall on one response there is no match.
    Source: What Matters in Data for DPO? (2025), with five responses a prompt.
    """
    order = _falling(pool)
    prompt = pool.prompt[order]
    counts = _counts(prompt)
    starts = np.cumsum(counts) - counts
    above = np.floor(TIERS[chosen] * (counts - 1) + 0.5).astype(np.int64)
    below = np.floor(TIERS[rejected] * (counts - 1) + 0.5).astype(np.int64)
    apart = above < below
    return _allowed(pool, order[(starts + above)[apart]], order[(starts + below)[apart]])


def first_round(pool: Pool) -> Matches:
    """Match the first with the second, the third with the fourth, and so on; the higher score wins.

    Source: Statistical Rejection Sampling Improves Preference Optimization (2024), "first-round rank".
    """
    one, other = _neighbours(pool, np.arange(len(pool.prompt)))
    return _decided(pool, one, other)


def tournament(pool: Pool) -> Matches:
    """Match as in the first round, then the winners, until one is left: n - 1 matches; the odd one has a bye.

    Source: Statistical Rejection Sampling Improves Preference Optimization (2024), "tournament rank".
    """
    rounds, alive = [], np.arange(len(pool.prompt))
    while True:
        one, other = _neighbours(pool, alive)
        if not len(one):
            break
        played = _winners(pool, one, other)
        rounds.append(played)
        alive = np.setdiff1d(alive, played.rejected, assume_unique=True)
    chosen = np.concatenate([np.zeros(0, np.int64), *(played.chosen for played in rounds)])
    rejected = np.concatenate([np.zeros(0, np.int64), *(played.rejected for played in rounds)])
    by_prompt = np.argsort(pool.prompt[chosen], kind="stable")
    return _allowed(pool, chosen[by_prompt], rejected[by_prompt])


def places(pool: Pool) -> np.ndarray:
    """Return the place of each response in its prompt's ranking, best 0: int32 [responses]."""
    order = _falling(pool)
    found = np.empty(len(order), np.int32)
    found[order] = _ranks(pool.prompt[order])
    return found


def quantile(pool: Pool, share: float) -> np.ndarray:
    """Return each prompt's quantile of scores, linear between neighbours, at each response: float64 [responses]."""
    order = _rising(pool)
    counts = _counts(pool.prompt)
    starts = np.cumsum(counts) - counts
    at = share * (counts - 1)
    below = np.floor(at).astype(np.int64)
    scores = pool.score[order]
    low, high = scores[starts + below], scores[starts + np.minimum(below + 1, counts - 1)]
    return np.repeat(low + (at - below) * (high - low), counts)


def _falling(pool: Pool) -> np.ndarray:
    return np.lexsort((-pool.score, pool.prompt))  # stable: equal scores keep the pool's order


def _rising(pool: Pool) -> np.ndarray:
    return np.lexsort((pool.score, pool.prompt))


def _counts(prompt: np.ndarray) -> np.ndarray:
    """Return how many responses each prompt that is there has; `prompt` never falls."""
    edges = np.flatnonzero(np.diff(prompt)) + 1
    if not len(prompt):
        return np.zeros(0, np.int64)
    return np.array(np.diff(np.concatenate([[0], edges, [len(prompt)]])))


def _ranks(prompt: np.ndarray) -> np.ndarray:
    counts = _counts(prompt)
    ranks: np.ndarray = np.arange(len(prompt)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


def _first(pool: Pool, order: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Return the first allowed response of each prompt in this order, or -1: int64 [highest prompt + 1]."""
    found = np.full(int(pool.prompt[-1]) + 1 if len(pool.prompt) else 0, -1, np.int64)
    ordered = order[allowed[order]][::-1]
    found[pool.prompt[ordered]] = ordered  # reversed, so that the first is written last
    return found


def _is_other(pool: Pool, best: np.ndarray) -> np.ndarray:
    is_other: np.ndarray = best[pool.prompt] != np.arange(len(pool.prompt))
    return is_other


def _both(winners: np.ndarray, losers: np.ndarray) -> Matches:
    there = (winners >= 0) & (losers >= 0)
    return Matches(winners[there], losers[there])


def _allowed(pool: Pool, chosen: np.ndarray, rejected: np.ndarray) -> Matches:
    kept = pool.can_win[chosen] & pool.can_lose[rejected]
    return Matches(chosen[kept], rejected[kept])


def _neighbours(pool: Pool, alive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ranks = _ranks(pool.prompt[alive])
    here = np.flatnonzero((ranks[:-1] % 2 == 0) & (ranks[1:] == ranks[:-1] + 1))
    return alive[here], alive[here + 1]


def _winners(pool: Pool, one: np.ndarray, other: np.ndarray) -> Matches:
    wins = pool.score[one] >= pool.score[other]
    return Matches(np.where(wins, one, other), np.where(wins, other, one))


def _decided(pool: Pool, one: np.ndarray, other: np.ndarray) -> Matches:
    played = _winners(pool, one, other)
    return _allowed(pool, played.chosen, played.rejected)
