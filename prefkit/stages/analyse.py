"""Analyse: what the dataset is like here, as figures for the card; the rows go on as they came.

Put it twice, before a step and after it, and the card shows what the step did: `shortcut` before and after `balance`, say.
Nothing is asked of a model. What each figure means stands in docs/quality.md.
"""

from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Literal, Self, final

import pyarrow as pa
from pydantic import BeforeValidator, Field, model_validator

from prefkit.analysis.findings import Findings, filed
from prefkit.analysis.of_opinions import rating_findings, vote_findings
from prefkit.analysis.of_pairs import (
    cell_findings,
    cycle_findings,
    factor_findings,
    gap_findings,
    length_findings,
    looks_of,
    shortcut_findings,
    strength_findings,
)
from prefkit.analysis.of_responses import coverage_findings, preferred_findings
from prefkit.columns import Columns, types
from prefkit.gaps import reads_scores
from prefkit.quality.style import FEATURES
from prefkit.stage import ANY, Context, Flow, Holds, Kind, Stage
from prefkit.stages.choice import several
from prefkit.tables import floats

__all__ = ["Analyse"]

What = Literal[
    "shortcut", "length", "factors", "gaps", "votes", "ratings", "cycles", "strength", "cells", "coverage"
]
_STYLE = {"shortcut", "length", "factors", "gaps"}


@final
class Analyse(Stage):
    """Measure the dataset and leave the figures to the card."""

    name: ClassVar[str] = "analyse"
    kind: ClassVar[Kind] = "global"
    level: ClassVar[Flow] = ANY

    what: Annotated[tuple[What, ...], BeforeValidator(several), Field(min_length=1)]
    """Of pairs: `shortcut` (what style tells of the label), `length`, `factors`, `gaps`, `cycles`, `votes`; by scores `strength`
    and `cells`. Of responses: `ratings`, `coverage`."""
    scores: Annotated[tuple[str, ...], BeforeValidator(several)] = ()
    """`strength`: the members of the ensemble; `cells`: one score; `gaps`: further attributes of both sides; `coverage`: a score
    whose best response is looked up under the policy."""
    policy: str | None = None
    """`coverage`: the column of summed log-probs under the policy; `<policy>_tokens` beside it."""
    sampler: str = "sampler_logp"
    """`coverage`: the column of summed log-probs under what sampled the responses, as it sampled."""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if "strength" in self.what and len(self.scores) < 2:
            raise ValueError("'strength' needs two scores or more")
        if "cells" in self.what and not self.scores:
            raise ValueError("'cells' needs a score")
        if ("coverage" in self.what) != (self.policy is not None):
            raise ValueError("'coverage' and policy go together")
        return self

    def reads(self) -> Columns:
        needed: dict[str, pa.DataType] = {}
        if _STYLE & set(self.what):
            needed |= types("chosen", "rejected")
        if "cycles" in self.what:
            needed |= types("chosen_id", "rejected_id")
        for what in ("votes", "ratings"):
            needed |= types(what) if what in self.what else {}
        if {"strength", "cells", "gaps"} & set(self.what):
            needed |= {name: kind for score in self.scores for name, kind in reads_scores(score).items()}
        if self.policy is not None:
            sums = (self.policy, self.sampler, *self.scores)
            needed |= {**dict.fromkeys(sums, pa.float64()), f"{self.policy}_tokens": pa.int32()}
        return needed

    def writes(self) -> Columns:
        return {}

    def looks(self) -> Collection[str]:
        return ("chosen", "rejected") if _STYLE & set(self.what) else ()

    def holds(self, width: Mapping[str, float]) -> Holds:
        style = 40.0 * len(FEATURES) if _STYLE & set(self.what) else 0.0
        told = 6 * sum(width.get(name, 0.0) for name in self.reads() if name in {"votes", "ratings"})
        return Holds(250.0 + style + told)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        if table.num_rows:
            for what, findings in self._findings(table).items():
                ctx.notes.update(filed({f"{what}/{name}": figure for name, figure in findings.items()}))
        return table

    def _findings(self, table: pa.Table) -> dict[str, Findings]:
        looks = looks_of(table) if _STYLE & set(self.what) else None
        told: dict[str, Findings] = {}
        for what in self.what:
            if looks is not None and what == "shortcut":
                told[what] = shortcut_findings(looks)
            elif looks is not None and what == "length":
                told[what] = length_findings(looks)
            elif looks is not None and what == "factors":
                told[what] = factor_findings(looks)
            elif looks is not None and what == "gaps":
                told[what] = gap_findings(looks, table, self.scores)
            elif what == "strength":
                told[what] = strength_findings(table, self.scores)
            elif what == "cells":
                told[what] = cell_findings(table, self.scores[0])
            else:
                told[what] = self._without_style(what, table)
        return told

    def _without_style(self, what: What, table: pa.Table) -> Findings:
        if what == "votes":
            return vote_findings(table)
        if what == "ratings":
            return rating_findings(table)
        if what == "cycles":
            return cycle_findings(table)
        assert self.policy is not None
        policy = floats(table[self.policy])
        tokens = floats(table[f"{self.policy}_tokens"])
        told = dict(coverage_findings(policy, floats(table[self.sampler]), tokens, table))
        for score in self.scores:
            told |= {
                f"{score}/{name}": each for name, each in preferred_findings(table, score, policy).items()
            }
        return told
