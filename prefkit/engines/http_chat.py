"""Chat: how a sample is asked for, and put more simply to a server that refuses a field of the request."""

import asyncio
from collections.abc import Callable
from json import loads
from typing import Any

from prefkit.engines import Completion, Failure, Request
from prefkit.engines.http_answer import read_completion
from prefkit.engines.http_talk import Known, Plain, Question, Refused, Talk, Way

__all__ = ["Chat"]

_NEWER_LIMIT = "max_completion_tokens"
_SCOUTED = 3
"""Requests that are put in every way before a server is taken to refuse them for another reason."""


class Chat:
    """Asks for completions, in one talk."""

    def __init__(self, talk: Talk, name: str, plain: Plain, known: Known) -> None:
        """Ask the model that the server calls `name`."""
        self._talk, self._name, self._plain, self._known = talk, name, plain, known
        self._scout = asyncio.Lock()

    async def answer(self, request: Request) -> Completion | Failure:
        """Return the answer to a request. Raises EngineError where no request can be answered."""
        wants = (bool(request.choices), request.top_logprobs > 0)
        if not any(wants) or wants in self._known.ways:
            outcome = await self._put(request, self._known.ways.get(wants, Way("", False)))
            return outcome.failure if isinstance(outcome, Refused) else outcome
        async with self._scout:
            if wants not in self._known.ways:
                return await self._find_way(request, wants)
        return await self.answer(request)

    async def _find_way(self, request: Request, wants: tuple[bool, bool]) -> Completion | Failure:
        """Put a request in ever plainer ways until one is taken, and keep to that one.

        A server that takes an unknown field without a word gives itself away by an answer that is none of the choices.
        """
        refused: Failure | None = None
        for way in _ways(*wants):
            outcome = await self._put(request, way)
            if isinstance(outcome, Refused):
                if outcome.failure.too_long:
                    return outcome.failure
                refused = refused or outcome.failure
            elif isinstance(outcome, Failure):
                return outcome
            elif not way.choices or outcome.text.strip() in request.choices:
                self._known.ways[wants] = way
                return outcome
        self._known.in_vain += 1
        if self._known.in_vain >= _SCOUTED:
            self._known.ways[wants] = _ways(*wants)[0]
        return refused or Failure("the server takes the request in no way")

    async def _put(self, request: Request, way: Way) -> Completion | Failure | Refused:
        field = self._known.token_field
        outcome = await self._talk.ask(self._question(request, way))
        is_old = isinstance(outcome, Refused) and _NEWER_LIMIT in outcome.failure.error
        if not is_old or field == _NEWER_LIMIT:
            return outcome
        self._known.token_field = _NEWER_LIMIT
        return await self._talk.ask(self._question(request, way))

    def _question(self, request: Request, way: Way) -> Question[Completion]:
        return Question(self._payload(request, way), self._read, "chat completion with one choice")

    def _read(self, body: Any) -> Completion | Failure | None:
        outcome = read_completion(body)
        if isinstance(outcome, Completion) and self._plain.are_in(outcome.text):
            return Failure("the answer repeats the key")
        return outcome

    def _payload(self, request: Request, way: Way) -> dict[str, Any]:
        """Return what to send. What is not part of the protocol everywhere is sent only where it says something."""
        payload: dict[str, Any] = {
            "model": self._name,
            "messages": [{"role": role, "content": content or ""} for role, content in request.messages],
            self._known.token_field: request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
            "stream": False,
        }
        if request.top_k:
            payload["top_k"] = request.top_k
        if request.stop:
            payload["stop"] = request.stop
        if request.tools:
            payload["tools"] = loads(request.tools)
        if way.choices:
            payload[way.choices] = _CHOICES[way.choices](request.choices)
        if way.tops:
            payload |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        return payload


_CHOICES: dict[str, Callable[[tuple[str, ...]], object]] = {
    "structured_outputs": lambda choices: {"choice": choices},  # vLLM since 0.12
    "guided_choice": list,  # vLLM before
}


def _ways(choices: bool, tops: bool) -> list[Way]:
    """Return the ways to put a request, the one that asks for everything first."""
    fields = [*_CHOICES, ""] if choices else [""]
    return [Way(field, asked) for asked in ([True, False] if tops else [False]) for field in fields]
