"""Links that see more than a logit: both rewards of a pair apart, or all the pairs of a list.

A listwise link puts the cost of a list on its rows so that their sum is the list's; a list is every pair of a prompt's
responses that has a better and a worse one. Rows that share their chosen response are that response's contest with all
that are worse, which is one factor of Plackett and Luce's model.
"""

from typing import TYPE_CHECKING, ClassVar, final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import PositiveFloat

from prefkit.columns import Columns, types
from prefkit.objectives.links import PAIR_LINKS, between
from prefkit.objectives.piece import Gap, Link, Lists, Pairs

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "LINKS",
    "ApoDown",
    "ApoZero",
    "Binary",
    "Nca",
    "PlackettLuce",
    "PointwiseSquared",
    "RewardRanking",
]


@final
class PointwiseSquared(Link):
    """`((r_w - (p_w - 1/2) / beta)^2 + (r_l - (p_l - 1/2) / beta)^2) / 2`: each log-ratio has a target of its own.

    Source: Self-Play Preference Optimization (SPPO, 2024), eq. 4.7. Rewards are plain log-ratios (beta 1).
    """

    name: ClassVar[str] = "pointwise-squared"
    symmetric: ClassVar[bool] = False

    beta: PositiveFloat = 1e-3
    """1 / eta of the paper."""
    hard: bool = False
    """Take 1 and 0 for the win rates, instead of the columns."""

    def reads(self) -> Columns:
        return {} if self.hard else types("chosen_win_rate", "rejected_win_rate")

    def refuse(self, table: pa.Table) -> str | None:
        return None if self.hard else between(table)

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        won: Tensor | float = 1.0
        lost: Tensor | float = 0.0
        if not self.hard:
            won, lost = pairs.columns["chosen_win_rate"], pairs.columns["rejected_win_rate"]
        errors = gap.chosen - (won - 0.5) / self.beta, gap.rejected - (lost - 0.5) / self.beta
        return (errors[0].square() + errors[1].square()) / 2


@final
class Nca(Link):
    """`softplus(-r_w) + softplus(r_w) / 2 + softplus(r_l) / 2`: noise contrastive alignment of a pair (2024)."""

    name: ClassVar[str] = "nca"
    symmetric: ClassVar[bool] = False

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        from torch.nn.functional import softplus

        return softplus(-gap.chosen) + (softplus(gap.chosen) + softplus(gap.rejected)) / 2


@final
class Binary(Link):
    """`softplus(-r_w) + softplus(r_l)`: chosen and rejected told apart one by one. Binary Classifier Optimization (2024)."""

    name: ClassVar[str] = "binary"
    symmetric: ClassVar[bool] = False

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        from torch.nn.functional import softplus

        return softplus(-gap.chosen) + softplus(gap.rejected)


@final
class ApoZero(Link):
    """`sigmoid(-r_w) + sigmoid(r_l)`: chosen is better than what the model says. Anchored PO (2024), eq. 7."""

    name: ClassVar[str] = "apo-zero"
    symmetric: ClassVar[bool] = False

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        return (-gap.chosen).sigmoid() + gap.rejected.sigmoid()


@final
class ApoDown(Link):
    """`sigmoid(r_w) + sigmoid(r_l - r_w)`: chosen is worse than what the model says. Anchored PO (2024), eq. 8."""

    name: ClassVar[str] = "apo-down"
    symmetric: ClassVar[bool] = False

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        return gap.chosen.sigmoid() + (gap.rejected - gap.chosen).sigmoid()


@final
class PlackettLuce(Link):
    """`sum_k log(1 + sum_(i worse than k) exp(-z_ki))`: the likelihood of the list's order; a pair costs what DPO says.

    Source: LiPO (NAACL 2025), list-MLE; Plackett (1975).
    """

    name: ClassVar[str] = "plackett-luce"
    symmetric: ClassVar[bool] = False
    listwise: ClassVar[bool] = True

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        return contest(-gap.logit, lists_of(pairs))


@final
class RewardRanking(Link):
    """Plackett and Luce's likelihood with a temperature per contest, from the scores: PRO.

    `log(exp(t_k p_k) + sum_i exp(t_ki p_i)) - t_k p_k`, t_ki = score_k - score_i and t_k the largest of them.
    Source: Preference Ranking Optimization (PRO, AAAI 2024). Rewards are mean log-probs (beta 1).
    """

    name: ClassVar[str] = "reward-ranking"
    symmetric: ClassVar[bool] = False
    listwise: ClassVar[bool] = True

    def reads(self) -> Columns:
        return types("chosen_score", "rejected_score")

    def refuse(self, table: pa.Table) -> str | None:
        return unsorted(table, f"link '{self.name}'")

    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        lists = lists_of(pairs)
        heat = pairs.columns["chosen_score"] - pairs.columns["rejected_score"]
        group = contests(lists)
        largest = heat.new_zeros(len(heat)).scatter_reduce(0, group, heat, "amax", include_self=False)[group]
        return contest(heat * gap.rejected - largest * gap.chosen, lists)


def contest(logits: "Tensor", lists: Lists) -> "Tensor":
    """Return `log(1 + sum exp(logit))` over the rows that share their chosen response, on the first of them; else 0."""
    group = contests(lists)
    most = logits.detach().new_zeros(len(logits)).scatter_reduce(0, group, logits.detach(), "amax")
    inner = logits.new_zeros(len(logits)).index_add(0, group, (logits - most[group]).exp())
    cost = most + ((-most).exp() + inner).log()
    order = group.argsort(stable=True)
    first = order[group[order].diff(prepend=group.new_full((1,), -1)) != 0]
    return logits.new_zeros(len(logits)).index_copy(0, first, cost[group[first]])


def contests(lists: Lists) -> "Tensor":
    """Return the number of each row's contest: rows that share their chosen response have the same."""
    import torch

    group: Tensor = torch.unique(lists.chosen, return_inverse=True)[1]
    return group


def lists_of(pairs: Pairs) -> Lists:
    """Return how the pairs make up lists."""
    if pairs.lists is None:
        raise ValueError("a listwise piece needs whole lists, and the batch does not say which they are")
    return pairs.lists


def unsorted(table: pa.Table, what: str) -> str | None:
    """Return why scores cannot order the pairs: a chosen one that is no better than its rejected one."""
    wrong = pc.sum(pc.less_equal(table["chosen_score"], table["rejected_score"])).as_py() or 0
    return f"{what} needs chosen_score above rejected_score, and {wrong} rows have not" if wrong else None


LINKS: tuple[type[Link], ...] = (
    *PAIR_LINKS,
    PointwiseSquared,
    Nca,
    Binary,
    ApoZero,
    ApoDown,
    PlackettLuce,
    RewardRanking,
)
