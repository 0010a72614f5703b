"""The weight stage."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prefkit.engines import Engines, Model
from prefkit.engines.fake import FakeEngine
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


def weight(stage, pairs, **more):
    return check_stage(stage, pairs, **more)["weight"].to_pylist()


def test_older_kinds_have_the_dump_they_had():
    assert Weight(kind="trust", clip=2.0).model_dump(mode="json") == {
        "kind": "trust",
        "by": "",
        "temperature": 1.0,
        "clip": 2.0,
    }


def test_a_formula_of_columns(make_pairs):
    pairs = make_pairs(
        margin=[3.0, -1.0, 1.0, None], flip_prob=[0.0, 0.0, 0.5, 0.1], tie=[False, True, False, False]
    )
    stage = Weight(kind="expression", formula="max(margin, 0) * (1 - flip_prob) + tie")
    assert set(stage.reads()) == {"margin", "flip_prob", "tie"}
    told = weight(stage, pairs)
    assert told[:3] == pytest.approx([3 / 4.5 * 3, 1 / 4.5 * 3, 0.5 / 4.5 * 3])
    assert told[3] is None


def test_a_formula_without_a_value_is_null_and_counted(make_pairs):
    out = run_stage(Weight(kind="expression", formula="1 / margin"), make_pairs(margin=[0.0, 2.0, None]))
    assert out.table["weight"].to_pylist() == [None, 1.0, None]
    assert out.notes == {"weight/not-finite": 1, "weight/effective-rows": 1}


def test_a_formula_below_zero_is_refused(make_pairs):
    with pytest.raises(EstimateError, match="negative"):
        run_stage(Weight(kind="expression", formula="margin"), make_pairs(margin=[1.0, -1.0]))


def test_what_members_are_sure_of_counts_most(make_pairs):
    # golden data.json V14, with a fourth pair that members agree on
    pairs = make_pairs(
        4, score_p=pa.array([0.875, 0.5, 0.5, 0.99]), score_bald=pa.array([0.015093, 0.280404, 0.002504, 0.0])
    )
    told = weight(Weight(kind="uncertainty"), pairs)
    assert told[3] > told[0] > told[1] == told[2] == 0.0
    assert set(Weight(kind="uncertainty", by="rm").reads()) == {"rm_p", "rm_bald"}


def test_the_wasserstein_worst_case_counts_what_it_moves(make_pairs):
    pairs = make_pairs(margin=[2.0, 1.0, -0.5, None, -0.5])
    told = weight(Weight(kind="wasserstein-dro", radius=0.6), pairs)
    assert told[2] == told[4] > told[0]
    assert told[3] is None
    assert weight(Weight(kind="wasserstein-dro", radius=0.0), pairs) == [1.0, 1.0, 1.0, None, 1.0]


def test_novel_responses_count_more(make_pairs):
    pairs = make_pairs(3, near=pa.array([1.0, 0.35, None]))
    told = weight(Weight(kind="novelty", by="near"), pairs)
    assert told == [pytest.approx(2 / 2.65), pytest.approx(3.3 / 2.65), None]


def test_novelty_may_be_embedded(make_pairs):
    pairs = make_pairs(
        prompt_id=["p", "p", "q"], chosen=["same", "other", "new"], rejected=["thing", "same", "old"]
    )
    engines = Engines({"test/model": FakeEngine()})
    stage = Weight(kind="novelty", model=Model(id="test/model"))
    told = weight(stage, pairs, engines=engines)
    assert told[0] == min(told)  # the policy wrote the same for this prompt
    assert np.mean(told) == pytest.approx(1.0)
    assert stage.cost().calls == 2


def test_what_was_unlikely_to_be_picked_counts_more(make_pairs):
    pairs = make_pairs(2, acq_prob=pa.array([0.5, 0.25]))
    assert weight(Weight(kind="inverse-propensity"), pairs) == pytest.approx([2 / 3, 4 / 3])


def test_reliable_annotators_count_more(make_pairs):
    pairs = make_pairs(
        annotator=["good"] * 3 + ["bad"] * 3 + ["worse"] * 3 + [None],
        flip_prob=[0.0] * 3 + [0.3] * 3 + [0.9] * 3 + [0.1],
    )
    told = weight(Weight(kind="annotator", pseudo=0.1), pairs)
    assert told[0] > told[3] > told[6] == 0.0
    assert told[9] is None


def test_what_is_clipped_is_counted(make_pairs):
    out = run_stage(Weight(kind="column", by="margin", clip=2.0), make_pairs(margin=[3.0, 1.0, 1.0, 0.0]))
    assert out.notes == {"weight/clipped": 1, "weight/effective-rows": 2}


@settings(max_examples=40)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=8).filter(lambda raw: sum(raw) > 1e-3))
def test_weights_have_mean_one_and_leave_at_most_all_rows(make_pairs, raw):
    out = run_stage(Weight(kind="column", by="margin"), make_pairs(margin=raw))
    assert np.mean(out.table["weight"].to_pylist()) == pytest.approx(1.0)
    assert 1 <= out.notes["weight/effective-rows"] <= len(raw)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"kind": "expression"}, "needs a formula"),
        ({"kind": "expression", "formula": "2 + 2"}, "names no column"),
        ({"kind": "expression", "formula": "source"}, "no numbers"),
        ({"kind": "expression", "formula": "margin +"}, "the end"),
        ({"kind": "trust", "formula": "margin"}, "for kind 'expression' only"),
        ({"kind": "novelty"}, "either by, a similarity, or model"),
        ({"kind": "certainty", "radius": 1.0}, "for kind 'wasserstein-dro' only"),
    ],
)
def test_settings_of_another_kind_are_refused(config, told):
    with pytest.raises(ValidationError, match=told):
        Weight.model_validate(config)


@pytest.mark.parametrize(
    "stage",
    [
        Weight(kind="wasserstein-dro"),
        Weight(kind="inverse-propensity"),
        Weight(kind="annotator"),
        Weight(kind="expression", formula="margin * 2"),
        Weight(kind="uncertainty"),
    ],
)
def test_no_row_has_no_weight(make_pairs, stage):
    pairs = make_pairs(
        margin=[1.0],
        annotator=["a"],
        flip_prob=[0.1],
        acq_prob=pa.array([0.5]),
        score_p=pa.array([0.9]),
        score_bald=pa.array([0.1]),
    )
    assert run_stage(stage, pairs).table["weight"].to_pylist() == [pytest.approx(1.0)]
    assert run_stage(stage, pairs.slice(0, 0)).table.num_rows == 0
