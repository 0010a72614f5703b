"""Beams: the likeliest answers of a model instead of samples, by the library's own beam search.

Requests that differ only in the place they want are one search. Answers are ranked by their mean log-prob a token, and
each search is a batch of its own, so that it does not depend on what else is asked.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from prefkit.engines import Completion, Failure, Request
from prefkit.engines.asked import Asked
from prefkit.engines.weights import Loaded

if TYPE_CHECKING:
    import torch

__all__ = ["searched"]


_PLAIN = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 50,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "length_penalty": 1.0,
    "early_stopping": False,
}
"""What the library takes for nothing said. It is said, or a model's `generation_config.json` would say something else."""


def searched(
    loaded: Loaded, asked: Mapping[int, Asked | Failure]
) -> Iterator[tuple[int, Completion | Failure]]:
    """Yield the answer to each request for a beam, by its position: one search for all places of a prompt."""
    together: dict[Request, list[int]] = {}
    for at, one in asked.items():
        if isinstance(one, Failure):
            yield at, one
        else:
            _, width = one.request.beam or (0, 1)
            together.setdefault(one.request._replace(beam=(0, width)), []).append(at)
    for places in together.values():
        mine = {at: one for at in places if isinstance(one := asked[at], Asked)}
        found = _search(loaded, next(iter(mine.values())))
        for at, one in mine.items():
            place, _ = one.request.beam or (0, 1)
            yield (
                at,
                found[place] if place < len(found) else Failure(f"the search found {len(found)} answers"),
            )


def _search(loaded: Loaded, asked: Asked) -> list[Completion]:
    """Return the answers of one search, the likeliest first."""
    import torch
    from transformers import GenerationConfig

    (row,), (_, width) = asked.rows, asked.request.beam or (0, 1)
    ends = list(loaded.ends)
    how = GenerationConfig(
        num_beams=width,
        num_return_sequences=width,
        do_sample=False,
        **_PLAIN,
        max_new_tokens=row.limit,
        eos_token_id=ends,
        pad_token_id=ends[0],
        return_dict_in_generate=True,
        output_scores=True,
    )
    ids = torch.tensor([row.ids], device=loaded.network.device)
    with torch.no_grad():
        made = loaded.network.generate(ids, attention_mask=torch.ones_like(ids), generation_config=how)
        # A search as wide as one is plain greedy decoding, whose scores are not normalised yet.
        beams = getattr(made, "beam_indices", None)
        told = loaded.network.compute_transition_scores(
            made.sequences, made.scores, beams, normalize_logits=beams is None
        )
    written = made.sequences[:, len(row.ids) :]
    return [_completion(loaded, len(row.ids), *each, row.limit) for each in zip(written, told, strict=True)]


def _completion(
    loaded: Loaded, prompt_tokens: int, written: "torch.Tensor", logps: "torch.Tensor", limit: int
) -> Completion:
    ids = written.tolist()[:limit]
    end = next((at for at, token in enumerate(ids) if token in loaded.ends), None)
    count = len(ids) if end is None else end + 1
    text: str = loaded.tokenizer.decode(ids[:end], skip_special_tokens=True)
    finish = "length" if end is None else "stop"
    return Completion(text, count, finish, prompt_tokens, float(logps[:count].double().sum()))
