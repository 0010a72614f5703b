"""The dedup stage: what counts as the same, and which of the same stays."""

from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prefkit.columns import MESSAGES
from prefkit.engines import Answers, Engines, Failure, Model
from prefkit.engines.fake import FakeEngine
from prefkit.errors import ContractError
from prefkit.identity import canonical
from prefkit.stages.dedup import Dedup
from prefkit.testing import check_stage, run_stage


def turns(*rows: list[tuple[str, str]]) -> pa.Array:
    return pa.array([[{"role": role, "content": text} for role, text in row] for row in rows], MESSAGES)


def test_the_same_response_to_a_prompt_goes(make_responses):
    texts = {"p": ["Yes.", "no", " yes. ", "YES."], "q": ["yes."]}
    responses = make_responses({"p": [1.0, 2.0, 3.0, 4.0], "q": [1.0]}, texts)
    out = check_stage(Dedup(by="response"), responses)
    assert out["id"].to_pylist() == ["p0", "p1", "q0"]
    assert run_stage(Dedup(by="response"), responses).notes == {"dropped/duplicate": 2}


def test_the_same_response_anywhere_goes(make_responses):
    texts = {"p": ["Yes.", "no"], "q": ["yes.", "maybe"]}
    stage = Dedup(by="response", within="dataset")
    out = check_stage(stage, make_responses({"p": [1.0, 2.0], "q": [1.0, 1.0]}, texts))
    assert out["id"].to_pylist() == ["p0", "p1", "q1"]


def test_the_best_of_the_same_stays(make_responses):
    texts = {"p": ["a", "A", "a ", "b", "B"]}
    responses = make_responses({"p": [1.0, 3.0, 3.0, None, 0.0]}, texts)
    out = check_stage(Dedup(by="response", keep="best"), responses)
    assert out["id"].to_pylist() == ["p1", "p4"]


def test_the_best_does_not_depend_on_the_order_of_rows(make_responses):
    responses = make_responses({"p": [1.0, 3.0, 3.0, 2.0]}, {"p": ["a"] * 4})
    stage = Dedup(by="response", keep="best")
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        assert run_stage(stage, responses.take(order)).table["id"].to_pylist() == ["p1"]


def test_of_prompts_that_read_the_same_the_first_keeps_all_its_rows(make_responses):
    responses = make_responses({"p": [1.0, 2.0], "q": [3.0, 4.0], "r": [5.0]})
    prompt = turns(*[[("user", "Say hi")]] * 2, *[[("user", "say  HI\n")]] * 2, [("user", "say bye")])
    responses = responses.set_column(2, "prompt", prompt)
    out = check_stage(Dedup(by="prompt"), responses)
    assert out["id"].to_pylist() == ["p0", "p1", "r0"]


def test_prompts_with_other_tools_or_other_speakers_differ(make_responses):
    prompts = make_responses({key: [1.0] for key in "pqrs"}).select(["id", "prompt_id", "prompt"])
    prompt = turns([("user", "hi")], [("user", "hi")], [("system", "hi")], [("user", "hi")])
    prompts = prompts.set_column(2, "prompt", prompt).append_column(
        "tools", pa.array([None, "[]", None, None])
    )
    assert check_stage(Dedup(by="prompt"), prompts)["id"].to_pylist() == ["p0", "q0", "r0"]


def test_turns_are_not_run_together(make_responses):
    prompts = make_responses({key: [1.0] for key in "pq"}).select(["id", "prompt_id", "prompt"])
    prompt = turns([("user", "a"), ("user", "b")], [("user", "a user b")])
    assert check_stage(Dedup(by="prompt"), prompts.set_column(2, "prompt", prompt)).num_rows == 2


def test_pairs_with_the_same_sides_go(make_pairs):
    pairs = make_pairs(
        chosen=["a", "A", "b", "a"], rejected=["b", "b ", "a", "b"], prompt_id=["p", "p", "p", "q"]
    )
    assert check_stage(Dedup(by="pair"), pairs)["id"].to_pylist() == ["r000", "r002", "r003"]
    assert check_stage(Dedup(by="pair", within="dataset"), pairs)["id"].to_pylist() == ["r000", "r002"]


def test_pairs_with_the_same_chosen_go(make_pairs):
    pairs = make_pairs(
        chosen=["a", "a", "b"], rejected=["x", "y", "z"], prompt_id=["p"] * 3, margin=[1.0, 2.0, 3.0]
    )
    assert check_stage(Dedup(by="chosen"), pairs)["id"].to_pylist() == ["r000", "r002"]
    best = Dedup(by="chosen", keep="best", score="margin")
    assert check_stage(best, pairs)["id"].to_pylist() == ["r001", "r002"]


def test_empty_texts_are_the_same(make_responses):
    responses = make_responses({"p": [1.0] * 3}, {"p": ["", " ", "x"]})
    assert run_stage(Dedup(by="response"), responses).table["id"].to_pylist() == ["p0", "p2"]


def test_case_and_space_outside_ascii_are_made_alike(make_responses):
    responses = make_responses({"p": [1.0] * 3}, {"p": ["Élan\u00a0vital", "élan vital", "elan vital"]})
    assert run_stage(Dedup(by="response"), responses).table["id"].to_pylist() == ["p0", "p2"]


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["a", "A ", "b", " b", "c", ""]), min_size=1, max_size=12))
def test_exactly_one_of_the_same_stays_and_a_second_pass_drops_nothing(make_responses, words):
    responses = make_responses({"p": [1.0] * len(words)}, {"p": words})
    once = run_stage(Dedup(by="response"), responses)
    plain = [" ".join(row[0]["content"].split()).lower() for row in once.table["response"].to_pylist()]
    wanted = list(dict.fromkeys(" ".join(word.split()).lower() for word in words))
    assert plain == wanted
    assert once.table.num_rows + once.notes.get("dropped/duplicate", 0) == len(words)
    assert run_stage(Dedup(by="response"), once.table).dropped == []


def test_the_scope_follows_the_settings():
    assert Dedup(by="prompt").scope() == "global"
    assert Dedup(by="response").scope() == "group"
    assert Dedup(by="response", within="dataset").scope() == "global"


def test_the_level_must_fit(make_responses, make_pairs):
    with pytest.raises(ContractError, match="reads column 'chosen'"):
        Dedup(by="pair")(make_responses({"p": [1.0]}))
    with pytest.raises(ContractError, match="reads column 'response'"):
        Dedup(by="response")(make_pairs(1))


def test_a_prompt_has_no_score():
    with pytest.raises(ValidationError, match="a prompt has no score"):
        Dedup(by="prompt", keep="best")


def test_one_row_and_no_row(make_responses):
    responses = make_responses({"p": [1.0]})
    for stage in (Dedup(), Dedup(by="response"), Dedup(by="response", keep="best")):
        assert run_stage(stage, responses).table.num_rows == 1
        assert run_stage(stage, responses.slice(0, 0)).table.num_rows == 0


# near-duplicates

FOX = "the quick brown fox jumps over the lazy dog and runs away into the dark wood"
FOXES = {
    "p": [FOX, "Something else entirely.", FOX.replace("lazy", "old")],
    "q": [FOX.upper() + "!", "What, something else!", "Something else entirely?"],
}
"""The third has 11 of 17 runs of three words in common with the first."""


def near(**settings: object) -> Dedup:
    return Dedup.model_validate({"kind": "minhash", "by": "response", "within": "dataset", "n": 3} | settings)


def test_responses_of_much_the_same_words_go(make_responses):
    responses = make_responses({"p": [1.0, 2.0, 3.0], "q": [1.0, 2.0, 3.0]}, FOXES)
    assert check_stage(near(threshold=0.6), responses)["id"].to_pylist() == ["p0", "p1", "q1"]
    assert check_stage(near(threshold=0.65), responses)["id"].to_pylist() == ["p0", "p1", "p2", "q1"]
    apart = near(threshold=0.6, within="prompt")
    assert check_stage(apart, responses)["id"].to_pylist() == ["p0", "p1", "q0", "q1", "q2"]
    assert run_stage(near(), responses).notes == {"dropped/near-duplicate": 2}


def test_of_what_is_nearly_the_same_the_best_stays(make_responses):
    responses = make_responses({"p": [1.0, 2.0, 3.0], "q": [1.0, 2.0, 3.0]}, FOXES)
    best = near(threshold=0.6, keep="best")
    assert check_stage(best, responses)["id"].to_pylist() == ["p2", "q1", "q2"]
    shuffled = responses.take([5, 3, 1, 0, 2, 4])
    assert sorted(run_stage(best, shuffled).table["id"].to_pylist()) == ["p2", "q1", "q2"]


def test_of_prompts_that_are_nearly_the_same_the_first_keeps_all_its_rows(make_responses):
    responses = make_responses({"p": [1.0, 2.0], "q": [3.0, 4.0], "r": [5.0]})
    prompt = turns(*[[("user", FOX)]] * 2, *[[("user", FOX + " now")]] * 2, [("user", "say bye")])
    responses = responses.set_column(2, "prompt", prompt)
    stage = Dedup(kind="minhash")
    assert check_stage(stage, responses)["id"].to_pylist() == ["p0", "p1", "r0"]
    tools = responses.append_column("tools", pa.array(["[]", "[]", None, None, None]))
    assert check_stage(stage, tools)["id"].to_pylist() == ["p0", "p1", "q0", "q1", "r0"]


def test_both_sides_of_a_pair_count_together(make_pairs):
    pairs = make_pairs(chosen=[FOX, "no", FOX], rejected=["no", FOX, "yes"], prompt_id=["p"] * 3)
    assert check_stage(near(by="pair", threshold=0.8), pairs)["id"].to_pylist() == ["r000", "r001"]
    assert check_stage(near(by="pair", threshold=0.9), pairs).num_rows == 3


def test_bands_may_be_set(make_responses):
    table = make_responses({"p": [1.0, 1.0]}, {"p": [FOX, FOX.replace("quick", "slow")]})
    assert len(run_stage(near(threshold=0.5, bands=60, rows=2), table).table) == 1
    assert len(run_stage(near(threshold=0.5, bands=1, rows=60), table).table) == 2


class Letters:
    """Embeds a text by how often it has each letter, unless it says not to."""

    def embed(self, model: Model, texts: Sequence[str]) -> Answers[tuple[float, ...]]:
        for at, text in enumerate(texts):
            counts = tuple(float(text.count(letter)) for letter in "abcdefghij")
            yield at, Failure("no answer") if "fail" in text else counts

    def version(self) -> str:
        return "1"


MODEL = Model(id="org/letters")


def embedded(**settings: object) -> Dedup:
    plain = {"kind": "embedding", "by": "response", "model": MODEL, "within": "dataset", "threshold": 0.9}
    return Dedup.model_validate(plain | settings)


def test_responses_that_point_the_same_way_go(make_responses):
    texts = {"p": ["abc", "cab aabbcc", "abcd"], "q": ["hij", "abc", "abcdefgh"]}
    responses = make_responses({"p": [1.0, 2.0, 3.0], "q": [1.0, 2.0, 3.0]}, texts)
    engines = Engines({MODEL.served_as: Letters()})
    close = check_stage(embedded(), responses, engines=engines)
    assert close["id"].to_pylist() == ["p0", "p2", "q0", "q2"]
    assert check_stage(embedded(threshold=0.86), responses, engines=engines).num_rows == 3
    best = check_stage(embedded(keep="best"), responses, engines=engines)
    assert best["id"].to_pylist() == ["p1", "p2", "q0", "q2"]
    assert check_stage(embedded(within="prompt"), responses, engines=engines).num_rows == 5


def test_what_has_no_embedding_fails_and_nothing_goes_for_it(make_responses):
    responses = make_responses({"p": [1.0] * 4}, {"p": ["fail", "abc", "fail", "abc"]})
    outcome = run_stage(embedded(), responses, engines=Engines({MODEL.served_as: Letters()}))
    assert outcome.table["id"].to_pylist() == ["p1"]
    assert [row["id"] for part in outcome.failed for row in part.to_pylist()] == ["p0", "p2"]
    assert outcome.notes == {"dropped/near-duplicate": 1}
    nothing = run_stage(embedded(), responses.take([0, 2]), engines=Engines({MODEL.served_as: Letters()}))
    assert nothing.table.num_rows == 0


def test_the_fake_engine_embeds_equal_texts_alike(make_pairs):
    pairs = make_pairs(chosen=["a", "b", "a"], rejected=["x", "y", "x"], prompt_id=["p", "p", "q"])
    engines = Engines({MODEL.served_as: FakeEngine()})
    stage = embedded(by="pair", threshold=0.999)
    assert check_stage(stage, pairs, engines=engines)["id"].to_pylist() == ["r000", "r001"]
    assert stage.cost().calls == 2


def test_each_kind_has_its_own_settings():
    for given_settings, why in (
        ({"threshold": 0.5}, "kind 'exact' has no threshold"),
        ({"kind": "minhash", "model": MODEL}, "kind 'minhash' has no model"),
        ({"kind": "embedding", "model": MODEL, "n": 3, "unit": "characters"}, "no n and no unit"),
        ({"kind": "embedding"}, "needs a model"),
        ({"kind": "minhash", "bands": 3}, "both bands and rows"),
        ({"kind": "minhash", "threshold": 0}, "greater than 0"),
    ):
        with pytest.raises(ValidationError, match=why):
            Dedup.model_validate(given_settings)


def test_a_kind_does_not_know_of_the_settings_of_others():
    assert canonical(Dedup()) == {"by": "prompt", "within": "prompt", "keep": "first", "score": "score"}
    assert "model" not in canonical(near())
    assert canonical(near())["kind"] == "minhash"
    assert "bands" not in canonical(embedded())
