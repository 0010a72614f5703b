"""Looking at a step: what it did, and its rows, the two sides of a pair beside each other, their differences marked.

Rows come from models and from strangers, so nothing of theirs reaches a terminal as it is: control characters, which
could recolour it, move the cursor or set its title, and marks that turn the direction of text are written out. Texts
are cut to what a person reads; `--json` has all of a row.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from prefkit.columns import COLUMNS
from prefkit.errors import StoreError
from prefkit.manifest import Manifest, Shard
from prefkit.marks import Mark, differing
from prefkit.store import Store

__all__ = [
    "ColumnView",
    "Part",
    "as_json",
    "columns",
    "cut",
    "draw",
    "in_brief",
    "marked_sides",
    "plain",
    "rows",
    "settings",
    "summary",
    "thousands",
    "visible",
]

Part = Literal["kept", "dropped", "failed"]

_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_LONGEST = 1500
"""Characters of one message that are shown: about a screen."""
_ALIKE = 0.25
"""Share of its characters that two texts must have in common for their differences to be marked: below it nearly all
would be, and the marks say nothing."""
_MARKS = {"chosen": ("bold underline green", "{+", "+}"), "rejected": ("bold underline red", "[-", "-]")}
"""Style on a terminal, which shows without colours too; and signs where there are no styles, as `git --word-diff`."""
Turns = Sequence[Mapping[str, str | None]]


class ColumnView(NamedTuple):
    """A column of a step, and what it means if it is a word of the vocabulary."""

    name: str
    type: str
    meaning: str
    unit: str


def visible(text: str) -> str:
    """Return a text with every character that a terminal would obey written out, line breaks and tabs aside."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def as_json(value: object) -> str:
    """Return one line of JSON that may be printed on a terminal."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def thousands(number: int) -> str:
    """Return a number in groups of three digits."""
    return f"{number:,}".replace(",", " ")


def rows(
    store: Store, manifest: Manifest, *, part: Part = "kept", count: int = 3, row_id: str = ""
) -> pa.Table:
    """Return the first rows of a step, or the row with an id. Opens no more shards than it has to."""
    shards: Mapping[Part, Sequence[Shard]] = {
        "kept": manifest.shards,
        "dropped": manifest.dropped,
        "failed": manifest.failed,
    }
    if row_id:
        return _by_id(store, shards[part], row_id)
    found: list[pa.Table] = []
    for shard in shards[part]:
        if count <= 0:
            break
        found.append(store.get(shard).slice(0, min(count, shard.rows)))
        count -= found[-1].num_rows
    return pa.concat_tables(found, promote_options="default") if found else pa.table({})


def _by_id(store: Store, shards: Sequence[Shard], row_id: str) -> pa.Table:
    found: list[pa.Table] = []
    for shard in shards:
        table = store.get(shard)
        if "id" not in table.column_names:
            break
        rows = table.filter(pc.starts_with(table["id"], row_id))
        exact = rows.filter(pc.equal(rows["id"], row_id))
        if exact.num_rows:
            return exact.slice(0, 1)
        found += [rows] if rows.num_rows else []
    if len(found) == 1 and found[0].num_rows == 1:
        return found[0]
    near = [id_ for rows in found for id_ in rows["id"].slice(0, 3).to_pylist()]
    hint = (
        f"several ids begin so: {', '.join(near[:3])}" if near else "`prefkit show` without --id lists rows"
    )
    raise StoreError(f"no row has the id '{visible(row_id)}'", hint=hint)


def columns(manifest: Manifest) -> list[ColumnView]:
    """Return the columns of a step with their meaning."""
    return [_view(name, kind) for name, kind in manifest.columns]


def _view(name: str, kind: str) -> ColumnView:
    known = COLUMNS.get(name)
    if known is not None:
        return ColumnView(name, kind, known.meaning, known.unit)
    side, _, rest = name.partition("_")
    known = COLUMNS.get(rest) if side in ("chosen", "rejected") else None
    return ColumnView(name, kind, f"of {side}: {known.meaning}" if known else "", known.unit if known else "")


def summary(name: str, manifest: Manifest) -> list[str]:
    """Return what a step did in a few lines: settings, the flow of its rows, what it counted."""
    config = settings(manifest.config)
    flow = manifest.rows
    lines = [f"{name} · {manifest.stage} v{manifest.version} · {thousands(flow.kept)} {manifest.level} rows"]
    if config and manifest.kind != "source":
        lines.append(f"settings  {config}")
    gone = [f"{thousands(flow.dropped)} dropped"] if flow.dropped else []
    gone += [f"{thousands(flow.failed)} failed"] if flow.failed else []
    lines.append(
        f"rows      {thousands(flow.read)} read, {', '.join([*gone, f'{thousands(flow.kept)} kept'])}"
    )
    for title, counts in (("dropped", manifest.drops), ("notes", manifest.notes)):
        if counts:
            lines.append(
                f"{title:<9} {', '.join(f'{key} {thousands(count)}' for key, count in counts.items())}"
            )
    return [visible(line) for line in lines]


def settings(config: Mapping[str, Any]) -> str:
    """Return the settings that say something, in one line."""
    said = {key: value for key, value in config.items() if value not in (None, [], {})}
    return ", ".join(f"{key}: {plain(_model_id(value))}" for key, value in said.items())


def _model_id(value: Any) -> Any:
    """Return a model as its name, with its revision where that says something."""
    if not isinstance(value, Mapping) or set(value) != {"id", "revision"}:
        return value
    return value["id"] if value["revision"] == "main" else f"{value['id']}@{value['revision']}"


def draw(table: pa.Table, *, signs: bool = False) -> Iterator[RenderableType]:
    """Yield one drawing per row: conversations as such, pairs side by side, the rest as `name value`.

    With `signs`, what differs between both sides of a pair is marked by signs, for where styles cannot be seen.
    """
    for row in table.to_pylist():
        yield Group(*_draw(row, signs=signs))


def marked_sides(chosen: Turns, rejected: Turns, *, signs: bool = False) -> list[Text]:
    """Return both sides of a pair with the words marked in which they differ, unless little else is left of them."""
    texts = [[(turn["content"] or "")[:_LONGEST] for turn in side] for side in (chosen, rejected)]
    marks = [differing(*both) for both in zip(*texts, strict=False)]
    sides = []
    for at, (name, turns) in enumerate((("chosen", chosen), ("rejected", rejected))):
        found = [each[at] for each in marks] if _are_alike(texts, marks) else []
        sides.append(_conversation(turns, found, _MARKS[name] if signs else (_MARKS[name][0], "", "")))
    return sides


def _are_alike(texts: Sequence[Sequence[str]], marks: Sequence[Sequence[Sequence[Mark]]]) -> bool:
    long = max(sum(map(len, side)) for side in texts)
    marked = max(sum(mark.end - mark.start for each in marks for mark in each[at]) for at in (0, 1))
    return long > 0 and marked <= (1 - _ALIKE) * long


def _draw(row: Mapping[str, Any], *, signs: bool) -> Iterator[RenderableType]:
    conversations = [
        name for name in ("prompt", "response", "chosen", "rejected") if row.get(name) is not None
    ]
    yield Rule(Text(visible(str(row.get("id") or row.get("line") or ""))), align="left", characters="─")
    if "prompt" in conversations:
        yield _conversation(row["prompt"])
    if "response" in conversations:
        yield Text("response", style="bold")
        yield _conversation(row["response"])
    if {"chosen", "rejected"} <= set(conversations):
        yield _sides(row, signs=signs)
    sides = ("chosen", "rejected") if "chosen" in conversations else ()
    shown = {
        *conversations,
        "id",
        *(name for name in row if name.startswith(tuple(f"{side}_" for side in sides))),
    }
    yield _facts({name: value for name, value in row.items() if name not in shown})


def _sides(row: Mapping[str, Any], *, signs: bool) -> Table:
    table = Table(box=None, show_header=True, padding=(0, 2, 0, 0), expand=True)
    table.add_column("chosen", ratio=1, header_style="bold green")
    table.add_column("rejected", ratio=1, header_style="bold red")
    table.add_row(*marked_sides(row["chosen"], row["rejected"], signs=signs))
    table.add_row(_side(row, "chosen_"), _side(row, "rejected_"))
    return table


def _side(row: Mapping[str, Any], prefix: str) -> Text:
    names = [name for name in row if name.startswith(prefix) and name != f"{prefix}id"]
    return _facts({name.removeprefix(prefix): row[name] for name in names})


def _facts(values: Mapping[str, Any]) -> Text:
    """Return `name value` for whatever is there."""
    text = Text()
    for name, value in values.items():
        if value is not None:
            text.append(f"{visible(name)} ", style="dim").append(f"{in_brief(value)}   ")
    return text


def _conversation(
    messages: Turns, marks: Sequence[Sequence[Mark]] = (), style: tuple[str, str, str] = ("", "", "")
) -> Text:
    """Return a conversation, with marks on the turns that have some."""
    text = Text()
    for at, message in enumerate(messages):
        text.append(("\n" if at else "") + visible(message["role"] or "?") + ": ", style="dim")
        content, done = message["content"] or "", 0
        for mark in marks[at] if at < len(marks) else ():
            text.append(visible(content[done : mark.start]))
            text.append(f"{style[1]}{visible(content[mark.start : mark.end])}{style[2]}", style=style[0])
            done = mark.end
        text.append(cut(content[done:], _LONGEST - done))
    return text


def cut(text: str, longest: int = _LONGEST) -> str:
    """Return a text that may be printed, cut to so many characters with a count of those left out."""
    if len(text) <= longest:
        return visible(text)
    return f"{visible(text[:longest])} … {thousands(len(text) - longest)} characters more"


def in_brief(value: object, longest: int = 200) -> str:
    """Return a value in one line."""
    text = visible(plain(value)).replace("\n", "\\n")
    return text if len(text) <= longest else text[: longest - 1] + "…"


def plain(value: object) -> str:
    """Return a value as people read it: numbers to four digits, text as it is, all else as JSON."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)
