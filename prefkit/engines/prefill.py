"""Prefill: each prompt is read once, whoever asks for answers to it and however many.

Prompts are read on their own, so many at a time as their padded length alone decides; how many rows the answers are
written in, and which prompts were read together, plays no part. So a prompt's state has the same bits whether it is
shared or not, and handing it out to the samples of the prompt is nothing but a copy.

Shapes: R rows of a batch, L padded prompt tokens, V vocabulary, T tokens so far, padding included.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from prefkit.engines.growing import Part, put_together
from prefkit.errors import EngineError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache

__all__ = ["Prompts", "Share", "State", "joined", "onward"]

_CPU_TOKENS, _GPU_TOKENS = 1024, 8192
"""Tokens read at a time, if one prompt has no more: enough to keep the device busy."""


class State(NamedTuple):
    """Where the rows of a batch stand."""

    logits: "torch.Tensor"
    """[R, V], of the next token."""
    mask: "torch.Tensor"
    """int64 [R, T], 1 on tokens and 0 on padding."""
    place: "torch.Tensor"
    """int64 [R, 1], position of the last token in its own text."""
    cache: "Cache"


class Share(NamedTuple):
    """Some rows of a state; one may be taken more than once."""

    state: State
    rows: Sequence[int]


class Prompts:
    """Distinct prompts of one padded length, read when they are first asked for and forgotten when they are done."""

    def __init__(self, network: "PreTrainedModel", prompts: Sequence[Sequence[int]], length: int) -> None:
        """Read nothing yet."""
        self._network, self._prompts, self._length = network, prompts, length
        usual = _CPU_TOKENS if network.device.type == "cpu" else _GPU_TOKENS
        several = max(1, usual // length)
        self._size = 1 << (several.bit_length() - 1)
        self._states: dict[int, State] = {}

    def shares(self, asked: Sequence[int]) -> list[Share]:
        """Return shares of states that stand behind the prompts asked for, in order.

        Prompts have to be asked for in rising order: those before the last are forgotten. Raises EngineError for a
        model without a key-value cache.
        """
        of_reading: dict[int, list[int]] = {}
        for number in asked:
            of_reading.setdefault(number // self._size, []).append(number % self._size)
        found = [Share(self._reading(number), places) for number, places in of_reading.items()]
        self._states = {number: state for number, state in self._states.items() if number == max(of_reading)}
        return found

    def whole(self, asked: Sequence[int], rows: int) -> State:
        """Return a state of `rows` rows, each of which has read its own prompt; the last prompt fills it up."""
        self._states = {}
        prompts = [self._prompts[number] for number in asked]
        return read(self._network, prompts + prompts[-1:] * (rows - len(prompts)), self._length)

    def _reading(self, number: int) -> State:
        if number not in self._states:
            start = number * self._size
            prompts = list(self._prompts[start : start + self._size])
            prompts += prompts[-1:] * (self._size - len(prompts))
            self._states[number] = read(self._network, prompts, self._length)
        return self._states[number]


def read(network: "PreTrainedModel", prompts: Sequence[Sequence[int]], length: int) -> State:
    """Run prompts through the model, each padded on the left to `length`."""
    import torch
    from transformers.cache_utils import Cache

    ids = torch.zeros(len(prompts), length, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt) :] = torch.tensor(prompt)
        mask[row, length - len(prompt) :] = 1
    ids, mask = ids.to(network.device), mask.to(network.device)
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    out = network(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=True, logits_to_keep=1)
    if not isinstance(out.past_key_values, Cache):
        what = f"models of type '{network.config.model_type}' keep no key-value cache, and cannot be decoded here"
        raise EngineError(what, hint="serve it over HTTP: --engine NAME=http://localhost:8000/v1")
    return State(out.logits[:, -1], mask, places[:, -1:], out.past_key_values)


def joined(shares: Sequence[Share]) -> State:
    """Return a state of its own with the rows of all shares, which hold equally many tokens and can be split."""
    import torch

    device = shares[0].state.mask.device
    at = [torch.tensor(share.rows, dtype=torch.int64, device=device) for share in shares]
    logits, mask, place = (
        torch.cat([share.state[part][rows] for share, rows in zip(shares, at, strict=True)])
        for part in range(3)
    )
    return State(logits, mask, place, put_together([Part(share.state.cache, share.rows) for share in shares]))


def onward(
    network: "PreTrainedModel", state: State, tokens: "torch.Tensor", last_place: "torch.Tensor"
) -> State:
    """Append one token to each row. Rows that nobody reads any more stay at their last place: a model has no more.

    Shapes: `tokens` and `last_place` are int64 [R, 1].
    """
    import torch

    mask = torch.cat([state.mask, torch.ones_like(tokens)], dim=1)
    place = torch.minimum(state.place + 1, last_place)
    out = network(
        input_ids=tokens,
        attention_mask=mask,
        position_ids=place,
        past_key_values=state.cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return State(out.logits[:, -1], mask, place, state.cache)
