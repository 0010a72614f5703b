"""Pairing as pure functions, against worked examples and against a plain loop over prompts."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit import pairing
from prefkit.pairing import Pool


def pool_of(*prompts: list[float]) -> Pool:
    scores = np.array([score for prompt in prompts for score in prompt], np.float64)
    numbers = np.repeat(np.arange(len(prompts)), [len(prompt) for prompt in prompts])
    return Pool(numbers, scores, np.ones(len(scores), bool), np.ones(len(scores), bool))


def listed(matches: pairing.Matches) -> list[tuple[int, int]]:
    return list(zip(matches.chosen.tolist(), matches.rejected.tolist(), strict=True))


def test_tiers_are_the_ranks_of_five_responses():
    # golden data.json V01
    pool = pool_of([-2.0, -4.5, -3.1, -6.0, -5.2])
    assert listed(pairing.tiers(pool, "best", "worst")) == [(0, 3)]
    assert listed(pairing.tiers(pool, "high", "low")) == [(2, 4)]
    assert listed(pairing.tiers(pool, "medium", "worst")) == [(1, 3)]


def test_tiers_that_fall_on_one_response_make_no_match():
    assert listed(pairing.tiers(pool_of([2.0, 1.0]), "low", "worst")) == []
    assert listed(pairing.tiers(pool_of([2.0, 1.0]), "best", "medium")) == [(0, 1)]


def test_first_round_and_tournament_pair_in_the_order_of_the_pool():
    # golden data.json V02: accepted 0, 1, 3, 2 with rewards .9, .1, .8, .5
    accepted = np.array([0, 1, 3, 2])
    pool = pool_of([0.9, 0.1, 0.8, 0.5])
    first, all_rounds = listed(pairing.first_round(pool)), listed(pairing.tournament(pool))
    assert [(accepted[one], accepted[other]) for one, other in first] == [(0, 1), (3, 2)]
    assert [(accepted[one], accepted[other]) for one, other in all_rounds] == [(0, 1), (3, 2), (0, 3)]


def test_best_against_the_rest_goes_from_the_widest_gap():
    # golden data.json V08
    assert listed(pairing.best_rest(pool_of([5, 4, 3, 2]))) == [(0, 3), (0, 2), (0, 1)]


def test_all_pairs_go_from_the_widest_gap():
    # golden data.json V08
    wanted = [(0, 3), (0, 2), (1, 3), (0, 1), (1, 2), (2, 3)]
    assert listed(pairing.all_ranked(pool_of([5, 4, 3, 2]))) == wanted


def test_adjacent_and_fold_follow_the_ranking():
    # golden data.json V18
    pool = pool_of([0.733333, 0.516667, 0.183333, 0.566667])
    assert listed(pairing.adjacent(pool)) == [(0, 3), (3, 1), (1, 2)]
    assert listed(pairing.fold(pool)) == [(0, 2), (3, 1)]


def test_best_and_worst_of_a_beam():
    # golden data.json V26
    assert listed(pairing.best_worst(pool_of([0.3, 0.9, 0.1, 0.5]))) == [(1, 2)]


def test_a_random_other_is_strictly_worse():
    # golden data.json V25: mean aspects 4.5, 4.5, 2.666667, 4.5; only response 2 may be rejected
    pool = pool_of([4.5, 4.5, 2.666667, 4.5])
    texts = np.arange(4)[:, None]
    for draw in (np.array([0.1, 0.2, 0.9, 0.3]), np.array([0.9, 0.1, 0.8, 0.0])):
        assert listed(pairing.best_random(pool, draw, texts, strict=True)) == [(0, 2)]


def test_of_equal_scores_the_first_is_best_and_the_first_is_worst():
    assert listed(pairing.best_worst(pool_of([1, 3, 3, 1]))) == [(1, 0)]
    assert listed(pairing.best_second(pool_of([1, 3, 3, 1]))) == [(1, 2)]


def test_places_and_quantiles_are_of_the_prompt():
    pool = pool_of([1.0, 3.0, 2.0], [7.0])
    assert pairing.places(pool).tolist() == [2, 0, 1, 0]
    assert pairing.quantile(pool, 0.25).tolist() == [1.5, 1.5, 1.5, 7.0]


@pytest.mark.parametrize(
    "name", ["best_worst", "best_rest", "all_ranked", "adjacent", "fold", "tournament", "places"]
)
def test_an_empty_pool_gives_nothing(name):
    made = getattr(pairing, name)(pool_of())
    assert all(len(part) == 0 for part in (made if isinstance(made, tuple) else [made]))


scores = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=7)
prompts = st.lists(scores, min_size=1, max_size=5)


def ranking(prompt: list[float]) -> list[int]:
    return sorted(range(len(prompt)), key=lambda i: (-prompt[i], i))


def plain_best_worst(prompt: list[float]) -> list[tuple[int, int]]:
    best = ranking(prompt)[0]
    others = [i for i in range(len(prompt)) if i != best]
    return [(best, min(others, key=lambda i: (prompt[i], i)))] if others else []


def plain_best_rest(prompt: list[float]) -> list[tuple[int, int]]:
    best = ranking(prompt)[0]
    return [(best, i) for i in sorted(range(len(prompt)), key=lambda i: (prompt[i], i)) if i != best]


def plain_best_second(prompt: list[float]) -> list[tuple[int, int]]:
    return [tuple(ranking(prompt)[:2])] if len(prompt) > 1 else []


def plain_all(prompt: list[float]) -> list[tuple[int, int]]:
    ranked = ranking(prompt)
    found = [(one, other) for at, one in enumerate(ranked) for other in ranked[at + 1 :]]
    return sorted(found, key=lambda match: (prompt[match[1]] - prompt[match[0]], *match))


def plain_adjacent(prompt: list[float]) -> list[tuple[int, int]]:
    ranked = ranking(prompt)
    return list(pairwise(ranked))


def plain_fold(prompt: list[float]) -> list[tuple[int, int]]:
    ranked = ranking(prompt)
    return [(ranked[i], ranked[-1 - i]) for i in range(len(ranked) // 2)]


def plain_tournament(prompt: list[float]) -> list[tuple[int, int]]:
    found, alive = [], list(range(len(prompt)))
    while len(alive) > 1:
        played = [
            (a, b) if prompt[a] >= prompt[b] else (b, a)
            for a, b in zip(alive[::2], alive[1::2], strict=False)
        ]
        found += played
        alive = sorted([winner for winner, _ in played] + (alive[-1:] if len(alive) % 2 else []))
    return found


PLAIN = {
    pairing.best_worst: plain_best_worst,
    pairing.best_rest: plain_best_rest,
    pairing.best_second: plain_best_second,
    pairing.all_ranked: plain_all,
    pairing.adjacent: plain_adjacent,
    pairing.fold: plain_fold,
    pairing.tournament: plain_tournament,
}


@given(prompts)
def test_every_way_of_pairing_agrees_with_a_plain_loop(given_prompts):
    pool = pool_of(*given_prompts)
    starts = np.concatenate([[0], np.cumsum([len(prompt) for prompt in given_prompts])])
    assert len(PLAIN) == 7
    for fast, plain in PLAIN.items():
        wanted = [
            (int(start) + one, int(start) + other)
            for start, prompt in zip(starts, given_prompts, strict=False)
            for one, other in plain(prompt)
        ]
        assert listed(fast(pool)) == wanted, fast.__name__


@given(prompts)
def test_how_many_matches_each_way_makes(given_prompts):
    pool = pool_of(*given_prompts)
    sizes = [len(prompt) for prompt in given_prompts]
    assert len(pairing.first_round(pool).chosen) == sum(n // 2 for n in sizes)
    assert len(pairing.tournament(pool).chosen) == sum(n - 1 for n in sizes)
    assert len(pairing.adjacent(pool).chosen) == sum(n - 1 for n in sizes)
    assert len(pairing.fold(pool).chosen) == sum(n // 2 for n in sizes)
    assert len(pairing.all_ranked(pool).chosen) == sum(n * (n - 1) // 2 for n in sizes)


@given(prompts, st.integers(0, 2**16))
def test_the_random_other_is_never_the_best_and_does_not_see_other_prompts(given_prompts, seed):
    pool = pool_of(*given_prompts)
    draw = np.random.default_rng(seed).random(len(pool.score))
    texts = np.arange(len(pool.score))[:, None]
    made = pairing.best_random(pool, draw, texts, strict=False)
    assert (made.chosen != made.rejected).all()
    first = pool.prompt == 0
    alone = pairing.best_random(
        Pool(*(part[first] for part in pool)), draw[first], texts[first], strict=False
    )
    assert listed(alone) == [match for match in listed(made) if pool.prompt[match[0]] == 0]


@given(prompts, st.integers(0, 2**16))
def test_roles_are_kept(given_prompts, seed):
    pool = pool_of(*given_prompts)
    rng = np.random.default_rng(seed)
    pool = pool._replace(
        can_win=rng.random(len(pool.score)) < 0.5, can_lose=rng.random(len(pool.score)) < 0.5
    )
    for way in (*PLAIN, pairing.first_round):
        made = way(pool)
        assert pool.can_win[made.chosen].all(), way.__name__
        assert pool.can_lose[made.rejected].all(), way.__name__
        assert (pool.prompt[made.chosen] == pool.prompt[made.rejected]).all(), way.__name__
        assert (np.diff(pool.prompt[made.chosen]) >= 0).all(), way.__name__


@given(prompts, st.sampled_from(["best", "high", "medium"]), st.sampled_from(["medium", "low", "worst"]))
def test_a_tier_never_loses_to_a_lower_one(given_prompts, chosen, rejected):
    pool = pool_of(*given_prompts)
    made = pairing.tiers(pool, chosen, rejected)
    assert (pool.score[made.chosen] >= pool.score[made.rejected]).all()
    assert (made.chosen != made.rejected).all()
