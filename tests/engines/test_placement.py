import shutil
from pathlib import Path

import pytest

from prefkit.engines import (
    Completion,
    Conversation,
    Embeds,
    Generates,
    LogProbs,
    Message,
    Model,
    NextTokens,
    Request,
    Rewards,
)
from prefkit.engines.http import HttpEngine
from prefkit.engines.placement import ENGINES, Placement, model_fingerprint, open_engines
from prefkit.errors import EngineError, PrefkitError

POLICY, JUDGE = Model(id="org/policy"), Model(id="org/judge")
ASK = [Request((Message("user", "hi"),), 8)]


def test_nothing_placed_is_served_in_process():
    engines = open_engines({"policy": POLICY}, Placement())
    assert engines.versions()["org/policy"].startswith("transformers 5")


def test_a_model_is_placed_by_its_name_or_its_id(tmp_path):
    for name in ("policy", "org/policy"):
        engines = open_engines(
            {"policy": POLICY, "judge": JUDGE}, Placement({name: "fake"}), tmp_path / "memo"
        )
        assert engines.versions()["org/policy"] == "fake"
        assert isinstance(engines.generate(POLICY, ASK)[0], Completion)


def test_the_toy_critic_needs_no_placement():
    critic = Model(id="prefkit/toy-critic")
    assert open_engines({"critic": critic}, Placement()).versions() == {critic.id: "toy-critic"}


def test_an_address_stays_out_of_what_is_recorded():
    placement = Placement({"judge": "http://user:secret@host:8000/v1"})
    assert open_engines({"judge": JUDGE}, placement).versions() == {"org/judge": "openai-compatible server"}


def test_placing_what_is_no_model_names_the_nearest():
    with pytest.raises(EngineError, match="places 'polcy'") as caught:
        open_engines({"policy": POLICY}, Placement({"polcy": "fake"}))
    assert caught.value.hint == "did you mean 'policy'?"


def test_an_engine_that_does_not_exist_names_those_that_do():
    with pytest.raises(PrefkitError, match="no engine is called 'tranformers'") as caught:
        open_engines({"policy": POLICY}, Placement({"policy": "tranformers"}))
    assert "transformers" in caught.value.hint
    assert set(ENGINES.names()) >= {"transformers", "sentence-transformers", "fake", "toy-critic"}


def test_one_model_has_one_engine():
    models = {"policy": POLICY, "reference": POLICY}
    with pytest.raises(EngineError, match="is placed on both 'fake' and 'host/v1'"):
        open_engines(models, Placement({"policy": "fake", "reference": "http://u:p@host/v1"}))
    open_engines(models, Placement({"org/policy": "fake"}))


def test_fake_answers_are_never_served_as_the_models_own(tmp_path, folders):
    model = Model(id=str(folders.policy))
    memo = tmp_path / "memo"
    fake = open_engines({"m": model}, Placement({"m": "fake"}), memo).generate(model, ASK)
    real = open_engines({"m": model}, Placement(device="cpu", batch_tokens=64), memo).generate(model, ASK)
    assert fake != real
    again = open_engines({"m": model}, Placement(device="cpu"), memo)
    assert again.generate(model, ASK) == real
    assert again.spend.counts == {"remembered": 1}


def test_the_fake_engine_is_steered_by_the_environment(tmp_path):
    environment = {"PREFKIT_FAKE_LOG": str(tmp_path / "log"), "PREFKIT_FAKE_FAILING": "hi"}
    talk = [Conversation(ASK[0].messages, (Message("assistant", "x"),)), Conversation((), ())]
    engines = open_engines({"m": POLICY}, Placement({"m": "fake"}), environment=environment)
    failed, answered = engines.rewards(POLICY, talk)
    assert "fails on 'hi'" in failed.error
    assert len(answered) == 1
    assert len((tmp_path / "log").read_text().splitlines()) == 1


def test_refresh_asks_again(tmp_path):
    for refresh, calls in ((False, 1), (False, 0), (True, 1)):
        engines = open_engines({"m": POLICY}, Placement({"m": "fake"}), tmp_path / "memo", refresh=refresh)
        engines.generate(POLICY, ASK)
        assert engines.spend.counts["calls"] == calls


def test_a_fingerprint_is_of_the_files_that_make_the_model(folders, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(folders.policy, folder)
    before = model_fingerprint(Model(id=str(folder)))
    assert before == model_fingerprint(Model(id=str(folders.policy)))
    assert before != model_fingerprint(Model(id=str(folders.reward)))
    (folder / "notes.md").write_text("nothing to do with it")
    assert model_fingerprint(Model(id=str(folder))) == before
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert model_fingerprint(Model(id=str(folder))) != before


def test_a_model_on_the_hub_has_no_fingerprint_and_a_path_to_nowhere_is_an_error(tmp_path):
    assert model_fingerprint(POLICY) is None
    assert model_fingerprint(Model(id="prefkit/toy-critic"))
    with pytest.raises(EngineError, match="there is no such folder"):
        model_fingerprint(Model(id=str(tmp_path / "nowhere")))
    with pytest.raises(EngineError, match="holds no model"):
        model_fingerprint(Model(id=str(tmp_path)))


def test_a_placement_can_be_made_without_a_word():
    assert Placement().exact
    assert Placement(engines={"a": "fake"}) == Placement(engines={"a": "fake"})


def test_the_page_of_engines_says_what_each_can_do():
    page = Path(__file__).parents[2] / "docs" / "engines.md"
    lines = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    told = {row[0].strip("`"): [cell != "no" for cell in row[2:]] for row in cells if len(row) == 7}
    classes = {name: ENGINES.get(name) for name in ENGINES.names()} | {"http://...": HttpEngine}
    abilities = (Generates, LogProbs, Rewards, Embeds, NextTokens)
    assert told == {
        name: [issubclass(kind, ability) for ability in abilities] for name, kind in classes.items()
    }
    assert len(told) == 6
