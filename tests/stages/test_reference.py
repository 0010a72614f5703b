import pyarrow as pa
import pytest

from prefkit.engines import Engines, Failure, LogProb, Model
from prefkit.engines.fake import FakeEngine
from prefkit.errors import EngineError
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
