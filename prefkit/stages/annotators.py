"""Annotators: from pairs with several votes to one row for each vote, under the name of who cast it.

Pooling votes loses what tells a careful annotator from a careless one. A model of both needs each opinion as a row of
its own: turned so that what the annotator prefers is chosen, with that vote alone beside it. Once it is known who prefers
like whom (`groups`), the votes of each group come together again, so that a pair has a label for each.
Source of the need: Latent Collective Preference Optimization (LCPO, 2025), which learns a reliability per annotator.
"""

from collections import Counter
from collections.abc import Collection
from typing import ClassVar, Literal, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict, Field

from prefkit.columns import VOTES, Columns, types
from prefkit.labels.direction import sides, turn_round
from prefkit.rng import child_ids
from prefkit.stage import Context, Flow, Kind, Stage
from prefkit.tables import put
from prefkit.texts import same_codes
from prefkit.votes import mirror_votes

__all__ = ["Annotators"]

DROPPED = ("no-votes", "no-usable-vote")
_NO_GROUP, _NO_ID = "no-group", "no-response-id"


@final
class Annotators(Stage):
    """Make one row of each vote, turned the way its annotator voted, with the name in `annotator`."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: ClassVar[str] = "annotators"
    kind: ClassVar[Kind] = "group"
    level: ClassVar[Flow] = Flow(("pair",), "pair")

    what: Literal["each-vote", "only-vote", "each-group"] = Field("each-vote", alias="kind")
    """`each-vote` becomes a row; or rows stay as they are, and those with just one vote get its name (`only-vote`).
    `each-group`: rows about the same two responses whose `group` is the same become one with all their votes, for `label`."""
    ties: Literal["drop", "keep"] = "drop"
    """For `each-vote`: whether a vote for neither becomes a row too, with the sides as they are. Counted if not."""

    def reads(self) -> Columns:
        if self.what == "each-group":
            return types("id", "prompt_id", "chosen_id", "rejected_id", "votes", "group")
        return types("id", "votes")

    def writes(self) -> Columns:
        if self.what == "each-group":
            return types("id", "votes", "annotator", "p_chosen", "flip_prob")
        return types("id", "votes", "annotator") if self.what == "each-vote" else types("annotator")

    def drops(self) -> Collection[str]:
        return {"each-vote": DROPPED, "each-group": (_NO_GROUP, _NO_ID), "only-vote": ()}[self.what]

    def scope(self) -> Kind:
        return "group" if self.what == "each-group" else "map"

    def becomes(self, schema: pa.Schema) -> pa.Schema:
        if self.what == "each-vote":
            sides(schema)  # a column of one side alone could not be turned
        return super().becomes(schema)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        if self.what == "each-group":
            return _together(table, ctx)
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


def _together(table: pa.Table, ctx: Context) -> pa.Table:
    """Return the first row of each pair and group, with the votes of all, told the way of the first."""
    named = pc.and_(pc.is_valid(table["chosen_id"]), pc.is_valid(table["rejected_id"]))
    why = pc.if_else(named, None, pa.scalar(_NO_ID))
    table = ctx.drop(table, pc.if_else(pc.is_valid(table["group"]), why, _NO_GROUP))
    prompts, groups = _numbers(table["prompt_id"]), _numbers(table["group"])
    sides = _numbers(pa.chunked_array(table["chosen_id"].chunks + table["rejected_id"].chunks, pa.string()))
    chosen, rejected = sides[: table.num_rows], sides[table.num_rows :]
    keys = same_codes(prompts, groups, np.minimum(chosen, rejected), np.maximum(chosen, rejected))
    _, first, key = np.unique(keys, return_index=True, return_inverse=True)
    own = first[key]
    votes = mirror_votes(table["votes"], chosen != chosen[own]).take(pa.array(np.argsort(own, kind="stable")))
    rows = np.unique(own)
    lengths = pc.fill_null(pc.list_value_length(table["votes"]), 0).to_numpy()
    ends = np.cumsum(np.bincount(own, lengths, table.num_rows)[rows])
    offsets = pa.array(np.append(0, ends).astype(np.int32))
    entries = pa.concat_arrays(votes.chunks).flatten() if votes.num_chunks else pa.array([], VOTES.value_type)
    table = put(table.take(pa.array(rows)), "votes", pa.ListArray.from_arrays(offsets, entries).cast(VOTES))
    ids = child_ids("group", table["id"].to_pylist(), table["group"].to_pylist())
    table = put(table, "id", pa.array(ids, pa.string()))
    # What one of them chose, and what was believed of that, is no label of the group's.
    for name, kind in types("annotator", "p_chosen", "flip_prob").items():
        table = put(table, name, pa.nulls(table.num_rows, kind))
    return table


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """Return one number a text: int64 [rows]."""
    return np.asarray(pc.index_in(column, pc.unique(column)).to_numpy(), np.int64)
