from collections import Counter

import numpy as np
import pytest

from prefkit.judging.measures import measured, share_of
from prefkit.judging.tasks import Ask, Outcome, Side
from prefkit.statistics.figures import share_interval


def outcome(group, first, second, value, sample=0):
    sides = (Side(first, "x" * len(first)), Side(second, "x" * len(second)))
    return Outcome(Ask(group, "p", sides, sample), value)


def test_both_orders_of_a_pair_are_compared():
    told = measured(
        [
            outcome(0, "a", "bb", "first"),
            outcome(0, "bb", "a", "second"),
            outcome(1, "a", "bb", "first"),
            outcome(1, "bb", "a", "first"),
            outcome(2, "a", "bb", "tie"),
            outcome(2, "bb", "a", "tie"),
            outcome(3, "a", "bb", "tie"),
            outcome(3, "bb", "a", None),
        ]
    )
    assert (told["orders/count"], told["orders/of"]) == (2, 3)
    assert (told["first/count"], told["first/of"]) == (3, 4)
    assert (told["ties/count"], told["ties/of"]) == (3, 7)
    assert (told["unread/count"], told["unread/of"]) == (1, 8)
    assert (told["longer/count"], told["longer/of"]) == (1, 4)


def test_repeats_compare_each_sample_with_the_one_before():
    told = measured(
        [outcome(0, "a", "b", value, at) for at, value in enumerate(["first", "first", "second"])]
    )
    assert (told["repeats/count"], told["repeats/of"]) == (1, 2)


def test_a_ranking_is_a_verdict_on_every_two():
    sides = tuple(Side(name, "x") for name in "abc")
    told = measured([Outcome(Ask(0, "p", sides), (2, 0, 1)), Outcome(Ask(0, "p", sides[::-1]), (0, 2, 1))])
    assert (told["first/count"], told["first/of"]) == (3, 6)
    assert (told["orders/count"], told["orders/of"]) == (3, 3)


def test_counts_add_up_over_shards():
    outcomes = [outcome(at // 3, "a", "b", "first" if at % 2 else "second", at % 3) for at in range(30)]
    halves = Counter(measured(outcomes[:15])) + Counter(measured(outcomes[15:]))
    assert halves == measured(outcomes)


def test_an_interval_covers_the_share_that_groups_of_verdicts_are_drawn_from():
    """200 sets of 60 prompts with 6 verdicts each; half of the prompts lean one way and half the other."""
    rng = np.random.default_rng(5)
    covered = naive = 0
    for _ in range(200):
        lean = np.where(rng.random(60) < 0.5, 0.1, 0.9)
        firsts = rng.random((60, 6)) < lean[:, None]
        told = measured(
            [
                outcome(group, "a", "b", "first" if is_first else "second", at)
                for group, row in enumerate(firsts)
                for at, is_first in enumerate(row)
            ]
        )
        share = share_of(told, "first")
        inside, alone = share_interval(share), share_interval(share.model_copy(update={"effective": share.n}))
        covered += inside.low <= 0.5 <= inside.high
        naive += alone.low <= 0.5 <= alone.high
    assert covered >= 184
    assert naive < 150


def test_a_judge_without_answers_has_no_shares():
    assert share_of({}, "first").rate is None
    assert share_of(measured([outcome(0, "a", "b", "first")]), "first").effective == pytest.approx(1.0)
