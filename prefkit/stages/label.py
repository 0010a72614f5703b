"""Label: what is believed of each pair, by small ops taken in order."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Annotated, ClassVar, final

import pyarrow as pa
from pydantic import Discriminator, Field, Tag

from prefkit.columns import Columns
from prefkit.labels import (
    Anchor,
    Consistency,
    Denoise,
    Flip,
    FromEnsemble,
    FromJudges,
    FromPeople,
    FromScores,
    FromStrengths,
    FromVotes,
    Noise,
    Orient,
    PeerReview,
    Smooth,
    Tie,
    Uncertainty,
    Visits,
)
from prefkit.labels.direction import sides
from prefkit.labels.op import World, op_name
from prefkit.stage import PAIRS, Context, Flow, Holds, Kind, Stage

__all__ = ["Label"]

AnyOp = Annotated[
    Annotated[FromScores, Tag("from-scores")]
    | Annotated[FromVotes, Tag("from-votes")]
    | Annotated[FromJudges, Tag("from-judges")]
    | Annotated[FromPeople, Tag("from-people")]
    | Annotated[FromStrengths, Tag("from-strengths")]
    | Annotated[FromEnsemble, Tag("from-ensemble")]
    | Annotated[Visits, Tag("visits")]
    | Annotated[Consistency, Tag("consistency")]
    | Annotated[Smooth, Tag("smooth")]
    | Annotated[Denoise, Tag("denoise")]
    | Annotated[Uncertainty, Tag("uncertainty")]
    | Annotated[Noise, Tag("noise")]
    | Annotated[Tie, Tag("tie")]
    | Annotated[Anchor, Tag("anchor")]
    | Annotated[PeerReview, Tag("peer-review")]
    | Annotated[Flip, Tag("flip")]
    | Annotated[Orient, Tag("orient")],
    Discriminator(op_name),
]


@final
class Label(Stage):
    """Label pairs by ops in order: probabilities from scores or votes, ties, noise, direction."""

    name: ClassVar[str] = "label"
    kind: ClassVar[Kind] = "global"
    level: ClassVar[Flow] = PAIRS
    random: ClassVar[bool] = True

    ops: Annotated[tuple[AnyOp, ...], Field(min_length=1)]
    """What to do, in order: `[{from-scores: {temperature: 2.0}}, {tie: {delta: 0.05}}, orient]`. Ops: `from-scores`,
    `from-votes`, `from-judges`, `from-people`, `from-strengths`, `from-ensemble`, `visits`, `consistency`, `smooth`,
    `denoise`, `uncertainty`, `noise`, `tie`, `anchor`, `peer-review`, `flip`, `orient`."""

    def reads(self) -> Columns:
        needed: dict[str, pa.DataType] = {}
        made: set[str] = set()
        for op in self.ops:
            needed |= {name: kind for name, kind in op.reads().items() if name not in made}
            made |= set(op.writes())
        return needed

    def writes(self) -> Columns:
        return {name: kind for op in self.ops for name, kind in op.writes().items()}

    def touches(self) -> Collection[str]:
        return tuple(dict.fromkeys(pattern for op in self.ops for pattern in op.touches()))

    def scope(self) -> Kind:
        return "global" if any(op.is_global() for op in self.ops) else "map"

    def draws(self) -> bool:
        return any(op.draws() for op in self.ops)

    def becomes(self, schema: pa.Schema) -> pa.Schema:
        if "chosen" in self.touches():
            sides(schema)
        return super().becomes(schema)

    def looks(self) -> Collection[str]:
        return ()

    def holds(self, width: Mapping[str, float]) -> Holds:
        opinions = sum(width.get(name, 0.0) for name in ("votes", "judgements") if name in self.reads())
        return Holds(200.0 + 6 * opinions)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        ids = table["id"]
        for position, op in enumerate(self.ops):
            table = op.apply(table, World(partial(ctx.uniform, self, ids, position), ctx.notes))
        return table
