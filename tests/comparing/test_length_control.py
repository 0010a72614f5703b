"""Length-controlled win rates: the worked numbers, AlpacaEval's own on real annotations, and what must not change them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.comparing.differences import difference
from prefkit.comparing.length_control import (
    Gamed,
    length_controlled,
    length_controlled_interval,
    length_controlled_values,
    length_feature,
    preference_of,
)
from prefkit.comparing.logistic_fit import fit
from prefkit.errors import DataError
from prefkit.estimators.preference import logistic

TESTS = Path(__file__).parents[1]
RATES = json.loads((TESTS / "golden" / "alpaca_eval_length.json").read_text(encoding="utf-8"))["rates"]

OURS = np.array([900.0, 1500, 700, 1200, 2000, 1100])
BASE = np.array([800.0, 1000, 900, 1000, 900, 1300])
WINS = np.array([0.7, 0.9, 0.4, 0.8, 0.95, 0.45])


def test_the_worked_example():
    # golden models_and_eval.json, lc_winrate
    gap = BASE - OURS
    assert gap.std(ddof=1) == pytest.approx(492.950302, abs=1e-6)
    wanted = [-0.200123, -0.767535, 0.384833, -0.384833, -0.977206, 0.384833]
    assert length_feature(gap) == pytest.approx(wanted, abs=1e-6)
    found = length_controlled(WINS, gap, ridge=0.0, least=2)
    assert found.raw == pytest.approx(0.7)
    assert found.length == pytest.approx(-2.22571, abs=1e-5)
    assert found.quality == pytest.approx(0.524594, abs=1e-5)
    assert found.rate == pytest.approx(0.628221, abs=1e-5)


def test_the_worked_example_with_difficulties():
    hard = np.array([0.5, -1, 0.2, 0, 1, -0.3])
    x = np.stack([length_feature(BASE - OURS), hard, np.ones(6)], axis=1)
    weights = fit(x[None], WINS, np.ones((1, 6)), 0.0)[0]
    assert weights == pytest.approx([-2.229873, -0.043139, 0.526597], abs=1e-5)
    assert logistic(weights[2] + weights[1] * hard).mean() == pytest.approx(0.627996, abs=1e-5)


@pytest.fixture(scope="module")
def judged(shared_data):
    sys.path.insert(0, str(TESTS.parent / "benchmarks"))
    try:
        import length_control as benchmark

        rows = benchmark.read(shared_data / "alpaca_eval")
        return {model: benchmark.ours(rows, model) for model in RATES}
    finally:
        sys.path.pop(0)
        sys.modules.pop("length_control", None)


def test_on_real_annotations_it_says_what_the_code_of_alpaca_eval_says(judged):
    assert len(RATES) == 5
    for model, theirs in RATES.items():
        assert len(theirs) == 3
        for name, rate in theirs.items():
            assert judged[model][name] == pytest.approx(rate, abs=0.1), (model, name)


def test_the_gap_between_a_models_brief_and_verbose_twins_shrinks(judged):
    for model in ("alpaca-7b", "gpt-3.5-turbo-1106"):
        brief, verbose = (judged[f"{model}_{how}"] for how in ("concise", "verbose"))
        assert verbose["raw"] > 1.5 * brief["raw"]
        for form in ("length_controlled_v1", "minimal"):
            apart = abs(np.log(verbose[form] / brief[form]))
            assert apart < np.log(verbose["raw"] / brief["raw"]) - 0.05, (model, form)


def test_twins_that_differ_in_length_alone_get_one_rate():
    draw = np.random.default_rng(0)
    base = draw.integers(500, 3000, 4000).astype(float)
    rates = []
    for factor in (0.7, 1.3):
        gap = base - base * factor * np.exp(draw.normal(0, 0.3, len(base)))
        rates.append(length_controlled(logistic(0.3 - 1.2 * np.tanh(gap / gap.std(ddof=1))), gap))
    assert rates[1].raw - rates[0].raw > 0.15
    assert abs(rates[1].rate - rates[0].rate) < 1e-4
    assert rates[0].rate == pytest.approx(logistic(np.array(0.3)), abs=1e-3)


def test_with_one_length_it_is_the_raw_rate():
    found = length_controlled(np.tile(WINS, 10), np.zeros(60), ridge=0.0)
    assert found.controlled
    assert found.rate == pytest.approx(found.raw)


@given(st.integers(0, 500), st.floats(0.01, 100))
def test_roles_can_be_changed_and_lengths_scaled(seed, scale):
    draw = np.random.default_rng(seed)
    wins, gap = draw.random(60), draw.normal(0, 300, 60)
    here = length_controlled(wins, gap, ridge=0.0)
    assert length_controlled(1 - wins, -gap, ridge=0.0).rate == pytest.approx(1 - here.rate)
    assert length_controlled(wins, gap * scale, ridge=0.0).rate == pytest.approx(here.rate)


def test_the_baseline_against_itself_is_at_a_half():
    assert length_controlled(np.full(50, 0.5), np.zeros(50)).rate == 0.5


def test_few_rows_and_one_sided_verdicts_give_the_raw_rate_and_say_so():
    for wins in (WINS, np.full(100, 0.9)):
        found = length_controlled(wins, np.linspace(-1, 1, len(wins)))
        assert not found.controlled
        assert found.rate == found.raw == wins.mean()


def test_lengths_that_tell_every_verdict_stay_finite():
    gap = np.linspace(-500, 500, 100)
    found = length_controlled((gap < 0).astype(float), gap)
    assert found.rate == pytest.approx(0.5, abs=1e-6)
    assert found.length < -5
    x = np.stack([gap / 500], axis=1)
    assert np.isnan(fit(x[None], (gap < 0).astype(float), np.ones((1, 100)), 0.0)).all()


def test_a_rate_far_from_the_raw_one_is_marked():
    draw = np.random.default_rng(1)
    gap = draw.normal(-600, 200, 500)
    found = length_controlled(logistic(-2.0 - 3.0 * np.tanh(gap / gap.std(ddof=1))), gap)
    assert found.raw > 0.6
    assert found.rate < 0.2
    assert found.extreme
    assert not length_controlled(np.tile(WINS, 20), np.zeros(120)).extreme


def test_the_coding_of_preferences():
    told = preference_of(np.array([1.0, 2.0, 1.5, 0.0, 1.0000211, 2.0000211, np.nan]))
    assert told[:4].tolist() == [0, 1, 0.5, 0.5]
    assert told[4] == pytest.approx(2.11e-5)
    assert told[5] == 1
    assert np.isnan(told[6])


def test_unjudged_rows_count_not_and_gamed_rows_need_difficulties():
    gap = np.concatenate([np.tile(BASE - OURS, 10), [5e5]])
    wins = np.concatenate([np.tile(WINS, 10), [np.nan]])
    assert length_controlled(wins, gap).raw == pytest.approx(0.7)
    with pytest.raises(DataError, match="need the difficulty"):
        length_controlled(WINS, OURS, gamed=Gamed(WINS, OURS, OURS))
    with pytest.raises(DataError, match="no row has a preference"):
        length_controlled(np.full(3, np.nan), np.zeros(3))


def test_its_interval_holds_the_rate_and_widens_where_seeds_differ():
    draw = np.random.default_rng(5)
    held, errors = 0, []
    for spread in [0.0] * 40 + [0.8] * 5:
        gap = draw.normal(-200, 400, (4, 100))
        odds = np.log(1.5) + draw.normal(0, spread, (4, 1)) - 1.5 * np.tanh(gap / gap.std(ddof=1))
        sides = (draw.random((4, 100)) < logistic(odds)).astype(float)
        found = length_controlled_interval(sides, gap, draw, draws=100)
        errors.append(found.error)
        held += spread == 0 and found.low <= 0.6 <= found.high
    assert found.null == 0.5
    assert held >= 35
    assert np.mean(errors[40:]) > 1.5 * np.mean(errors[:40])


def test_its_values_have_the_rate_as_their_mean_and_an_interval_that_covers():
    draw, held, errors = np.random.default_rng(6), 0, []
    for _ in range(500):
        gap = draw.normal(-200, 400, (5, 100))
        odds = np.log(1.5) - 1.5 * np.tanh(gap / 400)
        sides = (draw.random(gap.shape) < logistic(odds)).astype(float)
        values = length_controlled_values(sides, gap)
        found = difference(values, np.full_like(values, 0.5))
        held += found.low <= 0.1 <= found.high
        errors.append((found.estimate - 0.1) ** 2)
    assert values.mean() == pytest.approx(length_controlled(sides.ravel(), gap.ravel()).rate)
    assert 0.93 <= held / 500 <= 0.97
    assert found.error == pytest.approx(np.sqrt(np.mean(errors)), rel=0.15)


def test_a_cell_that_is_not_judged_has_no_value():
    draw = np.random.default_rng(7)
    wins, gap = draw.random((2, 40)), draw.normal(0, 300, (2, 40))
    wins[1, 3] = np.nan
    values = length_controlled_values(wins, gap)
    assert np.isnan(values).sum() == 1
    assert difference(values, np.full_like(values, 0.5)).left_out == 1
    with pytest.raises(DataError, match="no row has a preference"):
        length_controlled_values(np.full((2, 3), np.nan), np.zeros((2, 3)))
