"""Annotators: from pairs with several votes to one row for each vote, under the name of who cast it.

Pooling votes loses what tells a careful annotator from a careless one. A model of both needs each opinion as a row of
its own: turned so that what the annotator prefers is chosen, with that vote alone beside it.
Source of the need: Latent Collective Preference Optimization (LCPO, 2025), which learns a reliability per annotator.
"""

from collections import Counter
from collections.abc import Collection
from typing import ClassVar, Literal, final

import numpy as np
import pyarrow as pa
from pydantic import ConfigDict, Field

from prefkit.columns import VOTES, Columns, types
from prefkit.labels.direction import sides, turn_round
from prefkit.rng import child_ids
from prefkit.stage import Context, Flow, Kind, Stage
from prefkit.tables import put

__all__ = ["Annotators"]

DROPPED = ("no-votes", "no-usable-vote")


@final
class Annotators(Stage):
    """Make one row of each vote, turned the way its annotator voted, with the name in `annotator`."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: ClassVar[str] = "annotators"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = Flow(("pair",), "pair")

    what: Literal["each-vote", "only-vote"] = Field("each-vote", alias="kind")
    """`each-vote` becomes a row; or rows stay as they are, and those with just one vote get its name (`only-vote`)."""
    ties: Literal["drop", "keep"] = "drop"
    """For `each-vote`: whether a vote for neither becomes a row too, with the sides as they are. Counted if not."""

    def reads(self) -> Columns:
        return types("id", "votes")

    def writes(self) -> Columns:
        return types("id", "votes", "annotator") if self.what == "each-vote" else types("annotator")

    def drops(self) -> Collection[str]:
        return DROPPED if self.what == "each-vote" else ()

    def becomes(self, schema: pa.Schema) -> pa.Schema:
        if self.what == "each-vote":
            sides(schema)  # a column of one side alone could not be turned
        return super().becomes(schema)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        votes = table["votes"].to_pylist()
        if self.what == "only-vote":
            names = [row[0]["judge"] if row and len(row) == 1 else None for row in votes]
            return put(table, "annotator", pa.array(names, pa.string()))
        rows = [(at, vote) for at, row in enumerate(votes) for vote in row or () if self._counts(vote, ctx)]
        used = np.asarray([at for at, _ in rows], np.int64)
        left = np.bincount(used, minlength=len(votes)) == 0
        reasons = [DROPPED[bool(row)] if gone else None for row, gone in zip(votes, left, strict=True)]
        ctx.drop(table, reasons)
        return _turned(table.take(pa.array(used)), [vote for _, vote in rows])

    def _counts(self, vote: dict[str, str | None], ctx: Context) -> bool:
        """Say whether a vote becomes a row, and note why if it does not."""
        why = {None: "no-verdict", "tie": "tie" if self.ties == "drop" else ""}.get(vote["winner"], "")
        why = why or ("no-name" if vote["judge"] is None else "")
        if why:
            ctx.notes[f"annotators/votes-left-out/{why}"] += 1
        return not why


def _turned(table: pa.Table, votes: list[dict[str, str | None]]) -> pa.Table:
    """Give each row (one a vote) its own id, its vote alone and its annotator, and the vote's winner as chosen."""
    parents = table["id"].to_pylist()
    seen: Counter[tuple[str, str | None]] = Counter()
    labels = []
    for parent, vote in zip(parents, votes, strict=True):
        seen[parent, vote["judge"]] += 1
        labels.append(f"{seen[parent, vote['judge']]}/{vote['judge']}")
    table = put(table, "id", pa.array(child_ids("annotator", parents, labels), pa.string()))
    table = put(table, "votes", pa.array([[vote] for vote in votes], VOTES))
    against = np.asarray([vote["winner"] == "rejected" for vote in votes], dtype=bool)
    turned = turn_round(table, against)
    # An opinion told the other way is no correction of a label, which is what `flipped` speaks of.
    flipped = "flipped" in table.column_names
    turned = put(turned, "flipped", table["flipped"]) if flipped else turned.drop_columns(["flipped"])
    return put(turned, "annotator", pa.array([vote["judge"] for vote in votes], pa.string()))
