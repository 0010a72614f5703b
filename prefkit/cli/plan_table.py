"""A plan as people read it, like a table of contents, and as machines do."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from prefkit.cli.out import show, table
from prefkit.engines.spend import dollars
from prefkit.gates.rules import Then
from prefkit.holding import said as size_said
from prefkit.plan import Plan, PlannedStep
from prefkit.show import thousands, visible

__all__ = ["as_data", "draw"]


def draw(plan: Plan, gates: Mapping[Then, Sequence[str]]) -> None:
    """Print a plan, and which gates its result has to pass, by what happens where it does not."""
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
    show(*_gates(gates), *_memory(plan), _sum(plan))
    for step in plan.to_run:
        if step.basis:
            show(*_forecast(step))


def as_data(plan: Plan, gates: Mapping[Then, Sequence[str]]) -> dict[str, Any]:
    """Return a plan and its gates as plain data."""
    return {
        "name": plan.name,
        "seed": plan.seed,
        "steps": [asdict(step) for step in plan.steps],
        "columns": {column.name: str(column.type) for column in plan.columns},
        "objective": plan.goal._asdict() if plan.goal else None,
        "gates": dict(gates),
    }


def _memory(plan: Plan) -> list[str]:
    """Say what steps hold that see all rows at once, where that is worth a line."""
    read = zip(plan.steps, plan.steps[1:], strict=False)
    needs = [(step.name, (before.rows or 0) * (step.holds or 0.0)) for before, step in read]
    told = [f"{name} {size_said(size)}" for name, size in needs if size >= _WORTH_A_LINE]
    return [f"memory, about: {', '.join(told)}"] if told else []


_WORTH_A_LINE = 100e6
_HAPPENS: Mapping[Then, str] = {"stop": "stop if", "mark": "mark the card if", "off": "off"}


def _gates(gates: Mapping[Then, Sequence[str]]) -> list[str]:
    told = [f"{_HAPPENS[then]}: {', '.join(names)}" for then, names in gates.items() if names]
    return [f"gates: {' · '.join(told)}"] if told else []


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


def _forecast(step: PlannedStep) -> list[str]:
    """Say what a step takes, and on what that rests."""
    parts = [f"{thousands(step.calls or 0)} calls"]
    parts += [f"{thousands(step.remembered)} remembered"] if step.remembered is not None else []
    parts += [f"{thousands(step.tokens_in)} tokens in"] if step.tokens_in is not None else []
    parts += [f"{thousands(step.tokens)} out"] if step.tokens else []
    parts += [dollars(step.dollars)] if step.dollars is not None else []
    parts += [_duration(step.seconds)] if step.seconds is not None else []
    return [visible(f"{step.name}: about {', '.join(parts)}"), *(visible(f"  {line}") for line in step.basis)]


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _sum(plan: Plan) -> str:
    todo = plan.to_run
    if not todo:
        return "nothing to run: every step is cached"
    known, tokens = sum(step.calls or 0 for step in todo), sum(step.tokens or 0 for step in todo)
    total = f"about {thousands(known)} model calls" if known else "no model calls"
    total += f", {thousands(tokens)} generated tokens" if tokens else ""
    costs = [step.dollars for step in todo if step.calls]
    known_costs = [cost for cost in costs if cost is not None]
    if known_costs:
        # A step whose cost is not known says so below.
        total += f", {'' if len(known_costs) == len(costs) else 'at least '}{dollars(sum(known_costs, Decimal(0)))}"
    unknown = [step.name for step in todo if step.calls is None]
    if unknown:
        total += f", and those of {', '.join(unknown)}, whose rows are not known yet"
    return f"to run: {len(todo)} of {len(plan.steps)} steps, {total}"
