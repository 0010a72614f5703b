"""Where the rows come from and what became of them: sources, flow, columns."""

from collections.abc import Mapping
from typing import Any

from prefkit.card.analysis import is_of_analysis
from prefkit.card.facts import Facts, Step
from prefkit.card.judges import is_of_judges
from prefkit.card.markdown import code, count, mean, public_tree, rate, spread_table, table, text
from prefkit.columns import COLUMNS
from prefkit.statistics import Summary
from prefkit.statistics.figures import Share

__all__ = ["columns", "flow", "name_of", "opening", "sources"]


def opening(facts: Facts) -> str:
    """Say what the dataset is, in a paragraph."""
    found, made = facts.summary, facts.last.made
    what = {"pair": "preference pairs", "response": "responses", "prompt": "prompts"}[found.level]
    splits = ", ".join(f"{count(split.rows)} in {code(split.name or 'no split')}" for split in found.splits)
    prompts = "" if found.prompts is None else f" on {count(found.prompts)} prompts"
    what = f"{count(found.rows)} {what}{prompts}{f' ({splits})' if splits else ''}"
    paragraphs = (
        f"# {text(facts.run)}",
        f"{what}, made with prefkit {text(made.prefkit)} by the recipe below. {_ROW[found.level]}",
        _HOW,
        f"Made at: {text(made.at) or 'unknown'} (UTC)",
    )
    return "\n\n".join(paragraphs)


_HOW = (
    "This card is written from the manifests of the build: every figure was counted when its step was made."
    " Shares and means carry the number of values behind them; those that say something of rows to come carry a 95 %"
    " interval (Wilson for shares, normal for means) that takes rows of one prompt together."
)
_ROW = {
    "pair": "A row is a prompt with a `chosen` and a `rejected` response, as messages: the explicit conversational"
    " form that preference trainers read.",
    "response": "A row is one response to a prompt.",
    "prompt": "A row is one prompt.",
}


def sources(facts: Facts) -> str:
    """List the sources with their revision, and how many rows each gave."""
    manifest = facts.steps[0].manifest
    given = Summary.model_validate(manifest.statistics).sources if manifest.statistics else None
    rows = {each.name: each.rows for each in given.top} if given else {}
    cells = []
    for settings in facts.sources():
        place = next((key for key in ("hub", "file", "ref") if settings.get(key)), "file")
        label = settings.get("name") or ""
        cells.append(
            (
                place,
                _places(settings, place),
                code(settings.get("revision")),
                code(_part(settings)),
                code(label or None),
            )
        )
    lines = [table(("kind", "source", "revision", "part", "named"), cells)]
    if rows:
        lines.append(
            table(("rows are called", "rows:"), [(code(name), count(n)) for name, n in rows.items()])
        )
    lines.append(f"Digest of the rows as they were read: {code(manifest.digest)}")
    return "\n\n".join(lines)


def name_of(settings: Mapping[str, Any]) -> str:
    """Return a source as one calls it: its name, and where it was read. Markdown."""
    place = next((key for key in ("hub", "file", "ref") if settings.get(key)), "file")
    where, name = _places(settings, place), settings.get("name")
    return f"{code(name)} ({where})" if name else where


def _places(settings: Mapping[str, Any], key: str) -> str:
    place = public_tree({key: settings.get(key)})[key]
    return ", ".join(code(each) for each in (place if isinstance(place, list) else [place]))


def _part(settings: Mapping[str, Any]) -> str | None:
    parts = [f"{key} {settings[key]}" for key in ("config", "split", "take") if settings.get(key)]
    return ", ".join(parts) or None


def flow(facts: Facts) -> str:
    """Show how many rows went into each step, how many came out, and why the others did not."""
    rows = [_flow_row(step) for step in facts.steps]
    notes = [
        (code(step.name), code(name), count(n))
        for step in facts.steps
        for name, n in step.manifest.notes.items()
        if not is_of_judges(name) and not is_of_analysis(name)
    ]
    head = ("step", "rows are", "read:", "kept:", "dropped:", "failed:", "dropped because")
    lines = [table(head, rows)]
    if notes:
        lines += ["What the steps counted besides:", table(("step", "what", "rows:"), notes)]
    return "\n\n".join(lines)


def _flow_row(step: Step) -> tuple[str, ...]:
    found, rows = step.manifest, step.manifest.rows
    reasons = sorted(found.drops.items(), key=lambda pair: (-pair[1], pair[0]))
    because = "; ".join(f"{code(reason)} {rate(Share(count=n, n=rows.read))}" for reason, n in reasons)
    figures = (count(figure) for figure in (rows.read, rows.kept, rows.dropped, rows.failed))
    return (code(step.name), f"{found.level}s", *figures, because or "–")


def columns(facts: Facts) -> str:
    """List the columns with their meaning."""
    rows = []
    for name, kind in facts.last.columns:
        known = COLUMNS.get(name)
        meaning = known.meaning if known else _derived(name)
        unit = f", in {known.unit}" if known and known.unit and not known.unit.startswith("[") else ""
        rows.append((code(name), code(kind), f"{meaning}{unit}".replace("|", "\\|")))
    return table(("column", "type", "meaning"), rows)


def _derived(name: str) -> str:
    for side in ("chosen", "rejected"):
        base = name.removeprefix(f"{side}_")
        if base != name and base in COLUMNS:
            return f"of the {side} response: {COLUMNS[base].meaning}"
        if base != name:
            return f"of the {side} response: {code(base)}"
    return "carried along from the source"


def prompts(facts: Facts) -> str:
    """Describe the prompts."""
    found = facts.summary
    lines = [
        spread_table(
            [
                ("characters of the prompt", found.prompt_chars),
                ("messages of the prompt", found.turns),
                ("rows of a prompt", found.per_prompt),
            ]
        )
    ]
    if found.tools is not None:
        lines.append(f"Rows that offer tools: {rate(found.tools)}")
    if found.responses is not None and found.responses.tokens is not None:
        lines.append(f"Tokens of a response, as its sampler counted them: {mean(found.responses.tokens)}")
    return "\n\n".join(line for line in lines if line)
