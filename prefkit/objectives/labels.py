"""Labels: how far the stored direction of a pair is believed.

All of them mix the cost of a pair with the cost of its mirror image, `a cost(z) + b cost(-z)` with a + b = 1. For the
logistic link that is DPO plus b z: cDPO and soft labels tilt towards the mirror image (b > 0), the robust loss away
from it (b < 0), so that its mean over rows flipped at the stated rate is DPO on the clean ones.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, NonNegativeInt

from prefkit.columns import Columns, types
from prefkit.objectives.piece import Labels, Pairs

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LABELS", "Hard", "Posterior", "Robust", "Smooth", "Soft"]

Rate = Annotated[float, Field(ge=0, lt=0.5)]


@final
class Hard(Labels):
    """Believe every row."""

    name: ClassVar[str] = "hard"

    def __call__(self, right: "Tensor", wrong: "Tensor", pairs: Pairs) -> "tuple[Tensor, Tensor]":
        import torch

        return torch.ones_like(right), torch.zeros_like(wrong)


@final
class Smooth(Labels):
    """Believe each row with probability 1 - rate: cDPO. Optimum of the logistic link: log((1 - rate) / rate).

    Source: A note on DPO with noisy preferences (2023).
    """

    name: ClassVar[str] = "smooth"

    rate: Rate | None = None
    """Share of wrong labels; left out, each row's own `flip_prob`."""

    def reads(self) -> Columns:
        return {} if self.rate is not None else types("flip_prob")

    def refuse(self, table: pa.Table) -> str | None:
        return no_rate(self.name, self.rate, table)

    def __call__(self, right: "Tensor", wrong: "Tensor", pairs: Pairs) -> "tuple[Tensor, Tensor]":
        rate = self.rate if self.rate is not None else pairs.columns["flip_prob"]
        doubt = right.new_zeros(len(right)) + rate
        return 1 - doubt, doubt


@final
class Robust(Labels):
    """Undo label noise in the mean: rDPO, unbiased under flips at the stated rate, and unbounded below.

    Source: Provably Robust DPO (2024)
    """

    name: ClassVar[str] = "robust"

    rate: Rate | None = None
    """Share of wrong labels; left out, each row's own `flip_prob`, which must stay below 0.5."""

    def reads(self) -> Columns:
        return {} if self.rate is not None else types("flip_prob")

    def refuse(self, table: pa.Table) -> str | None:
        return no_rate(self.name, self.rate, table)

    def __call__(self, right: "Tensor", wrong: "Tensor", pairs: Pairs) -> "tuple[Tensor, Tensor]":
        rate = self.rate if self.rate is not None else pairs.columns["flip_prob"]
        doubt = right.new_zeros(len(right)) - rate / (1 - 2 * rate)
        return 1 - doubt, doubt


@final
class Soft(Labels):
    """Believe each row by its own `p_chosen`."""

    name: ClassVar[str] = "soft"

    def reads(self) -> Columns:
        return types("p_chosen")

    def refuse(self, table: pa.Table) -> str | None:
        if pc.all(pc.equal(table["p_chosen"], 1.0)).as_py():
            return "labels 'soft' change nothing: every p_chosen is 1"
        return None

    def __call__(self, right: "Tensor", wrong: "Tensor", pairs: Pairs) -> "tuple[Tensor, Tensor]":
        belief = pairs.columns["p_chosen"]
        return belief, 1 - belief


@final
class Posterior(Labels):
    """Believe each row by the posterior that its annotator was right, given what the policy says by now.

    Belief = sigmoid(wrong - right + logit of the annotator's reliability); after each step a reliability moves
    towards the mean belief of its rows. The difference of costs is capped at 10, since squared links make it huge, and
    reliabilities stay in [0.5, 0.999]: below a half the labels would be read the other way round.
    Source: Latent Collective Preference Optimization (LCPO, also RE-PO, 2025).
    """

    name: ClassVar[str] = "posterior"
    annotators: ClassVar[bool] = True

    reliability: Annotated[float, Field(ge=0.5, lt=1)] = 0.9
    """Of every annotator before the first step."""
    by: Literal["annotator", "none"] = "annotator"
    """Whether each annotator has a reliability, or all rows share one."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the old reliability that a step keeps."""
    warmup: NonNegativeInt = 0
    """Steps in which every row is believed."""

    def reads(self) -> Columns:
        return types("annotator") if self.by == "annotator" else {}

    def refuse(self, table: pa.Table) -> str | None:
        if self.by == "annotator" and len(table["annotator"].unique()) < 2:
            return "labels 'posterior' need two annotators, or `by: none`"
        return None

    def __call__(self, right: "Tensor", wrong: "Tensor", pairs: Pairs) -> "tuple[Tensor, Tensor]":
        known = pairs.columns["reliability"].logit()
        belief = ((wrong - right).detach().clamp(-10, 10) + known).sigmoid()
        return belief, 1 - belief

    def start(self, annotators: int) -> np.ndarray:
        return np.full(annotators, 1.0 if self.warmup else self.reliability)

    def learn(self, reliability: np.ndarray, who: np.ndarray, belief: np.ndarray, step: int) -> np.ndarray:
        if step + 1 < self.warmup:
            return reliability
        if step + 1 == self.warmup:
            return np.full(len(reliability), self.reliability)
        rows = np.bincount(who, minlength=len(reliability))
        mean = np.bincount(who, belief, minlength=len(reliability)) / np.maximum(rows, 1)
        moved = self.momentum * reliability + (1 - self.momentum) * mean
        return np.where(rows > 0, moved, reliability).clip(0.5, 0.999)


def no_rate(name: str, rate: float | None, table: pa.Table) -> str | None:
    """Return why noise-aware labels would be a silent no-op or would read labels the other way round, or None."""
    ends = {"min": rate, "max": rate} if rate is not None else pc.min_max(table["flip_prob"]).as_py()
    if not ends["max"]:
        return f"labels '{name}' change nothing: every flip rate is 0"
    if ends["min"] < 0 or ends["max"] >= 0.5:
        return f"labels '{name}' need every flip_prob in [0, 0.5): flip or drop the other rows first"
    return None


LABELS: tuple[type[Labels], ...] = (Hard, Smooth, Robust, Soft, Posterior)
