"""The balance stage: a share of one half in each stratum, one side kept whole, and a shortcut that is gone."""

import numpy as np
import pytest
from pydantic import ValidationError

from prefkit.analysis.of_pairs import looks_of, shortcut_findings
from prefkit.stages.balance import Balance, surplus
from prefkit.testing import check_stage, run_stage


def texts(lengths):
    return ["a" * n for n in lengths]


def longer(table):
    chosen, rejected = (
        np.array([len(m[0]["content"]) for m in table[s].to_pylist()]) for s in ("chosen", "rejected")
    )
    return int((chosen > rejected).sum()), int((chosen < rejected).sum()), int((chosen == rejected).sum())


def test_chosen_is_the_longer_side_in_one_half_afterwards(make_pairs):
    pairs = make_pairs(chosen=texts([9] * 7 + [3, 4] + [5, 5]), rejected=texts([5] * 11))
    out = check_stage(Balance(), pairs, seed=3)
    assert longer(out) == (2, 2, 2)
    other = run_stage(Balance(), pairs, seed=4).table
    assert longer(other) == (2, 2, 2)


def test_each_stratum_is_balanced_on_its_own(make_pairs):
    domain = ["law"] * 4 + ["art"] * 4 + [None]
    pairs = make_pairs(chosen=texts([9, 9, 9, 1, 1, 1, 1, 9, 9]), rejected=texts([5] * 9), domain=domain)
    out = check_stage(Balance(by="domain"), pairs)
    assert [domain[int(each[1:])] for each in out["id"].to_pylist()].count("law") == 2
    assert out.num_rows == 4  # the only pair without a domain has nothing to stand against
    reasons = run_stage(Balance(by="domain"), pairs).notes
    assert reasons == {"dropped/more-length-in-chosen": 3, "dropped/less-length-in-chosen": 2}


def test_surplus_keeps_the_smaller_side_whole_and_the_first_of_the_larger():
    gap = np.array([1.0, 2, 3, -1, 0])
    goes = surplus(gap, np.zeros(5, np.int64), np.array([4, 2, 1, 0, 3]))
    assert goes.tolist() == [True, True, False, False, False]
    assert surplus(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []


def test_the_shortcut_is_gone_after_balancing(make_pairs):
    rng = np.random.default_rng(0)
    chosen, rejected = rng.integers(20, 120, 800), rng.integers(10, 80, 800)
    pairs = make_pairs(chosen=texts(chosen), rejected=texts(rejected))
    before = shortcut_findings(looks_of(pairs))["auc"]
    after = shortcut_findings(looks_of(run_stage(Balance(bins=8), pairs).table))["auc"]
    assert before.low is not None
    assert before.low > 0.75
    assert after.value == pytest.approx(0.5, abs=0.06)


def test_refusals_can_be_balanced_and_unknown_features_not(make_pairs):
    no, yes = "I cannot help with that.", "Here it is."
    pairs = make_pairs(chosen=[yes, yes, yes, no], rejected=[no, no, yes, yes])
    out = check_stage(Balance(of="refusal"), pairs)
    assert out.num_rows == 3
    with pytest.raises(ValidationError, match="no feature 'beauty'"):
        Balance(of="beauty")
