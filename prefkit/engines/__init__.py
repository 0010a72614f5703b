"""Engines: where answers, log-probs, rewards and embeddings come from.

A few small protocols, because servers differ in what they can do. A judge is not an engine: it is a prompt, a
`Generates` and a parser. Every method takes a whole shard of requests, so that the engine can batch as it likes, and
yields `(position, answer)` as answers arrive, so that each is remembered at once and never paid for twice. An answer
that could not be had after the engine's own retries is a `Failure`, never an exception for the whole shard: its row
is kept aside and tried again on the next build. An engine that cannot work at all raises EngineError.

A `Model` is identity: which weights. Which engine serves it, and on what device, is placement and lives outside.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from prefkit.engines.spend import Drains, Spend
from prefkit.errors import EngineError

__all__ = [
    "Answers",
    "Candidates",
    "Completion",
    "Conversation",
    "Drains",
    "Embeds",
    "Engine",
    "Engines",
    "Failure",
    "Fingerprints",
    "Generates",
    "LogProb",
    "LogProbs",
    "Message",
    "Model",
    "NextTokens",
    "Request",
    "Rewards",
    "Soup",
    "Spend",
    "Vocabularies",
    "in_order",
    "refuse_beams",
]


class Soup(BaseModel):
    """Weights to average with a model's own. Source: Soup-based Alignment Learning (SALSA, 2024)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """Hub name or local folder: the same architecture and tokenizer, tuned from the same base."""
    revision: str = "main"
    """Branch, tag or commit on the hub."""
    weight: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Its share of the average; the model it is mixed into has the rest."""


class Model(BaseModel):
    """Which weights: a hub name or a local folder, and a revision. Part of a recipe's identity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """Hub name, local folder, or one of the toy models `prefkit/toy-policy`, `prefkit/toy-reward`, `prefkit/toy-critic`."""
    revision: str = "main"
    """Branch, tag or commit on the hub. Pin a commit before publishing."""
    soup: Soup | None = None
    """A second model to average the weights with, in this process alone."""

    @property
    def served_as(self) -> str:
        """Return the name under which engines are placed: a soup needs its own."""
        if self.soup is None:
            return self.id
        return f"{self.id} + {self.soup.weight} {self.soup.id}"

    @model_serializer(mode="wrap")
    def _without_nothing(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a soup that is none, so that the identity of a plain model does not know of soups."""
        plain: dict[str, Any] = dump(self)
        if self.soup is None:
            plain.pop("soup", None)
        return plain


class Message(NamedTuple):
    """One turn of a conversation."""

    role: str
    content: str


class Request(NamedTuple):
    """One sample wanted: everything that decides the answer, and nothing about where it runs."""

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 1.0
    """0 is greedy decoding."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps the whole vocabulary."""
    seed: int = 0
    stop: tuple[str, ...] = ()
    tools: str | None = None
    """JSON list, handed to the chat template."""
    choices: tuple[str, ...] = ()
    """The answer must be one of these, where there are any."""
    top_logprobs: int = 0
    """How many of the likeliest tokens to tell at each place of the answer."""
    beam: tuple[int, int] | None = None
    """(place, width): the likeliest answers of a beam search so wide instead of samples, the best at place 0."""


class Conversation(NamedTuple):
    """A prompt and a response to it, to be scored by log-probs or by a reward model."""

    prompt: tuple[Message, ...]
    response: tuple[Message, ...]
    tools: str | None = None


class Completion(NamedTuple):
    """The answer to a Request."""

    text: str
    tokens: int
    """Generated tokens, the end-of-turn token included."""
    finish: str
    """`stop` or `length`."""
    prompt_tokens: int = 0
    logp: float | None = None
    """Summed log-prob in nats under the sampling distribution's model, where the engine knows it."""
    tops: tuple[tuple[tuple[str, float], ...], ...] | None = None
    """For each token of the answer, the likeliest ones and their log-probs in nats, where asked for and known."""


class LogProb(NamedTuple):
    """Summed log-prob, in nats, of a response given its prompt, end-of-turn token included."""

    logp: float
    tokens: int
    prompt_tokens: int = 0
    """Tokens of the prompt, where the engine is somebody else's and may count them."""


class Candidates(NamedTuple):
    """What a model thinks of some tokens at each place of a response, end of turn included."""

    ids: np.ndarray
    """Token ids, int32 [tokens, k]."""
    logps: np.ndarray
    """Their log-probs given the prompt and the response so far, nats, float32 [tokens, k]."""


class Failure(NamedTuple):
    """Why there is no answer, after the engine's own retries. Never holds a secret."""

    error: str
    too_long: bool = False
    """Whether the request exceeds what the model reads: asking again cannot help."""


A = TypeVar("A")
Answers = Iterator[tuple[int, A | Failure]]
"""(position in the sequence asked, answer), in any order, each position exactly once."""


@runtime_checkable
class Generates(Protocol):
    """Writes text."""

    def generate(self, model: Model, requests: Sequence[Request]) -> Answers[Completion]:
        """Yield one completion per request."""
        ...


@runtime_checkable
class LogProbs(Protocol):
    """Says how likely a model finds given text."""

    def log_probs(self, model: Model, conversations: Sequence[Conversation]) -> Answers[LogProb]:
        """Yield the log-prob of each response given its prompt."""
        ...


@runtime_checkable
class Rewards(Protocol):
    """Scores responses with a reward model."""

    def rewards(self, model: Model, conversations: Sequence[Conversation]) -> Answers[tuple[float, ...]]:
        """Yield the raw outputs of the reward head, one number a label."""
        ...


@runtime_checkable
class Embeds(Protocol):
    """Embeds texts."""

    def embed(self, model: Model, texts: Sequence[str]) -> Answers[tuple[float, ...]]:
        """Yield one vector per text."""
        ...


@runtime_checkable
class Fingerprints(Protocol):
    """Knows what its log-probs depend on; an engine that gives log-probs should."""

    def fingerprint(self, model: Model) -> str:
        """Return a digest that is equal where log-probs are equal, up to rounding."""
        ...


@runtime_checkable
class Vocabularies(Protocol):
    """Knows which tokens a model counts."""

    def vocabulary(self, model: Model) -> str:
        """Return a digest of the vocabulary and one of the chat template, joined by `/`."""
        ...


@runtime_checkable
class NextTokens(Vocabularies, Protocol):
    """Says how likely a model finds tokens beside those of given text."""

    def next_tokens(
        self, model: Model, conversations: Sequence[Conversation], wanted: int | Sequence[np.ndarray]
    ) -> Answers[Candidates]:
        """Yield the candidates at every token of each response.

        `wanted` is how many of the likeliest, in falling order; or, for each conversation, which ids: int32 [tokens, k].
        """
        ...


Engine = Generates | LogProbs | Rewards | Embeds | NextTokens


@dataclass(frozen=True)
class Engines:
    """The engines of a run: which one serves which model.

    `serving` maps what a model is `served_as`, its id, to its engine; the runner fills it from `--engine` and the defaults, each wrapped in
    the memo. A stage calls the methods below and gets its answers in the order of its requests.
    """

    serving: Mapping[str, Engine] = field(default_factory=dict)
    spend: Spend = field(default_factory=Spend)
    described: Mapping[str, str] = field(default_factory=dict)
    """Model id to the name and version of the engine that serves it, for manifests."""

    def versions(self) -> dict[str, str]:
        """Return which engine, in which version, serves each model."""
        return dict(self.described)

    def generate(self, model: Model, requests: Sequence[Request]) -> list[Completion | Failure]:
        """Return one completion or failure per request, in order."""
        engine = self._engine(model)
        if not isinstance(engine, Generates):
            raise _cannot(model, "generate text")
        return in_order(engine.generate(model, requests), len(requests))

    def log_probs(self, model: Model, conversations: Sequence[Conversation]) -> list[LogProb | Failure]:
        """Return one log-prob or failure per conversation, in order."""
        engine = self._engine(model)
        if not isinstance(engine, LogProbs):
            raise _cannot(model, "give log-probs")
        return in_order(engine.log_probs(model, conversations), len(conversations))

    def rewards(
        self, model: Model, conversations: Sequence[Conversation]
    ) -> list[tuple[float, ...] | Failure]:
        """Return the reward head's outputs or a failure per conversation, in order."""
        engine = self._engine(model)
        if not isinstance(engine, Rewards):
            raise _cannot(model, "score responses")
        return in_order(engine.rewards(model, conversations), len(conversations))

    def embed(self, model: Model, texts: Sequence[str]) -> list[tuple[float, ...] | Failure]:
        """Return one vector or failure per text, in order."""
        engine = self._engine(model)
        if not isinstance(engine, Embeds):
            raise _cannot(model, "embed texts")
        return in_order(engine.embed(model, texts), len(texts))

    def next_tokens(
        self, model: Model, conversations: Sequence[Conversation], wanted: int | Sequence[np.ndarray]
    ) -> list[Candidates | Failure]:
        """Return candidates or a failure per conversation, in order; `wanted` as `NextTokens` has it."""
        engine = self._engine(model)
        if not isinstance(engine, NextTokens):
            raise _cannot(model, "give the likeliest next tokens")
        return in_order(engine.next_tokens(model, conversations, wanted), len(conversations))

    def vocabulary(self, model: Model) -> str:
        """Return digests of a model's vocabulary and chat template, joined by `/`."""
        engine = self._engine(model)
        if not isinstance(engine, Vocabularies):
            raise _cannot(model, "give the likeliest next tokens, nor say which it counts")
        return engine.vocabulary(model)

    def fingerprint(self, model: Model) -> str:
        """Return the identity of a model's log-probs: its weights, tokenizer, chat template and number format."""
        engine = self._engine(model)
        if not isinstance(engine, Fingerprints):
            raise _cannot(model, "say what its log-probs depend on")
        return engine.fingerprint(model)

    def _engine(self, model: Model) -> Engine:
        if model.served_as not in self.serving:
            what = f"no engine serves model '{model.served_as}'"
            raise EngineError(
                what, hint="run through `prefkit build`, or pass Engines(serving={model.served_as: engine})"
            )
        return self.serving[model.served_as]


def in_order(answers: Iterable[tuple[int, A | Failure]], count: int) -> list[A | Failure]:
    """Put answers back into the order of their requests. Raises EngineError if one is missing or comes twice."""
    found: dict[int, A | Failure] = {}
    for position, answer in answers:
        if position in found or not 0 <= position < count:
            raise EngineError(f"an engine answered position {position} of {count} twice or out of range")
        found[position] = answer
    if len(found) != count:
        raise EngineError(f"an engine answered {len(found)} of {count} requests")
    return [found[position] for position in range(count)]


def refuse_beams(model: Model, requests: Sequence[Request]) -> None:
    """Raise EngineError if a request is for a beam search: for engines that only sample."""
    if any(request.beam is not None for request in requests):
        raise _cannot(model, "search by beams")


def _cannot(model: Model, task: str) -> EngineError:
    return EngineError(
        f"the engine of model '{model.id}' cannot {task}",
        hint="place the model on another engine: --engine NAME=transformers",
    )
