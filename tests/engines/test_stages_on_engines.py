"""The stages that ask models, on real ones: the laws hold in every bit."""

import pyarrow as pa
import pytest

from prefkit.columns import MESSAGES
from prefkit.engines import Engines
from prefkit.engines.placement import Placement, open_engines
from prefkit.stages.reference import Reference
from prefkit.stages.sample import Sample
from prefkit.stages.score import Score
from prefkit.testing import check_stage, run_stage

PLACEMENT = Placement(device="cpu", batch_tokens=512)


@pytest.fixture(scope="module")
def engines(folders) -> Engines:
    from prefkit.engines import Model

    models = {"policy": Model(id=str(folders.policy)), "reward": Model(id=str(folders.reward))}
    return open_engines(models, PLACEMENT)


@pytest.fixture
def prompts() -> pa.Table:
    texts = ["say hi", "one two three four " * 6, "x", "say bye and hello"]
    ids = ["a", "b", "c", "d"]
    turns = [[{"role": "user", "content": text}] for text in texts]
    return pa.table({"id": ids, "prompt_id": ids, "prompt": pa.array(turns, MESSAGES)})


def pairs_of(responses: pa.Table) -> pa.Table:
    chosen, rejected = (responses.filter(pa.compute.equal(responses["index"], at)) for at in (0, 1))
    return pa.table(
        {
            "id": chosen["id"],
            "prompt_id": chosen["prompt_id"],
            "prompt": chosen["prompt"],
            "chosen": chosen["response"],
            "rejected": rejected["response"],
        }
    )


def test_sampling_scoring_and_reference_keep_their_laws(engines, prompts, policy, reward):
    responses = check_stage(Sample(model=policy, n=2, max_tokens=10), prompts, engines=engines)
    assert len({str(turns) for turns in responses["response"].to_pylist()}) == 8
    scored = check_stage(Score(model=reward), responses, engines=engines)
    assert scored["score"].null_count == 0
    check_stage(Reference(model=policy), pairs_of(responses), engines=engines)


def test_what_was_remembered_is_what_would_be_made_again(tmp_path, folders, prompts, policy):
    models = {"policy": policy}
    first = open_engines(models, PLACEMENT, tmp_path / "memo")
    stage = Sample(model=policy, n=3, max_tokens=8)
    made = run_stage(stage, prompts.slice(0, 2), engines=first).table
    again = open_engines(models, PLACEMENT, tmp_path / "memo")
    whole = run_stage(stage, prompts, engines=again).table
    assert whole.slice(0, 6).equals(made)
    assert again.spend.counts["remembered"] == again.spend.counts["calls"] == 6
    assert run_stage(stage, prompts, engines=open_engines(models, PLACEMENT)).table.equals(whole)
