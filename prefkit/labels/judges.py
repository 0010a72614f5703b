"""What is true of each pair, and how far each judge is to be believed, from all votes at once."""

from typing import Annotated, ClassVar, Literal, final

import numpy as np
import pyarrow as pa
from pydantic import Field, NonNegativeFloat

from prefkit.columns import Columns, types
from prefkit.errors import ContractError
from prefkit.estimators.dawid_skene import Opinions, fit_dawid_skene, fit_one_coin
from prefkit.estimators.judge_order import Judges, fit_judges
from prefkit.labels.op import Op, World
from prefkit.tables import nullable, put
from prefkit.votes import Said, said

__all__ = ["FromJudges"]

_CHOSEN, _TIE, _REJECTED = range(3)


@final
class FromJudges(Op):
    """Write `p_chosen` and `flip_prob` from the votes of judges who are not all as good; null where nobody voted.

    A tie counts a half in `p_chosen`; `flip_prob` is the probability that rejected is the better one. What speaks
    against the fit, such as judges who share mistakes, is a note of the stage.
    """

    name: ClassVar[str] = "from-judges"

    model: Literal["orders", "dawid-skene", "one-coin"] = "orders"
    """`orders`: what each judge confuses in each order of presentation. `dawid-skene`: whatever the order, both sides
    treated alike. `one-coin`: one chance of being right a judge, for judges with few votes; it may learn that one side is better more
    often, so which side is stored as chosen matters."""
    ties: Literal["true", "said"] = "true"
    """With `orders`: whether a pair can be a tie, or one side is better always and a tie is only said."""
    smoothing: NonNegativeFloat = 0.01
    """Votes made up for each thing that a judge may say."""
    few: Annotated[int, Field(ge=1)] = 5
    """Judges with fewer votes are believed alike."""

    def reads(self) -> Columns:
        return types("votes")

    def writes(self) -> Columns:
        return types("p_chosen", "flip_prob")

    def is_global(self) -> bool:
        return True

    def apply(self, table: pa.Table, world: World) -> pa.Table:
        votes = said(table["votes"])
        p, flip = (np.full(table.num_rows, np.nan) for _ in range(2))
        if len(votes.pair):
            rows, pair = np.unique(votes.pair, return_inverse=True)
            found = self._fit(votes, pair)
            p[rows] = found.posterior[:, _CHOSEN] + found.posterior[:, _TIE] / 2
            flip[rows] = found.posterior[:, _REJECTED]
            world.notes["label/judges"] += len(votes.judges)
            if found.doubt.warning is not None:
                world.notes[f"label/doubt: {found.doubt.warning}"] += 1
        return put(put(table, "p_chosen", nullable(p)), "flip_prob", nullable(flip))

    def _fit(self, votes: Said, pair: np.ndarray) -> Opinions | Judges:
        if len(votes.judges) == 1:
            what = "all votes are of one judge, and how far one judge is right cannot be told without another"
            raise ContractError(what, where="column 'votes'", hint="use `from-votes`, or ask a second judge")
        if self.model == "orders":
            seen = (votes.judge, votes.order, votes.verdict)
            return fit_judges(pair, *seen, ties=self.ties, smoothing=self.smoothing, few=self.few)
        if self.model == "one-coin":
            return fit_one_coin(pair, votes.judge, votes.verdict, 3, smoothing=self.smoothing, few=self.few)
        mirror = np.array([_REJECTED, _TIE, _CHOSEN])
        return fit_dawid_skene(
            pair, votes.judge, votes.verdict, 3, mirror=mirror, smoothing=self.smoothing, few=self.few
        )
