"""The weight stage."""

import numpy as np
import pytest
from pydantic import ValidationError

from prefkit.errors import EstimateError
from prefkit.stages.weight import Weight
from prefkit.testing import check_stage, run_stage


def test_weights_from_a_column_have_mean_one_and_a_limit(make_pairs):
    # golden data.json V36
    pairs = make_pairs(margin=[3.0, 1.0, 1.0, 0.0])
    out = check_stage(Weight(kind="column", by="margin"), pairs)
    assert out["weight"].to_pylist() == pytest.approx([2.4, 0.8, 0.8, 0.0])
    clipped = check_stage(Weight(kind="column", by="margin", clip=2.0), pairs)
    assert clipped["weight"].to_pylist() == pytest.approx([2.0, 0.8, 0.8, 0.0])
    assert run_stage(Weight(kind="column", by="margin"), pairs).notes == {"weight/effective-rows": 2}


def test_the_worst_case_counts_most(make_pairs):
    # golden data.json V13
    out = check_stage(Weight(kind="kl-dro", temperature=0.5), make_pairs(margin=[1.0, 0.2, -0.5]))
    assert out["weight"].to_pylist() == pytest.approx([0.460309, 0.813749, 1.725942], abs=1e-6)


def test_certain_labels_count_most(make_pairs):
    out = check_stage(Weight(), make_pairs(p_chosen=[1.0, 0.5, 0.9, None]))
    weight = out["weight"].to_pylist()
    assert weight[0] > weight[2] > weight[1] == 0.0
    assert weight[3] is None
    assert np.mean(weight[:3]) == pytest.approx(1.0)


def test_rows_believed_to_be_wrong_count_less(make_pairs):
    out = check_stage(Weight(kind="trust"), make_pairs(flip_prob=[0.0, 0.5, None]))
    assert out["weight"].to_pylist() == [pytest.approx(4 / 3), pytest.approx(2 / 3), None]


def test_weights_that_are_all_zero_are_refused(make_pairs):
    with pytest.raises(EstimateError, match="add up to 0"):
        Weight()(make_pairs(p_chosen=[0.5, 0.5]))


def test_one_row_and_no_row(make_pairs):
    pairs = make_pairs(p_chosen=[0.9])
    assert run_stage(Weight(), pairs).table["weight"].to_pylist() == [1.0]
    assert run_stage(Weight(), pairs.slice(0, 0)).table.num_rows == 0


@pytest.mark.parametrize("config", [{"kind": "column"}, {"by": "margin"}, {"clip": 0}, {"kind": "uncertain"}])
def test_settings_that_make_no_sense_are_refused(config):
    with pytest.raises(ValidationError):
        Weight.model_validate(config)
