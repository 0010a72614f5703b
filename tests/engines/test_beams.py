"""Beam search: the likeliest answers, through the engine and through the sample stage."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError

from prefkit.columns import MESSAGES
from prefkit.engines import Conversation, Engines, Message, Model, Request, in_order
from prefkit.engines.fake import FakeEngine
from prefkit.engines.filing import filed
from prefkit.engines.http import HttpEngine
from prefkit.engines.memo import Memo, Remembering
from prefkit.engines.spend import Spend
from prefkit.engines.toy import ToyCritic
from prefkit.engines.transformers_engine import TransformersEngine
from prefkit.errors import EngineError
from prefkit.stages.sample import Sample
from prefkit.testing import check_stage, run_stage

MODEL = Model(id="m")


def beams(text: str, width: int, max_tokens: int = 12) -> list[Request]:
    return [Request((Message("user", text),), max_tokens, beam=(at, width)) for at in range(width)]


def answered(engine, model, requests):
    return in_order(engine.generate(model, requests), len(requests))


def test_answers_come_best_first_with_the_log_prob_the_model_gives_them(policy):
    engine = TransformersEngine("cpu")
    found = answered(engine, policy, beams("say hi", 5))
    means = [answer.logp / answer.tokens for answer in found]
    assert means == sorted(means, reverse=True)
    assert len({answer.logp for answer in found}) == 5
    ended = [answer for answer in found if answer.finish == "stop"]
    asked = [Conversation((Message("user", "say hi"),), (Message("assistant", each.text),)) for each in ended]
    told = in_order(engine.log_probs(policy, asked), len(asked))
    assert [each.logp for each in told] == pytest.approx([each.logp for each in ended], abs=1e-3)


def test_a_search_wider_than_the_vocabulary_finds_the_likeliest_two_tokens_of_all(policy, folders):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folders.policy)
    network = AutoModelForCausalLM.from_pretrained(folders.policy, dtype="float32").eval()
    words = len(tokenizer)
    found = answered(TransformersEngine("cpu"), policy, beams("one", words, max_tokens=2))
    chat = [{"role": "user", "content": "one"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    with torch.no_grad():
        first = network(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        every = torch.tensor([[*ids, word] for word in range(words)])
        second = network(every).logits[:, -1].log_softmax(-1)
    both = (first[:, None] + second).double().numpy() / 2
    ends = tokenizer.eos_token_id
    both[ends] = -np.inf  # ended already
    best = max(float(both.max()), float(first[ends]))
    assert found[0].logp / found[0].tokens == pytest.approx(best, abs=1e-4)


def test_a_search_does_not_depend_on_what_else_is_asked(policy):
    engine = TransformersEngine("cpu")
    alone = answered(engine, policy, beams("say hi", 3))
    drawn = [Request((Message("user", "one two"),), 8, seed=seed) for seed in range(3)]
    plain = answered(engine, policy, drawn)
    mixed = answered(engine, policy, [drawn[0], *beams("say hi", 3), drawn[1], *beams("bye", 2), drawn[2]])
    assert mixed[1:4] == alone
    assert [mixed[0], mixed[4], mixed[7]] == plain
    assert answered(engine, policy, beams("say hi", 3)[2:]) == alone[2:]


def test_a_search_one_wide_is_greedy_and_a_text_too_long_fails(policy):
    engine = TransformersEngine("cpu")
    (one,) = answered(engine, policy, beams("say hi", 1))
    (greedy,) = answered(engine, policy, [Request((Message("user", "say hi"),), 12, 0.0)])
    assert (one.text, one.tokens, one.finish) == (greedy.text, greedy.tokens, greedy.finish)
    assert one.logp == pytest.approx(greedy.logp, abs=1e-4)
    long = answered(engine, policy, beams("hi " * 400, 2))
    assert [answer.too_long for answer in long] == [True, True]


def test_the_stage_writes_them_in_order_and_needs_no_seed():
    prompts = pa.table(
        {
            "id": ["p", "q"],
            "prompt_id": ["p", "q"],
            "prompt": pa.array([[{"role": "user", "content": text}] for text in ("a", "b")], MESSAGES),
        }
    )
    stage, engines = Sample(model=MODEL, n=3, beams=True), Engines({"m": FakeEngine()})
    rows = check_stage(stage, prompts, engines=engines)
    assert rows["index"].to_pylist() == [0, 1, 2] * 2
    assert len({turns[0]["content"] for turns in rows["response"].to_pylist()}) > 3
    other = run_stage(stage, prompts, seed=5, engines=engines).table
    assert other.equals(rows)
    assert "beams" not in Sample(model=MODEL).model_dump()
    with pytest.raises(ValidationError, match="leave out temperature, stop"):
        Sample(model=MODEL, beams=True, temperature=0.5, stop="x")


def test_each_place_is_remembered_and_what_was_asked_before_there_were_beams_is_found(tmp_path):
    plain = Request((Message("user", "a"),), 8, seed=3)
    assert filed(plain) == tuple(plain)[:8]
    chosen = plain._replace(choices=("x", "y"))
    assert filed(chosen) == tuple(chosen)[:10]
    assert filed(plain._replace(beam=(0, 2))) == (*plain[:10], (0, 2))
    engine = FakeEngine(tmp_path / "log")
    asking = Remembering(engine, Memo(tmp_path / "memo.sqlite"), Spend(), lambda model: model.id)
    first = answered(asking, MODEL, beams("a", 3))
    assert answered(asking, MODEL, beams("a", 3)) == first
    assert len((tmp_path / "log").read_text().splitlines()) == 3
    assert len({answer.text for answer in first}) > 1


@pytest.mark.parametrize("engine", [ToyCritic(), HttpEngine("http://127.0.0.1:9/v1")])
def test_an_engine_that_only_samples_says_so(engine):
    with pytest.raises(EngineError, match="cannot search by beams"):
        list(engine.generate(MODEL, beams("a", 2)))
