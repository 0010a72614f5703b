"""Memo: remember every answer by the request that asked for it, so that nothing is paid for twice.

Any engine can be wrapped. An answer is committed to one file (`answers`) before the next one is asked for, so a build
that is killed loses at most the batch it was waiting for. Answers are plain JSON. Failures are never remembered.

The key is a hash of the model's identity, the method and the request; which engine answered is placement and no part
of it.
"""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

import numpy as np
from pydantic import TypeAdapter
from pydantic_core import to_json

from prefkit.engines import (
    Answers,
    Candidates,
    Completion,
    Conversation,
    Drains,
    Embeds,
    Engine,
    Failure,
    Fingerprints,
    Generates,
    LogProb,
    LogProbs,
    Model,
    NextTokens,
    Request,
    Rewards,
    Spend,
    Vocabularies,
)
from prefkit.engines.answers import Claim, Keeps, Memo
from prefkit.engines.filing import filed
from prefkit.engines.spend import Tokens
from prefkit.engines.thinned import Thinned, ThinnedRewards
from prefkit.errors import EngineError, StoreError

__all__ = ["Memo", "Remembering"]

A = TypeVar("A")
Q = TypeVar("Q")


class Method(NamedTuple):
    """How one kind of request is filed."""

    name: str
    reader: TypeAdapter[Any]
    """What an answer is made of: the file may be anybody's."""
    tokens: Callable[[Any], Tokens]
    """What an answer took."""


def _took(answer: Completion) -> Tokens:
    """Return the tokens of an answer. A prompt has at least one, and so has a text; an engine may tell neither."""
    told = answer.prompt_tokens > 0 and (answer.tokens > 0 or not answer.text)
    return Tokens(answer.prompt_tokens, answer.tokens, told)


_UNTOLD = Tokens(0, 0, told=False)
_NUMBERS: TypeAdapter[tuple[float, ...]] = TypeAdapter(tuple[float, ...])
_GENERATE = Method("generate", TypeAdapter(Completion), _took)
_LOG_PROBS = Method("log-probs", TypeAdapter(LogProb), lambda answer: Tokens(sum(answer[1:]), 0))
_REWARDS = Method("rewards", _NUMBERS, lambda _: _UNTOLD)
_THINNED = Method("thinned-rewards", _NUMBERS, lambda _: _UNTOLD)
_EMBED = Method("embed", _NUMBERS, lambda _: _UNTOLD)


class Remembering:
    """Any engine, remembered. What the engine cannot do, it cannot do either."""

    def __init__(
        self,
        engine: Engine,
        memo: Keeps,
        spend: Spend,
        identity: Callable[[Model], str],
        *,
        refresh: bool = False,
        apart: str = "",
    ) -> None:
        """Wrap an engine.

        `identity` says under which name a model's answers are filed. With `refresh`, answers from before this object
        was made are ignored and overwritten. Answers `apart` are filed under that name too, and no others found.
        """
        self._engine, self._memo, self._spend, self._identity = engine, memo, spend, identity
        self._refresh, self._apart = refresh, apart
        self._fresh: set[bytes] = set()

    def afresh(self, name: str) -> "Remembering":
        """Return the same engine with a memory of its own, which knows nothing of what this one was asked."""
        engine, memo, spend, identity = self._engine, self._memo, self._spend, self._identity
        return Remembering(engine, memo, spend, identity, refresh=self._refresh, apart=name)

    def recalled(self, model: Model, requests: Sequence[Request]) -> list[bool]:
        """Return which requests for text are answered from memory."""
        known = self._find(keys := self._keys(model, _GENERATE, requests))
        return [key in known for key in keys]

    def generate(self, model: Model, requests: Sequence[Request]) -> Answers[Completion]:
        """Yield one completion per request: remembered ones first."""
        if not isinstance(self._engine, Generates):
            raise _unable(model, "generate text")
        return self._ask(model, _GENERATE, requests, self._engine.generate)

    def log_probs(self, model: Model, conversations: Sequence[Conversation]) -> Answers[LogProb]:
        """Yield one log-prob per conversation: remembered ones first."""
        if not isinstance(self._engine, LogProbs):
            raise _unable(model, "give log-probs")
        # Log-probs depend on the number format too, which a device may decide.
        where = self.fingerprint(model) if conversations else ""
        return self._ask(model, _LOG_PROBS, conversations, self._engine.log_probs, where)

    def rewards(self, model: Model, conversations: Sequence[Conversation]) -> Answers[tuple[float, ...]]:
        """Yield the reward head's outputs per conversation: remembered ones first."""
        if not isinstance(self._engine, Rewards):
            raise _unable(model, "score responses")
        return self._ask(model, _REWARDS, conversations, self._engine.rewards)

    def thinned_rewards(self, model: Model, passes: Sequence[Thinned]) -> Answers[tuple[float, ...]]:
        """Yield the reward head's outputs per pass with dropout: remembered ones first."""
        if not isinstance(self._engine, ThinnedRewards):
            raise _unable(model, "score with dropout")
        return self._ask(model, _THINNED, passes, self._engine.thinned_rewards)

    def embed(self, model: Model, texts: Sequence[str]) -> Answers[tuple[float, ...]]:
        """Yield one vector per text: remembered ones first."""
        if not isinstance(self._engine, Embeds):
            raise _unable(model, "embed texts")
        return self._ask(model, _EMBED, texts, self._engine.embed)

    def next_tokens(
        self, model: Model, conversations: Sequence[Conversation], wanted: int | Sequence[np.ndarray]
    ) -> Answers[Candidates]:
        """Yield the candidates at every token of each response, as they are: counted, and never remembered.

        They are as large as the column they become, which a build keeps shard by shard.
        """
        if not isinstance(self._engine, NextTokens):
            raise _unable(model, "give the likeliest next tokens")
        answers = self._engine.next_tokens(model, conversations, wanted)
        for at, answer in self._within_budget(model, answers, len(conversations)):
            if isinstance(answer, Failure):
                self._spend.failed(model.served_as)
            else:
                self._spend.answered(model.served_as, Tokens(len(answer.ids), 0))
            yield at, answer

    def vocabulary(self, model: Model) -> str:
        """Return digests of a model's vocabulary and chat template."""
        if not isinstance(self._engine, Vocabularies):
            raise _unable(model, "give the likeliest next tokens, nor say which it counts")
        return self._engine.vocabulary(model)

    def fingerprint(self, model: Model) -> str:
        """Return the identity of the model's log-probs."""
        if not isinstance(self._engine, Fingerprints):
            raise _unable(model, "say what its log-probs depend on")
        return self._engine.fingerprint(model)

    def _ask(
        self,
        model: Model,
        method: Method,
        asked: Sequence[Q],
        ask: Callable[[Model, Sequence[Q]], Answers[A]],
        where: str = "",
    ) -> Answers[A]:
        places: dict[bytes, list[int]] = {}
        for position, key in enumerate(self._keys(model, method, asked, where)):
            places.setdefault(key, []).append(position)
        while places:  # once, unless other processes are asking some of it at this moment
            claim = self._claim(list(places))
            for key, text in claim.known.items():
                answer, positions = _read(method, text), places.pop(key)
                self._spend.remembered(model.served_as, method.tokens(answer), len(positions))
                for position in positions:
                    yield position, answer
            if claim.mine:
                mine = {key: places.pop(key) for key in claim.mine}
                try:
                    self._spend.check(model.served_as)
                    answers = ask(model, [asked[positions[0]] for positions in mine.values()])
                    yield from self._answered(model, method, answers, mine)
                finally:
                    self._memo.release(claim.mine)

    def _answered(
        self, model: Model, method: Method, answers: Answers[A], places: Mapping[bytes, list[int]]
    ) -> Answers[A]:
        """Yield an engine's answers to keys in their order, each remembered and counted."""
        missing = list(places)
        for at, given in self._within_budget(model, answers, len(missing)):
            key = missing[at]
            kept: A | Failure = given
            if isinstance(given, Failure):
                self._spend.failed(model.served_as)
            else:
                again = len(places[key]) - 1
                self._spend.answered(model.served_as, method.tokens(given), again=again)
                kept = self._keep(key, given, method)
            for position in places[key]:
                yield position, kept

    def _keys(self, model: Model, method: Method, asked: Sequence[Q], where: str = "") -> list[bytes]:
        """Return under which key each answer is filed."""
        named = (self._identity(model), method.name, where, *([self._apart] if self._apart else []))
        head = to_json(named)
        # A loop over requests: hashing has no vectorised form, 5 microseconds each.
        return [blake2b(head + _to_json(request), digest_size=16).digest() for request in asked]

    def _within_budget(self, model: Model, answers: Answers[A], wanted: int) -> Answers[A]:
        """Yield an engine's answers as long as a budget allows, and time them.

        Once it is spent, no request is started any more. Answers under way are taken, where the engine can tell them
        apart; then BudgetError is raised, unless all that was wanted has come.
        """
        started, came, stop = time.perf_counter(), 0, None
        try:
            for answer in answers:
                came += 1
                yield answer
                if stop is None and came < wanted and (stop := self._spend.reached(model.served_as)):
                    if not isinstance(self._engine, Drains):
                        break
                    self._engine.enough()
        finally:
            self._spend.waited(model.served_as, time.perf_counter() - started)
            if isinstance(answers, Generator):
                answers.close()
        if stop is not None and came < wanted:
            raise stop

    def _claim(self, keys: Sequence[bytes]) -> Claim:
        if not self._refresh:
            return self._memo.claim(keys)
        known = self._find(keys)
        return Claim(known, [key for key in keys if key not in known])

    def _find(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        return self._memo.find([key for key in keys if key in self._fresh] if self._refresh else keys)

    def _keep(self, key: bytes, answer: A, method: Method) -> A:
        """Remember an answer; if another process was first, return what it was given."""
        if not self._memo.remember(key, _to_json(answer), instead=self._refresh):
            first: A = _read(method, self._memo.find([key])[key])
            return first
        self._fresh.add(key)
        return answer


def _read(method: Method, text: object) -> Any:
    """Return a remembered answer. Raises StoreError for what is none."""
    try:
        return method.reader.validate_json(text if isinstance(text, str | bytes) else b"")
    except ValueError as error:
        what = f"the memo of engine answers holds something that is no answer to '{method.name}'"
        hint = "move the store's memo.sqlite away: its answers are then asked for again"
        raise StoreError(what, hint=hint) from error


def _to_json(value: object) -> bytes:
    """Return a value as JSON: tuples as lists, floats to the last bit, NaN and infinity by name."""
    return to_json(filed(value), inf_nan_mode="constants")


def _unable(model: Model, task: str) -> EngineError:
    hint = "place the model on another engine: --engine NAME=transformers"
    return EngineError(f"the engine of model '{model.id}' cannot {task}", hint=hint)
