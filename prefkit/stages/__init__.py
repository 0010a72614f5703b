"""The built-in stages, as an explicit table. To add one: write its file, add it here.

The word of a recipe comes first, then where its class is. A class is imported when a recipe names it: importing all of
them takes longer than many a build.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefkit.catalog import resolve

if TYPE_CHECKING:
    from prefkit.stage import Stage

    BUILTIN: tuple[type[Stage], ...]

__all__ = ["BUILTIN", "HOMES"]

HOMES: Mapping[str, str] = {
    "sample": "prefkit.stages.sample:Sample",
    "pool": "prefkit.stages.pool:Pool",
    "reference-answer": "prefkit.stages.reference_answer:ReferenceAnswer",
    "score": "prefkit.stages.score:Score",
    "judge": "prefkit.stages.judge:Judge",
    "combine": "prefkit.stages.combine:Combine",
    "consistency": "prefkit.stages.consistency:Consistency",
    "pass-rate": "prefkit.stages.pass_rate:PassRate",
    "win-rate": "prefkit.stages.win_rate:WinRate",
    "select": "prefkit.stages.select:Select",
    "direction": "prefkit.stages.direction:Direction",
    "continue": "prefkit.stages.continue_:Continue",
    "siblings": "prefkit.stages.siblings:Siblings",
    "tree": "prefkit.stages.tree:Tree",
    "tree-pairs": "prefkit.stages.tree_pairs:TreePairs",
    "revise": "prefkit.stages.revise:Revise",
    "corrupt": "prefkit.stages.corrupt:Corrupt",
    "pair": "prefkit.stages.pair:Pair",
    "annotators": "prefkit.stages.annotators:Annotators",
    "groups": "prefkit.stages.groups:Groups",
    "personas": "prefkit.stages.personas:Personas",
    "rationale": "prefkit.stages.rationale:Rationale",
    "label": "prefkit.stages.label:Label",
    "margin": "prefkit.stages.margin:Margin",
    "weight": "prefkit.stages.weight:Weight",
    "filter": "prefkit.stages.filter:Filter",
    "redact": "prefkit.stages.redact:Redact",
    "balance": "prefkit.stages.balance:Balance",
    "acquire": "prefkit.stages.acquire:Acquire",
    "analyse": "prefkit.stages.analyse:Analyse",
    "dedup": "prefkit.stages.dedup:Dedup",
    "decontaminate": "prefkit.stages.decontaminate:Decontaminate",
    "mix": "prefkit.stages.mix:Mix",
    "on-policy": "prefkit.stages.on_policy:OnPolicy",
    "split": "prefkit.stages.split:Split",
    "condition": "prefkit.stages.condition:Condition",
    "constraints": "prefkit.stages.constraints:Constraints",
    "difficulty": "prefkit.stages.difficulty:Difficulty",
    "order": "prefkit.stages.order:Order",
    "trace": "prefkit.stages.trace:Trace",
    "degree": "prefkit.stages.degree:Degree",
    "spans": "prefkit.stages.spans:Spans",
    "reference": "prefkit.stages.reference:Reference",
    "teacher": "prefkit.stages.teacher:Teacher",
}


def __getattr__(name: str) -> object:
    if name != "BUILTIN":
        raise AttributeError(f"module 'prefkit.stages' has no attribute '{name}'")
    return tuple(resolve(home) for home in HOMES.values())
