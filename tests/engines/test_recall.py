import pytest

from prefkit.engines import Engines, Message, Model, Request
from prefkit.engines.fake import FakeEngine
from prefkit.engines.memo import Memo, Remembering
from prefkit.engines.recall import Recalls, afresh, recalled
from prefkit.engines.spend import Spend
from prefkit.engines.weights import identity

MODEL = Model(id="m")
ASKED = [Request((Message("user", f"say {n}"),), 9) for n in range(4)]


@pytest.fixture
def engines(tmp_path):
    spend = Spend()
    return Engines({"m": Remembering(FakeEngine(), Memo(tmp_path / "memo"), spend, identity)}, spend)


def calls(engines):
    return engines.spend.snapshot()["m"].calls


def test_what_was_answered_is_recalled_and_nothing_else(engines):
    assert isinstance(engines.serving["m"], Recalls)
    assert recalled(engines, MODEL, ASKED) == [False] * 4
    engines.generate(MODEL, ASKED[:2])
    assert recalled(engines, MODEL, ASKED) == [True, True, False, False]
    assert recalled(engines, MODEL, []) == []


def test_an_engine_without_a_memory_recalls_nothing():
    engines = Engines({"m": FakeEngine()})
    assert recalled(engines, MODEL, ASKED) == [False] * 4
    assert afresh(engines, "x").serving == engines.serving


def test_a_memory_of_its_own_asks_again_once_and_leaves_the_other_alone(engines):
    first = engines.generate(MODEL, ASKED)
    apart = afresh(engines, "x")
    assert recalled(apart, MODEL, ASKED) == [False] * 4
    assert apart.generate(MODEL, ASKED) == first
    assert calls(engines) == 8  # of one purse
    apart.generate(MODEL, ASKED)
    engines.generate(MODEL, ASKED)
    afresh(engines, "x").generate(MODEL, ASKED)
    assert calls(engines) == 8
    afresh(engines, "y").generate(MODEL, ASKED)
    assert calls(engines) == 12


def test_refreshed_answers_are_asked_for_anew(tmp_path):
    def opened(*, refresh):
        return Engines(
            {"m": Remembering(FakeEngine(), Memo(tmp_path / "memo"), Spend(), identity, refresh=refresh)}
        )

    opened(refresh=False).generate(MODEL, ASKED)
    fresh = opened(refresh=True)
    assert recalled(fresh, MODEL, ASKED) == [False] * 4
    fresh.generate(MODEL, ASKED[:1])
    assert recalled(fresh, MODEL, ASKED) == [True, False, False, False]
