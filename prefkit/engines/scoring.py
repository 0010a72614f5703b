"""Scoring given text: log-probs of responses, and the outputs of reward models, in batches of a fixed shape.

Texts are padded on the right, so that positions start at 0 and causal attention never sees the padding. The language
model's head, by far the widest layer, is applied to response positions only, a fixed number at a time, so memory does
not grow with the vocabulary times the batch. Some models do more to their logits behind the head (soft caps, scales):
a probe finds out, and such a model runs whole.

Shapes: R rows of the batch, L padded tokens, H hidden size, V vocabulary, S scored positions.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prefkit.engines import Candidates
from prefkit.engines.batches import Shape
from prefkit.engines.chat import Encoded

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

__all__ = ["can_split_head", "next_token_logps", "response_logps", "reward_outputs"]

_POSITIONS = 512
_TOLERANCE = 1e-3


def response_logps(
    network: "PreTrainedModel", texts: Sequence[Encoded], shape: Shape, *, head_apart: bool
) -> list[float]:
    """Return the summed log-prob of each response given its prompt, in nats.

    Logits are taken to float32 and sums to float64, whatever the model computes in. `head_apart` is what
    `can_split_head` says of the model.
    """
    import torch

    rows = torch.tensor([row for row, text in enumerate(texts) for _ in text.response_ids])
    targets = torch.tensor([token for text in texts for token in text.response_ids])
    sums = torch.zeros(len(texts), dtype=torch.float64)
    with torch.inference_mode():
        logps = [
            _picked(logits, targets[part, None].to(logits.device))[:, 0]
            for part, logits in _logits(network, texts, shape, head_apart)
        ]
        sums = sums.index_add(0, rows, torch.cat(logps).double().cpu())
    found: list[float] = sums.tolist()
    return found


def next_token_logps(
    network: "PreTrainedModel",
    texts: Sequence[Encoded],
    shape: Shape,
    wanted: int | Sequence[np.ndarray],
    words: int,
    *,
    head_apart: bool,
) -> list[Candidates]:
    """Return what the model thinks of other tokens at each token of each response.

    `wanted` is how many of the likeliest, or which: int [tokens, k] a text, with one k. Only the first `words` ids are
    tokens: some models have more rows in their head than their tokenizer has words.
    """
    import torch

    asked = None if isinstance(wanted, int) else torch.from_numpy(np.concatenate(wanted)).long()
    ids, logps = [], []
    with torch.inference_mode():
        for part, logits in _logits(network, texts, shape, head_apart):
            if asked is None:
                assert isinstance(wanted, int)
                chosen = logits[:, :words].topk(min(wanted, words)).indices
            else:
                chosen = asked[part].to(logits.device)
            ids.append(chosen.cpu().int().numpy())
            logps.append(_picked(logits, chosen).cpu().numpy())
    ends = np.cumsum([len(text.response_ids) for text in texts])[:-1]
    both = (np.split(np.concatenate(each), ends) for each in (ids, logps))
    return [Candidates(*one) for one in zip(*both, strict=True)]


def reward_outputs(
    network: "PreTrainedModel", texts: Sequence[Sequence[int]], shape: Shape
) -> list[tuple[float, ...]]:
    """Return the raw outputs of a sequence-classification head, one number a label.

    The library pools at the last token that is not the padding token. A model that names none gets one that occurs in
    none of the texts, so that a text which ends with an unlucky token is not cut short.
    """
    import torch

    config = network.config.get_text_config()
    named = config.pad_token_id
    used = {token for text in texts for token in text}
    free = next(token for token in range(len(used) + 1) if token not in used)
    config.pad_token_id = free if named is None else named
    padded = _pad(texts, shape, config.pad_token_id, network.device)
    try:
        with torch.inference_mode():
            logits = network(input_ids=padded.ids, attention_mask=padded.mask).logits.float().cpu()
    finally:
        config.pad_token_id = named
    return [tuple(row) for row in logits[: len(texts)].tolist()]


def can_split_head(network: "PreTrainedModel") -> bool:
    """Return whether the output embedding of the base model's states gives the model's logits."""
    import torch

    base, head = network.base_model, network.get_output_embeddings()
    if base is network or head is None:
        return False
    ids = torch.arange(1, 9, device=network.device)[None] % network.config.get_text_config().vocab_size
    mask = torch.ones_like(ids)
    with torch.inference_mode():
        whole = network(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
        states = base(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        apart = head(states).float()
    return apart.shape == whole.shape and bool((apart - whole).abs().max() <= _TOLERANCE * whole.abs().max())


class _Padded(NamedTuple):
    """Both are int64 [R, L]."""

    ids: "torch.Tensor"
    mask: "torch.Tensor"


def _pad(texts: Sequence[Sequence[int]], shape: Shape, pad_id: int, device: "torch.device") -> _Padded:
    """Pad on the right, and fill the batch up with copies of its last row."""
    import torch

    ids = torch.full((shape.rows, shape.length), pad_id, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row in range(shape.rows):
        text = texts[min(row, len(texts) - 1)]
        ids[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = 1
    return _Padded(ids.to(device), mask.to(device))


def _states(network: "PreTrainedModel", padded: _Padded, *, head_apart: bool) -> "torch.Tensor":
    """Return hidden states [R, L, H], or logits [R, L, V] of a model whose head does not stand alone."""
    import torch

    places = torch.arange(padded.ids.shape[1], device=padded.ids.device).expand_as(padded.ids)
    run = network.base_model if head_apart else network
    out = run(input_ids=padded.ids, attention_mask=padded.mask, position_ids=places, use_cache=False)
    states: torch.Tensor = out.last_hidden_state if head_apart else out.logits
    return states


def _logits(
    network: "PreTrainedModel", texts: Sequence[Encoded], shape: Shape, head_apart: bool
) -> Iterator[tuple[slice, "torch.Tensor"]]:
    """Yield the float32 logits that predict the response tokens [S, V], a fixed number of tokens at a time."""
    import torch

    padded = _pad([text.prompt_ids + text.response_ids for text in texts], shape, 0, network.device)
    rows = torch.tensor([row for row, text in enumerate(texts) for _ in text.response_ids])
    before = torch.tensor(
        [len(text.prompt_ids) - 1 + at for text in texts for at in range(len(text.response_ids))]
    )
    states = _states(network, padded, head_apart=head_apart)
    wide = states[rows.to(states.device), before.to(states.device)]
    for start in range(0, len(wide), _POSITIONS):
        part = slice(start, start + _POSITIONS)
        yield part, _head(network, wide[part]).float() if head_apart else wide[part].float()


def _head(network: "PreTrainedModel", wide: "torch.Tensor") -> "torch.Tensor":
    """Apply the head, which always sees the same number of positions."""
    room = wide.new_zeros(_POSITIONS, wide.shape[-1])
    room[: len(wide)] = wide
    logits: torch.Tensor = network.get_output_embeddings()(room)[: len(wide)]
    return logits


def _picked(logits: "torch.Tensor", ids: "torch.Tensor") -> "torch.Tensor":
    """Return the log-probs of some tokens: [S, V] and [S, k] to [S, k]."""
    return logits.gather(-1, ids) - logits.logsumexp(-1, keepdim=True)
