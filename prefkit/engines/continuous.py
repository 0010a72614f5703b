"""Continuous batching: the library's own, for who would rather have more tokens a second than the same ones every time.

Requests of all lengths share one paged cache, and a place that falls free is filled at once. All are drawn from one
generator, so what a request is answered depends on its company: a seed decides nothing, and a build that is cut and
resumed may write other texts than one that was not. What was answered is remembered, as always.

Requests with stop strings, with choices, or that ask for likeliest tokens or beams are not for it.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prefkit.engines import Completion, Failure, Request
from prefkit.engines.asked import Asked
from prefkit.engines.weights import Loaded

if TYPE_CHECKING:
    from transformers import ContinuousBatchingConfig

__all__ = ["batched", "suits"]

_PAGE, _AT_ONCE = 32, 512
"""Tokens of a page of the cache, and tokens computed in one step on a CPU."""


def suits(request: Request) -> bool:
    """Return whether a request can be answered in this way."""
    return not (request.stop or request.choices or request.top_logprobs or request.beam)


def batched(
    loaded: Loaded, asked: Mapping[int, Asked], tokens: int
) -> Iterator[tuple[int, Completion | Failure]]:
    """Yield the answer to each request, by its position; `tokens` is the size of the cache on a CPU."""
    together: dict[tuple[Any, ...], list[int]] = {}
    for at, one in asked.items():
        (row,) = one.rows
        together.setdefault((row.limit, row.temperature, row.top_p, row.top_k), []).append(at)
    for knobs, places in together.items():
        sizes = _sizes(loaded, tokens, asked[places[0]].request.seed)
        made = loaded.network.generate_batch(
            [list(asked[at].rows[0].ids) for at in places],
            generation_config=_settings(loaded, *knobs),
            continuous_batching_config=sizes,
            warmup=False,
        )
        is_plain = knobs[1:] in ((1.0, 1.0, 0), (0.0, 1.0, 0))
        for number, at in enumerate(places):
            yield at, _answer(loaded, made[f"req_{number}"], asked[at], has_logp=is_plain)


def _settings(loaded: Loaded, limit: int, temperature: float, top_p: float, top_k: int) -> Any:
    from transformers import GenerationConfig

    return GenerationConfig(
        do_sample=temperature > 0,
        max_new_tokens=limit,
        temperature=temperature or 1.0,
        top_p=top_p,
        # Greedy decoding takes the library's default for nothing said, and warns of any other.
        top_k=top_k if temperature > 0 else 50,
        repetition_penalty=1.0,
        eos_token_id=list(loaded.ends),
        pad_token_id=loaded.ends[0],
    )


def _sizes(loaded: Loaded, tokens: int, seed: int) -> "ContinuousBatchingConfig":
    from transformers import ContinuousBatchingConfig

    own: dict[str, Any] = {"seed": seed, "return_logprobs": True}
    if loaded.network.device.type == "cpu":  # elsewhere it takes what memory there is
        own |= {"page_size": _PAGE, "num_blocks": -(-tokens // _PAGE), "max_batch_tokens": _AT_ONCE}
    return ContinuousBatchingConfig(**own)


def _answer(loaded: Loaded, output: Any, asked: Asked, *, has_logp: bool) -> Completion | Failure:
    if output.error is not None:
        return Failure(f"continuous batching: {output.error}")
    ids = output.generated_tokens
    is_finished = bool(ids) and ids[-1] in loaded.ends
    text: str = loaded.tokenizer.decode(ids[:-1] if is_finished else ids, skip_special_tokens=True)
    finish = "stop" if is_finished else "length"
    logp = float(sum(output.logprobs)) if has_logp else None  # otherwise they are of what was drawn from
    return Completion(text, len(ids), finish, len(asked.rows[0].ids), logp)
