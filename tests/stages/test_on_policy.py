"""The on-policy stage: rejected answers that the policy writes itself."""

from prefkit.engines import Completion, Engines, Failure, Model
from prefkit.engines.fake import FakeEngine
from prefkit.stages.on_policy import OnPolicy
from prefkit.testing import check_stage, run_stage

MODEL = Model(id="m")
FAKE = Engines({"m": FakeEngine()})


class Says:
    def __init__(self, *answers):
        self.answers = answers

    def generate(self, model, requests):
        for at, _ in enumerate(requests):
            yield at, self.answers[at % len(self.answers)]


def test_an_exact_share_of_prompts_gets_the_policys_answer_and_nothing_that_was_said_of_the_old(make_pairs):
    pairs = make_pairs(
        prompt_id=[f"p{n // 2}" for n in range(20)],
        chosen_score=[2.0] * 20,
        rejected_score=[1.0] * 20,
        margin=[1.0] * 20,
        ref_chosen_logp=[-1.0] * 20,
        ref_rejected_logp=[-2.0] * 20,
    )
    out = check_stage(OnPolicy(model=MODEL, share=0.3), pairs, engines=FAKE)
    new = [row for row in out.to_pylist() if row["rejected_origin"] == "policy"]
    assert len({row["prompt_id"] for row in new}) == 3
    assert len(new) == 6
    for row in new:
        assert row["rejected_model"] == "m"
        assert row["chosen_score"] == 2.0
        assert (row["rejected_score"], row["margin"], row["ref_rejected_logp"]) == (None, None, None)
        assert not row["rejected"][0]["content"].startswith("bad")
    before = {row["id"]: row for row in pairs.to_pylist()}
    for row in out.to_pylist():
        if row["id"] in before:
            assert row["rejected"] == before[row["id"]]["rejected"]
            assert row["margin"] == 1.0


def test_a_larger_share_holds_a_smaller_one(make_pairs):
    pairs = make_pairs(20)
    kept = [
        set(run_stage(OnPolicy(model=MODEL, share=share), pairs, engines=FAKE).table["id"].to_pylist())
        & set(pairs["id"].to_pylist())
        for share in (0.2, 0.5, 1.0)
    ]
    assert [len(ids) for ids in kept] == [16, 10, 0]
    assert kept[0] > kept[1]


def test_a_policy_that_says_what_is_chosen_makes_no_pair(make_pairs):
    engine = Says(Completion("good 0", 2, "stop"), Failure("no"))
    out = run_stage(OnPolicy(model=MODEL, share=1.0), make_pairs(2), engines=Engines({"m": engine}))
    assert out.table.num_rows == 0
    assert out.notes == {"dropped/identical-texts": 1}
    assert [part.num_rows for part in out.failed] == [1]
