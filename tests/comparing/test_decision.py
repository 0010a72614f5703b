"""Decisions in words: what each kind of evidence leads to."""

import numpy as np
import pytest

from prefkit.comparing.decision import Evidence, decide, not_worse
from prefkit.comparing.differences import Difference, Variance, at_level, difference


def found(estimate, error=0.02, df=np.inf, seeds=5, prompts=500):
    blank = (np.nan,) * 3
    told = Difference(
        estimate, *blank, error, df, df, 0.95, seeds, prompts, 0, Variance(0.05, 0.0002, 0.1), error
    )
    return at_level(told, 0.95)


def test_better_and_worse_are_said_with_their_interval():
    told = decide(Evidence(found(0.1)), ("mixed", "plain"))
    assert told.verdict == "better"
    assert (
        told.words
        == "mixed is better than plain: +0.100 (95 % interval +0.061 to +0.139; 5 seeds, 500 prompts)."
    )
    assert decide(Evidence(found(-0.1)), ("mixed", "plain")).verdict == "worse"


def test_what_is_not_distinguishable_comes_with_what_would_settle_it():
    values = np.random.default_rng(1).normal(size=(3, 500)) * 0.6
    told = decide(Evidence(difference(values, np.zeros_like(values))), smallest=0.05)
    assert told.verdict == "not distinguishable"
    assert "not distinguishable with this budget" in told.words
    assert "1,086 prompts with 3 seeds, or 5 seeds with 500 prompts" in told.words
    assert told.settle.prompts == 1086
    assert f"would detect is {told.detectable.effect:.3f} (power 80 %)" in told.words
    assert "fewer than four seeds" in told.words


def test_a_large_run_that_finds_nothing_says_that_it_would_have():
    told = decide(Evidence(found(0.0, prompts=20_000)), smallest=0.2)
    assert "would probably have been seen" in told.words


def test_more_prompts_do_not_help_where_seeds_differ():
    noisy = found(0.0, seeds=3)._replace(variance=Variance(0.05, 0.01, 0.1))
    told = decide(Evidence(noisy), smallest=0.02)
    assert told.settle.prompts is None
    assert "No number of prompts is enough with 3 seeds" in told.words


def test_controls_come_first():
    lost = found(-0.2)
    assert decide(Evidence(found(0.1), copy=found(0.01), flipped=lost)).verdict == "better"
    assert decide(Evidence(found(0.1), copy=found(0.1), flipped=lost)).verdict == "no power"
    told = decide(Evidence(found(0.1), flipped=found(-0.01)))
    assert told.verdict == "no power"
    assert "Flipped labels do not lose" in told.words


def test_a_win_by_length_or_divergence_or_one_judge_is_no_win():
    won = found(0.1)
    assert decide(Evidence(won, length_controlled=found(0.01))).verdict == "longer"
    assert decide(Evidence(won, length_controlled=found(0.1), matched=found(0.0))).verdict == "further"
    assert decide(Evidence(won, other_judge=found(-0.1))).verdict == "judges disagree"
    assert decide(Evidence(won, other_judge=found(-0.01))).verdict == "judges disagree"
    assert decide(Evidence(won, other_judge=found(0.01))).verdict == "better"
    assert decide(Evidence(found(0.01), other_judge=found(-0.01))).verdict == "not distinguishable"


def test_an_alarm_withholds_better():
    told = decide(Evidence(found(0.1), alarms=("mass fell at step 200",)))
    assert told.verdict == "alarmed"
    assert "mass fell at step 200" in told.words


def test_the_worked_margin():
    # golden models_and_eval.json, noninferiority
    told = found(-0.01, 0.012)
    assert at_level(told, 0.9).low == pytest.approx(-0.029738, abs=1e-6)
    assert not_worse(told, 0.03)
    assert not not_worse(told, 0.029)
    assert decide(Evidence(told), margin=0.03).verdict == "not worse"
    assert decide(Evidence(found(-0.1)), margin=0.2).verdict == "worse"
