"""The page of a build: what a person sees who opens one file, from the minute's answer to a single row.

It is made of the facts in the manifests, of charts of the rows, and of the rows themselves, kept and dropped.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from prefkit.card import SECTIONS, limits, origin, quality
from prefkit.card.facts import Facts, collect
from prefkit.card.markdown import code, number
from prefkit.gates.rules import RULES
from prefkit.page.doubts import unanimous
from prefkit.page.flow import stretches
from prefkit.page.groups import groups
from prefkit.page.opening import opening
from prefkit.page.rows import About, Embedded, embed, sampled, spread
from prefkit.page.run import Logged, logged
from prefkit.page.shell import BROWSER, render_page, write
from prefkit.page.words import Glossary
from prefkit.stage import level_of
from prefkit.store import Store

__all__ = ["DROPPED", "page", "write_report"]

DROPPED = 2_000
"""Dropped rows of one level in the page, at most."""
STILL = 3
"""Rows that are there without a script, and on paper."""
_NOTHING = Logged()
_CUT = 1_500
"""Characters of one of their messages."""


def write_report(store: Store, run: str, out: Path) -> Path:
    """Write the page of a run (`run` or `run/05-pair`) and return its path: `out`, or `report.html` in that folder.

    Raises: StoreError if there is no such run or its rows are gone; PrefkitError if the page cannot be written.
    """
    facts = collect(store, run)
    dropped = [
        (
            step.name,
            pa.concat_tables(
                [store.get(shard) for shard in step.manifest.dropped], promote_options="default"
            ),
        )
        for step in facts.steps
        if step.manifest.dropped
    ]
    path = out if out.suffix == ".html" else out / "report.html"
    return write(path, page(facts, store.table(facts.last), dropped, logged(store, facts.report)))


def page(
    facts: Facts, table: pa.Table, dropped: Sequence[tuple[str, pa.Table]] = (), known: Logged = _NOTHING
) -> str:
    """Return the page of a build from its facts, its rows, and the rows that each step dropped."""
    meant = quality.margin_of(facts)
    sets = list(_sets(table, dropped, {"margin": meant} if meant else {}))
    values = {
        "facts": facts,
        "told": _told(facts),
        "opening": opening(facts, unanimous(table)),
        "flow": stretches(facts),
        "groups": list(groups(facts, table, known)),
        "checks": limits.check(facts),
        "looks": _LOOKS,
        "rules": {name: rule.meaning for name, rule in RULES.items()},
        "glossary": Glossary(meant),
        "limits": limits.limits(facts),
        "card": list(_card(facts)),
        "samples": list(_samples(table)),
        "sets": [each.name for each in sets],
        "total": sum(each.rows for each in sets),
    }
    return render_page(BROWSER, values, [block for each in sets for block in each.blocks])


_TOLD_ELSEWHERE = {"Flow of rows", "Training run", "Checks", "Known limits"}
"""Sections of the card that have a place of their own on the page."""


def _card(facts: Facts) -> Iterator[tuple[str, str]]:
    for title, write_section in SECTIONS:
        if title in _TOLD_ELSEWHERE:
            continue
        body = write_section(facts)
        if title == "Models":
            body = "\n\n".join(filter(None, [body, *_unanswered(facts)]))
        if body:
            yield title, body


def _unanswered(facts: Facts) -> Iterator[str]:
    """Say what became of the rows whose requests a model could not answer: dropped and counted, or failed."""
    for step in facts.steps:
        manifest = step.manifest
        failed = sum(used.failed for used in manifest.made.models.values())
        if failed:
            reasons = ", ".join(f"{n:,} were dropped as {code(name)}" for name, n in manifest.drops.items())
            rows = f"of its {manifest.rows.read:,} rows {reasons or 'none was dropped'}; {manifest.rows.failed:,} count as failed"
            yield f"At {code(step.name)}, {failed:,} requests got no answer; {rows}. A row may need several answers."


_LOOKS: Mapping[str, str] = {
    "longer-chosen": "#?set=kept&sort=length_gap&order=descending",
    "length-auc": "#?set=kept&sort=length_gap&order=descending",
    "reversed-labels": "#?set=kept&max.p_chosen=0.5&is.tie=no",
    "tie-rate": "#?set=kept&is.tie=yes",
    "agreement": "#?set=kept&is.raters_disagree=yes",
}
"""Rows to look at where a check fails."""


def _told(facts: Facts) -> Mapping[str, str]:
    """Return the licence, the language and the sources as the recipe says them. Markdown."""
    licence, language = facts.recipe.get("license"), facts.recipe.get("language")
    spoken = language if isinstance(language, list) else [language] if language else []
    named = [origin.name_of(source) for source in facts.sources()]
    return {
        "licence": f"Licence {code(licence)}" if licence else "Licence not recorded",
        "language": f"Language {', '.join(code(each) for each in spoken)}"
        if spoken
        else "Language not recorded",
        "source": f"From {', '.join(named)}" if named else "Source not recorded",
    }


# rows


def _sets(
    table: pa.Table, dropped: Sequence[tuple[str, pa.Table]], meanings: Mapping[str, str]
) -> Iterator[Embedded]:
    noun = level_of(table.schema)
    yield embed(About("kept", "kept", noun, meanings=meanings), table)
    by_level: dict[str, list[pa.Table]] = {}
    for step, gone in dropped:
        named = gone.add_column(0, "dropped_at", pa.array([step] * gone.num_rows, pa.string()))
        by_level.setdefault(level_of(gone.schema), []).append(named)
    for level, tables in by_level.items():
        total = sum(each.num_rows for each in tables)
        whole = pa.concat_tables(sampled(tables, DROPPED, level), promote_options="permissive")
        about = About(f"dropped-{level}", f"dropped {level}s", level, meanings=meanings)
        yield embed(about, whole, total=total)


def _samples(table: pa.Table) -> Iterator[Mapping[str, Any]]:
    names = ("id", "prompt", "chosen", "rejected", "response", *_FACTS)
    shown = table.select([name for name in names if name in table.column_names])
    for row in shown.take(spread(table.num_rows, STILL, "still")).to_pylist():
        sides = ("chosen", "rejected", "response")
        yield {
            "id": row.get("id", ""),
            "facts": {name: _plain(row[name]) for name in _FACTS if row.get(name) is not None},
            "prompt": [_turn(turn) for turn in row.get("prompt") or ()],
            "sides": {side: [_turn(turn) for turn in row[side] or ()] for side in sides if side in row},
        }


_FACTS = (
    "margin",
    "score",
    "chosen_score",
    "rejected_score",
    "p_chosen",
    "flip_prob",
    "tie",
    "split",
    "source",
)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(float(value)) if isinstance(value, int | float) else str(value)


def _turn(turn: Mapping[str, str | None]) -> Mapping[str, Any]:
    content = turn["content"] or ""
    return {"role": turn["role"] or "", "content": content[:_CUT], "more": max(0, len(content) - _CUT)}
