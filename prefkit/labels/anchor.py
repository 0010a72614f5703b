"""Anchor: whether a response that nobody judged is likely to be worse than one that is trusted.

A policy that already finds the trusted response likelier than an earlier policy did has moved towards it since, so what
the earlier policy wrote is likely to be worse. Likelihood of the anchor is a proxy, and no proof: measure it against
labels before relying on it.
"""

from typing import ClassVar, Literal, final

import numpy as np
import pyarrow as pa

from prefkit.columns import Columns, types
from prefkit.labels.direction import CLAIMS, SIDES, turn_round
from prefkit.labels.op import Op, World
from prefkit.tables import floats, put

__all__ = ["Anchor"]


@final
class Anchor(Op):
    """Write `route`: `dpo` where the current policy finds chosen likelier than the one that wrote rejected did, else `sft`.

    Chosen is the trusted response, and a row that goes to `sft` learns from it alone. Null where a log-prob is missing.
    Source: SePPO: Semi-Policy Preference Optimization (2024; its second version is called SSPO).
    """

    name: ClassVar[str] = "anchor"

    current: str = "logp"
    """Log-prob of chosen under the policy as it is: reads `chosen_<current>`."""
    reference: str = "ref_logp"
    """Log-prob of chosen under the earlier policy that wrote rejected: reads `chosen_<reference>`."""
    otherwise: Literal["sft", "flip"] = "sft"
    """Where chosen is no likelier: learn from chosen alone, or take rejected for the better one, as SePPO did first."""

    def reads(self) -> Columns:
        return {f"chosen_{self.current}": pa.float64(), f"chosen_{self.reference}": pa.float64()}

    def writes(self) -> Columns:
        return types("route") if self.otherwise == "sft" else types("route", "flipped")

    def touches(self) -> tuple[str, ...]:
        return () if self.otherwise == "sft" else SIDES + CLAIMS

    def apply(self, table: pa.Table, world: World) -> pa.Table:
        current, reference = (floats(table[name]) for name in self.reads())
        missing = ~(np.isfinite(current) & np.isfinite(reference))
        nearer = current > reference
        against = ~nearer & ~missing
        world.notes["label/no nearer to the anchor"] += int(against.sum())
        if self.otherwise == "flip":
            table = turn_round(table, against)
            nearer = np.ones_like(nearer)
        route = np.where(nearer, "dpo", "sft").astype(object)
        return put(table, "route", pa.array(route, pa.string(), mask=missing))
