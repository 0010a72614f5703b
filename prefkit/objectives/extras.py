"""Extras and penalties: terms that stand beside the preference cost, unweighted."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, NonNegativeFloat, PositiveFloat

from prefkit.columns import Columns, types
from prefkit.objectives.more_links import lists_of
from prefkit.objectives.piece import SIDES, Extra, Pairs, Penalty, Side, TokenTerm
from prefkit.objectives.rewards import REFERENCE, kl_from_reference, log_ratio

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "EXTRAS",
    "PENALTIES",
    "Advantage",
    "Degree",
    "Distill",
    "EmbeddingGradient",
    "NoPenalty",
    "Sft",
    "TokenKl",
    "Value",
]


@final
class Sft(Extra):
    """`coefficient * -log policy(chosen)`: keep saying what is chosen. It counts every token, whatever the mask.

    Over `mean` or `sum` of a response's tokens (RPO's average and cumulative form), over all chosen tokens of the
    `step` (TRL's), or over `best`: the sum for the best response of a list, times (K - 1)^2 (PRO).
    Sources: Provably Mitigating Overoptimization in RLHF (RPO, NeurIPS 2024); PRO (AAAI 2024)
    """

    name: ClassVar[str] = "sft"

    coefficient: PositiveFloat = 0.2
    """How much the term counts beside the preference cost."""
    over: Literal["mean", "sum", "step", "best"] = "mean"
    """What a response's log-prob is divided or multiplied by."""

    @property
    def listwise(self) -> bool:  # type: ignore[override]
        """Whether it needs whole lists: only to know the best response of each."""
        return self.over == "best"

    def __call__(self, pairs: Pairs) -> "Tensor":
        logp, tokens = pairs.chosen.whole_logp, pairs.chosen.whole_tokens
        if self.over == "step":
            tokens = tokens.new_full((), pairs.step_tokens or float(tokens.mean()))
        if self.over == "best":
            return -self.coefficient * logp * self._best(pairs)
        return -self.coefficient * (logp if self.over == "sum" else logp / tokens)

    def _best(self, pairs: Pairs) -> "Tensor":
        """Return (K - 1)^2 at the first row of each list's best response, the one that is never rejected; else 0."""
        lists = lists_of(pairs)
        top = ~(lists.chosen[:, None] == lists.rejected[None]).any(1)
        same = lists.chosen[:, None] == lists.chosen[None]
        first = ~(same & same.new_ones(same.shape).tril(-1)).any(1)
        beaten = same.sum(1)  # every other response of the list has a row with the best one
        best: Tensor = (top & first) * beaten.to(pairs.chosen.logp.dtype) ** 2
        return best


@final
class TokenKl(Extra):
    """`coefficient * sum_t KL` between reference and policy at every token of chosen, or of both sides.

    Source: Refined Regularized Preference Optimization (RRPO, NeurIPS 2025), KL(reference || policy) on chosen.
    """

    name: ClassVar[str] = "token-kl"

    coefficient: PositiveFloat = 0.01
    """Per nat."""
    on: Literal["chosen", "both"] = "chosen"
    """Which sides it is summed over."""
    direction: Literal["reference||policy", "policy||reference"] = "reference||policy"
    """Whose distribution the mean is taken over."""

    def reads(self) -> Columns:
        return REFERENCE

    def terms(self) -> tuple[TokenTerm, ...]:
        sides: tuple[Side, ...] = ("chosen",) if self.on == "chosen" else SIDES
        forward = self.direction == "reference||policy"
        term = kl_from_reference if forward else kl_to_reference
        return (TokenTerm("kl" if forward else "reverse-kl", term, sides, reference=True),)

    def __call__(self, pairs: Pairs) -> "Tensor":
        name = "kl" if self.direction == "reference||policy" else "reverse-kl"
        total = pairs.chosen.terms[name]
        return self.coefficient * (total if self.on == "chosen" else total + pairs.rejected.terms[name])


@final
class Value(Extra):
    """`-coefficient * log-ratio(chosen)`: pessimism of value-incentivized PO on offline data, chosen calibrating.

    `coefficient` is alpha times beta of the paper. Source: Value-Incentivized Preference Optimization (ICLR 2025).
    """

    name: ClassVar[str] = "value"

    coefficient: PositiveFloat = 0.001
    """Per nat."""

    def reads(self) -> Columns:
        return REFERENCE

    def __call__(self, pairs: Pairs) -> "Tensor":
        return -self.coefficient * log_ratio(pairs.chosen)


@final
class Degree(Extra):
    """Cross entropy of a trained classifier that tells from the mean hidden state how much was taken out of a response.

    Source: Self-supervised Preference Optimization (SPO, EMNLP Findings 2024).
    """

    name: ClassVar[str] = "degree"
    hidden: ClassVar[bool] = True

    coefficient: PositiveFloat = 0.1
    """Gamma of the paper."""
    degrees: Annotated[int, Field(ge=2)] = 3
    """How many degrees there are, 0 included."""

    def heads(self) -> Mapping[str, int]:
        return {"degree": self.degrees}

    def reads(self) -> Columns:
        return types("degree")

    def refuse(self, table: pa.Table) -> str | None:
        found = sorted(pc.unique(table["degree"]).to_pylist())
        if found != list(range(self.degrees)):
            return f"extra 'degree' needs the degrees 0 to {self.degrees - 1}, and the rows have {found}"
        return None

    def __call__(self, pairs: Pairs) -> "Tensor":
        from torch.nn.functional import cross_entropy

        degree, head = pairs.columns["degree"].long(), pairs.heads["degree"]
        losses = []
        for side in (pairs.chosen, pairs.rejected):
            if side.hidden is None:
                raise ValueError("extra 'degree' needs hidden states, and the batch has none")
            losses.append(cross_entropy(side.hidden @ head.T, degree, reduction="none"))
        return self.coefficient * (losses[0] + losses[1]) / 2


@final
class Distill(Extra):
    """Mean over tokens of KL(teacher || policy) on chosen and rejected, from the teacher's likeliest tokens.

    What the teacher leaves over is one bucket, held against what the policy leaves over. Source: dual-constrained
    distillation (DCKD) of Advantage-Guided Distillation (ICLR 2025)
    """

    name: ClassVar[str] = "distill"

    chosen: NonNegativeFloat = 1.0
    """Coefficient of the chosen side."""
    rejected: NonNegativeFloat = 1.0
    """Coefficient of the rejected side."""

    def reads(self) -> Columns:
        return types("chosen_teacher", "rejected_teacher")

    def refuse(self, table: pa.Table) -> str | None:
        return (
            None
            if self.chosen or self.rejected
            else "extra 'distill' changes nothing: both coefficients are 0"
        )

    def terms(self) -> tuple[TokenTerm, ...]:
        return (TokenTerm("teacher", kl_from_teacher, column="teacher"),)

    def __call__(self, pairs: Pairs) -> "Tensor":
        one, other = (side.terms["teacher"] / side.whole_tokens for side in (pairs.chosen, pairs.rejected))
        total: Tensor = self.chosen * one + self.rejected * other
        return total


@final
class Advantage(Extra):
    """`-coefficient * mean_t sum_v policy(v) advantage(v)` on rejected, which the policy itself wrote.

    Source: Advantage-Guided Distillation (ADPA, ICLR 2025)
    """

    name: ClassVar[str] = "advantage"

    coefficient: PositiveFloat = 1.0
    """Gamma of the paper."""

    def reads(self) -> Columns:
        return types("rejected_advantage")

    def terms(self) -> tuple[TokenTerm, ...]:
        return (TokenTerm("advantage", expected, ("rejected",), column="advantage"),)

    def __call__(self, pairs: Pairs) -> "Tensor":
        return -self.coefficient * pairs.rejected.terms["advantage"] / pairs.rejected.whole_tokens


@final
class NoPenalty(Penalty):
    """Nothing."""

    name: ClassVar[str] = "none"
    active: ClassVar[bool] = False

    def __call__(self, squared_norms: "Tensor", mean: float) -> "Tensor":
        return squared_norms * 0


@final
class EmbeddingGradient(Penalty):
    """`rho` times the root of the mean squared norm of each loss's gradient at its embeddings: WDPO.

    It is the worst case over a Wasserstein ball to first order. Each row is handed out a term whose mean has the
    value and the gradient of the whole. Source: Robust LLM Alignment via Distributionally Robust DPO (NeurIPS 2025);
    its released code leaves out the root.
    """

    name: ClassVar[str] = "embedding-gradient"

    rho: PositiveFloat = 1.0
    """Radius of the ball."""
    root: bool = True
    """The paper's form; without, the released code's."""

    def __call__(self, squared_norms: "Tensor", mean: float) -> "Tensor":
        if not self.root:
            return self.rho * squared_norms
        norm = max(mean, 1e-24) ** 0.5
        term: Tensor = self.rho * (squared_norms / norm + norm) / 2
        return term


def kl_to_reference(
    policy: "Tensor", reference: "Tensor | None", _: "tuple[Tensor, Tensor] | None"
) -> "Tensor":
    """Return KL(policy || reference) at each token, nats, [tokens], from log-softmax values [tokens, vocab]."""
    assert reference is not None
    return (policy.exp() * (policy - reference)).sum(-1)


def kl_from_teacher(policy: "Tensor", _: "Tensor | None", known: "tuple[Tensor, Tensor] | None") -> "Tensor":
    """Return KL(teacher || policy) at each token, nats, [tokens]; the tail of both is one bucket."""
    assert known is not None
    ids, teacher = known
    there = ids >= 0
    said = policy.gather(-1, ids.clamp(min=0))
    share = teacher.exp() * there
    body = (share * (teacher - said)).sum(-1)
    rest = (1 - share.sum(-1)).clamp(min=0)
    left = (1 - (said.exp() * there).sum(-1)).clamp(min=1e-6)
    tail = rest * (rest.clamp(min=1e-6).log() - left.log())
    return (body + tail) * there.any(-1)


def expected(policy: "Tensor", _: "Tensor | None", known: "tuple[Tensor, Tensor] | None") -> "Tensor":
    """Return the policy's mean of the known values at each token, [tokens]; what is not known counts 0."""
    assert known is not None
    ids, values = known
    return (policy.gather(-1, ids.clamp(min=0)).exp() * values * (ids >= 0)).sum(-1)


EXTRAS: tuple[type[Extra], ...] = (Sft, TokenKl, Value, Degree, Distill, Advantage)
PENALTIES: tuple[type[Penalty], ...] = (NoPenalty, EmbeddingGradient)
