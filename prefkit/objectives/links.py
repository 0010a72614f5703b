"""Links: what a logit costs, z = reward gap minus offset.

Costs are written with softplus, never as the log of a sigmoid, so that |z| of thousands stays finite. Each link knows
its population optimum: the z that minimises p cost(z) + (1 - p) cost(-z), which tests recover numerically.
"""

from math import log, log1p
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, PositiveFloat, model_validator

from prefkit.columns import Columns, types
from prefkit.objectives.piece import Gap, Link, Pairs

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "PAIR_LINKS",
    "Bregman",
    "Davidson",
    "Discovered",
    "Exo",
    "Hinge",
    "Logistic",
    "RaoKupper",
    "Squared",
]


@final
class Logistic(Link):
    """`softplus(-z)`: Bradley-Terry, the link of DPO. Optimum log(p / (1 - p)). Rafailov et al. (2023), eq. 7."""

    name: ClassVar[str] = "logistic"

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        from torch.nn.functional import softplus

        return softplus(-gap.logit)

    def optimum(self, p: float) -> float:
        return log(p) - log1p(-p)


@final
class Hinge(Link):
    """`max(0, 1 - z)`: satisfied once chosen leads by 1. Zhao et al. (2023), SLiC, with log-ratio rewards."""

    name: ClassVar[str] = "hinge"

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        return (1 - gap.logit).clamp(min=0)

    def optimum(self, p: float) -> float | None:
        return None if p == 0.5 else (1.0 if p > 0.5 else -1.0)


@final
class Squared(Link):
    """`(z - target)^2`: the link of IPO, and with a target per row of its online and scored relatives.

    Optimum for a constant target (2p - 1) target. Sources: Azar et al. (2023), eq. 17; online IPO (2024);
    Contrastive Policy Gradient (2024), whose loss is this one plus a constant.
    """

    name: ClassVar[str] = "squared"

    target: PositiveFloat = 5.0
    """The gap to reach; IPO's 1 / (2 tau)."""
    times: Literal["one", "p-chosen", "win-rate", "score"] = "one"
    """What the target is multiplied by: 1; 2 p_chosen - 1; the difference of win rates; the difference of scores."""

    def reads(self) -> Columns:
        names = {
            "one": (),
            "p-chosen": ("p_chosen",),
            "win-rate": ("chosen_win_rate", "rejected_win_rate"),
            "score": ("chosen_score", "rejected_score"),
        }
        return types(*names[self.times])

    def refuse(self, table: pa.Table) -> str | None:
        if self.times == "p-chosen" and pc.all(pc.equal(table["p_chosen"], 1.0)).as_py():
            return "link 'squared' times 'p-chosen' changes nothing: every p_chosen is 1"
        if self.times == "score" and pc.all(pc.equal(table["chosen_score"], table["rejected_score"])).as_py():
            return "link 'squared' times 'score' has no target: the scores of every pair are equal"
        return between(table) if self.times == "win-rate" else None

    @property
    def symmetric(self) -> bool:  # type: ignore[override]
        """Whether labels may be mixed: only where the target does not already grade them."""
        return self.times == "one"

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        if self.times == "one":
            return (gap.logit - self.target).square()
        columns = pairs.columns
        if self.times == "p-chosen":
            by = 2 * columns["p_chosen"] - 1
        else:
            name = self.times.replace("-", "_")
            by = columns[f"chosen_{name}"] - columns[f"rejected_{name}"]
        return (gap.logit - self.target * by).square()

    def optimum(self, p: float) -> float | None:
        return (2 * p - 1) * self.target if self.times == "one" else None


@final
class Bregman(Link):
    """A Bregman divergence of the likelihood ratio R = exp(-z) from the one that the labels imply.

    `sba` is the scaled basic power family, whose slope at z = 0 is -1/2 for s 4 whatever the power; at power -1/2 it
    is exp(-z / 2), boosting's loss at half scale. Beyond the clip the gradient is 0, which is part of the method:
    positive powers are unbounded below. Optimum log(p / (1 - p)). Source: Preference Optimization by Estimating the
    Ratio of the Data Distribution (BPO, NeurIPS 2025), table 1.
    """

    name: ClassVar[str] = "bregman"

    form: Literal["sba", "ba", "kliep", "lsif"] = "sba"
    """Which divergence; `logistic` is a link of its own."""
    power: Annotated[float, Field(gt=-1)] = -0.5
    """Lambda of `sba` and `ba`."""
    s: PositiveFloat = 4.0
    """Scale of `sba`."""
    low: PositiveFloat | None = None
    """Smallest ratio; the paper uses 0.003 to 0.025."""
    high: PositiveFloat | None = None
    """Largest ratio; the paper uses 30 to 100 where it clips."""

    @model_validator(mode="after")
    def _has_a_power(self) -> "Bregman":
        if self.form == "ba" and self.power == 0:
            raise ValueError("form 'ba' has no power 0: take `kliep`")
        return self

    def refuse(self, table: pa.Table) -> str | None:
        if self.power > 0 and self.form in {"sba", "ba"} and self.low is None:
            return "link 'bregman' with a positive power is unbounded below: give `low`, the smallest ratio"
        return None

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        most = 40 / (1 + abs(self.power))  # beyond it the powers of the ratio leave float32
        low, high = (None if end is None else log(end) for end in (self.low, self.high))
        logs = (-gap.logit).clamp(-most if low is None else low, most if high is None else high)
        ratio, power = logs.exp(), self.power
        if self.form == "kliep" or (self.form == "sba" and power == 0):
            return (ratio + logs) / (1 if self.form == "kliep" else self.s)
        if self.form == "lsif":
            return ratio.square() - 2 / ratio
        if self.form == "ba":
            return ratio ** (power + 1) - (power + 1) / power * ratio**-power
        return ratio ** (power + 1) / (self.s * (power + 1)) - ratio**-power / (self.s * power)

    def optimum(self, p: float) -> float:
        return log(p) - log1p(-p)


@final
class Exo(Link):
    """`KL(softmax of the rewards || smoothed label)`, the reverse KL of exact optimization.

    Source: Towards Efficient Exact Optimization (EXO, 2024), eq. 16, with two responses.
    """

    name: ClassVar[str] = "exo"
    symmetric: ClassVar[bool] = False

    rate: Annotated[float, Field(gt=0, lt=0.5)] = 1e-3
    """How much of the label goes to rejected."""

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        from torch.nn.functional import logsigmoid

        won, lost = logsigmoid(gap.logit), logsigmoid(-gap.logit)
        return won.exp() * (won - log1p(-self.rate)) + lost.exp() * (lost - log(self.rate))


@final
class Discovered(Link):
    """`softplus(-z)` and `exp(-z)`, mixed by sigmoid(z / tau): the loss that a language model wrote.

    Source: Discovering Preference Optimization Algorithms (DiscoPOP, 2024), eq. 5. It is not convex.
    """

    name: ClassVar[str] = "discovered"

    tau: PositiveFloat = 0.05
    """How sharply the two are told apart."""

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        from torch.nn.functional import softplus

        share = (gap.logit / self.tau).sigmoid()
        return softplus(-gap.logit) * (1 - share) + (-gap.logit).clamp(max=80).exp() * share


@final
class RaoKupper(Link):
    """Ties by a threshold: P(win) = sigmoid(z - log nu). DPO-RK; reads `tie`.

    Source: On Extending DPO to Accommodate Ties (NeurIPS 2025); Rao and Kupper (1967).
    """

    name: ClassVar[str] = "rao-kupper"
    symmetric: ClassVar[bool] = False

    nu: Annotated[float, Field(gt=1)] = 3.0
    """Evenly matched responses tie with probability (nu - 1) / (nu + 1)."""

    def reads(self) -> Columns:
        return types("tie")

    def refuse(self, table: pa.Table) -> str | None:
        return needs_both(table, self.name)

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        import torch
        from torch.nn.functional import softplus

        alpha = log(self.nu)
        win = softplus(alpha - gap.logit)
        tied = win + softplus(alpha + gap.logit) - log(self.nu**2 - 1)
        return torch.where(pairs.columns["tie"] > 0, tied, win)


@final
class Davidson(Link):
    """Ties by a geometric mean: P(tie) is 2 nu sqrt(P(win) P(lose)). DPO-D; reads `tie`.

    Source: On Extending DPO to Accommodate Ties (NeurIPS 2025); Davidson (1970)
    """

    name: ClassVar[str] = "davidson"
    symmetric: ClassVar[bool] = False

    nu: PositiveFloat = 1.0
    """Evenly matched responses tie with probability nu / (1 + nu)."""

    def reads(self) -> Columns:
        return types("tie")

    def refuse(self, table: pa.Table) -> str | None:
        return needs_both(table, self.name)

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        import torch

        logit = gap.logit
        bulk = torch.stack([torch.zeros_like(logit), -logit, log(2 * self.nu) - logit / 2])
        win = bulk.logsumexp(0)
        return torch.where(pairs.columns["tie"] > 0, win + logit / 2 - log(2 * self.nu), win)


def between(table: pa.Table) -> str | None:
    """Return why win rates cannot be what they are called: outside of [0, 1], or everywhere equal."""
    for name in ("chosen_win_rate", "rejected_win_rate"):
        ends = pc.min_max(table[name]).as_py()
        if ends["min"] is not None and not 0 <= ends["min"] <= ends["max"] <= 1:
            return f"column '{name}' must be in [0, 1], and is in [{ends['min']}, {ends['max']}]"
    same = pc.equal(table["chosen_win_rate"], table["rejected_win_rate"])
    return "the win rates of every pair are equal" if pc.all(same).as_py() else None


def needs_both(table: pa.Table, link: str) -> str | None:
    """Return why a tie link cannot learn from these rows: no ties, or nothing but ties."""
    share = pc.mean(pc.fill_null(table["tie"], False).cast(pa.int8())).as_py() or 0.0
    if 0 < share < 1:
        return None
    return f"link '{link}' needs ties and wins, and {'no' if share == 0 else 'every'} row is a tie"


PAIR_LINKS: tuple[type[Link], ...] = (Logistic, Hinge, Squared, Bregman, Exo, Discovered, RaoKupper, Davidson)
