"""Scores with units dropped: repeatable, the same in any company, and never a silent no-op."""

import pytest
import torch

from prefkit.engines import Conversation, Engines, Failure, Message, Model, Spend
from prefkit.engines.fake import FakeEngine
from prefkit.engines.memo import Memo, Remembering
from prefkit.engines.thinned import Thinned, thinned_rewards
from prefkit.engines.toy import ToyCritic
from prefkit.engines.transformers_engine import TransformersEngine
from prefkit.engines.weights import identity
from prefkit.errors import EngineError

TEXTS = ["hi", "one two three four", "bye bye bye and say hello world to them", "two"]
TALKS = [Conversation((Message("user", "say hi"),), (Message("assistant", text),)) for text in TEXTS]


@pytest.fixture(scope="module")
def with_dropout(tmp_path_factory, tokenizer_for) -> Model:
    from transformers import GPT2Config, GPT2ForSequenceClassification

    torch.manual_seed(0)
    tokenizer = tokenizer_for()
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=256,
        n_embd=32,
        n_layer=2,
        n_head=2,
        num_labels=1,
        initializer_range=0.4,
        resid_pdrop=0.2,
        embd_pdrop=0.1,
        attn_pdrop=0.1,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    folder = tmp_path_factory.mktemp("dropout")
    GPT2ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Model(id=str(folder))


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine(device="cpu", batch_tokens=256)


def scores(engine, model, passes) -> list[float]:
    found = thinned_rewards(Engines({model.id: engine}), model, passes)
    return [one.error if isinstance(one, Failure) else one[0] for one in found]


def test_passes_differ_by_seed_and_repeat_and_leave_the_model_as_it_was(engine, with_dropout):
    plain = dict(engine.rewards(with_dropout, TALKS))
    asked = [Thinned(talk, seed) for talk in TALKS for seed in (1, 2, 3)]
    first = scores(engine, with_dropout, asked)
    assert len(set(first)) == len(asked)
    assert scores(engine, with_dropout, asked) == first
    assert dict(engine.rewards(with_dropout, TALKS)) == plain
    assert all(abs(score - plain[at // 3][0]) > 0 for at, score in enumerate(first))


def test_a_pass_scores_a_text_alike_in_any_company_and_any_order(engine, with_dropout):
    together = scores(engine, with_dropout, [Thinned(talk, 7) for talk in TALKS])
    backwards = scores(engine, with_dropout, [Thinned(talk, 7) for talk in reversed(TALKS)])
    alone = [scores(engine, with_dropout, [Thinned(talk, 7)])[0] for talk in TALKS]
    assert together == backwards[::-1] == alone
    assert scores(engine, with_dropout, [Thinned(TALKS[0], 7), Thinned(TALKS[0], 7)]) == [alone[0]] * 2


def test_the_mean_over_many_passes_is_near_the_score_of_the_whole_network(engine, reward):
    # only the head drops, which is linear, so that the mean is the score itself: 4 standard errors
    ((_, (whole,)),) = engine.rewards(reward, TALKS[:1])
    told = torch.tensor(scores(engine, reward, [Thinned(TALKS[0], seed, 0.1) for seed in range(100)]))
    assert abs(float(told.mean()) - whole) < 4 * float(told.std()) / 10
    assert float(told.std()) > 0


def test_a_model_without_dropout_is_refused_unless_its_head_drops(engine, reward):
    with pytest.raises(EngineError, match="no dropout") as caught:
        scores(engine, reward, [Thinned(TALKS[0], 1)])
    assert "head: 0.1" in caught.value.hint
    told = scores(engine, reward, [Thinned(TALKS[0], seed, 0.2) for seed in range(5)])
    assert len(set(told)) > 1


def test_a_text_that_cannot_be_read_fails_alone(engine, reward):
    long = Conversation((Message("user", "say hi"),), (Message("assistant", "one two " * 300),))
    told = scores(engine, reward, [Thinned(long, 1, 0.1), Thinned(TALKS[0], 1, 0.1)])
    assert "reads at most 256" in told[0]
    assert isinstance(told[1], float)
    assert "reads at most 256" in scores(engine, reward, [Thinned(long, 1)])[0]


def test_each_pass_is_remembered_by_its_seed(tmp_path):
    model, log = Model(id="some/model"), tmp_path / "log"
    asked = [Thinned(talk, seed) for talk in TALKS for seed in (1, 2)]

    def ask():
        engine = Remembering(FakeEngine(log), Memo(tmp_path / "memo"), Spend(), identity)
        return scores(engine, model, asked)

    first = ask()
    assert len(set(first)) == len(asked)
    assert ask() == first
    assert len(log.read_text().splitlines()) == len(asked)


def test_an_engine_that_cannot_drop_says_so(tmp_path):
    model = Model(id="m")
    remembering = Remembering(ToyCritic(), Memo(tmp_path / "memo"), Spend(), identity)
    for engine in (ToyCritic(), remembering):
        with pytest.raises(EngineError, match="cannot score"):
            scores(engine, model, [Thinned(TALKS[0], 1)])
    with pytest.raises(EngineError, match="no engine serves"):
        thinned_rewards(Engines({}), model, [Thinned(TALKS[0], 1)])
