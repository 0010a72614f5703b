"""A fake engine: answers from a hash of the request, at once, without a model.

For laws, for tests of the command line, and for trying a recipe's plumbing: `--engine policy=fake`. Its answers are
words without sense; they differ in length, and now and then two samples of a prompt are equal, as with real models.

It can write one line to a file for each answer that was taken from it. The line is written when the next answer is
asked for, after the memo has recorded the last one. So over a build that is killed and run again, a line comes twice
only if a recorded answer was asked for again.
"""

import os
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic_core import to_json

from prefkit.engines import (
    Answers,
    Candidates,
    Completion,
    Conversation,
    Failure,
    LogProb,
    Model,
    Request,
)
from prefkit.engines.filing import filed
from prefkit.engines.thinned import Thinned
from prefkit.rng import child_id

__all__ = ["FakeEngine"]

A = TypeVar("A")
Q = TypeVar("Q")
_WORDS = (
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fable",
    "grove",
    "haven",
    "inlet",
    "lemon",
    "maple",
    "ocean",
)
_MOST_WORDS = 12
_DIMENSIONS = 8
_ODD = np.uint64(0x9E3779B97F4A7C15)


class FakeEngine:
    """Generates, LogProbs, NextTokens, Rewards, Embeds and Fingerprints, from hashes."""

    def __init__(self, log: Path | None = None, failing: str = "") -> None:
        """Answer everything; with `failing`, a request whose text contains it gets a Failure instead."""
        self._log, self._failing = log, failing

    def generate(self, model: Model, requests: Sequence[Request]) -> Answers[Completion]:
        """Yield up to 12 words a request."""
        return self._answers("generate", model, requests, _completion)

    def log_probs(self, model: Model, conversations: Sequence[Conversation]) -> Answers[LogProb]:
        """Yield up to 4 nats of surprise a word."""
        return self._answers("log-probs", model, conversations, _log_prob)

    def rewards(self, model: Model, conversations: Sequence[Conversation]) -> Answers[tuple[float, ...]]:
        """Yield one number between -4 and 4."""
        return self._answers("rewards", model, conversations, lambda _, bits: (8 * _share(bits, 0) - 4,))

    def thinned_rewards(self, model: Model, passes: Sequence[Thinned]) -> Answers[tuple[float, ...]]:
        """Yield one number between -4 and 4, another for each seed."""
        return self._answers("thinned", model, passes, lambda _, bits: (8 * _share(bits, 0) - 4,))

    def embed(self, model: Model, texts: Sequence[str]) -> Answers[tuple[float, ...]]:
        """Yield 8 numbers between -1 and 1."""
        return self._answers("embed", model, texts, _vector)

    def next_tokens(
        self, model: Model, conversations: Sequence[Conversation], wanted: int | Sequence[np.ndarray]
    ) -> Answers[Candidates]:
        """Yield log-probs that fall from token to token; of ids that are asked about, each its own."""
        asked = [wanted] * len(conversations) if isinstance(wanted, int) else wanted
        for at, answer in self._answers("next-tokens", model, conversations, _candidates):
            if isinstance(answer, Failure):
                yield at, answer
            else:
                yield at, answer(asked[at])

    def vocabulary(self, model: Model) -> str:  # noqa: ARG002 - all fake models speak alike
        """Return the same digests for every model."""
        return f"{child_id('fake vocabulary')}/{child_id('fake template')}"

    def fingerprint(self, model: Model) -> str:
        """Return a digest of the model's name."""
        return child_id("fake", model.served_as, model.revision)

    def _answers(
        self, method: str, model: Model, asked: Sequence[Q], answer: Callable[[Q, bytes], A]
    ) -> Answers[A]:
        named, failing = to_json((method, model.served_as, model.revision)), self._failing.encode()
        # A loop over requests: each has its own hash.
        for position, request in enumerate(asked):
            text = named + to_json(filed(request))
            if failing and failing in text:
                yield position, Failure(f"the fake engine fails on '{self._failing}'")
                continue
            bits = blake2b(text).digest()
            yield position, answer(request, bits)
            self._write(f"{method} {bits.hex()[:32]}\n")

    def _write(self, line: str) -> None:
        if self._log is None:
            return
        file = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)


def _completion(request: Request, bits: bytes) -> Completion:
    if bits[-1] % 8 == 0:  # one sample in eight knows nothing of its seed, so that some are equal
        bits = blake2b(to_json(request.messages)).digest()
    words = [_WORDS[byte % len(_WORDS)] for byte in bits[1 : 2 + bits[0] % _MOST_WORDS]]
    prompt_tokens = sum(len((message.content or "").split()) for message in request.messages)
    logp = -4 * len(words) * _share(bits, 2)
    if request.choices:
        return _chosen(request, bits, prompt_tokens)
    if len(words) >= request.max_tokens:
        text = " ".join(words[: request.max_tokens])
        return Completion(text, request.max_tokens, "length", prompt_tokens, logp)
    return Completion(" ".join(words), len(words) + 1, "stop", prompt_tokens, logp)


def _chosen(request: Request, bits: bytes, prompt_tokens: int) -> Completion:
    """Return one of the choices, each as likely as its share of the hash."""
    weights = (
        np.frombuffer(bits[: 2 * len(request.choices)].ljust(2 * len(request.choices), b"\1"), "<u2") + 1.0
    )
    logps = np.log(weights / weights.sum())
    best = int(np.argmax(logps))
    order = np.argsort(-logps, kind="stable")[: request.top_logprobs]
    tops = (tuple((request.choices[at], float(logps[at])) for at in order),) if request.top_logprobs else None
    return Completion(request.choices[best], 1, "stop", prompt_tokens, float(logps[best]), tops)


def _log_prob(conversation: Conversation, bits: bytes) -> LogProb:
    tokens = 1 + sum(len((message.content or "").split()) for message in conversation.response)
    return LogProb(-4 * tokens * _share(bits, 0), tokens)


def _candidates(conversation: Conversation, bits: bytes) -> Callable[[int | np.ndarray], Candidates]:
    """Return what gives the candidates of a conversation: within 7 nats, from its hash and each token's id."""
    tokens = _log_prob(conversation, bits).tokens
    salt = np.frombuffer(bits[:8], np.uint64)[0] >> np.uint64(1)

    def answered(wanted: int | np.ndarray) -> Candidates:
        ids = np.tile(np.arange(wanted, dtype=np.int32), (tokens, 1)) if isinstance(wanted, int) else wanted
        mixed = (ids.astype(np.uint64) + salt + np.arange(len(ids), dtype=np.uint64)[:, None]) * _ODD
        share = (mixed >> np.uint64(40)).astype(np.float64) / 2**24
        logps = (-7 * share - np.log(ids.shape[1] + 1)).astype(np.float32)
        if not isinstance(wanted, int):
            return Candidates(ids, logps)
        order = np.argsort(-logps, axis=1, kind="stable")
        return Candidates(np.take_along_axis(ids, order, 1), np.take_along_axis(logps, order, 1))

    return answered


def _vector(_: str, bits: bytes) -> tuple[float, ...]:
    return tuple(2 * _share(bits, at) - 1 for at in range(_DIMENSIONS))


def _share(bits: bytes, at: int) -> float:
    """Return eight bytes as a number in [0, 1)."""
    return int.from_bytes(bits[4 * at : 4 * at + 8], "little") / 2**64
