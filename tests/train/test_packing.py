"""Packing, attention and log-probs: computed once, and the same as computed alone."""

import random

import numpy as np
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from prefkit.errors import TrainError
from prefkit.train import attention, logps
from prefkit.train.batches import pack, split_by_tokens
from prefkit.train.logps import check_model, log_probs, token_log_probs, uncertainty
from prefkit.train.tokenise import Pair

VOCAB = 97


def make_model(seed: int = 0, **settings: object) -> LlamaForCausalLM:
    attention.register()
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=VOCAB, attn_implementation=attention.NAME, **{**sizes, **settings})
    return LlamaForCausalLM(config)


def make_pairs(count: int = 9, prompts: int = 4, seed: int = 0) -> list[Pair]:
    """Several pairs a prompt, some of which share a response."""
    draw = random.Random(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw.randrange(VOCAB) for _ in range(draw.randint(low, high)))

    texts = [ids(1, 20) for _ in range(prompts)]
    best = [ids(1, 15) for _ in range(prompts)]
    return [Pair(at, f"p{at}", texts[at % prompts], best[at % prompts], ids(1, 15)) for at in range(count)]


def alone(model: PreTrainedModel, prompt: tuple[int, ...], response: tuple[int, ...]) -> torch.Tensor:
    """Log-prob of one response by the model's own forward pass, nothing shared, nothing packed."""
    logits = model(input_ids=torch.tensor([[*prompt, *response]]), use_cache=False).logits[0].log_softmax(-1)
    at = torch.arange(len(prompt) - 1, len(prompt) + len(response) - 1)
    return logits[at, torch.tensor(response)].sum()


@pytest.mark.parametrize("heads", [4, 2])
def test_packed_log_probs_with_a_shared_prompt_equal_those_computed_alone(heads: int) -> None:
    model, pairs = make_model(num_key_value_heads=heads), make_pairs()
    packed = pack(pairs, torch.device("cpu"))
    found = log_probs(model, packed).responses
    for at, pair in enumerate(pairs):
        assert found[packed.chosen[at]].item() == pytest.approx(
            alone(model, pair.prompt, pair.chosen).item(), abs=1e-5
        )
        assert found[packed.rejected[at]].item() == pytest.approx(
            alone(model, pair.prompt, pair.rejected).item(), abs=1e-5
        )


def test_packed_gradients_equal_those_computed_alone() -> None:
    model, pairs = make_model(tie_word_embeddings=True), make_pairs()
    packed = pack(pairs, torch.device("cpu"))
    found = log_probs(model, packed).responses
    (found[packed.chosen] - 0.5 * found[packed.rejected]).sum().backward()
    mine = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    total = sum(
        alone(model, pair.prompt, pair.chosen) - 0.5 * alone(model, pair.prompt, pair.rejected)
        for pair in pairs
    )
    total.backward()
    theirs = [weight.grad for weight in model.parameters()]
    assert len(mine) == len(theirs) > 10
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


def test_no_token_is_computed_twice_and_none_is_padding() -> None:
    pairs = make_pairs(count=8, prompts=4)
    packed = pack(pairs, torch.device("cpu"))
    prompts = sum(len(prompt) for prompt in {pair.prompt for pair in pairs})
    responses = {(pair.prompt, response) for pair in pairs for response in (pair.chosen, pair.rejected)}
    # The last token of a response predicts nothing, so it is not computed.
    assert packed.tokens.shape[1] == prompts + sum(len(response) - 1 for _, response in responses)
    assert len(packed.sizes) == len(responses)
    assert len(packed.targets) == sum(len(response) for _, response in responses)


def test_positions_restart_and_each_response_goes_on_from_its_prompt() -> None:
    packed = pack([Pair(0, "a", (5, 6, 7), (1, 2, 3), (4, 3))], torch.device("cpu"))
    assert packed.tokens.tolist() == [[5, 6, 7, 1, 2, 4]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 4, 3]]
    assert packed.sources.tolist() == [2, 3, 4, 2, 5]
    assert packed.targets.tolist() == [1, 2, 3, 4, 3]


def test_micro_batches_hold_every_pair_once_and_keep_to_their_budget() -> None:
    pairs = make_pairs(count=40, prompts=11)
    cut = split_by_tokens(pairs, 64)
    assert sorted(index for part in cut for index in part) == list(range(40))
    assert len(cut) > 3
    for part in cut:
        size = pack([pairs[index] for index in part], torch.device("cpu")).tokens.shape[1]
        assert size <= 64 or len(part) == 1


def test_a_pair_longer_than_the_budget_stands_alone() -> None:
    long = Pair(0, "a", tuple(range(50)), tuple(range(30)), tuple(range(20)))
    assert split_by_tokens([long, *make_pairs(count=2)], 10)[0] == [0]


@pytest.mark.parametrize("kept", [0, 2, 8])
def test_chunked_log_probs_equal_a_plain_log_softmax(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    monkeypatch.setattr(logps, "CHUNK_BYTES", 4 * VOCAB * 5)  # five tokens a chunk, so 23 tokens take five
    monkeypatch.setattr(logps, "KEPT_CHUNKS", kept)
    torch.manual_seed(0)
    hidden = torch.randn(23, 16, dtype=torch.float64, requires_grad=True)
    head = torch.randn(VOCAB, 16, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(VOCAB, (23,))
    weight = torch.randn(23)
    found = token_log_probs(hidden, head, targets)
    (found * weight).sum().backward()
    mine = (hidden.grad.clone(), head.grad.clone())
    hidden.grad = head.grad = None
    plain = (hidden @ head.T).log_softmax(-1)[torch.arange(23), targets]
    (plain * weight).sum().backward()
    torch.testing.assert_close(found, plain.float(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mine[0], hidden.grad, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mine[1], head.grad, atol=1e-5, rtol=1e-5)


def test_a_log_prob_whose_probability_underflows_is_still_a_number() -> None:
    hidden, head = torch.ones(1, 1, requires_grad=True), torch.tensor([[0.0], [500.0]])
    found = token_log_probs(hidden, head, torch.tensor([0]))
    found.sum().backward()
    assert found.item() == -500
    assert hidden.grad.item() == -500


class Sizes(TorchDispatchMode):
    """Notes the largest tensor that any operation makes, in numbers."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.largest = max(
            self.largest, *(leaf.numel() for leaf in tree_leaves(out) if torch.is_tensor(leaf)), 0
        )
        return out


def kept_for_backward(hidden: torch.Tensor, head: torch.Tensor) -> int:
    """How many numbers the graph of log-probs holds on to; then runs the backward pass."""
    kept = []
    with saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        found = token_log_probs(hidden, head, torch.randint(head.shape[0], (len(hidden),)))
    found.sum().backward()
    return sum(kept)


def test_memory_does_not_grow_with_the_vocabulary_times_the_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    vocab, dim, rows = 3000, 4, 10
    monkeypatch.setattr(logps, "CHUNK_BYTES", 4 * vocab * rows)
    head = torch.randn(vocab, dim, requires_grad=True)
    for tokens in (200, 400):
        hidden = torch.randn(tokens, dim, requires_grad=True)
        with Sizes() as sizes:
            kept = kept_for_backward(hidden, head)
        assert sizes.largest == rows * vocab
        assert kept == 8 * rows * vocab + head.numel() + 2 * hidden.numel() + tokens


def test_a_frozen_head_keeps_nothing_of_the_vocabulary() -> None:
    hidden, head = torch.randn(50, 8, requires_grad=True), torch.randn(3000, 8)
    assert kept_for_backward(hidden, head) == head.numel() + 2 * hidden.numel() + 50
    assert hidden.grad.abs().sum() > 0


def test_uncertainty_is_that_of_the_distribution_at_evenly_spaced_tokens() -> None:
    torch.manual_seed(0)
    hidden, head = torch.randn(130, 16), torch.randn(VOCAB, 16)
    found = uncertainty(hidden, head, most=64, top=3)
    p = (hidden[::3] @ head.T).softmax(-1)
    torch.testing.assert_close(found.entropy, torch.special.entr(p).sum(-1))
    torch.testing.assert_close(found.top, p.sort(-1, descending=True).values[:, :3].sum(-1))
    level = uncertainty(torch.zeros(1, 16), head)
    assert level.entropy.item() == pytest.approx(np.log(VOCAB))
    assert level.top.item() == pytest.approx(10 / VOCAB)


def test_bfloat16_log_probs_are_accumulated_in_float32() -> None:
    model, pairs = make_model(), make_pairs()
    packed = pack(pairs, torch.device("cpu"))
    exact = log_probs(model, packed).responses
    with torch.autocast("cpu", torch.bfloat16):
        rough = log_probs(model, packed).responses
    assert rough.dtype == torch.float32
    assert np.abs((rough - exact).detach().numpy()).max() < 0.3


def test_a_model_that_packs_wrongly_is_refused() -> None:
    class Louder(LlamaForCausalLM):
        """Changes its logits after the head, which the packed path cannot see."""

        def forward(self, *args: object, **kwargs: object) -> object:
            out = super().forward(*args, **kwargs)
            out.logits = 3 * out.logits
            return out

    attention.register()
    model = Louder(make_model().config)
    with pytest.raises(TrainError, match="differ from its own"):
        check_model(model, make_pairs()[0])


def test_learned_positions_work_as_well_as_rotary_ones() -> None:
    attention.register()
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    config._attn_implementation = attention.NAME
    check_model(GPT2LMHeadModel(config).eval(), make_pairs()[0])
