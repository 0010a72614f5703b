import pyarrow as pa
import pytest

from prefkit.engines import Engines, Failure, LogProb, Model
from prefkit.engines.fake import FakeEngine
from prefkit.errors import ContractError, EngineError
from prefkit.stages.reference import Reference
from prefkit.testing import check_stage, run_stage

MODEL = Model(id="m")


class Counts:
    """Gives minus the number of characters as log-prob; fails on `bad`."""

    def __init__(self):
        self.asked = []

    def log_probs(self, model, conversations):
        self.asked += conversations
        for position, conversation in enumerate(conversations):
            text = conversation.response[-1].content
            yield position, Failure("too long") if text == "bad" else LogProb(-float(len(text)), 1)

    def fingerprint(self, model):
        return f"print of {model.id}"


def test_it_keeps_the_laws_of_a_map_stage(make_pairs):
    check_stage(Reference(model=MODEL), make_pairs(3), engines=Engines({"m": FakeEngine()}))


def test_both_sides_get_their_log_prob_and_the_fingerprint_of_who_gave_it(make_pairs):
    pairs = make_pairs(chosen=["a", "bb"], rejected=["ccc", "dddd"])
    engine = Counts()
    out = run_stage(Reference(model=MODEL), pairs, engines=Engines({"m": engine})).table
    assert out["ref_chosen_logp"].to_pylist() == [-1.0, -2.0]
    assert out["ref_rejected_logp"].to_pylist() == [-3.0, -4.0]
    assert out["ref_fingerprint"].to_pylist() == ["print of m"] * 2
    assert [asked.prompt[0].content for asked in engine.asked] == ["question p0", "question p1"] * 2


def test_tools_reach_the_engine(make_pairs):
    pairs = make_pairs(2).append_column("tools", pa.array(["[]", None]))
    engine = Counts()
    run_stage(Reference(model=MODEL), pairs, engines=Engines({"m": engine}))
    assert [asked.tools for asked in engine.asked] == ["[]", None, "[]", None]


def test_a_row_fails_if_either_side_does(make_pairs):
    pairs = make_pairs(chosen=["a", "bad", "a", "bad"], rejected=["b", "b", "bad", "bad"])
    out = run_stage(Reference(model=MODEL), pairs, engines=Engines({"m": Counts()}))
    assert out.table["id"].to_pylist() == ["r000"]
    assert out.failed[0]["error"].to_pylist() == [
        "chosen: too long",
        "rejected: too long",
        "chosen: too long",
    ]


def test_an_engine_that_cannot_say_what_its_numbers_depend_on_is_refused(make_pairs):
    class Mute:
        def log_probs(self, model, conversations):
            yield from ((at, LogProb(-1.0, 1)) for at, _ in enumerate(conversations))

    with pytest.raises(EngineError, match="cannot say what its log-probs depend on"):
        run_stage(Reference(model=MODEL), make_pairs(2), engines=Engines({"m": Mute()}))


def test_a_row_costs_two_calls():
    assert Reference(model=MODEL).cost().calls == 2


def test_a_pair_too_long_for_the_model_fails_or_is_dropped_and_counted(pairs):
    class Short:
        def log_probs(self, model, conversations):
            for at, talk in enumerate(conversations):
                long = talk.response[0].content == "hello"
                yield at, Failure("too many tokens", too_long=True) if long else LogProb(-1.0, 1)

        def fingerprint(self, model):
            return "short"

    model = Model(id="test/short")
    engines = Engines({model.id: Short()})
    failed = run_stage(Reference(model=model), pairs, engines=engines)
    assert (failed.table.num_rows, failed.failed[0].num_rows, failed.dropped) == (2, 1, [])
    stage = Reference(model=model, too_long="drop")
    dropped = run_stage(stage, pairs, engines=engines)
    assert (dropped.failed, dropped.notes) == ([], {"dropped/too-long": 1})
    assert check_stage(stage, pairs, engines=engines)["id"].to_pylist() == ["a", "c"]


def test_earlier_policies_are_kept_latest_first_and_leave_the_reference_alone(make_pairs):
    pairs = make_pairs(chosen=["a", "bb"], rejected=["ccc", "dddd"], ref_chosen_logp=[-9.0, -9.0])
    engines = Engines({"old": Counts(), "new": Counts()})
    for name in ("old", "new"):
        stage = Reference(model=Model(id=name), history=True)
        assert set(stage.writes()) == {"ref_history"}
        pairs = check_stage(stage, pairs, engines=engines)
    assert pairs["ref_history"][1].as_py() == [
        {"model": f"print of {name}", "chosen_logp": -2.0, "rejected_logp": -4.0} for name in ("new", "old")
    ]
    assert pairs["ref_chosen_logp"].to_pylist() == [-9.0, -9.0]
    assert "ref_fingerprint" not in pairs.column_names


def test_a_policy_is_in_the_history_once(make_pairs):
    stage, engines = Reference(model=MODEL, history=True), Engines({"m": Counts()})
    once = run_stage(stage, make_pairs(2), engines=engines).table
    with pytest.raises(ContractError, match="has the log-probs of this policy already"):
        run_stage(stage, once, engines=engines)


def test_a_row_without_a_history_begins_one(make_pairs):
    pairs = make_pairs(2, ref_history=[None, []])
    out = check_stage(Reference(model=MODEL, history=True), pairs, engines=Engines({"m": Counts()}))
    assert [len(row) for row in out["ref_history"].to_pylist()] == [1, 1]


def test_a_row_that_fails_adds_nothing_to_its_history(make_pairs):
    pairs = make_pairs(chosen=["bad", "a"], rejected=["b", "b"])
    out = run_stage(Reference(model=MODEL, history=True), pairs, engines=Engines({"m": Counts()}))
    assert out.table["id"].to_pylist() == ["r001"]
    assert out.failed[0]["error"].to_pylist() == ["chosen: too long"]


def test_a_soup_is_a_reference_of_its_own(make_pairs):
    soup = Model(id="m", soup={"id": "n", "weight": 0.25})
    engines = Engines({"m": FakeEngine(), soup.served_as: FakeEngine()})
    made = [
        check_stage(Reference(model=model), make_pairs(3), engines=engines) for model in (Model(id="m"), soup)
    ]
    for name in ("ref_chosen_logp", "ref_fingerprint"):
        assert made[0][name].to_pylist() != made[1][name].to_pylist()
