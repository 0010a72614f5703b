"""What an engine says of tokens beside those of the text."""

import numpy as np
import pytest
import torch

from prefkit.engines import Candidates, Conversation, Engines, Failure, LogProb, Message, in_order
from prefkit.engines.chat import encode, vocabulary_fingerprint
from prefkit.engines.memo import Memo, Remembering
from prefkit.engines.transformers_engine import TransformersEngine
from prefkit.engines.weights import identity
from prefkit.errors import EngineError

TEXTS = ["hello world", "one two three four " * 12, "x", "bye and say hi"]


def talk(text):
    return Conversation((Message("user", "say hi"),), (Message("assistant", text),))


@pytest.fixture(scope="module")
def engine():
    return TransformersEngine(device="cpu", batch_tokens=256)


@pytest.fixture
def whole(folders):
    """Return the log-probs of the whole vocabulary at each token of a response, by the model's own forward pass."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folders.policy)
    network = AutoModelForCausalLM.from_pretrained(folders.policy, dtype="float32").eval()

    def logps(conversation):
        text = encode(tokenizer, conversation)
        with torch.inference_mode():
            logits = network(torch.tensor([text.prompt_ids + text.response_ids])).logits[0]
        return logits[len(text.prompt_ids) - 1 : -1].log_softmax(-1).numpy(), text.response_ids

    return logps


def test_the_likeliest_tokens_are_those_of_the_whole_distribution(engine, policy, whole):
    found = in_order(engine.next_tokens(policy, [talk(text) for text in TEXTS], 5), len(TEXTS))
    for text, answer in zip(TEXTS, found, strict=True):
        logps, _ = whole(talk(text))
        best = -np.sort(-logps, axis=1)[:, :5]
        assert answer.ids.dtype == np.int32
        assert answer.logps.dtype == np.float32
        np.testing.assert_allclose(answer.logps, best, atol=1e-4)
        np.testing.assert_allclose(np.take_along_axis(logps, answer.ids.astype(int), 1), best, atol=1e-4)


def test_ids_that_are_asked_about_add_up_to_the_log_prob_of_the_text(engine, policy, whole):
    talks = [talk(text) for text in TEXTS]
    asked = [np.asarray(whole(one)[1], np.int32)[:, None] for one in talks]
    found = in_order(engine.next_tokens(policy, talks, asked), len(talks))
    sums = in_order(engine.log_probs(policy, talks), len(talks))
    for ids, answer, told in zip(asked, found, sums, strict=True):
        assert (answer.ids == ids).all()
        assert answer.logps.sum() == pytest.approx(told.logp, abs=1e-3)
        assert isinstance(told, LogProb)


def test_an_answer_does_not_depend_on_its_company(engine, policy):
    together = in_order(engine.next_tokens(policy, [talk(text) for text in TEXTS], 3), len(TEXTS))
    for text, answer in zip(TEXTS, together, strict=True):
        (alone,) = in_order(engine.next_tokens(policy, [talk(text)], 3), 1)
        assert (alone.ids == answer.ids).all()
        assert (alone.logps == answer.logps).all()


def test_no_more_tokens_than_the_tokenizer_has(engine, policy, whole):
    (answer,) = in_order(engine.next_tokens(policy, [talk("x")], 10_000), 1)
    assert answer.ids.shape == whole(talk("x"))[0].shape


def test_what_is_too_long_or_counted_otherwise_fails(engine, policy):
    long, odd = talk("one two " * 300), talk("x")
    asked = [np.zeros((9, 1), np.int32), np.zeros((9, 1), np.int32)]
    first, second = in_order(engine.next_tokens(policy, [long, odd], asked), 2)
    assert isinstance(first, Failure)
    assert isinstance(second, Failure)
    assert "tokens here, and 9 are asked about" in second.error
    (told,) = in_order(engine.next_tokens(policy, [long], 2), 1)
    assert told.too_long


def test_a_vocabulary_has_two_digests_that_differ_with_words_and_template(tokenizer_for):
    plain, changed = tokenizer_for(), tokenizer_for()
    changed.chat_template += " "
    more = tokenizer_for()
    more.add_tokens(["new"])
    prints = [vocabulary_fingerprint(one).split("/") for one in (plain, changed, more)]
    assert prints[0][0] == prints[1][0] != prints[2][0]
    assert prints[0][1] == prints[2][1] != prints[1][1]


def test_the_memo_counts_such_answers_and_does_not_keep_them(engine, policy, tmp_path):
    engines = Engines()
    remembering = Remembering(engine, Memo(tmp_path / "memo"), engines.spend, identity)
    for calls in (1, 2):
        (answer,) = in_order(remembering.next_tokens(policy, [talk("x")], 2), 1)
        assert isinstance(answer, Candidates)
        assert (engines.spend.counts["calls"], engines.spend.counts["remembered"]) == (calls, 0)
    assert remembering.vocabulary(policy) == engine.vocabulary(policy)


def test_an_engine_that_only_generates_cannot(tmp_path, policy):
    class Plain:
        def generate(self, model, requests):
            yield from ()

    remembering = Remembering(Plain(), Memo(tmp_path / "memo"), Engines().spend, identity)
    with pytest.raises(EngineError, match="cannot give the likeliest next tokens"):
        Engines({policy.id: remembering}).next_tokens(policy, [talk("x")], 2)
