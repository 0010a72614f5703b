"""What `show` and `diff` print."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prefkit.cli.out import print_json, show, table
from prefkit.errors import PrefkitError
from prefkit.manifest import Manifest
from prefkit.show import Part, draw, summary, thousands, visible
from prefkit.show import columns as columns_of
from prefkit.show import rows as rows_of
from prefkit.store import Store

if TYPE_CHECKING:
    from prefkit.diff import Difference

__all__ = ["columns", "diff", "part_of", "rows", "runs"]


def runs(store: Store, *, as_json: bool) -> None:
    """List every step of every run."""
    found = [(ref, store.manifest(ref)) for run in store.runs() for ref in store.refs(run)]
    if as_json:
        for ref, manifest in found:
            print_json(
                {
                    "run": ref.run,
                    "step": ref.step,
                    "level": manifest.level,
                    "rows": manifest.rows.model_dump(),
                    "made": manifest.made.at,
                }
            )
        return
    if not found:
        raise PrefkitError("no run is here yet", where=str(store.root), hint="prefkit build recipe.yaml")
    shown = table("step", "rows", "level", "dropped", "failed", "made")
    for ref, manifest in found:
        flow = manifest.rows
        gone = (
            thousands(flow.dropped) if flow.dropped else "",
            thousands(flow.failed) if flow.failed else "",
        )
        shown.add_row(f"{ref.run}/{ref.step}", thousands(flow.kept), manifest.level, *gone, manifest.made.at)
    show(shown)


def columns(manifest: Manifest, *, as_json: bool) -> None:
    """Print the columns of a step and what they mean."""
    found = columns_of(manifest)
    if as_json:
        for column in found:
            print_json(column._asdict())
        return
    shown = table("column", "type", "meaning", wraps=("type", "meaning"))
    for column in found:
        unit = f", {column.unit}" if column.unit else ""
        shown.add_row(visible(column.name), visible(column.type), visible(column.meaning + unit))
    show(shown)


def part_of(*, dropped: bool, failed: bool) -> Part:
    """Return which rows the flags ask for."""
    if dropped and failed:
        raise PrefkitError("--dropped and --failed are two questions", hint="give one of them")
    return "dropped" if dropped else "failed" if failed else "kept"


def rows(store: Store, step: str, part: Part, count: int, row_id: str, *, as_json: bool) -> None:
    """Print rows of a step, after what the step did."""
    manifest = store.resolve(step)
    found = rows_of(store, manifest, part=part, count=count, row_id=row_id)
    if as_json:
        for row in found.to_pylist():
            print_json(row)
        return
    show(*summary(step, manifest), *draw(found))
    if not found.num_rows and count and part != "kept":
        show(f"no rows {part}")


def diff(store: Store, before: str, after: str, *, as_json: bool) -> None:
    """Print what changed from one step to another; nothing if nothing did."""
    from prefkit.diff import compare

    found = compare(store, store.resolve(before), store.resolve(after))
    if as_json:
        print_json(_as_data(found))
        return
    for line in _lines(found):
        show(visible(line))


def _as_data(found: "Difference") -> dict[str, object]:
    return {
        "settings": [change._asdict() for change in found.settings],
        "columns": [change._asdict() for change in found.columns],
        "rows": dict(zip(("only_before", "in_both", "only_after"), found.rows, strict=True)),
        "flipped": found.flipped,
        "values": dict(found.values),
        "reordered": found.reordered,
    }


def _lines(found: "Difference") -> Iterator[str]:
    for kind, changes in (("setting", found.settings), ("column", found.columns)):
        for change in changes:
            yield f"{kind:<8} {change.name}: {_value(change.before)} -> {_value(change.after)}"
    gone, both, new = found.rows
    if gone or new:
        yield f"rows     {thousands(gone)} gone, {thousands(new)} new, {thousands(both)} in both"
    if found.flipped:
        yield f"labels   {thousands(found.flipped)} flipped"
    for name, count in found.values.items():
        yield f"values   {name}: {thousands(count)} of {thousands(both - found.flipped)} rows"
    if found.reordered:
        yield "order    rows in both come in another order"


def _value(value: object) -> str:
    return (
        "nothing"
        if value is None
        else value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False)
    )
