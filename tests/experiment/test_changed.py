"""Update sparsity: the worked numbers, what two runs changed, and number formats that hide small steps."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from prefkit.experiment.changed import changed, overlap


def model(*weights: Sequence[float]) -> torch.nn.Module:
    """A model that is nothing but weights."""
    parts = [torch.nn.Parameter(torch.tensor(each, dtype=torch.float32)) for each in weights]
    return torch.nn.ParameterList(parts)


def test_the_worked_numbers():
    # golden models_and_eval.json, sparsity
    found = changed(model([0.0, 5e-6, 1e-4, 0.0]), model([0.0, 0.0, 0.0, 0.0]))
    assert (found.same, found.within) == (0.5, 0.75)
    assert found.sample.tolist() == [False, True, True, False]


def test_a_model_is_as_it_was_against_itself():
    one = model([0.1, -2.0], [3.0])
    assert changed(one, one)[:3] == (1.0, 1.0, 1.0)
    assert not changed(one, one).sample.any()


def test_shares_count_weights_and_not_matrices():
    found = changed(model([0.0] * 9, [1.0]), model([0.0] * 9, [0.0]))
    assert found.same == pytest.approx(0.9)


def test_bfloat16_hides_steps_below_its_spacing():
    # around 0.02 it is 2^-13, about 1.22e-4
    before, small, large = 0.02, 0.02 + 3e-5, 0.02 + 2e-4
    found = changed(model([small, large]), model([before, before]))
    assert (found.same, found.within, found.half) == (0.0, 0.0, 0.5)
    assert found.sample.tolist() == [False, True]


def test_a_run_changed_the_weights_that_it_changed():
    mask = np.array([True, False, True, False, False])
    assert overlap(mask, mask) == (1.0, 0.4)


def test_overlap_is_a_share_of_the_first_and_chance_is_what_the_second_changed():
    one = np.array([True, True, True, True, False, False, False, False])
    other = np.array([True, False, False, False, True, False, False, False])
    assert overlap(one, other) == (0.25, 0.25)
    assert overlap(other, one) == (0.5, 0.5)


def test_runs_that_agree_by_chance_overlap_as_chance_says():
    draw = np.random.default_rng(0)
    one, other = draw.random((2, 1 << 20)) < np.array([[0.1], [0.3]])
    found, chance = overlap(one, other)
    assert chance == pytest.approx(0.3, abs=2e-3)
    assert found == pytest.approx(chance, abs=5e-3)


def test_overlap_is_unknown_where_nothing_changed():
    assert np.isnan(overlap(np.zeros(4, bool), np.ones(4, bool))).all()
