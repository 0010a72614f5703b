"""What `show` and `why` print; `prefkit.cli.changes` has what `diff` does."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from prefkit.cli.out import has_styles, print_json, show, table
from prefkit.cli.paging import page
from prefkit.errors import PrefkitError
from prefkit.manifest import Manifest
from prefkit.show import Part, draw, summary, thousands, visible
from prefkit.show import columns as columns_of
from prefkit.show import rows as rows_of
from prefkit.store import Store

if TYPE_CHECKING:
    from prefkit.engines.spend import Price

__all__ = ["columns", "part_of", "rows", "runs", "why"]


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
        raise PrefkitError("no run is here yet", where=store.shown, hint="prefkit build recipe.yaml")
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
    shown = [*summary(step, manifest), *draw(found, signs=not has_styles())]
    if not found.num_rows and count and part != "kept":
        shown.append(f"no rows {part}")
    page([*shown, *(_history(store, step, found["id"][0].as_py()) if row_id else ())])


def _history(store: Store, step: str, row_id: str) -> Iterator[RenderableType]:
    """Yield what became of a row in each step up to this one."""
    from prefkit.cli.lives import history
    from prefkit.why import biography

    life = biography(store, step, row_id, calls=False)
    yield Text("history", style="bold")
    yield from history(life)
    yield f"with its model calls: prefkit why {visible(life.run)} {visible(row_id[:12])}"


def why(store: Store, run: str, row: str, price: Sequence[str], price_file: str, *, as_json: bool) -> None:
    """Print the life of a row."""
    from prefkit.cli.lives import draw_life
    from prefkit.why import as_data, biography

    life = biography(store, run, row, prices=_prices(store, run, price, price_file))
    if as_json:
        print_json(as_data(life))
    else:
        page(draw_life(life))


def _prices(store: Store, run: str, price: Sequence[str], price_file: str) -> dict[str, "Price"]:
    from prefkit.cli.purse import Purse
    from prefkit.engines import Model

    if not price and not price_file:
        return {}
    models = store.recipe(run.partition("/")[0]).get("models") or {}
    known = {name: Model.model_validate(model) for name, model in models.items()}
    return Purse(tuple(price), price_file).priced(known)
