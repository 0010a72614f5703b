"""What `diff` prints: between two runs how they were made, step by step, and then what became of the rows."""

from collections.abc import Iterator, Mapping

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from prefkit.cli.out import print_json, table
from prefkit.cli.paging import page
from prefkit.diff import Change, Difference, RunsDifference, StepDifference, compare, compare_runs
from prefkit.show import in_brief, thousands, visible
from prefkit.store import Store

__all__ = ["diff"]

_TEXT = 100
_VALUE = 60
_DIGITS = 12


def diff(store: Store, before: str, after: str, count: int, *, as_json: bool) -> None:
    """Print what changed from one step or run to another, with so many rows of each kind; nothing if nothing did."""
    one, other = store.resolve(before), store.resolve(after)
    found = compare(store, one, other, examples=None if as_json else count)
    is_of_runs = "/" not in before and "/" not in after
    runs = compare_runs(store, before, after) if is_of_runs else None
    if as_json:
        print_json({**_as_data(found), **({} if runs is None else _runs_as_data(runs))})
        return
    page([*(_runs(runs) if runs is not None else ()), *_parts(found)])


def _as_data(found: Difference) -> dict[str, object]:
    return {
        "settings": [change._asdict() for change in found.settings],
        "columns": [change._asdict() for change in found.columns],
        "rows": dict(zip(("only_before", "in_both", "only_after"), found.rows, strict=True)),
        "flipped": found.flipped,
        "values": dict(found.values),
        "reordered": found.reordered,
        "flips": [flip._asdict() for flip in found.flips],
        "gone": found.gone,
        "new": found.new,
        "examples": {name: [one._asdict() for one in each] for name, each in found.examples.items()},
    }


def _runs_as_data(found: RunsDifference) -> dict[str, object]:
    steps = [
        {**step._asdict(), "settings": [each._asdict() for each in step.settings]} for step in found.steps
    ]
    return {"recipe": [change._asdict() for change in found.recipe], "steps": steps}


def _runs(found: RunsDifference) -> Iterator[RenderableType]:
    for change in found.recipe:
        yield f"recipe   {_change(change)}"
    if all(step.state == "same" for step in found.steps):
        return
    shown = table("step", "", "rows", "dropped", "settings", wraps=("settings",))
    for step in found.steps:
        name = step.after or step.before or ""
        if step.before and step.after and step.before != step.after:
            name = f"{step.before} -> {step.after}"
        said = "; ".join(_change(change) for change in step.settings)
        state = Text(_state(step), style="dim" if step.state == "same" else "bold")
        shown.add_row(visible(name), state, _counts(step.rows), _counts(step.dropped), Text(said))
    yield shown


def _state(step: StepDifference) -> str:
    return "other rows" if step.state == "changed" and not step.settings else step.state


def _counts(both: tuple[int | None, int | None]) -> str:
    one, other = ("" if count is None else thousands(count) for count in both)
    return one if one == other else f"{one or '-'} -> {other or '-'}"


def _parts(found: Difference) -> Iterator[RenderableType]:
    for kind, changes in (("setting", found.settings), ("column", found.columns)):
        for change in changes:
            yield f"{kind:<8} {_change(change)}"
    gone, both, new = found.rows
    if gone or new:
        yield f"rows     {thousands(gone)} gone, {thousands(new)} new, {thousands(both)} in both"
        yield from _ids("gone", found.gone, gone)
        yield from _ids("new", found.new, new)
    if found.flipped:
        yield f"labels   {thousands(found.flipped)} flipped"
        yield from _flips(found)
    yield from _values(found.values, found, both - found.flipped)
    if found.reordered:
        yield "order    rows in both come in another order"


def _ids(word: str, ids: tuple[str, ...], count: int) -> Iterator[str]:
    if ids:
        more = f" and {thousands(count - len(ids))} more" if count > len(ids) else ""
        yield f"  {word:<6} {', '.join(visible(one) for one in ids)}{more}"


def _flips(found: Difference) -> Iterator[RenderableType]:
    for flip in found.flips:
        text = Text(f"{visible(flip.id[:_DIGITS])}  ", style="bold").append(
            in_brief(flip.prompt, _TEXT), style="not bold"
        )
        text.append("\n  was chosen  ", style="not bold red").append(
            in_brief(flip.was_chosen, _TEXT), style="not bold"
        )
        text.append("\n  now chosen  ", style="not bold green").append(
            in_brief(flip.now_chosen, _TEXT), style="not bold"
        )
        yield Padding(text, (0, 0, 0, 2))


def _values(values: Mapping[str, int], found: Difference, rows: int) -> Iterator[str]:
    for name, count in values.items():
        yield f"values   {visible(name)}: {thousands(count)} of {thousands(rows)} rows"
        for one in found.examples.get(name, ()):
            yield f"  {visible(one.id[:_DIGITS])}  {_brief(one.before)} -> {_brief(one.after)}"


def _change(change: Change) -> str:
    return f"{visible(change.name)}: {_brief(change.before)} -> {_brief(change.after)}"


def _brief(value: object) -> str:
    return "nothing" if value is None else in_brief(value, _VALUE)
