"""The select stage."""

import numpy as np
import pytest
from pydantic import ValidationError

from prefkit.stages.pair import Pair
from prefkit.stages.select import Select
from prefkit.testing import check_stage, run_stage

SCORES = {"p": [0.9, 0.1, None, 0.8, -0.4], "q": [1.0, 2.0], "r": [None]}


@pytest.mark.parametrize("stage", [Select(n=2), Select(kind="rso", n=3), Select(kind="rso", n=3, beta=5.0)])
def test_it_obeys_the_laws(make_responses, stage):
    assert check_stage(stage, make_responses(SCORES)).num_rows


def test_the_best_leave_in_order_and_the_others_are_dropped_with_a_reason(make_responses):
    done = run_stage(Select(n=2), make_responses(SCORES))
    assert done.table["id"].to_pylist() == ["p0", "p3", "q1", "q0"]
    assert done.table["accept_order"].to_pylist() == [0, 1, 0, 1]
    assert done.notes == {"dropped/not-selected": 2, "dropped/no-score": 2}


def test_a_text_that_comes_twice_is_one_candidate_and_the_one_with_a_score(make_responses):
    texts = {"p": ["same", "other", " same ", "more"]}
    done = run_stage(Select(kind="rso", n=4), make_responses({"p": [None, 1.0, 2.0, 0.5]}, texts))
    assert sorted(done.table["id"].to_pylist()) == ["p1", "p2", "p3"]
    assert done.notes["dropped/identical-sample"] == 1


def test_rejection_sampling_keeps_what_the_scores_call_for(make_responses):
    scores = {f"p{at}": [0.0, 1.0] for at in range(4000)}
    done = run_stage(Select(kind="rso", n=1, beta=1.0), make_responses(scores)).table
    # The better one goes first half the time and is then kept; else the other is, with chance 1/e.
    share = np.mean(np.array(done["score"].to_pylist()) == 0.0)
    assert share == pytest.approx(0.5 * np.exp(-1), abs=4 * np.sqrt(0.18 * 0.82 / 4000))


def test_pairs_are_made_in_the_order_they_were_kept(make_responses):
    kept = run_stage(Select(kind="rso", n=4), make_responses({"p": [0.9, 0.1, 0.5, 0.8, -0.4]})).table
    pairs = run_stage(Pair(kind="first-round"), kept).table
    ids = kept["id"].to_pylist()
    got = [{row["chosen_id"], row["rejected_id"]} for row in pairs.to_pylist()]
    assert got == [set(ids[:2]), set(ids[2:])]


def test_beta_is_for_rejection_sampling():
    with pytest.raises(ValidationError, match="kind 'best-of-n' has no beta"):
        Select(beta=0.5)
