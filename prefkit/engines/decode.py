"""Decoding: many requests in one batch, each with its own seed, and each as if it were alone.

Each row draws from its own stream (`prefkit.engines.sampling`), and batches have a fixed shape
(`prefkit.engines.batches`); so the same request gives the same text whatever the batch. On another machine, or with
another version of torch, logits differ in their last bits, and a drawn number may then fall on the other side of a
boundary: rarely, but it happens.

Requests with the same prompt share its prefill. Finished rows stay in the batch until all are done: a smaller batch
would be another shape.

Shapes: R rows of the batch, L padded prompt tokens, V vocabulary, A rows still writing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prefkit.engines.batches import Shape
from prefkit.engines.growing import growing_layer, is_plain
from prefkit.engines.sampling import Knobs, choose, uniforms
from prefkit.errors import EngineError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.cache_utils import Cache

__all__ = ["Row", "Written", "decode"]

_PREFILL_TOKENS = 2048
_LEAST_PREFILL_ROWS = 8


class Row(NamedTuple):
    """One request, ready to decode."""

    ids: tuple[int, ...]
    limit: int
    """Most tokens to write, the end-of-turn token included."""
    temperature: float
    top_p: float
    top_k: int
    seed: int
    stop: tuple[str, ...]


class Written(NamedTuple):
    """What was decoded for a row."""

    ids: list[int]
    """The end-of-turn token included, if it came."""
    logp: float
    """Summed log-prob of `ids` under the model at temperature 1, in nats."""
    is_finished: bool
    """Whether it ended by itself: at an end-of-turn token or a stop string."""


def decode(
    network: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    ends: Sequence[int],
    rows: Sequence[Row],
    shape: Shape,
) -> list[Written]:
    """Write a response for each row, in their order. Raises EngineError for a model without a key-value cache."""
    import torch

    with torch.inference_mode(), _attention_by_row(network.device):
        return _decode(network, tokenizer, ends, rows, shape)


def _decode(
    network: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    ends: Sequence[int],
    rows: Sequence[Row],
    shape: Shape,
) -> list[Written]:
    import torch

    state, knobs = _prefill(network, rows, shape), _knobs(rows, network.device)
    limits = np.array([row.limit for row in rows])
    draws = np.stack([uniforms(row.seed, int(limits.max())) for row in rows])
    tokens = np.zeros((len(rows), int(limits.max())), dtype=np.int64)
    logps, counts = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    active, finished = np.ones(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
    for step in range(tokens.shape[1]):
        which = np.flatnonzero(active)
        at = torch.from_numpy(which).to(network.device)
        draw = torch.from_numpy(draws[which, step]).to(network.device)
        chosen = choose(state.logits[at], Knobs(*(knob[at] for knob in knobs)), draw)
        tokens[which, step] = chosen.tokens.cpu().numpy()
        logps[which] += chosen.logps.cpu().numpy()
        counts[which] += 1
        finished[which] = np.isin(tokens[which, step], ends)
        # A Python loop over the rows that have stop strings: they are a matter of text, not of tokens.
        for row in which.tolist():
            if rows[row].stop and not finished[row]:
                finished[row] = _has_stop(tokenizer, tokens[row, : step + 1], rows[row].stop)
        active &= ~finished & (counts < limits)
        if not active.any():
            break
        state = _forward(network, state, _column(tokens[:, step], shape.rows, network.device))
    return [
        Written(tokens[row, : counts[row]].tolist(), float(logps[row]), bool(finished[row]))
        for row in range(len(rows))
    ]


@contextmanager
def _attention_by_row(device: "torch.device") -> Iterator[None]:
    """Keep a row's attention from depending on its place in the batch.

    For one query a row, the fused CPU kernel cuts the work among threads in the middle of rows, so with two threads or
    more a row's last bits depend on where it stands; seen with torch 2.13. The plain kernel is as fast here.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    if device.type == "cpu":
        with sdpa_kernel(SDPBackend.MATH):
            yield
    else:
        yield


class _State(NamedTuple):
    """Where a batch stands."""

    logits: "torch.Tensor"
    """[R, V], of the next token."""
    mask: "torch.Tensor"
    """[R, tokens so far], 1 on tokens and 0 on padding."""
    place: "torch.Tensor"
    """[R, 1], position of the last token in its own text."""
    cache: "Cache"


def _prefill(network: "PreTrainedModel", rows: Sequence[Row], shape: Shape) -> _State:
    """Read each distinct prompt once, a fixed number at a time, and hand it to the rows that have it."""
    import torch
    from transformers.cache_utils import Cache

    distinct = list(dict.fromkeys(row.ids for row in rows))
    number = {ids: at for at, ids in enumerate(distinct)}
    owners = [number[row.ids] for row in rows] + [0] * (shape.rows - len(rows))
    several = max(_LEAST_PREFILL_ROWS, _PREFILL_TOKENS // shape.length)
    size = min(shape.rows, 1 << (several.bit_length() - 1))
    states = [_read(network, distinct[:size], size, shape.length)]
    if not all(is_plain(layer) for layer in states[0].cache.layers):
        # Sliding windows and recurrent states cannot be handed out row by row: every row reads its own prompt.
        return _read(network, [distinct[owner] for owner in owners], shape.rows, shape.length)
    states += [
        _read(network, distinct[start : start + size], size, shape.length)
        for start in range(size, len(distinct), size)
    ]
    at = torch.tensor(owners, device=network.device)
    layers = [
        growing_layer(
            torch.cat([layer.keys for layer in layers])[at], torch.cat([layer.values for layer in layers])[at]
        )
        for layers in zip(*(state.cache.layers for state in states), strict=True)
    ]
    logits, mask, place = (torch.cat([state[part] for state in states])[at] for part in range(3))
    return _State(logits, mask, place, Cache(layers=layers))


def _read(network: "PreTrainedModel", prompts: Sequence[Sequence[int]], rows: int, length: int) -> _State:
    """Run prompts through the model, padded on the left to [rows, length], the last one repeated as needed."""
    import torch
    from transformers.cache_utils import Cache

    ids = torch.zeros(rows, length, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row in range(rows):
        prompt = prompts[min(row, len(prompts) - 1)]
        ids[row, length - len(prompt) :] = torch.tensor(prompt)
        mask[row, length - len(prompt) :] = 1
    ids, mask = ids.to(network.device), mask.to(network.device)
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    out = network(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=True, logits_to_keep=1)
    if not isinstance(out.past_key_values, Cache):
        what = f"models of type '{network.config.model_type}' keep no key-value cache, and cannot be decoded here"
        raise EngineError(what, hint="serve it over HTTP: --engine NAME=http://localhost:8000/v1")
    return _State(out.logits[:, -1], mask, places[:, -1:], out.past_key_values)


def _forward(network: "PreTrainedModel", state: _State, tokens: "torch.Tensor") -> _State:
    """Append one token to each row. Shape: `tokens` [R, 1]."""
    import torch

    mask, place = torch.cat([state.mask, torch.ones_like(tokens)], dim=1), state.place + 1
    out = network(
        input_ids=tokens,
        attention_mask=mask,
        position_ids=place,
        past_key_values=state.cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return _State(out.logits[:, -1], mask, place, state.cache)


def _knobs(rows: Sequence[Row], device: "torch.device") -> Knobs:
    import torch

    return Knobs(
        torch.tensor([row.temperature for row in rows], dtype=torch.float64, device=device),
        torch.tensor([row.top_p for row in rows], dtype=torch.float64, device=device),
        torch.tensor([row.top_k for row in rows], dtype=torch.int64, device=device),
    )


def _column(tokens: np.ndarray, rows: int, device: "torch.device") -> "torch.Tensor":
    """Return the tokens as [rows, 1], rows that nobody reads filled with token 0."""
    import torch

    padded = np.zeros((rows, 1), dtype=np.int64)
    padded[: len(tokens), 0] = tokens
    return torch.from_numpy(padded).to(device)


def _has_stop(tokenizer: "PreTrainedTokenizerBase", ids: np.ndarray, stops: Sequence[str]) -> bool:
    """Return whether a stop string ends in the last token; a character has at most four tokens."""
    window = 4 * max(len(stop) for stop in stops) + 4
    text = tokenizer.decode(ids[-window:].tolist(), skip_special_tokens=True)
    return any(stop in text for stop in stops)
