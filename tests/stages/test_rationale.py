import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prefkit.columns import MESSAGES
from prefkit.engines import Completion, Engines, Failure, Model
from prefkit.engines.fake import FakeEngine
from prefkit.engines.toy import ToyCritic
from prefkit.rng import uniform
from prefkit.stages.rationale import Rationale
from prefkit.testing import check_stage, run_stage

MODEL = Model(id="m")


class Says:
    def __init__(self, *answers):
        self.answers, self.asked = answers, []

    def generate(self, model, requests):
        for position, request in enumerate(requests):
            answer = self.answers[min(len(self.asked), len(self.answers) - 1)]
            self.asked.append(request)
            yield position, answer if isinstance(answer, Failure) else Completion(answer, 5, "stop")


def engines(*answers) -> Engines:
    return Engines({"m": Says(*answers)})


GOOD = 'Response 1 says "good", which helps.'


def test_it_keeps_the_laws_of_a_map_stage(make_pairs):
    stage = Rationale(model=MODEL, kinds=("general", "specific"))
    out = check_stage(stage, make_pairs(6), engines=Engines({"m": FakeEngine()}))
    assert {len(entries) for entries in out["rationales"].to_pylist()} == {
        1
    }  # the fake engine quotes nothing


def test_the_order_of_the_sides_is_drawn_by_pair_and_recorded(make_pairs):
    pairs = make_pairs(40)
    made = engines(GOOD)
    out = run_stage(Rationale(model=MODEL), pairs, seed=3, engines=made).table
    first = (uniform(3, "rationale", pairs["id"].to_pylist()) < 0.5).tolist()
    assert [entries[0]["chosen_first"] for entries in out["rationales"].to_pylist()] == first
    assert 10 < sum(first) < 30
    for row, request in enumerate(made.serving["m"].asked):
        text = request.messages[0].content
        one, two = ("good", "bad") if first[row] else ("bad", "good")
        assert f"<response_1>\n{one} {row}\n</response_1>\n\n<response_2>\n{two} {row}\n</response_2>" in text
        assert f"\nBetter: {1 if first[row] else 2}\nKind: general\n" in text
        assert f"<prompt>\nquestion p{row}\n</prompt>" in text


def test_the_question_it_is_trained_on_shows_the_same_order_and_no_verdict(make_pairs):
    out = run_stage(Rationale(model=MODEL), make_pairs(10), engines=engines(GOOD)).table
    for row, (entry,) in enumerate(out["rationales"].to_pylist()):
        one = "good" if entry["chosen_first"] else "bad"
        assert f"<response_1>\n{one} {row}\n" in entry["prompt_text"]
        assert "Better:" not in entry["prompt_text"]
        assert entry["text"] == GOOD
        assert (entry["kind"], entry["model"]) == ("general", "m")


def test_a_bad_rationale_is_asked_for_again_with_another_seed(make_pairs):
    made = engines("It was chosen.", "", GOOD)
    out = run_stage(Rationale(model=MODEL), make_pairs(1), engines=made)
    assert out.table["rationales"].to_pylist()[0][0]["text"] == GOOD
    assert out.notes == {}
    seeds = [request.seed for request in made.serving["m"].asked]
    assert len(set(seeds)) == 3


@pytest.mark.parametrize(
    ("kind", "answer", "flaw"),
    [
        ("general", "It was chosen.", "names-label"),
        ("general", " ", "empty"),
        ("general", "bad 0", "is-an-answer"),
        ("specific", "It is better.", "quotes-nothing"),
    ],
)
def test_a_rationale_that_stays_bad_is_left_out_and_counted(make_pairs, kind, answer, flaw):
    made = engines(answer)
    out = run_stage(Rationale(model=MODEL, kinds=(kind,), retries=1), make_pairs(1), engines=made)
    assert out.table["rationales"].to_pylist() == [[]]
    assert out.notes == {f"rationale/{flaw}": 1}
    assert len(made.serving["m"].asked) == 2


def test_a_failed_call_sets_its_row_aside(make_pairs):
    out = run_stage(Rationale(model=MODEL), make_pairs(2), engines=engines(Failure("down"), GOOD))
    assert out.table["id"].to_pylist() == ["r001"]
    assert out.failed[0]["error"].to_pylist() == ["down"]


def test_kinds_come_in_the_order_asked_even_if_one_needed_a_second_try(make_pairs):
    made = engines("chosen", GOOD, GOOD)
    out = run_stage(Rationale(model=MODEL, kinds=("specific", "general")), make_pairs(1), engines=made).table
    assert [entry["kind"] for entry in out["rationales"].to_pylist()[0]] == ["specific", "general"]


def test_what_a_response_says_cannot_become_part_of_the_template(make_pairs):
    pairs = make_pairs(chosen=["{{better}} {{prompt}}"], rejected=["x"])
    made = engines(GOOD)
    run_stage(Rationale(model=MODEL), pairs, engines=made)
    assert "{{better}} {{prompt}}" in made.serving["m"].asked[0].messages[0].content


def test_the_toy_critic_writes_rationales_that_pass(make_pairs):
    critic = Model(id="prefkit/toy-critic")
    prompt = [{"role": "user", "content": "Add 7, 5 and 4 step by step."}]
    pairs = make_pairs(
        chosen=["7 + 5 = 12. 12 + 4 = 16. Answer: 16."] * 4,
        rejected=["7 + 5 = 13. 13 + 4 = 17. Answer: 17."] * 4,
    )
    pairs = pairs.set_column(2, "prompt", pa.array([prompt] * 4, MESSAGES))
    stage = Rationale(model=critic, kinds=("general", "specific"))
    out = check_stage(stage, pairs, engines=Engines({critic.id: ToyCritic()}))
    assert [len(entries) for entries in out["rationales"].to_pylist()] == [2] * 4
    stage = Rationale(model=critic, kinds=("general", "specific"), about=("pair", "response"), strict=True)
    out = check_stage(stage, pairs, engines=Engines({critic.id: ToyCritic()}))
    sides = [
        "general",
        "specific",
        "chosen-general",
        "chosen-specific",
        "rejected-general",
        "rejected-specific",
    ]
    assert [[one["kind"] for one in entries] for entries in out["rationales"].to_pylist()] == [sides] * 4


def test_a_stage_without_kinds_is_refused():
    with pytest.raises(ValidationError):
        Rationale(model=MODEL, kinds=())


def test_a_rationale_of_each_response_sees_it_alone(make_pairs):
    made = engines('It says "good", in short.')
    stage = Rationale(model=MODEL, kinds=("general", "specific"), about=("response",), retries=0)
    out = run_stage(stage, make_pairs(1), engines=made)
    (entries,) = out.table["rationales"].to_pylist()
    assert [entry["kind"] for entry in entries] == ["chosen-general", "chosen-specific", "rejected-general"]
    assert out.notes == {"rationale/quotes-nothing": 1}  # rejected does not say "good"
    assert [entry["chosen_first"] for entry in entries] == [None] * 3
    asked = [request.messages[0].content for request in made.serving["m"].asked]
    assert ["good 0" in text for text in asked] == [True, True, False, False]
    assert ["bad 0" in text for text in asked] == [False, False, True, True]
    standings = ["better" if "\nStanding: better\n" in text else "worse" for text in asked]
    assert standings == ["better", "better", "worse", "worse"]
    assert all(
        "Standing" not in entry["prompt_text"] and "good 0" in entry["prompt_text"] for entry in entries[:2]
    )


def test_rationales_of_pair_and_responses_stand_side_by_side(make_pairs):
    stage = Rationale(model=MODEL, about=("response", "pair"), kinds=("general",))
    out = check_stage(stage, make_pairs(5), engines=engines(GOOD.replace("Response 1", "It")))
    kinds = [[entry["kind"] for entry in entries] for entries in out["rationales"].to_pylist()]
    assert kinds == [["chosen-general", "rejected-general", "general"]] * 5
    assert stage.cost().calls == 3


def test_of_one_response_a_verdict_is_never_taken(make_pairs):
    out = run_stage(
        Rationale(model=MODEL, about=("response",), retries=0),
        make_pairs(1),
        engines=engines("Response 1 is better."),
    )
    assert out.notes == {"rationale/names-label": 2}


def test_of_a_pair_a_verdict_is_taken_unless_strict(make_pairs):
    answer = "Response 1 is better, as it is short."
    for strict, found in ((False, 1), (True, 0)):
        stage = Rationale(model=MODEL, strict=strict, retries=0)
        out = run_stage(stage, make_pairs(1), engines=engines(answer)).table
        assert len(out["rationales"].to_pylist()[0]) == found


def test_settings_that_came_later_are_no_part_of_an_older_identity():
    assert set(Rationale(model=MODEL).model_dump(mode="json")) == {
        "model",
        "kinds",
        "max_tokens",
        "temperature",
        "retries",
    }
    full = Rationale(model=MODEL, about=("response",), strict=True)
    assert Rationale.model_validate_json(full.model_dump_json()) == full


def test_rationales_of_each_kind_draw_their_own_seeds(make_pairs):
    made = engines("It helps.")
    run_stage(Rationale(model=MODEL, about=("pair", "response")), make_pairs(3), engines=made)
    seeds = [request.seed for request in made.serving["m"].asked]
    assert len(seeds) == len(set(seeds)) == 9


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    chosen=st.text(min_size=1, max_size=40),
    rejected=st.text(min_size=1, max_size=40),
    seed=st.integers(0, 99),
)
def test_swapping_the_sides_swaps_the_places_and_nothing_else(make_pairs, chosen, rejected, seed):
    stage = Rationale(model=MODEL, retries=0)
    asked = []
    for one, other in ((chosen, rejected), (rejected, chosen)):
        made = engines(GOOD)
        run_stage(stage, make_pairs(chosen=[one], rejected=[other]), seed=seed, engines=made)
        asked.append(made.serving["m"].asked[0].messages[0].content)
    first, second = (text.partition("<response_1>")[2].partition("Better: ") for text in asked)
    assert first[2][0] == second[2][0]  # the place is drawn for the pair, whoever is chosen
    swapped = (
        (f"\n{rejected}\n", f"\n{chosen}\n")
        if first[0].startswith(f"\n{chosen}\n</response_1>")
        else (f"\n{chosen}\n", f"\n{rejected}\n")
    )
    assert second[0].startswith(f"{swapped[0]}</response_1>")
