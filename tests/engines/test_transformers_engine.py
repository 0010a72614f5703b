import random
import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefkit.engines import Completion, Conversation, Failure, LogProb, Message, Model, in_order
from prefkit.engines.batches import Shape
from prefkit.engines.chat import encode
from prefkit.engines.transformers_engine import TransformersEngine
from prefkit.engines.weights import load_tokenizer
from prefkit.errors import EngineError

BUDGET = 512  # small batches, so that a few requests already make several


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine(device="cpu", batch_tokens=BUDGET)


@pytest.fixture(scope="module")
def loaded(folders):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folders.policy)
    return AutoModelForCausalLM.from_pretrained(folders.policy, dtype="float32").eval(), tokenizer


def completions(engine, model, requests) -> list[Completion | Failure]:
    return in_order(engine.generate(model, requests), len(requests))


def mixed(ask, count: int = 24) -> list:
    words = ["hi", "bye", "one", "two", "three", "four", "hello", "world", "and", "say"]
    made = random.Random(0)
    return [
        ask(
            " ".join(made.choices(words, k=made.choice([1, 3, 9, 20, 40]))),
            seed=at,
            max_tokens=made.choice([5, 12, 20]),
            temperature=made.choice([0.0, 0.7, 1.0]),
            top_p=made.choice([0.8, 1.0]),
            top_k=made.choice([0, 5]),
            stop=made.choice([(), ("e",)]),
        )
        for at in range(count)
    ]


def test_a_request_gets_the_same_bits_alone_in_any_order_and_in_any_company(engine, policy, ask):
    requests = mixed(ask)
    together = completions(engine, policy, requests)
    assert len({answer.text for answer in together}) > 12
    assert {answer.finish for answer in together} == {"stop", "length"}
    order = random.Random(1).sample(range(len(requests)), len(requests))
    shuffled = completions(engine, policy, [requests[at] for at in order])
    assert [together[at] for at in order] == shuffled
    for at in range(0, len(requests), 5):
        assert completions(engine, policy, [requests[at]]) == [together[at]]
    fresh = TransformersEngine(device="cpu", batch_tokens=BUDGET)
    assert completions(fresh, policy, requests[5:11]) == together[5:11]


def varied(ask) -> list:
    """Return requests that share prompts, choose, tell log-probs and stop: all that may meet in a batch."""
    plain = [
        ask(text, seed=seed, max_tokens=limit, temperature=heat, top_logprobs=tops, stop=stop)
        for text in ("say hi", "one two three four " * 6)
        for seed, limit, heat, tops, stop in [
            (0, 40, 1.0, 0, ()),
            (1, 40, 1.0, 3, ()),
            (2, 9, 0.7, 0, ("e",)),
            (0, 5, 0.0, 2, ()),
        ]
    ]
    chosen = [
        ask(text, seed=seed, choices=choices, top_logprobs=tops)
        for text in ("say hi", "which is better, one or two")
        for seed, choices, tops in [
            (0, ("one", "two", "tie"), 3),
            (1, ("one", "two", "tie"), 0),
            (2, ("hi", "hihi"), 2),
        ]
    ]
    return [*plain, *chosen]


@pytest.fixture(scope="module")
def answered(engine, folders):
    """What each of some requests is answered when all are asked at once; filled by the first who asks."""
    found: dict[str, list[Completion | Failure]] = {}

    def once(requests) -> list[Completion | Failure]:
        return found.setdefault("all", completions(engine, Model(id=str(folders.policy)), requests))

    return once


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 13), min_size=1, max_size=10))
def test_a_request_gets_the_same_answer_whoever_else_is_asked(engine, policy, ask, answered, company):
    requests = varied(ask)
    together = answered(requests)
    assert len({answer.text for answer in together}) > 7
    assert len(requests) == 14
    found = completions(engine, policy, [requests[at] for at in company])
    assert found == [together[at] for at in company]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_request_gets_the_same_bits_on_several_threads_too(engine, policy, ask):
    requests = [ask("one two three four", seed=seed, max_tokens=4) for seed in range(9)]
    together = completions(engine, policy, requests)
    assert completions(engine, policy, requests[:1]) == together[:1]
    assert completions(engine, policy, requests[4:7]) == together[4:7]


def test_without_fixed_shapes_a_request_still_gets_the_same_text(policy, ask):
    loose = TransformersEngine(device="cpu", batch_tokens=BUDGET, exact=False)
    requests = mixed(ask)
    together = completions(loose, policy, requests)
    alone = [completions(loose, policy, [request])[0] for request in requests[:6]]
    assert [answer.text for answer in alone] == [answer.text for answer in together[:6]]
    assert [answer.logp for answer in alone] == pytest.approx(
        [answer.logp for answer in together[:6]], abs=1e-4
    )


def test_samples_of_one_prompt_differ_and_repeat_with_their_seeds(engine, policy, ask):
    requests = [ask("say hi", seed=seed, max_tokens=8) for seed in range(8)]
    first = completions(engine, policy, requests)
    assert len({answer.text for answer in first}) >= 6
    assert completions(engine, policy, list(reversed(requests))) == list(reversed(first))


def test_greedy_decoding_is_what_generate_gives(engine, policy, ask, loaded):
    network, tokenizer = loaded
    texts = ["say hi", "one two three four one two three four", "x"]
    answers = completions(engine, policy, [ask(text, temperature=0.0, max_tokens=10) for text in texts])
    for text, answer in zip(texts, answers, strict=True):
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt"
        )["input_ids"]
        with torch.inference_mode():
            whole = network.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10, pad_token_id=0
            )[0, ids.shape[1] :].tolist()
        assert answer.tokens == len(whole)
        assert answer.prompt_tokens == ids.shape[1]
        assert answer.text == tokenizer.decode(whole, skip_special_tokens=True)


def test_the_sampled_log_prob_is_the_log_prob_of_the_text(loaded):
    from prefkit.engines.chat import Encoded
    from prefkit.engines.decode import Budget, decode
    from prefkit.engines.scoring import response_logps
    from prefkit.engines.writing import Row

    network, tokenizer = loaded
    prompts = [(5, 6, 7), (8,), (9, 10, 11, 12)]
    rows = [Row(prompt, 9, 0.8, 0.9, 40, seed, ()) for seed, prompt in enumerate(prompts)]
    written = [one for _, one in sorted(decode(network, tokenizer, [4], rows, Budget(256)))]
    texts = [Encoded(list(row.ids), one.ids) for row, one in zip(rows, written, strict=True)]
    found = response_logps(network, texts, Shape(4, 64), head_apart=True)
    assert [one.logp for one in written] == pytest.approx(found, abs=1e-4)
    assert min(found) < -5


def test_a_stop_string_ends_the_text_before_it(engine, policy, ask):
    plain = completions(engine, policy, [ask("say hi", seed=3, max_tokens=20)])[0]
    stop = plain.text[4:6]
    answer = completions(engine, policy, [ask("say hi", seed=3, max_tokens=20, stop=("zzzz", stop))])[0]
    assert answer.text == plain.text[: plain.text.index(stop)]
    assert answer.finish == "stop"
    assert answer.tokens < plain.tokens


def test_a_request_stops_at_its_own_limit_and_at_the_context(engine, policy, ask):
    short, long = completions(
        engine, policy, [ask("x", seed=1, max_tokens=1), ask("one " * 90, max_tokens=500)]
    )
    assert short.tokens == 1
    assert long.prompt_tokens + long.tokens <= 256
    (failed,) = completions(engine, policy, [ask("one two " * 200)])
    assert "and the model reads at most 256" in failed.error


def test_a_context_that_a_config_calls_by_another_name_is_kept(engine, ask, tmp_path, tokenizer_for):
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer, folder = tokenizer_for(), tmp_path / "gpt2"
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model = Model(id=str(folder))
    long, short = completions(engine, model, [ask("one two " * 60), ask(max_tokens=500)])
    assert long.too_long
    assert "and the model reads at most 64" in long.error
    assert short.prompt_tokens + short.tokens <= 64
    assert load_tokenizer(model)[1] == 64


def test_a_conversation_the_template_refuses_fails_alone(engine, policy, ask):
    answers = completions(engine, policy, [ask("x"), ask("y")._replace(messages=()), ask("z")])
    assert [isinstance(answer, Failure) for answer in answers] == [False, True, False]


def naive_log_prob(network, tokenizer, conversation) -> LogProb:
    prompt, response = encode(tokenizer, conversation)
    ids = torch.tensor([prompt + response])
    with torch.inference_mode():
        logps = network(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
    picked = logps[range(len(prompt) - 1, ids.shape[1] - 1), response]
    return LogProb(float(picked.sum()), len(response))


CONVERSATIONS = [
    Conversation((Message("user", prompt),), (Message("assistant", response),))
    for prompt, response in [
        ("say hi", "hi"),
        ("x", ""),
        ("one " * 30, "two " * 20),
        ("say bye", "bye bye"),
        ("🙂", "é"),
    ]
]


def test_log_probs_are_those_of_a_plain_forward_pass(engine, policy, loaded):
    found = in_order(engine.log_probs(policy, CONVERSATIONS), len(CONVERSATIONS))
    wanted = [naive_log_prob(*loaded, conversation) for conversation in CONVERSATIONS]
    assert [one.tokens for one in found] == [one.tokens for one in wanted]
    assert [one.logp for one in found] == pytest.approx([one.logp for one in wanted], abs=1e-4)


@settings(max_examples=10)
@given(st.permutations(range(len(CONVERSATIONS))), st.integers(1, len(CONVERSATIONS)))
def test_scores_have_the_same_bits_in_any_company(engine, folders, order, count):
    policy, reward = Model(id=str(folders.policy)), Model(id=str(folders.reward))
    some = [CONVERSATIONS[at] for at in order[:count]]
    for ask, model in ((engine.log_probs, policy), (engine.rewards, reward)):
        whole = in_order(ask(model, CONVERSATIONS), len(CONVERSATIONS))
        assert in_order(ask(model, some), count) == [whole[at] for at in order[:count]]


def test_rewards_are_the_raw_logits_of_one_text_at_a_time(engine, reward, folders):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    network = AutoModelForSequenceClassification.from_pretrained(folders.reward, dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(folders.reward)
    found = in_order(engine.rewards(reward, CONVERSATIONS), len(CONVERSATIONS))
    for conversation, outputs in zip(CONVERSATIONS, found, strict=True):
        turns = [
            {"role": role, "content": text} for role, text in (*conversation.prompt, *conversation.response)
        ]
        ids = tokenizer.apply_chat_template(turns, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            assert outputs == pytest.approx(network(input_ids=ids).logits[0].tolist(), abs=1e-5)


def test_a_reward_model_without_a_padding_token_pools_at_the_last_token(tokenizer_for, llama_for):
    from transformers import LlamaForSequenceClassification

    from prefkit.engines.scoring import reward_outputs

    tokenizer = tokenizer_for()
    network = llama_for(tokenizer, LlamaForSequenceClassification, num_labels=2, pad_token_id=None)
    texts = [[0, 1, 2], [5, 6, 7, 8, 0]]
    found = reward_outputs(network, texts, Shape(4, 32))
    for ids, outputs in zip(texts, found, strict=True):
        with torch.inference_mode():
            assert outputs == pytest.approx(
                network(input_ids=torch.tensor([ids])).logits[0].tolist(), abs=1e-5
            )
    assert network.config.pad_token_id is None


def test_a_model_that_bends_its_logits_is_run_whole(tokenizer_for):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    from prefkit.engines.chat import Encoded
    from prefkit.engines.scoring import can_split_head, response_logps

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Gemma2Config(
        vocab_size=300,
        num_key_value_heads=1,
        head_dim=16,
        final_logit_softcapping=1.0,
        initializer_range=0.5,
        **sizes,
    )
    network = Gemma2ForCausalLM(config).eval()
    assert not can_split_head(network)
    (found,) = response_logps(network, [Encoded([5, 6, 7], [8, 9])], Shape(2, 32), head_apart=False)
    with torch.inference_mode():
        logps = network(input_ids=torch.tensor([[5, 6, 7, 8, 9]])).logits[0].double().log_softmax(-1)
    assert found == pytest.approx(float(logps[2, 8] + logps[3, 9]), abs=1e-4)


@pytest.mark.parametrize(
    "layers", [["sliding_attention", "full_attention"], ["full_attention", "full_attention"]]
)
def test_sliding_windows_decode_as_generate_does(tokenizer_for, layers):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from prefkit.engines.decode import Budget, decode
    from prefkit.engines.writing import Row

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        use_sliding_window=True,
        sliding_window=8,
        layer_types=layers,
        initializer_range=0.4,
    )
    network = Qwen2ForCausalLM(config).eval()
    prompts = [tuple(range(5, 25)), (7, 8, 9)]
    rows = [Row(prompt, 12, 0.0, 1.0, 0, 0, ()) for prompt in prompts]
    found = [one for _, one in sorted(decode(network, tokenizer_for(), [999], rows, Budget(256)))]
    for prompt, written in zip(prompts, found, strict=True):
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            whole = network.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=12,
                eos_token_id=999,
                pad_token_id=0,
            )
        assert written.ids == whole[0, len(prompt) :].tolist()


def test_every_end_token_of_the_generation_config_ends_a_response(folders, tmp_path, engine, ask):
    from transformers import AutoTokenizer, GenerationConfig

    folder = tmp_path / "policy"
    shutil.copytree(folders.policy, folder)
    ends = [4, *range(5, 300, 2)]
    GenerationConfig(eos_token_id=ends).save_pretrained(folder)
    requests = [ask("say hi", seed=seed, max_tokens=60) for seed in range(8)]
    answers = completions(engine, Model(id=str(folder)), requests)
    assert {answer.finish for answer in answers} == {"stop"}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert all(not set(tokenizer(answer.text)["input_ids"]) & {4} for answer in answers)
    assert max(answer.tokens for answer in answers) < 20


def test_a_model_that_is_not_there_says_what_to_do(engine, ask, tmp_path):
    with pytest.raises(EngineError, match="there is no such folder") as caught:
        completions(engine, Model(id="./nowhere"), [ask()])
    assert "hub name" in caught.value.hint
    with pytest.raises(EngineError, match="could not be loaded") as caught:
        completions(engine, Model(id="prefkit-tests/does-not-exist"), [ask()])
    assert "hf download prefkit-tests/does-not-exist" in caught.value.hint
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EngineError, match="could not be loaded") as caught:
        completions(engine, Model(id=str(tmp_path)), [ask()])
    assert "safetensors" in caught.value.hint


def test_no_requests_load_no_model(engine):
    nowhere = Model(id="./nowhere")
    assert list(engine.generate(nowhere, [])) == []
    assert list(engine.log_probs(nowhere, [])) == []
    assert list(engine.rewards(nowhere, [])) == []
    assert list(engine.embed(nowhere, [])) == []


def test_the_fingerprint_is_of_content_not_of_the_path(engine, policy, folders, tmp_path):
    shutil.copytree(folders.policy, tmp_path / "copy")
    assert engine.fingerprint(Model(id=str(tmp_path / "copy"))) == engine.fingerprint(policy)
    wide = TransformersEngine(device="cpu", dtype="bfloat16")
    assert wide.fingerprint(policy) != engine.fingerprint(policy)
