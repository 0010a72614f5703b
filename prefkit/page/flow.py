"""The flow of rows: what became of them at each step, in stretches in which a row stays what it is.

A prompt becomes several responses and a response may end in several pairs, so numbers of rows compare only within a
stretch: its bars share one scale, and between stretches stands how many rows became how many.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import quote, urlencode

from prefkit.card.facts import Facts, Step
from prefkit.card.markdown import code
from prefkit.errors import PrefkitError
from prefkit.parts import STAGES

__all__ = ["Loss", "Reason", "Refused", "Stop", "Stretch", "losses", "pairing", "stretches"]


class Reason(NamedTuple):
    """Why rows were dropped at a step."""

    name: str
    rows: int
    share: float
    """Of the rows that the step read, in per cent."""
    meaning: str
    """What it means under the settings of the step; empty where there is nothing to add."""
    link: str
    """Shows the rows in the browser of the page."""


class Stop(NamedTuple):
    """One step. Widths are in per cent of the widest step of its stretch."""

    name: str
    does: str
    """What its stage does, in a sentence; empty for a stage that is not installed here."""
    settings: str
    was: str
    """What a row was when it was read."""
    read: int
    kept: int
    dropped: int
    failed: int
    reasons: tuple[Reason, ...]
    notes: Mapping[str, int]
    kept_width: float
    gone_width: float


class Stretch(NamedTuple):
    """Steps between which a row stays a prompt, a response or a pair."""

    level: str
    came: int
    """Rows as the stretch begins."""
    stayed: int
    """Rows as it ends."""
    stops: tuple[Stop, ...]


class Loss(NamedTuple):
    """Rows lost at one step for one reason."""

    step: str
    level: str
    """What a row was when it was lost."""
    reason: str
    rows: int
    read: int
    meaning: str = ""


class Refused(NamedTuple):
    """Pairs that were proposed and not made, for one reason."""

    pairs: int
    why: str
    """Markdown."""


def stretches(facts: Facts) -> list[Stretch]:
    """Return the flow of rows up to the step that is described."""
    groups: list[list[Step]] = []
    for step in facts.steps:
        if not groups or groups[-1][-1].manifest.level != step.manifest.level:
            groups.append([])
        groups[-1].append(step)
    levels = [group[0].manifest.level for group in groups]
    return [_stretch(group, before) for group, before in zip(groups, [*levels[:1], *levels], strict=False)]


def losses(facts: Facts) -> list[Loss]:
    """Return what was lost by step and reason, the largest first; failures count as a reason."""
    found = [loss for at, step in enumerate(facts.steps) for loss in _of_step(facts, at, step)]
    return sorted(found, key=lambda loss: (-loss.rows, loss.step, loss.reason))


def _of_step(facts: Facts, at: int, step: Step) -> Iterator[Loss]:
    rows, short = step.manifest.rows, _short(step.name)
    level = facts.steps[max(0, at - 1)].manifest.level
    for reason, count in step.manifest.drops.items():
        yield Loss(short, level, reason, count, rows.read, _meaning(step, reason))
    if rows.failed:
        yield Loss(short, level, "failed", rows.failed, rows.read)


def pairing(facts: Facts) -> Iterator[Refused]:
    """Yield why pairs that were proposed were not made, by the notes of the `pair` steps, the most frequent first."""
    for step in facts.steps:
        notes = step.manifest.notes
        found = {name.removeprefix(_UNMADE): n for name, n in notes.items() if name.startswith(_UNMADE) and n}
        for reason, count in sorted(found.items(), key=lambda item: (-item[1], item[0])):
            most = step.manifest.config.get("max_pairs")
            why = f"more than `max_pairs: {most}` of a prompt" if reason == "over-limit" else code(reason)
            yield Refused(count, why)


_UNMADE, _WITHOUT = "pair/pairs-", "pair/"


def _meaning(step: Step, reason: str) -> str:
    """Say for what a row was too long, by the settings of the step. Markdown."""
    config = step.manifest.config
    model, most = config.get("model"), config.get("max_chars")
    if reason != "too-long":
        return ""
    if isinstance(model, dict):
        return f"a side is longer than {code(model.get('id'))} reads"
    return "" if most is None else f"longer than `max_chars: {most}`"


def _link(step: Step, level: str, reason: str) -> str:
    asked = {"set": f"dropped-{level}", "is.dropped_at": step.name, "is.drop_reason": reason}
    return f"#?{urlencode(asked, quote_via=quote)}"


def _note(name: str) -> str:
    """Return a note as a reader takes it: pairs and prompts that were counted are not rows."""
    if name.startswith(_UNMADE):
        return f"pairs not made: {name.removeprefix(_UNMADE)}"
    return f"prompts without a pair: {name.removeprefix(_WITHOUT)}" if name.startswith(_WITHOUT) else name


def _stretch(steps: list[Step], before: str) -> Stretch:
    """Return a stretch; `before` is what a row was when the first of its steps read it."""
    first = steps[0].manifest.rows
    came = first.read if steps[0].manifest.kind == "source" else first.kept
    widest = max(1, came, *(step.manifest.rows.kept for step in steps))
    stops = tuple(
        _stop(step, widest, steps[0].manifest.level if at else before) for at, step in enumerate(steps)
    )
    return Stretch(steps[0].manifest.level, came, steps[-1].manifest.rows.kept, stops)


def _stop(step: Step, widest: int, level: str) -> Stop:
    """Return a step; `level` is what a row was when it was read."""
    manifest, rows = step.manifest, step.manifest.rows
    # Where rows become something else, those dropped are not of the kind that the bar counts.
    gone = 0 if level != manifest.level else rows.dropped + rows.failed
    found = sorted(manifest.drops.items(), key=lambda item: (-item[1], item[0]))
    return Stop(
        name=_short(step.name),
        does=_does(manifest.stage) if manifest.kind != "source" else "Read the rows of the sources.",
        settings=_settings(manifest.config) if manifest.kind != "source" else "",
        was=level,
        read=rows.read,
        kept=rows.kept,
        dropped=rows.dropped,
        failed=rows.failed,
        reasons=tuple(
            Reason(name, n, 100 * n / max(1, rows.read), _meaning(step, name), _link(step, level, name))
            for name, n in found
        ),
        notes={_note(name): count for name, count in manifest.notes.items() if name.count("/") < 2},
        kept_width=100 * rows.kept / widest,
        gone_width=min(100 * gone / widest, 100 - 100 * rows.kept / widest),
    )


def _short(step: str) -> str:
    return step.partition("-")[2] or step


def _settings(config: Mapping[str, object]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in config.items() if value not in (None, [], {}, ""))


def _does(stage: str) -> str:
    try:
        told = STAGES.get(stage).__doc__ or ""
    except (PrefkitError, ImportError):
        return ""
    return " ".join(told.partition("\n\n")[0].split())
