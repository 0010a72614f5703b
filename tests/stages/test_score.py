import math

import pyarrow as pa
import pytest
from pydantic import ValidationError

from prefkit.engines import Engines, Failure, Model
from prefkit.engines.fake import FakeEngine
from prefkit.errors import ContractError, EngineError
from prefkit.stages.score import Score
from prefkit.testing import check_stage, run_stage

MODEL = Model(id="m")
FAKE = Engines({"m": FakeEngine()})


class Gives:
    """Answers with what a function makes of the response's text."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def rewards(self, model, conversations):
        self.asked += conversations
        for position, conversation in enumerate(conversations):
            yield position, self.answer(conversation.response[-1].content)


@pytest.fixture
def responses(make_responses) -> pa.Table:
    return make_responses(
        {"p": [None, None], "q": [None, None, None]}, {"p": ["a", "bb"], "q": ["ccc", "", "e"]}
    )


def test_every_scorer_keeps_the_laws(responses, make_responses, ratings):
    check_stage(Score(model=MODEL), responses, engines=FAKE)
    check_stage(Score(rule="length", into="size"), responses)
    rated = responses.append_column(
        "ratings", ratings({"x": 1.0, "y": 2.0}, {"x": None}, {}, None, {"z": math.nan})
    )
    check_stage(Score(ratings="mean"), rated)
    check_stage(Score(ratings="median", into="middle"), rated)


def test_a_recipe_spells_the_column_as():
    stage = Score.model_validate({"rule": "length", "as": "size"})
    assert stage == Score(rule="length", into="size")
    assert list(stage.writes()) == ["size"]
    assert Score.model_validate_json(stage.model_dump_json()) == stage
    assert "as" in Score.model_json_schema()["properties"]
    with pytest.raises(ValidationError):
        Score.model_validate({"rule": "length", "as": "two words"})


@pytest.mark.parametrize(
    "settings", [{}, {"rule": "length", "ratings": "mean"}, {"model": MODEL, "rule": "length"}]
)
def test_a_step_has_exactly_one_scorer(settings):
    with pytest.raises(ValidationError, match="exactly one of model, rule, ratings, ensemble"):
        Score(**settings)


def test_a_rule_scores_each_response(responses):
    out = run_stage(Score(rule="length"), responses).table
    assert out["score"].to_pylist() == [1.0, 2.0, 3.0, 0.0, 1.0]


def test_a_reward_model_scores_each_response_with_its_prompt(responses):
    engine = Gives(lambda text: (float(len(text)),))
    out = run_stage(Score(model=MODEL, into="help"), responses, engines=Engines({"m": engine})).table
    assert out["help"].to_pylist() == [1.0, 2.0, 3.0, 0.0, 1.0]
    assert engine.asked[0].prompt[0].content == "question p"


def test_what_is_not_finite_is_null_and_counted(responses):
    odd = {"a": math.nan, "bb": math.inf, "ccc": -math.inf, "": -2.5, "e": 1e300}
    out = run_stage(Score(model=MODEL), responses, engines=Engines({"m": Gives(lambda text: (odd[text],))}))
    assert out.table["score"].to_pylist() == [None, None, None, -2.5, 1e300]
    assert out.notes == {"score/not-finite": 3}


def test_a_response_that_is_null_has_no_score_and_costs_no_call(make_responses):
    table = make_responses({"p": [None, None]}, {"p": [None, "b"]})
    engine = Gives(lambda text: (1.0,))
    out = run_stage(Score(model=MODEL), table, engines=Engines({"m": engine}))
    assert out.table["score"].to_pylist() == [None, 1.0]
    assert len(engine.asked) == 1
    assert out.notes == {}


def test_a_failed_call_sets_its_row_aside(responses):
    engine = Gives(lambda text: Failure("down") if text == "bb" else (1.0,))
    out = run_stage(Score(model=MODEL), responses, engines=Engines({"m": engine}))
    assert out.table["id"].to_pylist() == ["p0", "q0", "q1", "q2"]
    assert out.failed[0]["id"].to_pylist() == ["p1"]
    assert out.failed[0]["error"].to_pylist() == ["down"]


def test_a_model_with_several_outputs_is_refused(responses):
    with pytest.raises(EngineError, match="gives 2 numbers"):
        run_stage(Score(model=MODEL), responses, engines=Engines({"m": Gives(lambda text: (1.0, 2.0))}))


def test_ratings_become_mean_and_spread(make_responses, ratings):
    table = make_responses({"p": [None] * 6})
    rows = ratings(
        {"x": 1.0, "y": 3.0}, {"x": 2.0}, {"x": None, "y": 4.0, "z": 5.0}, {}, None, {"x": math.inf}
    )
    out = run_stage(Score(ratings="mean", into="quality"), table.append_column("ratings", rows))
    assert out.table["quality"].to_pylist() == [2.0, 2.0, 4.5, None, None, None]
    spread = out.table["quality_std"].to_pylist()
    assert spread[0] == pytest.approx(math.sqrt(2))
    assert spread[1] is None
    assert spread[2] == pytest.approx(math.sqrt(0.5))
    assert spread[3:] == [None, None, None]
    assert out.notes == {"score/not-finite": 1}


@pytest.mark.parametrize("how", ["borda", "plackett-luce"])
def test_people_on_different_scales_are_heard_alike_when_their_orders_count(make_responses, ratings, how):
    table = make_responses({"p": [None] * 4, "q": [None] * 2})
    # x uses 1 to 3 and y 60 to 100; both put the second response first. z ties the two best. Nobody compares those of q.
    rows = ratings(
        {"x": 2.0, "y": 80.0, "z": 5.0},
        {"x": 3.0, "y": 100.0, "z": 5.0},
        {"x": 1.0, "y": 60.0, "z": 1.0},
        None,
        {"x": 1.0},
        {"y": 2.0},
    )
    rated = table.append_column("ratings", rows)
    scores = check_stage(Score(ratings=how), rated)["score"].to_pylist()
    assert scores[1] > scores[0] > scores[2]
    assert scores[3:] == [None, None, None]
    louder = ratings(
        {"x": 20.0, "y": 80.0, "z": 5.0},
        {"x": 30.0, "y": 81.0, "z": 5.0},
        {"x": -5.0, "y": 79.0, "z": 0.0},
        None,
        {"x": 1.0},
        {"y": 2.0},
    )
    again = run_stage(Score(ratings=how), table.append_column("ratings", louder)).table
    assert again["score"].to_pylist() == scores
    if how == "borda":
        # Of two others: x and y put it above both and one, z above one and a half.
        assert scores[:3] == pytest.approx([(1 + 1 + 1.5) / 6, (2 + 2 + 1.5) / 6, 0.0])
    else:
        assert sum(scores[:3]) == pytest.approx(0.0, abs=1e-9)


def test_orders_are_of_responses_alone():
    with pytest.raises(ValidationError, match="before they are paired"):
        Score(ratings="borda", at="pair")


def test_both_sides_of_a_pair_are_scored(make_pairs):
    pairs = make_pairs(chosen=["aa", "b"], rejected=["c", "dddd"])
    out = check_stage(Score(rule="length", into="size", at="pair"), pairs)
    assert out["chosen_size"].to_pylist() == [2.0, 1.0]
    assert out["rejected_size"].to_pylist() == [1.0, 4.0]
    check_stage(Score(model=MODEL, at="pair"), pairs, engines=FAKE)
    engine = Gives(lambda text: (float(len(text)),))
    scored = run_stage(Score(model=MODEL, at="pair"), pairs, engines=Engines({"m": engine})).table
    assert scored["chosen_score"].to_pylist() == [2.0, 1.0]
    assert Score(model=MODEL, at="pair").cost().calls == 2


def test_rules_at_pairs_read_the_columns_of_the_prompt(make_pairs):
    pairs = make_pairs(chosen=["A: 4", "A: 5"], rejected=["A: 5", "x"], reference_answer=["4", None])
    out = check_stage(Score(rule="math-answer", at="pair"), pairs)
    assert out["chosen_score"].to_pylist() == [1.0, None]
    assert out["rejected_score"].to_pylist() == [0.0, None]


def test_a_rule_whose_column_is_missing_says_who_writes_it(responses):
    with pytest.raises(ContractError, match="reads column 'reference_answer'") as caught:
        Score(rule="math-answer").check_schema(responses.schema)
    assert "`source` writes it" in caught.value.hint


def test_an_old_score_is_replaced_in_its_place(responses):
    again = run_stage(Score(rule="length"), responses).table
    assert again.column_names == responses.column_names
