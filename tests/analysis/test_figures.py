"""Analysers against worked examples, and what must hold of each whatever the data."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.analysis.agreement import cohen, krippendorff
from prefkit.analysis.blocks import BLOCKS, blocks_of, jackknifed
from prefkit.analysis.cells import CELLS, cells
from prefkit.analysis.coverage import best_rank, coverage, on_policy
from prefkit.analysis.cycles import on_cycle
from prefkit.analysis.factors import effects, gap, tau, total_variation
from prefkit.analysis.findings import filed, read
from prefkit.analysis.shortcut import held_out_scores, shortcut
from prefkit.analysis.strength import profile, strength
from prefkit.statistics.figures import Estimate

ALONE = np.arange(1000)
NAN = math.nan


def test_cells_of_the_worked_example():
    # golden data.json V01
    found = cells(np.array([-2.5, -5, -3, -6.4]), np.array([-6.5, -8.4, -4, -7.9]))
    assert (found.median_chosen, found.median_gap) == (-4.0, pytest.approx(2.45))
    assert [CELLS[at] for at in found.cell] == ["wide-good", "wide-poor", "narrow-good", "narrow-poor"]


def test_cells_with_equal_gaps_have_no_narrow_pair_and_missing_scores_no_cell():
    assert cells(np.array([1.0, 2, NAN]), np.array([0.0, 1, 0])).cell.tolist() == [1, 0, -1]
    assert cells(np.array([NAN]), np.array([1.0])).cell.tolist() == [-1]


def test_coverage_of_the_worked_example():
    # golden data.json V03
    one = on_policy(np.array([-0.2, -1.0, -0.4]), np.array([-0.5, -1.2, -0.9]))
    assert np.allclose(one, (-0.533333, 1.704605, 1.0, -0.333333, 0.073328), atol=1e-6)
    found = coverage(np.array([1.0, 0.0, -2.0, 0.5]))
    assert found is not None
    assert np.allclose(found, (2.721254, 0.680313, 1.0, 0.75, 1.469911), atol=1e-6)
    assert math.exp(found.largest) == pytest.approx(2.718282, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-700, 700), min_size=1, max_size=20), st.floats(-300, 300))
def test_effective_size_is_between_one_and_all_and_ignores_a_constant(ratios, shift):
    found, moved = coverage(np.array(ratios)), coverage(np.array(ratios) + shift)
    assert found is not None
    assert moved is not None
    assert 1 - 1e-9 <= found.effective <= len(ratios) + 1e-9
    assert found.effective == pytest.approx(moved.effective, rel=1e-6)


def test_the_place_of_the_best_response_under_the_reference():
    score = np.array([1.0, 3, 2, 5, NAN, 1])
    logp = np.array([-1.0, -9, -2, -3, -1, -2])
    assert best_rank(score, logp, np.array([0, 0, 0, 1, 1, 2])).tolist() == [2, 0, 0]


def test_krippendorff_and_kappa_of_worked_examples():
    # golden models_and_eval.json krippendorff
    votes = np.array([[0, 0, 1, 1, 0, 1], [0, 0, 1, 1, 0, 0], [1, 0, 0, 1, 1, 1]], float).T
    assert krippendorff(votes) == pytest.approx(0.160494, abs=1e-6)
    # Krippendorff's own example with gaps: 0.743 nominal, 0.815 ordinal, 0.849 interval
    n = NAN
    table = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, n, n, n],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, n, 3],
            [n, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, n],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, n],
        ]
    ).T
    found = [krippendorff(table, scale) for scale in ("nominal", "ordinal", "interval")]
    assert found == pytest.approx([0.743, 0.815, 0.849], abs=5e-4)
    assert cohen(
        np.array([0] * 25 + [1] * 25), np.array([0] * 20 + [1] * 5 + [0] * 10 + [1] * 15)
    ) == pytest.approx(0.4)
    assert cohen(np.array([0, 1, 2, -1]), np.array([0, 1, 2, 1]), "quadratic") == 1.0


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 2.0, NAN]), min_size=3, max_size=3), min_size=2, max_size=12
    ),
    st.randoms(),
)
def test_alpha_is_at_most_one_and_knows_no_order_of_raters_or_items(rows, random):
    ratings = np.array(rows)
    found = [krippendorff(ratings, scale) for scale in ("nominal", "ordinal", "interval")]
    assert all(math.isnan(each) or each <= 1 + 1e-12 for each in found)
    shuffled = [random.sample(row, 3) for row in random.sample(rows, len(rows))]
    again = [krippendorff(np.array(shuffled), scale) for scale in ("nominal", "ordinal", "interval")]
    assert again == pytest.approx(found, nan_ok=True)


def test_agreement_of_one_rater_is_undefined():
    assert math.isnan(krippendorff(np.array([[1.0, NAN], [NAN, 2.0]])))
    assert math.isnan(krippendorff(np.ones((3, 2))))
    assert math.isnan(cohen(np.array([-1]), np.array([0])))


def test_tau_of_worked_examples():
    # golden data.json V24, models_and_eval.json factor_tau
    preferred = np.array([1, 1, -1, 1, -1, 1, 0])
    difference = np.array([1.0, 1, -1, -1, 0, 1, 1])
    found = tau(difference, preferred, ALONE[:7])
    assert (found.value, found.n) == (0.5, 6)
    assert tau(-difference, preferred, ALONE[:7]).value == -0.5
    assert tau(np.array([5.0, -2, 3, 0, 1, -1]), np.ones(6), ALONE[:6]).value == pytest.approx(
        1 / 6, abs=1e-5
    )
    assert tau(np.zeros(4), np.ones(4), ALONE[:4]).value is None


def test_gaps_and_total_variation():
    # golden models_and_eval.json value_gap
    assert total_variation(np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])) == pytest.approx(0.3)
    found = gap(np.array([1.0, 2, NAN]), np.array([0.0, 0, 0]), ALONE[:3])
    assert (found.value, found.n) == (1.5, 2)


def test_effects_tell_what_decides_from_what_goes_along():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 1))
    both = np.concatenate([x, x + 0.5 * rng.normal(size=(4000, 1))], axis=1)
    sign = np.where(rng.random(4000) < 1 / (1 + np.exp(-2 * x[:, 0])), 1.0, -1.0)
    found = effects(both * sign[:, None], np.arange(4000))
    assert found.head[0] == pytest.approx(2.0, abs=4 * found.error[0])
    assert abs(found.head[1]) < 4 * found.error[1]
    assert 0.03 < found.error[0] < 0.2


def test_strength_of_the_worked_example():
    # golden models_and_eval.json strength
    found = strength(np.array([[1.2, 0.8, 1.0], [-0.5, 0.1, -0.2], [0.05, -0.02, 0.0]]))
    assert np.allclose(found.mean, [1.0, -0.2, 0.01])
    assert np.allclose(found.std, [0.163299, 0.244949, 0.029439], atol=1e-6)
    bands = profile(found, 3)
    assert [band.n for band in bands] == [1, 1, 1]
    assert [band.mean for band in bands] == pytest.approx([-0.2, 0.01, 1.0])
    assert np.isnan(strength(np.array([[1.0, NAN]])).agree).all()


def test_cycles_are_found_and_chains_are_not():
    assert on_cycle(np.array([0, 1, 2, 3]), np.array([1, 2, 0, 0])).tolist() == [True, True, True, False]
    assert on_cycle(np.array([0, 1]), np.array([1, 2])).tolist() == [False, False]
    assert on_cycle(np.array([], np.int64), np.array([], np.int64)).tolist() == []


def test_a_shortcut_is_seen_where_there_is_one_and_not_where_there_is_none():
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(2000, 6))
    fold = ALONE.repeat(2) % 5
    nothing = shortcut(noise, fold, np.arange(2000))
    assert nothing.auc.low is not None
    assert nothing.auc.low < 0.5 < (nothing.auc.high or 0)
    planted = noise + np.array([1.0, 0, 0, 0, 0, 0])
    found = shortcut(planted, fold, np.arange(2000))
    # two normal variables, 2 apart with deviation sqrt 2: P = Phi(2 / sqrt 2)
    assert found.auc.value == pytest.approx(0.921, abs=0.02)


def test_the_shortcut_does_not_see_the_fold_it_is_asked_about():
    difference = np.zeros((40, 40)) + np.eye(
        40
    )  # a feature of its own for each pair: known only by having seen it
    assert held_out_scores(difference, np.arange(40) % 4).tolist() == [0.0] * 40
    assert held_out_scores(difference, np.zeros(40, np.int64)).tolist() == [0.0] * 40


def test_turning_every_pair_round_leaves_the_shortcut_as_strong():
    rng = np.random.default_rng(2)
    difference = rng.normal(0.3, 1, size=(300, 3))
    fold, groups = np.arange(300) % 5, np.arange(300)
    one, other = shortcut(difference, fold, groups), shortcut(-difference, fold, groups)
    assert one.auc == other.auc


def test_the_jackknife_gives_the_error_of_a_mean():
    rng = np.random.default_rng(3)
    values = rng.normal(size=4000)
    found = jackknifed(lambda rows: float(values[rows].mean()), np.arange(4000) % BLOCKS)
    assert found.high is not None
    assert found.value is not None
    assert (found.high - found.value) / 2.023 == pytest.approx(1 / math.sqrt(4000), rel=0.4)
    assert jackknifed(lambda rows: 1.0, np.zeros(3, np.int64)) == Estimate(value=1.0, n=3)
    assert blocks_of(["a", "b", "a", None]).tolist()[0] == blocks_of(["a"])[0]


def test_findings_survive_being_filed():
    told = {"length/auc": Estimate(value=0.123457, low=-0.5, high=2.0, n=12), "x/none": Estimate(n=3)}
    assert read({**filed(told), "judge/other": 3}) == told


def test_figures_of_nothing_are_none_and_not_zero():
    empty = pa.chunked_array([], pa.string())
    assert len(empty) == 0
    assert gap(np.zeros(0), np.zeros(0), np.zeros(0, np.int64)).value is None
    assert coverage(np.array([NAN])) is None
