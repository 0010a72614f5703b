"""Scorers that ask models: which columns they write, what becomes of failures, and what is refused."""

import math

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from prefkit.engines import Engines, Failure, LogProb, Model
from prefkit.engines.fake import FakeEngine
from prefkit.errors import ContractError, EngineError
from prefkit.identity import canonical
from prefkit.recipe import Recipe
from prefkit.stages.score import Score
from prefkit.testing import check_stage, run_stage

A, B, C = (Model(id=name) for name in "abc")
FAKE = Engines({name: FakeEngine() for name in "abc"})


class Says:
    """An engine that answers with what a function makes of the response's text."""

    def __init__(self, answer, vocabulary="v/t"):
        self.answer, self.told, self.seen = answer, vocabulary, []

    def rewards(self, model, conversations):
        for position, one in enumerate(conversations):
            self.seen.append(one.response[-1].content)
            yield position, self.answer(one.response[-1].content)

    log_probs = rewards

    def thinned_rewards(self, model, passes):
        for position, one in enumerate(passes):
            yield position, self.answer((one.conversation.response[-1].content, one.seed))

    def embed(self, model, texts):
        self.seen += texts
        yield from enumerate(map(self.answer, texts))

    def next_tokens(self, model, conversations, wanted):
        raise NotImplementedError

    def vocabulary(self, model):
        return self.told

    def fingerprint(self, model):
        return f"print of {model.id}"


@pytest.fixture
def responses(make_responses) -> pa.Table:
    texts = {"p": ["a", "bb"], "q": ["ccc", "dddd", "e"]}
    return make_responses(
        {"p": [None] * 2, "q": [None] * 3}, texts, reference_answer=["a", "a", "x", None, "e"]
    )


@pytest.fixture
def pairs(make_pairs) -> pa.Table:
    return make_pairs(chosen=["aa", "b", "c"], rejected=["c", "dddd", "c"])


STAGES = [
    {"ensemble": [A, B]},
    {"dropout": {"model": A, "passes": 3}},
    {"log_prob": {"model": A}, "as": "logp"},
    {"log_prob": {"model": A, "unit": "perplexity"}, "as": "ppl"},
    {"implicit": {"policy": A, "reference": B, "beta": 0.2}},
    {"implicit": {"policy": A, "reference": B, "per_token": True}},
    {"similarity": {"model": A, "to": "prompt"}, "as": "near"},
]


@pytest.mark.parametrize("settings", STAGES, ids=lambda each: next(iter(each)))
def test_every_scorer_keeps_the_laws_on_responses_and_on_pairs(settings, responses, pairs):
    check_stage(Score.model_validate(settings), responses, engines=FAKE)
    check_stage(Score.model_validate({**settings, "at": "pair"}), pairs, engines=FAKE)


def test_scorers_of_several_numbers_keep_the_laws(responses, pairs):
    vectors = Engines({"a": Says(lambda text: (float(len(text)), math.cos(len(text)), 1.0, -2.0))})
    heads = Score(model=A, heads=("w", "x", "y", "z"))
    check_stage(heads, responses, engines=vectors)
    check_stage(Score(model=A, heads=("w", "x", "y", "z"), at="pair"), pairs, engines=vectors)
    preference = {"preference": {"model": A, "planes": 2}}
    assert Score.model_validate(preference).scope() == "group"
    check_stage(Score.model_validate(preference), responses, engines=vectors)
    assert Score.model_validate({**preference, "at": "pair"}).scope() == "map"
    check_stage(Score.model_validate({**preference, "at": "pair"}), pairs, engines=vectors)
    to = {"similarity": {"model": A}, "as": "near"}
    check_stage(Score.model_validate(to), responses, engines=FAKE)
    other = {"similarity": {"model": A, "to": "other"}, "at": "pair"}
    check_stage(Score.model_validate(other), pairs, engines=FAKE)


def test_older_configs_say_what_they_said():
    plain = {"rule": None, "ratings": None, "into": "score", "at": "response"}
    assert canonical(Score(model=A)) == {"model": {"id": "a", "revision": "main"}, **plain}
    assert set(canonical(Score(ensemble=(A, B)))) == {"model", *plain, "ensemble"}


def test_a_recipe_names_models_however_deep():
    recipe = Recipe.parse(
        """
name: scorers
models: { one: { id: a }, two: { id: b } }
data: [{ file: rows.jsonl }]
build:
  - score: { ensemble: [one, two], as: safe }
  - score: { implicit: { policy: one, reference: two }, as: implicit }
  - score: { dropout: { model: one, passes: 4, head: 0.1 }, as: sure }
  - score: { similarity: { model: two, to: prompt }, as: near }
  - combine: { of: [safe, implicit], kind: linear, normalise: z, as: all }
"""
    )
    assert recipe.build[0] == Score(ensemble=(A, B), into="safe")
    assert recipe.build[1].implicit.reference == B
    assert recipe.build[2].draws()
    assert Recipe.parse(recipe.text()).build == recipe.build


# heads


def test_named_heads_become_columns(responses, pairs):
    engines = Engines({"a": Says(lambda text: (float(len(text)), -1.0))})
    stage = Score(model=A, heads=("size", "minus"))
    out = run_stage(stage, responses, engines=engines).table
    assert out["size"].to_pylist() == [1.0, 2.0, 3.0, 4.0, 1.0]
    assert out["minus"].to_pylist() == [-1.0] * 5
    assert out["score"].to_pylist() == [None] * 5
    both = run_stage(Score(model=A, heads=("size", "minus"), at="pair"), pairs, engines=engines).table
    assert both["chosen_size"].to_pylist() == [2.0, 1.0, 1.0]
    assert both["rejected_minus"].to_pylist() == [-1.0] * 3


def test_a_head_count_that_differs_is_refused(responses):
    engines = Engines({"a": Says(lambda text: (1.0, 2.0, 3.0))})
    with pytest.raises(EngineError, match="gives 3 numbers for a response, and 2 are named"):
        run_stage(Score(model=A, heads=("x", "y")), responses, engines=engines)


@pytest.mark.parametrize(
    "settings",
    [
        {"rule": "length", "heads": ["a"]},
        {"model": A, "heads": ["a", "a"]},
        {"model": A, "heads": ["a", "b"], "as": "c"},
        {"model": A, "heads": ["two words"]},
        {"ensemble": [A]},
        {"ensemble": [A, A]},
        {"dropout": {"model": A, "passes": 1}},
        {"similarity": {"model": A, "to": "other"}},
        {"implicit": {"policy": A, "reference": B, "beta": 0}},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValidationError):
        stage = Score.model_validate(settings)
        stage.writes()


# ensembles and dropout


def test_an_ensemble_is_the_mean_of_its_members_and_their_spread(responses):
    engines = Engines({"a": Says(lambda t: (float(len(t)),)), "b": Says(lambda t: (3.0 * len(t),))})
    out = run_stage(Score(ensemble=(A, B), into="safe"), responses, engines=engines).table
    assert out["safe"].to_pylist() == [2.0, 4.0, 6.0, 8.0, 2.0]
    assert out["safe_std"].to_pylist() == pytest.approx([n * math.sqrt(2) for n in (1, 2, 3, 4, 1)])
    assert out["safe_n"].to_pylist() == [2] * 5


def test_a_member_without_a_number_leaves_no_mean(responses):
    engines = Engines(
        {"a": Says(lambda t: (1.0,)), "b": Says(lambda t: (math.nan,) if t == "bb" else (1.0,))}
    )
    out = run_stage(Score(ensemble=(A, B)), responses, engines=engines)
    assert out.table["score"].to_pylist() == [1.0, None, 1.0, 1.0, 1.0]
    assert out.table["score_std"].to_pylist() == [0.0, None, 0.0, 0.0, 0.0]
    assert out.table["score_n"].to_pylist() == [2, 1, 2, 2, 2]
    assert out.notes == {"score/missing-member": 1}


def test_a_member_that_fails_sets_the_row_aside(responses):
    engines = Engines(
        {"a": Says(lambda t: (1.0,)), "b": Says(lambda t: Failure("no") if t == "e" else (1.0,))}
    )
    out = run_stage(Score(ensemble=(A, B)), responses, engines=engines)
    assert out.table["id"].to_pylist() == ["p0", "p1", "q0", "q1"]
    assert out.failed[0]["error"].to_pylist() == ["no"]
    assert out.notes == {}


def test_members_say_of_a_pair_how_probable_it_is_and_how_far_they_disagree(pairs):
    engines = Engines({"a": Says(lambda t: (float(len(t)),)), "b": Says(lambda t: (-float(len(t)),))})
    out = run_stage(Score(ensemble=(A, B), at="pair"), pairs, engines=engines).table
    assert out["score_p"].to_pylist() == pytest.approx([0.5] * 3)
    assert out["score_bald"].to_pylist()[2] == 0.0
    assert out["score_bald"].to_pylist()[1] > out["score_bald"].to_pylist()[0] > 0
    assert out["chosen_score"].to_pylist() == [0.0] * 3


def test_dropout_asks_with_seeds_that_follow_from_the_builds_seed(responses):
    engine = Says(lambda asked: (float(asked[1] % 1000),))
    stage = Score.model_validate({"dropout": {"model": A, "passes": 5}})
    one, same, other = (
        run_stage(stage, responses, seed=s, engines=Engines({"a": engine})).table for s in (1, 1, 2)
    )
    assert one.equals(same)
    assert one["score"].to_pylist() != other["score"].to_pylist()
    assert len(set(one["score"].to_pylist())) == 1  # every row is asked with the same seeds
    assert one["score_n"].to_pylist() == [5] * 5
    assert Score(model=A).draws() is False


# log-probs


def test_log_probs_come_with_their_tokens_and_fingerprint(responses):
    engines = Engines({"a": Says(lambda t: LogProb(-2.0 * len(t), len(t)))})
    units = {"sum": [-2.0, -4.0], "mean": [-2.0, -2.0], "perplexity": [math.exp(2)] * 2}
    for unit, wanted in units.items():
        stage = Score.model_validate({"log_prob": {"model": A, "unit": unit}, "as": "logp"})
        out = run_stage(stage, responses, engines=engines).table
        assert out["logp"].to_pylist()[:2] == pytest.approx(wanted)
        assert out["logp_tokens"].to_pylist() == [1, 2, 3, 4, 1]
        assert set(out["logp_fingerprint"].to_pylist()) == {"print of a"}


def test_an_implicit_reward_is_what_the_policy_finds_likelier(responses):
    policy, reference = Says(lambda t: LogProb(-1.0, len(t))), Says(lambda t: LogProb(-3.0, len(t)))
    engines = Engines({"a": policy, "b": reference})
    stage = Score.model_validate({"implicit": {"policy": A, "reference": B, "beta": 0.5}})
    out = run_stage(stage, responses, engines=engines).table
    assert out["score"].to_pylist() == [1.0] * 5
    assert set(out["score_fingerprint"].to_pylist()) == {"print of a/print of b"}
    each = Score.model_validate({"implicit": {"policy": A, "reference": B, "beta": 0.5, "per_token": True}})
    scores = run_stage(each, responses, engines=engines).table["score"].to_pylist()
    assert scores == pytest.approx([1.0, 0.5, 1 / 3, 0.25, 1.0])


def test_models_that_count_other_tokens_are_refused(responses):
    stage = Score.model_validate({"implicit": {"policy": A, "reference": B}})
    same, other = Says(lambda t: LogProb(-1.0, 2)), Says(lambda t: LogProb(-1.0, 2), "v/another template")
    with pytest.raises(ContractError, match="different vocabularies or chat templates"):
        run_stage(stage, responses, engines=Engines({"a": same, "b": other}))
    counts = Says(lambda t: LogProb(-1.0, 3))
    with pytest.raises(ContractError, match="count 2 and 3 tokens"):
        run_stage(stage, responses, engines=Engines({"a": same, "b": counts}))


def test_a_log_prob_that_is_missing_is_no_score(responses):
    answers = {"bb": Failure("too long"), "ccc": LogProb(-math.inf, 3), "dddd": LogProb(math.nan, 4)}
    engines = Engines({"a": Says(lambda t: answers.get(t, LogProb(-1.0, 1)))})
    out = run_stage(Score.model_validate({"log_prob": {"model": A}}), responses, engines=engines)
    assert out.table["score"].to_pylist() == [-1.0, None, None, -1.0]
    assert out.notes == {"score/not-finite": 2}
    assert out.failed[0]["error"].to_pylist() == ["too long"]


# preferences


def circle(text):
    at = "rps".index(text)
    return (math.cos(2 * math.pi * at / 3), math.sin(2 * math.pi * at / 3))


def test_preferences_that_go_round_in_circles_are_measured(make_responses):
    table = make_responses({"p": [None] * 3, "q": [None]}, {"p": list("rps"), "q": ["r"]})
    stage = Score.model_validate({"preference": {"model": A}, "as": "wins"})
    out = run_stage(stage, table, engines=Engines({"a": Says(circle)}))
    assert out.table["wins"].to_pylist() == [pytest.approx(0.5)] * 3 + [None]
    assert out.table["wins_pool"].to_pylist() == [2, 2, 2, 0]
    assert out.table["wins_cyclic"].to_pylist() == [pytest.approx(1)] * 3 + [None]
    assert out.notes == {"score/triples": 1, "score/cyclic-triples": 1}


def test_a_pair_has_its_preference_and_a_pair_of_equals_is_even(make_pairs):
    pairs = make_pairs(chosen=["r", "p", "s"], rejected=["p", "r", "s"])
    stage = Score.model_validate({"preference": {"model": A, "temperature": 1.0}, "at": "pair"})
    out = run_stage(stage, pairs, engines=Engines({"a": Says(circle)})).table
    assert out["score_margin"].to_pylist() == pytest.approx([0.866025, -0.866025, 0.0], abs=1e-6)
    assert out["score_p"].to_pylist() == pytest.approx([0.703918, 1 - 0.703918, 0.5], abs=1e-6)
    assert out["score_margin"].to_pylist()[2] == 0.0


def test_a_response_without_a_vector_takes_no_part_in_its_pool(make_responses):
    table = make_responses({"p": [None] * 3}, {"p": ["a", None, "bb"]})
    engine = Says(lambda t: (float(len(t)), 1.0))
    out = run_stage(
        Score.model_validate({"preference": {"model": A, "temperature": 1.0}}),
        table,
        engines=Engines({"a": engine}),
    ).table
    lower, higher = 1 / (1 + math.e), math.e / (1 + math.e)
    assert out["score"].to_pylist() == [pytest.approx(lower), None, pytest.approx(higher)]
    with pytest.raises(EngineError, match="gives 2 numbers for a response, and 4 are named"):
        run_stage(
            Score.model_validate({"preference": {"model": A, "planes": 2}}),
            table,
            engines=Engines({"a": engine}),
        )


# similarity


def test_similarity_to_the_reference_asks_for_each_text_once(responses):
    engine = Says(lambda t: (1.0, 0.0) if t in "ae" else (0.0, 2.0))
    stage = Score.model_validate({"similarity": {"model": A}, "as": "near"})
    out = run_stage(stage, responses, engines=Engines({"a": engine}))
    assert out.table["near"].to_pylist() == [1.0, 0.0, 1.0, None, 1.0]
    assert sorted(engine.seen) == ["a", "bb", "ccc", "dddd", "e", "x"]
    assert out.notes == {}


def test_the_sides_of_a_pair_are_compared_with_each_other(pairs):
    engine = Says(lambda t: (float(len(t)), 1.0))
    stage = Score.model_validate({"similarity": {"model": A, "to": "other"}, "at": "pair", "as": "near"})
    near = run_stage(stage, pairs, engines=Engines({"a": engine})).table["near"].to_pylist()
    assert near[0] == pytest.approx(3 / math.sqrt(10))
    assert near[2] == 1.0


def test_a_vector_without_a_direction_is_no_similarity_and_a_failure_sets_aside(responses):
    answers = {"a": (0.0, 0.0), "e": Failure("down")}
    engines = Engines({"a": Says(lambda t: answers.get(t, (1.0, 0.0)))})
    out = run_stage(
        Score.model_validate({"similarity": {"model": A, "to": "prompt"}}), responses, engines=engines
    )
    assert out.table["score"].to_pylist() == [None, 1.0, 1.0, 1.0]
    assert out.notes == {"score/not-finite": 1}
    assert out.failed[0]["error"].to_pylist() == ["down"]


def test_equal_texts_have_equal_scores_by_every_scorer(make_responses):
    table = make_responses({"p": [None] * 3}, {"p": ["same", "same", "other"]})
    for settings in STAGES:
        stage = Score.model_validate(settings)
        column = run_stage(stage, table, engines=FAKE).table[stage.into].to_pylist()
        assert column[0] == column[1]
        assert column[0] is not None
        assert np.isfinite(column[0])
