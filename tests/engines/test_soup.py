"""Soups: the average of two models' weights, and who may be averaged."""

import json
from pathlib import Path

import pytest
import torch

from prefkit.engines import Conversation, Message, Model, in_order
from prefkit.engines.chat import reference_fingerprint
from prefkit.engines.placement import Placement, open_engines
from prefkit.engines.soup import blend
from prefkit.engines.transformers_engine import TransformersEngine
from prefkit.engines.weights import identity, load
from prefkit.errors import EngineError
from prefkit.keys import models_in, stage_key
from prefkit.stages.reference import Reference

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "objectives.json").read_text())
CPU = torch.device("cpu")
HI = Conversation((Message("user", "say hi"),), (Message("assistant", "hello world"),))


@pytest.fixture(scope="module")
def two(tmp_path_factory, tokenizer_for, llama_for):
    """Two models of one base with different weights, and a third with another template."""
    from transformers import LlamaForCausalLM

    root = tmp_path_factory.mktemp("soup")
    for name, shift in (("one", 0.0), ("two", 0.5), ("other", 0.0)):
        tokenizer = tokenizer_for()
        network = llama_for(tokenizer, LlamaForCausalLM, tie_word_embeddings=True)
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(shift * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
        if name == "other":
            tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>", "<|end|> ")
        network.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    wide = llama_for(tokenizer_for(), LlamaForCausalLM, num_hidden_layers=1)
    wide.save_pretrained(root / "wide")
    tokenizer_for().save_pretrained(root / "wide")
    return root


def soup(root, other="two", weight=0.5, one="one"):
    return Model(id=str(root / one), soup={"id": str(root / other), "weight": weight})


def test_the_average_of_two_weights():
    # golden A27: the soup of (.2, -.4) and (.6, 0) at one half
    one, other = torch.nn.Linear(2, 1, bias=False), torch.nn.Linear(2, 1, bias=False)
    for layer, values in ((one, [[0.2, -0.4]]), (other, [[0.6, 0.0]])):
        layer.weight.data = torch.tensor(values)
    blend(one, other, 0.5)
    assert one.weight.tolist() == [pytest.approx(GOLDEN["A27.salsa.soup"])]


def test_weight_is_the_share_of_the_second_and_tied_weights_count_once(two):
    plain = [load(Model(id=str(two / name)), "language", CPU, "float32").network for name in ("one", "two")]
    mixed = load(soup(two, weight=0.25), "language", CPU, "float32").network
    one, other = (dict(network.named_parameters()) for network in plain)
    for name, found in mixed.named_parameters():
        torch.testing.assert_close(found, 0.75 * one[name] + 0.25 * other[name])
    assert mixed.get_output_embeddings().weight is mixed.get_input_embeddings().weight


def test_a_soup_of_equal_models_is_the_model(two):
    engine = TransformersEngine(device="cpu", batch_tokens=256)
    plain, mixed = Model(id=str(two / "one")), soup(two, other="one", weight=0.3)
    logps = [in_order(engine.log_probs(model, [HI]), 1)[0].logp for model in (plain, mixed)]
    assert logps[1] == pytest.approx(logps[0], abs=1e-4)


def test_the_fingerprint_carries_both_models_and_the_share(two):
    made = [soup(two), soup(two, weight=0.4), soup(two, other="one"), soup(two, other="one", one="two")]
    assert len({identity(model) for model in [*made, Model(id=str(two / "one"))]}) == 5
    engine = TransformersEngine(device="cpu")
    tokenizer = load(Model(id=str(two / "one")), "language", CPU, "float32").tokenizer
    wanted = reference_fingerprint(tokenizer, identity(made[0]), "torch.float32")
    assert engine.fingerprint(made[0]) == wanted
    assert identity(Model(id="a/b", soup={"id": "c/d"})) != identity(Model(id="a/b"))


@pytest.mark.parametrize(
    ("other", "what"),
    [("wide", "different architectures: 'num_hidden_layers' differs"), ("other", "different vocabularies")],
)
def test_models_that_do_not_match_are_refused(two, other, what):
    with pytest.raises(EngineError, match=what):
        load(soup(two, other=other), "language", CPU, "float32")


def test_a_soup_runs_in_process_alone_beside_its_first_model_on_a_server():
    models = {"one": Model(id="a"), "soup": Model(id="a", soup={"id": "b"})}
    engines = open_engines(models, Placement({"one": "http://localhost:1/v1"}))
    assert set(engines.serving) == {"a", "a + 0.5 b"}
    with pytest.raises(
        EngineError, match="'soup' is a soup, which engine 'http://localhost:1/v1' cannot make"
    ):
        open_engines(models, Placement({"soup": "http://localhost:1/v1"}))


def test_plain_models_have_the_identity_they_always_had_and_soups_their_own():
    plain, mixed = Model(id="a"), Model(id="a", soup={"id": "b"})
    assert plain.model_dump() == {"id": "a", "revision": "main"}
    assert Model.model_validate_json(mixed.model_dump_json()) == mixed
    assert list(models_in(Reference(model=mixed))) == [mixed]
    keys = {stage_key(Reference(model=model), 0, ["x"]) for model in (plain, mixed)}
    assert len(keys) == 2
