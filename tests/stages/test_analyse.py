"""The analyse stage: rows go through as they are, and what was found can be read back."""

import pyarrow as pa
import pytest
from pydantic import ValidationError

from prefkit.analysis.findings import read
from prefkit.stages.analyse import Analyse
from prefkit.testing import check_stage, run_stage


def found(stage, table):
    out = run_stage(stage, table)
    assert out.table.equals(table)
    return read(out.notes)


def test_style_of_pairs(make_pairs):
    pairs = make_pairs(
        chosen=["a longer answer! " * (i % 3 + 2) for i in range(30)], rejected=["short one"] * 30
    )
    stage = Analyse(what=("shortcut", "length", "factors", "gaps"))
    check_stage(stage, pairs)
    told = found(stage, pairs)
    assert told["length/longer"].value == 1.0
    assert told["length/auc"].value == 1.0
    assert told["shortcut/auc"].value is not None
    assert told["shortcut/auc"].value > 0.9
    assert told["factors/exclamations/tau"].value == 1.0
    assert told["factors/bullets/tau"].value is None
    assert told["gaps/exclamations"].value == 3.0


def test_votes_ratings_and_cycles(make_pairs, make_responses, votes, ratings):
    row = [("a", "chosen", None, None), ("b", "chosen", None, None)]
    odd = [("a", "chosen", None, None), ("b", "rejected", None, None)]
    pairs = make_pairs(votes=votes(*[row] * 6, *[odd] * 6), prompt_id=["p"] * 12)
    pairs = pairs.set_column(pairs.schema.get_field_index("chosen_id"), "chosen_id", [[*"abc", *"defghijkl"]])
    pairs = pairs.set_column(
        pairs.schema.get_field_index("rejected_id"), "rejected_id", [[*"bca", *"mnopqrstu"]]
    )
    stage = Analyse(what=("votes", "cycles"))
    check_stage(stage, pairs)
    told = found(stage, pairs)
    assert (told["votes/unanimous"].value, told["votes/unanimous"].n) == (0.5, 12)
    assert told["votes/least-alike"].value == pytest.approx(0.0)
    assert told["cycles/pairs"].value == 0.25
    assert told["cycles/prompts"].value == 1.0
    same = [{"x": 1.0, "y": 1.0}, {"x": 5.0, "y": 5.0}, None]
    responses = make_responses({"p": [1.0] * 3}, ratings=ratings(*same))
    check_stage(Analyse(what="ratings"), responses)
    assert found(Analyse(what="ratings"), responses)["ratings/alpha-interval"].value == 1.0


def test_scores_and_coverage(make_pairs, make_responses):
    scores = {"chosen_a": [-2.5, -5, -3, -6.4], "rejected_a": [-6.5, -8.4, -4, -7.9]}
    more = {name.replace("_a", "_b"): values for name, values in scores.items()}
    pairs = make_pairs(**scores, **more)
    stage = Analyse(what=("cells", "strength"), scores=("a", "b"))
    check_stage(stage, pairs)
    told = found(stage, pairs)
    assert [told[f"cells/{cell}"].value for cell in ("wide-good", "narrow-poor")] == [0.25, 0.25]
    assert told["cells/median-gap"].value == pytest.approx(2.45)
    assert told["strength/contradicted"].value == 0.0
    assert told["strength/band-01/mean"].value == pytest.approx(1.0)
    responses = make_responses(
        {"p": [1.0, 2.0], "q": [3.0, 1.0]},
        policy=[-1.0, -2.0, -3.0, None],
        sampler_logp=[-2.0, -2.0, -5.0, -1.0],
        policy_tokens=[2, 2, 2, 2],
    )
    responses = responses.set_column(
        responses.schema.get_field_index("policy_tokens"),
        "policy_tokens",
        responses["policy_tokens"].cast("int32"),
    )
    stage = Analyse(what="coverage", policy="policy", scores="score")
    check_stage(stage, responses)
    told = found(stage, responses)
    assert told["coverage/mean-logp"].value == pytest.approx(-1.0)
    assert told["coverage/score/best-is-likeliest"].value == 0.0


@pytest.mark.parametrize(
    "settings", [{"what": "cells"}, {"what": "strength", "scores": "a"}, {"what": "coverage"}, {"what": []}]
)
def test_settings_that_do_not_fit_are_refused(settings):
    with pytest.raises(ValidationError):
        Analyse.model_validate(settings)


def test_one_row_and_nothing_known_give_figures_or_none_and_no_warning(
    make_pairs, make_responses, votes, ratings
):
    pairs = make_pairs(
        chosen=[None],
        rejected=[""],
        votes=votes(None),
        chosen_a=[float("inf")],
        rejected_a=[1.0],
        chosen_b=[float("inf")],
        rejected_b=[1.0],
    )
    everything = ("shortcut", "length", "factors", "gaps", "votes", "cycles", "strength", "cells")
    told = found(Analyse(what=everything, scores=("a", "b")), pairs)
    assert told["votes/alpha"].value is None
    assert told["cells/median-gap"].value is None
    assert told["length/longer"].value is None
    responses = make_responses({"p": [1.0]}, ratings=ratings(None), policy=[None], sampler_logp=[None])
    responses = responses.append_column("policy_tokens", pa.array([0], pa.int32()))
    responses = responses.set_column(
        responses.schema.get_field_index("policy"), "policy", pa.array([None], pa.float64())
    )
    stage = Analyse(what=("ratings", "coverage"), policy="policy")
    assert found(stage, responses)["ratings/alpha-interval"].value is None
