"""Texts that a server scores: log-probs of what it is told, outputs of a reward head, and vectors.

Conversations are sent as the token ids that `prefkit.engines.chat` made, so a text means the same here as in every
other engine, a response begins where it begins there, and the server's own chat template plays no part. An answer is
taken only where it speaks of just these tokens: some servers take `echo` without a word and give log-probs of what they
wrote themselves, put a token in front, or know no log-probs at all. Such a server ends the build and is told by name.

vLLM must write a token to read a text, so a text as long as the server's context is too long by one.
"""

import asyncio
import math
from typing import Any, NamedTuple

from prefkit.engines import Failure, LogProb
from prefkit.engines.chat import Encoded
from prefkit.engines.http_talk import Known, Question, Refused, Talk
from prefkit.errors import EngineError

__all__ = ["HeadOutputs", "PromptLogProbs", "Told", "Vectors"]

_SCOUTED = 3
_APART = 1e-3
"""Two computations of one number differ by less; a number and its sigmoid by more, but next to 0.659."""
_LEAST = -9999.0
"""What vLLM writes for minus infinity, which is no JSON."""
_ELSEWHERE = "or place the model in this process: --engine NAME=transformers"
_ECHO_HINT = (
    f"log-probs need /v1/completions with `echo` and `logprobs`, as vLLM and SGLang have it; {_ELSEWHERE}"
)
_POOLING_HINT = f"rewards need vLLM's /pooling: `vllm serve MODEL --runner pooling`; {_ELSEWHERE}"
_VECTORS_HINT = (
    "vectors need /v1/embeddings; or place the model in this process: --engine NAME=sentence-transformers"
)


class Told(NamedTuple):
    """A conversation as it is sent, and as the server should write it."""

    text: Encoded
    readings: tuple[str, ...]
    """The text of all tokens, with and without special ones: who writes neither has another vocabulary."""


class PromptLogProbs:
    """Asks for the log-prob of a response that stands at the end of a prompt, in one talk."""

    def __init__(self, talk: Talk, name: str, shown: str, known: Known) -> None:
        """Ask the model that the server calls `name`; `shown` is its address for people."""
        self._talk, self._name, self._shown, self._known = talk, name, shown, known

    async def answer(self, told: Told) -> LogProb | Failure:
        """Return the log-prob. Raises EngineError where the server gives none of what it is told."""
        payload = {
            "model": self._name,
            "prompt": told.text.prompt_ids + told.text.response_ids,
            "max_tokens": 1,
            "temperature": 0,
            "echo": True,
            "logprobs": 1,  # none would do, and SGLang takes 0 for a no
        }
        shape = "completion with log-probs of its prompt"
        outcome = await self._talk.ask(
            Question(payload, lambda body: self._read(body, told), shape, _ECHO_HINT)
        )
        return outcome.failure if isinstance(outcome, Refused) else outcome

    def _read(self, body: Any, told: Told) -> LogProb | Failure | None:
        choice = _only(body, "choices")
        if choice is None or not isinstance(choice.get("text"), str):
            return None
        if lack := self._lack(choice, _usage(body), told):
            if self._known.tells_log_probs:
                return None
            raise EngineError(f"the server at {self._shown} {lack}", hint=_ECHO_HINT)
        self._known.tells_log_probs = True
        start, size = len(told.text.prompt_ids), len(told.text.response_ids)
        logps = choice["logprobs"]["token_logprobs"][start : start + size]
        if min(logps) <= _LEAST:
            return Failure("the server holds a token of the response for impossible")
        return LogProb(math.fsum(min(logp, 0.0) for logp in logps), size, start)

    def _lack(self, choice: dict[str, Any], usage: dict[str, Any], told: Told) -> str:
        """Return what makes an answer unfit, "" for nothing."""
        wanted = len(told.text.prompt_ids) + len(told.text.response_ids)
        logprobs = choice.get("logprobs")
        given = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
        count = len(given) if isinstance(given, list) else 0
        read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if not isinstance(given, list) or count < wanted:
            return f"gives no log-probs of what it is told: it was told {wanted} tokens, and scores {count}"
        if read != wanted or not isinstance(written, int) or count != wanted + written:
            what = f"scores {count} tokens, {read} read and {written} written"
            return f"does not tell where a response begins: it was told {wanted} tokens, and {what}"
        if given[0] is not None or not all(_is_logp(logp) for logp in given[1:wanted]):
            return "gives numbers for its prompt that are no log-probs of it"
        if not any(choice["text"].startswith(reading) for reading in told.readings):
            return "reads token ids as another text: it serves a model with another vocabulary"
        return ""


class HeadOutputs:
    """Asks for the raw outputs of a reward head, in one talk.

    A server that puts a sigmoid or softmax on them, and overlooks the field that forbids it, would give other numbers
    without a word. So the first texts are asked both ways, until the answers differ or lie where no such function leads.
    """

    def __init__(self, talk: Talk, name: str, shown: str, known: Known) -> None:
        """Ask the model that the server calls `name`; `shown` is its address for people."""
        self._talk, self._name, self._shown, self._known = talk, name, shown, known
        self._scout, self._in_doubt = asyncio.Lock(), 0

    async def answer(self, ids: list[int]) -> tuple[float, ...] | Failure:
        """Return one number a label. Raises EngineError where they are not raw."""
        if self._known.tells_raw_rewards:
            return await self._outputs(ids, squashed=False)
        async with self._scout:
            raw = await self._outputs(ids, squashed=False)
            if self._known.tells_raw_rewards or isinstance(raw, Failure):
                return raw
            squashed = await self._outputs(ids, squashed=True)
            if isinstance(squashed, Failure):
                return squashed
            self._known.tells_raw_rewards = _is_raw(raw, squashed)
        if self._known.tells_raw_rewards:
            return raw
        self._in_doubt += 1
        doubt = "gives a reward the same with and without an activation function on it"
        if self._in_doubt >= _SCOUTED:
            raise EngineError(f"the server at {self._shown} {doubt}", hint=_POOLING_HINT)
        return Failure(f"the server {doubt}")

    async def _outputs(self, ids: list[int], *, squashed: bool) -> tuple[float, ...] | Failure:
        payload = {
            "model": self._name,
            "input": ids,
            "task": "classify",
            "use_activation": squashed,
            "encoding_format": "float",
        }
        question = Question(payload, lambda body: _pooled(body, len(ids)), "list of rewards", _POOLING_HINT)
        outcome = await self._talk.ask(question)
        return outcome.failure if isinstance(outcome, Refused) else outcome


class Vectors:
    """Asks for embeddings, in one talk. What a server makes of a text, prompts and pooling, is its own affair."""

    def __init__(self, talk: Talk, name: str) -> None:
        """Ask the model that the server calls `name`."""
        self._talk, self._name = talk, name

    async def answer(self, text: str) -> tuple[float, ...] | Failure:
        """Return the vector of a text."""
        payload = {"model": self._name, "input": text, "encoding_format": "float"}
        outcome = await self._talk.ask(Question(payload, _vector, "list of one vector", _VECTORS_HINT))
        return outcome.failure if isinstance(outcome, Refused) else outcome


def _is_raw(raw: tuple[float, ...], squashed: tuple[float, ...]) -> bool:
    """Whether numbers are not those of a sigmoid or softmax, given what the server calls its outputs with one."""
    apart = max(abs(one - other) for one, other in zip(raw, squashed, strict=False))
    return apart > _APART or min(raw) < 0 or max(raw) > 1


def _pooled(body: Any, tokens: int) -> tuple[float, ...] | Failure | None:
    entry = _only(body, "data")
    numbers = None if entry is None else _numbers(entry.get("data"))
    if numbers is not None and _usage(body).get("prompt_tokens", tokens) != tokens:
        return Failure("the server read another number of tokens than it was told")
    return numbers


def _vector(body: Any) -> tuple[float, ...] | None:
    entry = _only(body, "data")
    return None if entry is None else _numbers(entry.get("embedding"))


def _only(body: Any, name: str) -> dict[str, Any] | None:
    """Return the only entry of a list in an answer, None where there is no such thing."""
    entries = body.get(name) if isinstance(body, dict) else None
    is_one = isinstance(entries, list) and len(entries) == 1 and isinstance(entries[0], dict)
    return entries[0] if is_one and isinstance(entries, list) else None


def _usage(body: dict[str, Any]) -> dict[str, Any]:
    usage = body.get("usage")
    return usage if isinstance(usage, dict) else {}


def _numbers(values: Any) -> tuple[float, ...] | None:
    is_list = isinstance(values, list) and bool(values) and all(_is_number(value) for value in values)
    return tuple(float(value) for value in values) if is_list else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_logp(value: object) -> bool:
    """Whether a value is a log-prob in nats; rounding may bring it a little above 0."""
    return isinstance(value, int | float) and _is_number(value) and value < 1e-3
