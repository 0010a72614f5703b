"""Several metrics at once, and rates."""

import numpy as np
import pytest

from prefkit.comparing.several import holm, mcnemar


def test_the_worked_examples():
    # golden models_and_eval.json, holm and mcnemar
    assert holm(np.array([0.01, 0.04, 0.03, 0.2])) == pytest.approx([0.04, 0.09, 0.09, 0.2])
    assert mcnemar(18, 9) == pytest.approx(0.122078, abs=1e-6)
    assert mcnemar(0, 0) == 1.0


def test_any_false_finding_among_ten_metrics_happens_once_in_twenty():
    p = np.random.default_rng(0).random((4000, 10))
    assert 0.04 <= np.mean([holm(one).min() < 0.05 for one in p]) <= 0.06


def test_a_metric_that_was_not_measured_costs_nothing():
    told = holm(np.array([0.01, np.nan, 0.04]))
    assert told[[0, 2]] == pytest.approx([0.02, 0.04])
    assert np.isnan(told[1])
