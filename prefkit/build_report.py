"""The report of a build: one page with the flow of rows, how scores and lengths lie, and pairs to read.

A single HTML file that asks for nothing: styles and drawings are in it, and it forbids its own scripts and requests,
since prompts and responses are text from anywhere. Figures come from the manifests; rows are read only for samples.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from prefkit.build_report_drawings import HEIGHT, WIDTH, Drawing, curve, drawings
from prefkit.card.facts import Facts, collect
from prefkit.card.limits import check
from prefkit.card.markdown import number, text
from prefkit.disk import replace_text
from prefkit.errors import PrefkitError
from prefkit.show import visible
from prefkit.store import Store
from prefkit.train.report import Change, Report

__all__ = ["write_report"]

SAMPLES = 50
LONGEST = 1_500
"""Characters of one message that are shown."""


def write_report(store: Store, run: str, out: Path) -> Path:
    """Write the report of a run (`run` or `run/05-pair`) and return its path: `out`, or `report.html` in that folder.

    Raises: StoreError if there is no such run or its rows are gone; PrefkitError if the page cannot be written.
    """
    facts = collect(store, run)
    page = _render(facts, list(_samples(store.table(facts.last))))
    path = out if out.suffix == ".html" else out / "report.html"
    try:
        replace_text(path, page)
    except OSError as error:
        what = f"the report cannot be written: {error.strerror or error}"
        raise PrefkitError(what, where=str(path), hint="give another place, or free space") from error
    return path


def _render(facts: Facts, samples: Sequence[Mapping[str, Any]]) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "text": text}
    source = Path(__file__).with_name("build_report.html").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        facts=facts,
        steps=list(_flow(facts)),
        checks=[each._asdict() for each in check(facts)],
        drawings=list(drawings(facts.summary)),
        samples=samples,
        training=None if facts.report is None else _training(facts.report),
        width=WIDTH,
        height=HEIGHT,
    )


class Bar(NamedTuple):
    """One step in the flow of rows; widths in per cent of the widest step."""

    name: str
    level: str
    kept: int
    dropped: int
    failed: int
    reasons: Mapping[str, int]
    kept_width: float
    dropped_width: float


def _flow(facts: Facts) -> Iterator[Bar]:
    widest = max([1, *(each.manifest.rows.kept + each.manifest.rows.dropped for each in facts.steps)])
    for name, manifest in facts.steps:
        rows = manifest.rows
        reasons = dict(sorted(manifest.drops.items(), key=lambda item: (-item[1], item[0])))
        widths = (100 * rows.kept / widest, 100 * rows.dropped / widest)
        yield Bar(name, manifest.level, rows.kept, rows.dropped, rows.failed, reasons, *widths)


# training


class Training(NamedTuple):
    """What a training run showed."""

    report: Report
    curve: Drawing | None
    changes: Mapping[str, Change]


def _training(report: Report) -> Training:
    changes: dict[str, Change] = {}
    if report.held_out is not None:
        held = report.held_out
        changes |= {
            "held-out accuracy": held.accuracy,
            "held-out loss": held.loss,
            "reward margin": held.reward_margin,
        }
        changes |= {
            "log-prob of chosen, nats": held.chosen_logp,
            "log-prob of rejected, nats": held.rejected_logp,
        }
    if report.samples is not None:
        if report.samples.score is not None:
            changes["score of fresh samples"] = report.samples.score
        changes["characters of fresh samples"] = report.samples.chars
    return Training(report, curve(report.curve), changes)


# samples


def _samples(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield rows spread evenly over the table, texts cut to what a person reads."""
    at: np.ndarray = np.unique(np.linspace(0, table.num_rows, SAMPLES, endpoint=False).astype(np.int64))
    at = at[at < table.num_rows]
    shown = [name for name in table.column_names if name != "votes"]
    for row in table.select(shown).take(pa.array(at, pa.int64())).to_pylist():
        sides = {
            name: [_turn(turn) for turn in row.get(name) or ()] for name in ("chosen", "rejected", "response")
        }
        yield {
            "id": row["id"],
            "prompt": [_turn(turn) for turn in row.get("prompt") or ()],
            "sides": {name: turns for name, turns in sides.items() if name in row},
            "notes": {name: _plain(row[name]) for name in _NOTES if row.get(name) is not None},
            "of_side": {name: _of_side(row, name) for name in sides if name in row},
        }


_NOTES = ("source", "split", "margin", "p_chosen", "tie", "flip_prob", "phase", "rank")


def _of_side(row: Mapping[str, Any], side: str) -> dict[str, str]:
    stem = "" if side == "response" else f"{side}_"
    names = {"score": f"{stem}score", "model": f"{stem}model", "origin": f"{stem}origin"}
    return {name: _plain(row[column]) for name, column in names.items() if row.get(column) is not None}


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(float(value)) if isinstance(value, int | float) else text(value)


def _turn(turn: Mapping[str, str | None]) -> dict[str, Any]:
    content = turn["content"] or ""
    shown = visible(content[:LONGEST])
    return {"role": text(turn["role"] or ""), "content": shown, "more": max(0, len(content) - LONGEST)}
