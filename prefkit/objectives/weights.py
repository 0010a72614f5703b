"""Weights: how much a row's preference cost counts. They never carry a gradient."""

from math import log
from typing import TYPE_CHECKING, Annotated, ClassVar, final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, PositiveFloat

from prefkit.columns import Columns, types
from prefkit.objectives.more_links import lists_of, unsorted
from prefkit.objectives.piece import Gap, Pairs, Weights

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "WEIGHTS",
    "EachPair",
    "Equal",
    "LambdaRank",
    "MarginAdaptive",
    "NoPreference",
    "RowWeight",
    "Untouched",
    "Views",
]


@final
class Equal(Weights):
    """Every row counts the same."""

    name: ClassVar[str] = "equal"

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        import torch

        return torch.ones_like(gap.logit)


@final
class RowWeight(Weights):
    """Each row counts by its `weight`, which has mean 1 over the dataset."""

    name: ClassVar[str] = "column"

    def reads(self) -> Columns:
        return types("weight")

    def refuse(self, table: pa.Table) -> str | None:
        if pc.all(pc.equal(table["weight"], 1.0)).as_py():
            return "weights 'column' change nothing: every weight is 1"
        if pc.any(pc.less(table["weight"], 0.0)).as_py():
            return "weights 'column' would train against rows: some weights are below 0"
        return None

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        return pairs.columns["weight"]


@final
class MarginAdaptive(Weights):
    """`sigmoid(c(m) m) / sigmoid(m)`: the optimal gap of a pair becomes c(m) m instead of m, its margin.

    c falls from c_max at m = 0 through 1 at |m| = tau to c_min. Rows whose margin contradicts their label by more
    than tau count 1. Margins must be log-odds: a Bradley-Terry reward model's, or calibrated.
    Source: Margin Adaptive DPO (MADPO, 2025).
    """

    name: ClassVar[str] = "margin-adaptive"

    c_max: Annotated[float, Field(gt=1)] = 2.0
    """How much a pair of equal scores is told apart more."""
    c_min: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """How much a pair that is far apart is told apart less."""
    rate: PositiveFloat = 1.0
    """Lambda: how fast c falls around tau."""
    tau: PositiveFloat = log(0.999 / 0.001)
    """The margin that stays as it is, log-odds."""

    def reads(self) -> Columns:
        return types("margin")

    def refuse(self, table: pa.Table) -> str | None:
        if pc.all(pc.equal(table["margin"], 0.0)).as_py():
            return f"weights '{self.name}' change nothing: every margin is 0"
        return None

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        from torch.nn.functional import logsigmoid

        margin = pairs.columns["margin"]
        odds = (
            (self.c_max - 1) / (1 - self.c_min) * (self.rate * (margin.abs() - self.tau)).clamp(max=80).exp()
        )
        c = self.c_min + (self.c_max - self.c_min) / (1 + odds)
        weight = (logsigmoid(c * margin) - logsigmoid(margin)).exp()
        return weight.new_ones(()).where(margin <= -self.tau, weight)  # so that a NaN stays one


@final
class LambdaRank(Weights):
    """`|2^a - 2^b| |1 / log(1 + rank a) - 1 / log(1 + rank b)|`: what exchanging two places of a list would cost.

    a and b are the scores, graded labels in [0, 1]; the ranks are those of the policy's rewards, taken anew at each
    step; equal rewards, as all are before the first step, stand in the order of the scores. Source: LiPO (NAACL 2025)
    """

    name: ClassVar[str] = "lambda-rank"
    listwise: ClassVar[bool] = True

    def reads(self) -> Columns:
        return types("chosen_score", "rejected_score")

    def refuse(self, table: pa.Table) -> str | None:
        highest, lowest = (
            (pc.max(table["chosen_score"]).as_py() or 0),
            (pc.min(table["rejected_score"]).as_py() or 0),
        )
        if lowest < 0 or highest > 1:
            return f"weights '{self.name}' need scores in [0, 1], and they are in [{lowest}, {highest}]"
        return unsorted(table, f"weights '{self.name}'")

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        lists = lists_of(pairs)
        known = max(int(lists.chosen.max()), int(lists.rejected.max())) + 1
        reward, score = gap.logit.new_zeros(known), gap.logit.new_zeros(known)
        of = lists.prompt.new_full((known,), -1)
        given = pairs.columns["chosen_score"], pairs.columns["rejected_score"]
        for at, rewards, scores in (
            (lists.chosen, gap.chosen, given[0]),
            (lists.rejected, gap.rejected, given[1]),
        ):
            reward[at], score[at], of[at] = rewards.detach(), scores.to(score.dtype), lists.prompt
        # A response's rank is 1 plus how many of its list earn more, or as much and are scored higher.
        above = (reward[None] > reward[:, None]) | (
            (reward[None] == reward[:, None]) & (score[None] > score[:, None])
        )
        rank = 1 + (above & (of[None] == of[:, None])).sum(1)
        discount = 1 / rank.to(reward.dtype).log1p()
        gain = (given[0] * log(2)).exp() - (given[1] * log(2)).exp()
        return gain.abs() * (discount[lists.chosen] - discount[lists.rejected]).abs()


@final
class EachPair(Weights):
    """Every pair of a list counts the same, and a list costs their sum: the pairwise logistic loss of LiPO (2025)."""

    name: ClassVar[str] = "each-pair"
    listwise: ClassVar[bool] = True

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        import torch

        return torch.ones_like(gap.logit)


@final
class Views(Weights):
    """`2 share` for rows with their reasoning, `2 (1 - share)` for those without: a mixture of two losses.

    Source: From Noisy Traces to Stable Gradients (BVPO, 2025)
    """

    name: ClassVar[str] = "views"

    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Of the rows with `trace_mode` trace."""

    def reads(self) -> Columns:
        return types("trace_mode", "pair_group")

    def refuse(self, table: pa.Table) -> str | None:
        seen = table.group_by("pair_group").aggregate(
            [("trace_mode", "count"), ("trace_mode", "min"), ("trace_mode", "max")]
        )
        good = pc.and_(
            pc.equal(seen["trace_mode_count"], 2),
            pc.and_(pc.equal(seen["trace_mode_min"], "empty"), pc.equal(seen["trace_mode_max"], "trace")),
        )
        wrong = seen.num_rows - (pc.sum(good).as_py() or 0)
        return f"{wrong} pair groups are not one row with `trace` and one with `empty`" if wrong else None

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        trace = pairs.columns["trace_mode"]  # empty sorts before trace
        return 2 * (self.share * trace + (1 - self.share) * (1 - trace))


@final
class NoPreference(Weights):
    """No row has a preference cost: the extras are the whole objective."""

    name: ClassVar[str] = "none"

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        import torch

        return torch.zeros_like(gap.logit)


@final
class Untouched(Weights):
    """Only rows of degree 0 have a preference cost: those from whose responses nothing was taken out.

    Source: Self-supervised Preference Optimization (SPO, EMNLP Findings 2024).
    """

    name: ClassVar[str] = "untouched"

    def reads(self) -> Columns:
        return types("degree")

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        return (pairs.columns["degree"] == 0).to(gap.logit.dtype)


WEIGHTS: tuple[type[Weights], ...] = (
    Equal,
    RowWeight,
    EachPair,
    MarginAdaptive,
    LambdaRank,
    Views,
    NoPreference,
    Untouched,
)
