"""The report is a pure function of its numbers."""

import numpy as np
import pytest

from prefkit.train.report import Measured, change, doubts, interval, thin


def test_an_interval_is_over_prompts_not_over_rows() -> None:
    found = interval(Measured(np.array([1.0, 1.0, 1.0, 0.0, 0.5]), ["a", "a", "a", "b", "c"]))
    assert found.prompts == 3
    assert found.mean == pytest.approx(0.5)
    assert found.high == pytest.approx(0.5 + 1.96 * 0.5 / 3**0.5, abs=1e-3)


def test_one_prompt_has_no_interval() -> None:
    found = interval(Measured(np.array([1.0, 2.0]), ["a", "a"]))
    assert (found.mean, found.low, found.high) == (1.5, None, None)


def test_a_change_is_paired_on_the_prompts_that_both_have() -> None:
    before = Measured(np.array([1.0, 5.0, 9.0]), ["a", "b", "c"])
    after = Measured(np.array([6.0, 2.0, 2.0]), ["b", "a", "a"])
    found = change(before, after)
    assert found.difference.prompts == 2
    assert found.difference.mean == 1.0
    assert found.difference.low == found.difference.high == 1.0


def test_a_long_curve_is_thinned_and_a_short_one_kept() -> None:
    assert thin([3.0, 2.0, 1.0]) == [(0, 3.0), (1, 2.0), (2, 1.0)]
    long = thin([float(at) for at in range(1000)], points=10)
    assert long[0] == (0, 49.5)
    assert [start for start, _ in long] == list(range(0, 1000, 100))


def test_an_accuracy_like_a_coins_is_doubted() -> None:
    def steps(accuracy: float, count: int = 20) -> list[dict[str, float]]:
        return [{"accuracy": accuracy, "pairs": 64}] * count

    (doubt,) = doubts(steps(0.51))
    assert "stays at 0.510 over the last 640 pairs" in doubt
    assert doubts(steps(0.6)) == []
    assert doubts(steps(0.4)) == []  # worse than a coin is no coin
    assert doubts(steps(0.5, count=4)) == []  # too short to tell
    assert doubts([*steps(0.5), *steps(0.9)]) == []
