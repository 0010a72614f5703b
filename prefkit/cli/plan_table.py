"""A plan as people read it, like a table of contents, and as machines do."""

from dataclasses import asdict
from typing import Any

from prefkit.cli.out import show, table
from prefkit.plan import Plan, PlannedStep
from prefkit.show import thousands, visible

__all__ = ["as_data", "draw"]


def draw(plan: Plan) -> None:
    """Print a plan."""
    first = plan.steps[0]
    rows = f"{thousands(first.rows)} {first.level}s" if first.rows is not None else f"{first.level}s"
    show(f"{plan.name} · seed {plan.seed} · {rows}\n")
    shown = table("", "stage", "kind", "needs", "adds", "state", "", wraps=("needs", "adds"))
    for step in plan.steps:
        carried = f" + {len(step.carries)} carried over" if step.carries else ""
        needs, adds = visible(", ".join(step.needs)), visible(", ".join(step.adds)) + carried
        number, _, stage = step.name.partition("-")
        shown.add_row(number, stage, step.kind, needs, adds, _state(plan, step), _extent(step))
    show(shown, "")
    if plan.goal is not None:
        show(f"objective: {plan.goal.objective}   needs {', '.join(plan.goal.needs) or 'nothing'}   ok")
    show(_sum(plan))


def as_data(plan: Plan) -> dict[str, Any]:
    """Return a plan as plain data."""
    return {
        "name": plan.name,
        "seed": plan.seed,
        "steps": [asdict(step) for step in plan.steps],
        "columns": {column.name: str(column.type) for column in plan.columns},
        "objective": plan.goal._asdict() if plan.goal else None,
    }


def _state(plan: Plan, step: PlannedStep) -> str:
    if step.state == "after":
        return f"after {plan.to_run[0].name[:2]}"
    return {"cached": "cached", "run": "to run", "retry": "to retry"}[step.state]


def _extent(step: PlannedStep) -> str:
    if step.state == "cached":
        return f"{thousands(step.rows or 0)} rows"
    if step.calls is None:
        return f"asks {', '.join(step.models)}"
    if step.calls:
        tokens = f", {thousands(step.tokens)} tokens" if step.tokens else ""
        return f"~ {thousands(step.calls)} calls{tokens}"
    return f"~ {thousands(step.rows)} rows" if step.rows is not None else ""


def _sum(plan: Plan) -> str:
    todo = plan.to_run
    if not todo:
        return "nothing to run: every step is cached"
    known, tokens = sum(step.calls or 0 for step in todo), sum(step.tokens or 0 for step in todo)
    total = f"about {thousands(known)} model calls" if known else "no model calls"
    total += f", {thousands(tokens)} generated tokens" if tokens else ""
    unknown = [step.name for step in todo if step.calls is None]
    if unknown:
        total += f", and those of {', '.join(unknown)}, whose rows are not known yet"
    return f"to run: {len(todo)} of {len(plan.steps)} steps, {total}"
