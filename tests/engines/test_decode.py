"""Rows share the reading of a prompt, leave a batch when they are done and join others, and none of it shows."""

import gc
import random

import numpy as np
import pytest
import torch

from prefkit.engines.decode import Budget, decode
from prefkit.engines.prefill import Prompts, joined
from prefkit.engines.writing import Row, Written

FOUR = Budget(2000, rows=4)
PROMPTS = [(5, 6, 7), (8,), tuple(range(9, 30)), (40, 41)]


@pytest.fixture(scope="module")
def tokenizer(tokenizer_for):
    return tokenizer_for()


@pytest.fixture(scope="module")
def network(llama_for, tokenizer):
    from transformers import LlamaForCausalLM

    return llama_for(tokenizer, LlamaForCausalLM)


def written(network, tokenizer, rows, *, ends=(4,), budget=FOUR) -> list[Written]:
    found = dict(decode(network, tokenizer, ends, rows, budget))
    return [found[at] for at in range(len(rows))]


def same(one: Written, other: Written) -> bool:
    tops = (one.tops is None) == (other.tops is None)
    if one.tops is not None and other.tops is not None:
        tops = all((mine == theirs).all() for mine, theirs in zip(one.tops, other.tops, strict=True))
    return one[:3] == other[:3] and tops


@pytest.fixture
def calls(network):
    """Count what the network is asked: the shape of the tokens of each call."""
    shapes: list[torch.Size] = []
    hook = network.register_forward_pre_hook(
        lambda _, __, given: shapes.append(given["input_ids"].shape), with_kwargs=True
    )
    yield shapes
    hook.remove()


def test_samples_of_a_prompt_share_its_reading(network, tokenizer, calls):
    rows = [Row(prompt, 4, seed=seed) for prompt in PROMPTS for seed in range(8)]
    together = written(network, tokenizer, rows)
    assert [tuple(shape) for shape in calls if shape[1] > 1] == [(32, 32)]
    assert len({tuple(one.ids) for one in together}) > 16
    for at in range(0, len(rows), 5):
        assert same(written(network, tokenizer, [rows[at]])[0], together[at])


def test_a_prompt_stands_the_same_however_many_share_it(network):
    prompts = [(at + 5,) * (at % 20 + 1) for at in range(40)]
    with torch.inference_mode():
        shared = joined(Prompts(network, prompts, 32).shares([3, 3, 3, 7, 33, 33]))
        alone = [joined(Prompts(network, [prompts[at]], 32).shares([0])) for at in (3, 7, 33)]
    for state, places in zip(alone, ([0, 1, 2], [3], [4, 5]), strict=True):
        for place in places:
            assert (shared.logits[place] == state.logits[0]).all()
            for mine, theirs in zip(shared.cache.layers, state.cache.layers, strict=True):
                assert (mine.keys[place] == theirs.keys[0]).all()
                assert (mine.values[place] == theirs.values[0]).all()


def long_rows(count: int, limit: int = 100) -> list[Row]:
    made = random.Random(0)
    return [
        Row(
            made.choice(PROMPTS),
            made.choice([limit, limit // 2, 3]),
            made.choice([0.0, 0.8, 1.0]),
            made.choice([0.9, 1.0]),
            made.choice([0, 0, 7]),
            seed,
            tops=made.choice([0, 0, 2, 3]),
        )
        for seed, _ in enumerate(range(count))
    ]


@pytest.mark.parametrize("budget", [FOUR, Budget(600)], ids=["four", "fewer-as-they-grow"])
def test_rows_that_leave_and_join_write_what_they_write_alone(network, tokenizer, budget):
    ends, rows = (4, 17, 33, 99, 120), long_rows(18)
    together = written(network, tokenizer, rows, ends=ends, budget=budget)
    lengths = [len(one.ids) for one in together]
    assert min(lengths) < 10
    assert max(lengths) > 64  # so that rows were gathered more than once
    for at in (*range(0, len(rows), 9), int(np.argmax(lengths))):
        assert same(written(network, tokenizer, [rows[at]], ends=ends, budget=budget)[0], together[at])
    order = random.Random(1).sample(range(len(rows)), len(rows) // 2)
    shuffled = written(network, tokenizer, [rows[at] for at in order], ends=ends, budget=budget)
    assert all(same(one, together[at]) for one, at in zip(shuffled, order, strict=True))


def test_a_row_that_joins_others_with_a_longer_prompt_draws_from_its_own_start(network, tokenizer):
    rows = [
        Row((5, 6), 40, seed=1),
        Row(tuple(range(5, 45)), 40, seed=2),
        Row(tuple(range(45, 85)), 3, forced=(7, 8, 9)),
    ]
    together = written(network, tokenizer, rows, ends=(999,))
    for row, whole in zip(rows, together, strict=True):
        assert same(written(network, tokenizer, [row], ends=(999,))[0], whole)


def test_batches_stay_full_as_rows_leave_and_prompts_differ_in_length(network, tokenizer, calls):
    ends = tuple(range(3, 300, 50))
    rows = [Row((5, 6) * (1 + 20 * (seed % 4)), 90, seed=seed) for seed in range(32)]
    lengths = [len(one.ids) for one in written(network, tokenizer, rows, ends=ends)]
    steps = sum(shape[1] == 1 for shape in calls)
    of_one_length = [lengths[start::4] for start in range(4)]
    until_the_last = sum(max(some[at : at + 4]) for some in of_one_length for at in range(0, len(some), 4))
    assert steps < 0.8 * until_the_last
    assert steps >= sum(lengths) / 4 - 32


def test_no_more_than_two_batches_wait(network, tokenizer):
    budget, most = Budget(400), 0
    rows = [Row((5, 6) * (1 + 8 * (seed % 8)), 70, seed=seed) for seed in range(24)]
    for number, _ in enumerate(decode(network, tokenizer, (4, 17, 33), rows, budget)):
        if number % 9:
            continue
        held = sum(
            layer.keys.shape[0] * layer.keys.shape[2]
            for layer in gc.get_objects()
            if type(layer).__name__ == "GrowingLayer"
        )
        most = max(most, held // 2)  # of two layers
    assert 400 < most <= 5 * 400  # those that wait, those under way, and a prompt that was read


def test_without_a_fixed_shape_no_row_is_computed_for_nobody(network, tokenizer, calls):
    rows = long_rows(10)
    loose = written(network, tokenizer, rows, budget=FOUR._replace(is_fixed=False))
    assert {shape[0] for shape in calls if shape[1] == 1} > {4}
    for one, other in zip(loose, written(network, tokenizer, rows), strict=True):
        assert one.ids == other.ids
        assert one.logp == pytest.approx(other.logp, abs=1e-4)


def test_answers_come_as_they_are_done(network, tokenizer):
    rows = [Row((5, 6), 100, temperature=0.0), Row((7, 8), 2, temperature=0.0)]
    assert [at for at, _ in decode(network, tokenizer, [999], rows, FOUR)] == [1, 0]


def test_gradients_are_kept_for_whoever_takes_the_answers(network, tokenizer):
    for _ in decode(network, tokenizer, [999], long_rows(3), FOUR):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


def test_the_likeliest_tokens_are_those_of_a_plain_forward_pass(network, tokenizer):
    rows = [Row(prompt, 9, 0.9, seed=seed, tops=3 + seed) for seed, prompt in enumerate(PROMPTS)]
    for row, found in zip(rows, written(network, tokenizer, rows), strict=True):
        with torch.inference_mode():
            logits = network(torch.tensor([[*row.ids, *found.ids]])).logits[0, len(row.ids) - 1 : -1]
        logps = logits.double().log_softmax(-1)
        best = logps.topk(row.tops)
        assert found.tops.ids.tolist() == best.indices.tolist()
        np.testing.assert_allclose(found.tops.logps, best.values, atol=1e-4)
        assert found.logp == pytest.approx(float(logps[range(len(found.ids)), found.ids].sum()), abs=1e-4)


def test_what_is_forced_is_written_and_told_with_its_log_prob(network, tokenizer):
    rows = [Row((5, 6, 7), 3, 0.0, forced=(9, 4, 12)), Row((5, 6, 7), 20, 1.0, seed=1)]
    forced, free = written(network, tokenizer, rows, ends=(4,))
    with torch.inference_mode():
        logps = network(torch.tensor([[5, 6, 7, 9, 4]])).logits[0, 2:].double().log_softmax(-1)
    assert forced.ids == [9, 4]  # an end of turn ends what is forced, too
    assert forced.logp == pytest.approx(float(logps[0, 9] + logps[1, 4]), abs=1e-4)
    assert same(free, written(network, tokenizer, rows[1:])[0])


@pytest.mark.parametrize("stop", [("e",), ("zzzz", "o "), ("é",), ("ab", "ba", "x")])
def test_a_stop_string_ends_a_row_at_the_token_that_completes_it(network, tokenizer, stop):
    rows = [Row((5, 6), 40, 1.0, seed=seed) for seed in range(8)]
    plain = written(network, tokenizer, rows, ends=(4,))
    cut = written(network, tokenizer, [row._replace(stop=stop) for row in rows], ends=(4,))
    ended = 0
    for whole, part in zip(plain, cut, strict=True):
        texts = [
            tokenizer.decode(whole.ids[: end + 1], skip_special_tokens=True) for end in range(len(whole.ids))
        ]
        first = next((end for end, text in enumerate(texts) if any(one in text for one in stop)), None)
        assert part.ids == (whole.ids if first is None else whole.ids[: first + 1])
        assert part.is_finished == (first is not None or whole.is_finished)
        ended += first is not None
    assert ended or stop == ("é",)


def test_rows_that_nobody_reads_do_not_outgrow_learned_positions(tokenizer):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=300, n_positions=64, n_embd=32, n_layer=2, n_head=2, initializer_range=0.4)
    network = GPT2LMHeadModel(config).eval()
    rows = [Row(tuple(range(5, 45)), 24, 0.0), Row(tuple(range(5, 38)), 31, 0.0)]
    together = written(network, tokenizer, rows, ends=(999,))
    assert [len(one.ids) for one in together] == [24, 31]
    assert same(written(network, tokenizer, rows[:1], ends=(999,))[0], together[0])


def test_sliding_windows_share_a_prompt_and_leave_and_join(tokenizer):
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = MistralConfig(
        vocab_size=300, num_key_value_heads=1, sliding_window=40, initializer_range=0.4, **sizes
    )
    network = MistralForCausalLM(config).eval()
    ends, rows = tuple(range(3, 300, 60)), [Row((5, 6), 80, seed=seed) for seed in range(8)]
    together = written(network, tokenizer, rows, ends=ends)
    assert max(len(one.ids) for one in together) > 64
    for at in (0, 5):
        assert same(written(network, tokenizer, [rows[at]], ends=ends)[0], together[at])


def test_recurrent_states_are_run_to_their_end(tokenizer):
    from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

    torch.manual_seed(0)
    config = Qwen3NextConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        layer_types=["linear_attention", "full_attention"],
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        mlp_only_layers=[0, 1],
        initializer_range=0.4,
    )
    network = Qwen3NextForCausalLM(config).eval()
    rows = [Row(prompt, 40, temperature=0.0) for prompt in PROMPTS[:2] for _ in range(2)]
    together = written(network, tokenizer, rows, ends=(999,))
    assert [len(one.ids) for one in together] == [40] * 4
    assert same(together[0], together[1])
    assert same(written(network, tokenizer, rows[2:3], ends=(999,))[0], together[2])
