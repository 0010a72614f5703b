"""Scores from log-probs: how likely a model finds a response, and how much likelier than a reference finds it.

The second is the reward that a model trained by DPO holds implicitly: beta (ln policy - ln reference). It is known up
to a number a prompt, so only differences within a prompt say anything, and it generalises worse than a reward model.
Two models' log-probs can be subtracted only where they count the same tokens of the same text, so vocabulary and chat
template must be equal. What made the numbers is kept beside them as a fingerprint.
"""

from abc import ABC
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple, final

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, PositiveFloat

from prefkit.columns import Columns, types
from prefkit.engines import Conversation, Engines, Failure, LogProb, Model
from prefkit.errors import ContractError
from prefkit.scorers.scorer import F64, Scored, Scorer, World, ask

__all__ = ["Implicit", "ImplicitReward", "Likelihood", "LikelihoodOf", "implicit_reward", "perplexity"]

I32, STRING = pa.int32(), pa.string()


class LikelihoodOf(BaseModel):
    """How likely a model finds a response."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Model
    """A language model."""
    unit: Literal["sum", "mean", "perplexity"] = "sum"
    """Nats of the whole response, nats a token, or the perplexity exp(-mean), where lower is likelier."""


class ImplicitReward(BaseModel):
    """How much likelier a policy finds a response than its reference does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Model
    """A model trained by DPO or a relative of it, or any language model."""
    reference: Model
    """The model its training started from: the same vocabulary and chat template."""
    beta: PositiveFloat = 0.1
    """What the policy was trained with; it scales the score."""
    per_token: bool = False
    """Whether the score is a mean over tokens, as for policies trained with length-normalised log-probs."""


class _OfLogProbs(Scorer, ABC):
    """Reads a response as its log-probs do, and says beside the score what they are of."""

    def reads(self) -> Columns:
        return types("prompt", "response")

    def columns(self, into: str) -> Columns:
        return {into: F64, f"{into}_tokens": I32, f"{into}_fingerprint": STRING}

    def touches(self) -> Collection[str]:
        return ("tools",)


@final
class Likelihood(_OfLogProbs):
    """Score by the log-prob of a response, end-of-turn token included; its tokens are counted beside."""

    of: LikelihoodOf

    def calls(self) -> float:
        return 1.0

    def falls(self) -> bool:
        return self.of.unit == "perplexity"

    def score(self, sides: Sequence[pa.Table], into: str, world: World) -> Scored:
        model = self.of.model

        def question(talks: Sequence[Conversation]) -> list[LogProb | Failure]:
            return world.engines.log_probs(model, talks)

        asked = ask(sides, question)
        print_ = world.engines.fingerprint(model) if sides[0].num_rows else ""
        told = [_both(answers) for answers in asked.answers]
        columns = [_columns(self._scaled(each), each.tokens, print_, into) for each in told]
        return Scored(columns, asked.errors)

    def _scaled(self, told: "_Told") -> np.ndarray:
        if self.of.unit == "sum":
            return told.logp
        return told.logp / told.tokens if self.of.unit == "mean" else perplexity(told.logp, told.tokens)


@final
class Implicit(_OfLogProbs):
    """Score by beta * (log-prob under the policy - log-prob under the reference)."""

    of: ImplicitReward

    def calls(self) -> float:
        return 2.0

    def score(self, sides: Sequence[pa.Table], into: str, world: World) -> Scored:
        of, engines = self.of, world.engines
        print_ = _fingerprint(of, engines) if sides[0].num_rows else ""
        policy = ask(sides, lambda talks: engines.log_probs(of.policy, talks))
        reference = ask(sides, lambda talks: engines.log_probs(of.reference, talks))
        columns = []
        for one, other in zip(policy.answers, reference.answers, strict=True):
            here, there = _both(one), _both(other)
            odd = np.isfinite(here.tokens) & np.isfinite(there.tokens) & (here.tokens != there.tokens)
            if odd.any():
                counts = f"{here.tokens[odd][0]:.0f} and {there.tokens[odd][0]:.0f}"
                raise _differ(of, f"count {counts} tokens in one response")
            scores = implicit_reward(here.logp, there.logp, of.beta)
            scores = scores / here.tokens if of.per_token else scores
            columns.append(_columns(scores, here.tokens, print_, into))
        errors = [one or other for one, other in zip(policy.errors, reference.errors, strict=True)]
        return Scored(columns, errors)


def implicit_reward(policy: np.ndarray, reference: np.ndarray, beta: float) -> np.ndarray:
    """Return beta (ln policy - ln reference). Source: Direct Preference Optimization (2023), eq. 5 without ln Z."""
    told: np.ndarray = beta * (policy - reference)
    return told


def perplexity(logp: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Return exp(-logp / tokens), at least 1 for log-probs; infinite where that is too large."""
    with np.errstate(over="ignore"):
        told: np.ndarray = np.exp(-logp / tokens)
    return told


class _Told(NamedTuple):
    """Log-probs in nats and tokens, both float64 [rows], NaN where there is no answer."""

    logp: np.ndarray
    tokens: np.ndarray


def _both(answers: Sequence[object]) -> _Told:
    pairs = [one[:2] if isinstance(one, LogProb) else (np.nan, np.nan) for one in answers]
    flat = np.array(pairs, np.float64).reshape(-1, 2)
    return _Told(flat[:, 0], flat[:, 1])


def _columns(scores: np.ndarray, tokens: np.ndarray, print_: str, into: str) -> dict[str, pa.Array]:
    missing = np.isnan(tokens)
    counts = pa.array(np.where(missing, 0, tokens).astype(np.int32), I32, mask=missing)
    prints = pa.array([print_] * len(scores), STRING)
    return {
        into: pa.array(scores, F64, mask=missing),
        f"{into}_tokens": counts,
        f"{into}_fingerprint": prints,
    }


def _fingerprint(of: ImplicitReward, engines: Engines) -> str:
    """Return what both models' log-probs depend on. Raises ContractError if they cannot be subtracted."""
    if engines.vocabulary(of.policy) != engines.vocabulary(of.reference):
        raise _differ(of, "have different vocabularies or chat templates")
    return "/".join(engines.fingerprint(model) for model in (of.policy, of.reference))


def _differ(of: ImplicitReward, how: str) -> ContractError:
    what = f"models '{of.policy.id}' and '{of.reference.id}' {how}, so their log-probs cannot be subtracted"
    return ContractError(what, hint="`reference` is the model that the policy's training started from")
