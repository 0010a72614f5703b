"""Asking one vLLM in this process.

Prompts reach vLLM as token ids that `prefkit.engines.chat` made, so a text means the same here as in every other
engine; vLLM's own chat templates and the sampling defaults of a model's repository play no part. All requests of a
shard are under way at once, and each is answered as it ends.

A sample is a request of its own with a seed of its own. Requests with equal prompts share its prefill through vLLM's
prefix cache; its `n` would do the same, but derives the seeds of the samples from one, so that asking for more of them
later could not be added to those there are.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from prefkit.engines import Answers, Completion, Conversation, Failure, LogProb, Request
from prefkit.engines.asked import too_long
from prefkit.engines.chat import Prompt, encode_all, encode_prompts, encode_whole
from prefkit.engines.vllm_open import Opened, breakdowns, first_line, refusals
from prefkit.errors import EngineError

__all__ = ["generate", "log_probs", "rewards", "without_padding"]

_POOLED_AT_ONCE = 2048


class _Ask(NamedTuple):
    """One request as vLLM takes it."""

    position: int
    ids: list[int]
    params: Any


def generate(opened: Opened, requests: Sequence[Request]) -> Answers[Completion]:
    """Yield one completion per request, as each ends."""
    asks: list[_Ask] = []
    prompts = [Prompt(request.messages, request.tools) for request in requests]
    distinct = list(dict.fromkeys(prompts))
    encoded = dict(zip(distinct, encode_prompts(opened.tokenizer, distinct), strict=True))
    for position, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
        ids = encoded[prompt]
        if isinstance(ids, Failure):
            yield position, ids
        elif len(ids) >= opened.context:
            yield position, too_long(len(ids), opened.context)
        elif isinstance(params := _sampling(opened, request, opened.context - len(ids)), Failure):
            yield position, params
        else:
            asks.append(_Ask(position, ids, params))
    shown: dict[int, str] = {}
    for position, output in _run(opened, asks):
        if isinstance(output, Failure):
            yield position, output
        else:
            yield position, _completion(opened, requests[position], output, shown)


def log_probs(opened: Opened, conversations: Sequence[Conversation]) -> Answers[LogProb]:
    """Yield the log-prob of each response given its prompt, as each is known.

    vLLM reads a text and must write at least one token, so a text as long as the context would not fit. So the last
    token is not read but written: it is the only one allowed, and its log-prob is that of the model all the same.
    """
    from vllm import SamplingParams

    asks: list[_Ask] = []
    texts = encode_all(opened.tokenizer, conversations)
    sizes: dict[int, tuple[int, int]] = {}
    for position, text in enumerate(texts):
        if isinstance(text, Failure):
            yield position, text
            continue
        ids = text.prompt_ids + text.response_ids
        if len(ids) > opened.context:
            yield position, too_long(len(ids), opened.context)
            continue
        sizes[position] = len(text.prompt_ids), len(text.response_ids)
        told = {"prompt_logprobs": 0, "logprobs": 0, "flat_logprobs": True, "detokenize": False}
        params = SamplingParams(temperature=0, max_tokens=1, allowed_token_ids=ids[-1:], **told)
        asks.append(_Ask(position, ids[:-1], params))
    for position, output in _run(opened, asks):
        if isinstance(output, Failure):
            yield position, output
        else:
            yield position, _log_prob(output, *sizes[position])


def rewards(opened: Opened, conversations: Sequence[Conversation]) -> Answers[tuple[float, ...]]:
    """Yield the raw outputs of the reward head, without the activation that vLLM would put on them."""
    from vllm import PoolingParams

    texts = encode_whole(opened.tokenizer, conversations)
    asks: list[_Ask] = []
    for position, text in enumerate(texts):
        if isinstance(text, Failure):
            yield position, text
        elif len(text) > opened.context:
            yield position, too_long(len(text), opened.context)
        else:
            asks.append(_Ask(position, without_padding(text, opened.pad), None))
    for start in range(0, len(asks), _POOLED_AT_ONCE):
        some = asks[start : start + _POOLED_AT_ONCE]
        outputs = opened.llm.encode(
            [{"prompt_token_ids": ask.ids} for ask in some],
            pooling_params=PoolingParams(use_activation=False),
            pooling_task="classify",
            use_tqdm=False,
        )
        for ask, output in zip(some, outputs, strict=True):
            yield ask.position, tuple(output.outputs.data.float().flatten().tolist())


def _run(opened: Opened, asks: Sequence[_Ask]) -> Iterator[tuple[int, Any]]:
    """Hand all requests over at once and yield each output as it ends. What nobody waits for any more is called off."""
    engine = opened.llm.llm_engine
    named = list(zip(asks, _enqueue(opened.llm, asks), strict=True))
    waiting = {_number(name): (ask.position, name) for ask, name in named if isinstance(name, str)}
    try:
        yield from ((ask.position, name) for ask, name in named if isinstance(name, Failure))
        while waiting:
            for output in _step(engine):
                if output.finished:
                    position, _ = waiting.pop(_number(output.request_id))
                    yield position, output
    except EngineError:
        waiting.clear()  # nobody is left to call them off
        raise
    finally:
        if waiting:
            engine.abort_request([name for _, name in waiting.values()], internal=True)


def _step(engine: Any) -> list[Any]:
    """Go one token further. Raises EngineError if the engine breaks down: its requests are lost with it."""
    try:
        outputs: list[Any] = engine.step()
    except breakdowns() as error:
        hint = "answered requests are kept: build again, with fewer at once ('vllm?max_num_seqs=64') if memory was short"
        raise EngineError(f"vllm broke down: {first_line(error)}", hint=hint) from error
    return outputs


def _enqueue(llm: Any, asks: Sequence[_Ask]) -> list[str | Failure]:
    """Return the names of the requests; those that vLLM refuses are Failures, and the others go ahead."""
    if not asks:
        return []
    prompts = [{"prompt_token_ids": ask.ids} for ask in asks]
    try:
        return list(llm.enqueue(prompts, [ask.params for ask in asks], use_tqdm=False))
    except refusals() as error:
        if len(asks) == 1:
            return [_refused(error)]
    return [name for ask in asks for name in _enqueue(llm, [ask])]


def _refused(error: Exception) -> Failure:
    return Failure(f"vllm refuses the request: {first_line(error)}")


def _number(name: str) -> int:
    """Return the number of a request: vLLM puts a suffix behind it that its answers do not have."""
    return int(name.partition("-")[0])


def _sampling(opened: Opened, request: Request, room: int) -> Any:
    """Return a request's SamplingParams, a Failure where vLLM takes no such settings."""
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    # An answer that must be one of the choices is not cut short: a choice has at most as many tokens as bytes.
    longest = max((len(choice.encode()) + 1 for choice in request.choices), default=0)
    guide = StructuredOutputsParams(choice=list(request.choices)) if request.choices else None
    try:
        return SamplingParams(
            max_tokens=min(max(request.max_tokens, longest), room),
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            seed=request.seed % 2**63,
            stop=list(request.stop),
            stop_token_ids=list(opened.ends),
            logprobs=request.top_logprobs,
            flat_logprobs=True,
            detokenize=bool(request.stop),
            structured_outputs=guide,
        )
    except refusals() as error:
        return _refused(error)


def _completion(opened: Opened, request: Request, output: Any, shown: dict[int, str]) -> Completion:
    """Read an answer. Among choices, log-probs are those of the model once all else is ruled out."""
    answer = output.outputs[0]
    ids = list(answer.token_ids)
    text: str = opened.tokenizer.decode(
        ids[:-1] if ids and ids[-1] in opened.ends else ids, skip_special_tokens=True
    )
    cuts = [at for stop in request.stop if (at := text.find(stop)) >= 0]
    tops = _tops(opened, answer.logprobs, request.top_logprobs, shown) if request.top_logprobs else None
    finish = "length" if answer.finish_reason == "length" else "stop"
    prompt_tokens = len(output.prompt_token_ids)
    return Completion(
        text[: min(cuts, default=None)],
        len(ids),
        finish,
        prompt_tokens,
        float(answer.cumulative_logprob),
        tops,
    )


def _tops(
    opened: Opened, flat: Any, wanted: int, shown: dict[int, str]
) -> tuple[tuple[tuple[str, float], ...], ...]:
    """Return the likeliest tokens at each place; the first that vLLM tells is the one that was drawn."""
    found = []
    for start, end in zip(flat.start_indices, flat.end_indices, strict=True):
        part = slice(start + 1, min(end, start + 1 + wanted))
        ranked = zip(flat.token_ids[part], flat.logprobs[part], strict=True)
        likely = [(token, logp) for token, logp in ranked if logp > float("-inf")]
        for token, _ in likely:
            if token not in shown:
                shown[token] = opened.tokenizer.decode([token])
        found.append(tuple((shown[token], logp) for token, logp in likely))
    return tuple(found)


def _log_prob(output: Any, prompt: int, response: int) -> LogProb:
    flat = output.prompt_logprobs
    read = [flat.logprobs[flat.start_indices[at]] for at in range(prompt, prompt + response - 1)]
    return LogProb(float(sum(read) + output.outputs[0].cumulative_logprob), response)


def without_padding(ids: list[int], pad: int | None) -> list[int]:
    """Cut padding tokens from the end: transformers pools at the last token that is none, vLLM at the last."""
    end = len(ids)
    while end > 1 and ids[end - 1] == pad:
        end -= 1
    return ids[:end]
