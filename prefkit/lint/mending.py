"""Mending: a repaired copy of the pairs, and row by row what was done.

Only what has one right answer is mended: marks that a chat template writes itself are taken out of the texts, and
formatting that one side alone has is taken from it. A pair that is then the same on both sides, or whose turns no
template can write, is dropped. Everything else is left to whoever knows what was meant.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from prefkit.columns import MESSAGES
from prefkit.engines import Message
from prefkit.export_folder import fresh_folder
from prefkit.lint.on_turns import order_fault, repeats_text, repeats_turns
from prefkit.lint.patterns import EMPTY_THINK, SPACE, end_of
from prefkit.lint.reading import Read
from prefkit.lint.subject import Subject, look
from prefkit.tables import put

__all__ = ["Mended", "mend", "write"]

_SAME = ("same-tokens", "same-tokens-after-cut")
_OF_THE_TEXT = re.compile(r"ref_.*|.*_spans|.*teacher.*|rejected_advantage")
"""Columns that count characters or tokens: they are void where the text has changed."""

Turns = tuple[Message, ...]


class Mended(NamedTuple):
    """The copy, and what was done."""

    table: pa.Table
    log: list[dict[str, Any]]
    """One entry for each row that was changed or dropped: `id`, `action` and `why`."""

    @property
    def counts(self) -> tuple[int, int]:
        """Return how many rows were changed, and how many were dropped."""
        dropped = sum(entry["action"] == "dropped" for entry in self.log)
        return len(self.log) - dropped, dropped


class _Texts(NamedTuple):
    prompt: Turns
    chosen: Turns
    rejected: Turns


_Fix = Callable[[_Texts], _Texts]


def mend(subject: Subject, read: Read) -> Mended:
    """Mend what can be mended and drop what must be."""
    fixes, pairs = _fixes(subject), zip(*subject.said.values(), strict=True)
    mended = [_applied(fixes, _Texts(one.prompt, one.response, other.response)) for one, other in pairs]
    changed = np.array([bool(done) for _, done in mended], dtype=bool)
    table = _with_texts(read.table, [texts for texts, _ in mended], changed)
    drops = dict.fromkeys(np.flatnonzero(subject.because(*_SAME) & ~changed).tolist(), "same tokens")
    again = np.flatnonzero(changed).tolist()
    if again:
        anew = look(table.take(again), subject.tokenizer, subject.limit, subject.truncate)
        drops |= {again[row]: "same tokens" for row in np.flatnonzero(anew.because(*_SAME)).tolist()}
    log = [_entry(place, "dropped", f"unreadable: {reason}") for place, reason in read.unreadable]
    for row, (place, (texts, done)) in enumerate(zip(read.ids, mended, strict=True)):
        drop = _void(texts, changed=bool(done)) or drops.get(row)
        if drop is not None:
            drops[row] = drop
            log.append(_entry(place, "dropped", *done, drop))
        elif done:
            log.append(_entry(place, "changed", *done))
    return Mended(table.filter(pa.array([row not in drops for row in range(len(mended))], pa.bool_())), log)


def _entry(place: str, action: str, *why: str) -> dict[str, Any]:
    return {"id": place, "action": action, "why": why}


def _void(texts: _Texts, *, changed: bool) -> str | None:
    """Return why a pair must go, judged by its texts."""
    prompt, chosen, rejected = texts
    fault = order_fault(prompt, chosen) or order_fault(prompt, rejected)
    if fault is not None:
        return f"role order: {fault}"
    if chosen and chosen == rejected:
        return "same text"
    return "nothing is left" if changed and not all(turns[-1].content.strip() for turns in texts) else None


def write(mended: Mended, out: Path, about: Mapping[str, Any]) -> None:
    """Write the copy as a folder that `datasets` opens, with `fixes.jsonl` in it.

    Raises PrefkitError if `out` has files of its own or cannot be written.
    """
    with fresh_folder(out, about) as work:
        (work / "data").mkdir()
        path = work / "data" / "train-00000-of-00001.parquet"
        parquet.write_table(mended.table, path, compression="zstd", row_group_size=10_000)
        lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in mended.log)
        (work / "fixes.jsonl").write_text("".join(lines), encoding="utf-8")


def _applied(fixes: Mapping[str, _Fix], texts: _Texts) -> tuple[_Texts, list[str]]:
    """Apply every fix until none finds anything more: each takes something away, so that this ends."""
    done: list[str] = []
    if any(not turns or any(turn.content is None for turn in turns) for turns in texts):
        return texts, done
    while True:
        before = texts
        for name, fix in fixes.items():
            after = fix(texts)
            if after != texts:
                done += [] if name in done else [name]
                texts = after
        if texts == before:
            return texts, done


def _with_texts(table: pa.Table, texts: list[_Texts], changed: np.ndarray) -> pa.Table:
    for at, side in enumerate(_Texts._fields):
        turns = [[turn._asdict() for turn in row[at]] for row in texts]
        table = put(table, side, pa.array(turns, MESSAGES))
    for name in filter(_OF_THE_TEXT.fullmatch, table.column_names):
        rows = pa.array(np.arange(len(changed)), mask=changed)
        table = put(table, name, table[name].combine_chunks().take(rows))
    return table


# the fixes, in the order in which they are tried


def _fixes(subject: Subject) -> Mapping[str, _Fix]:
    end = end_of(subject.template)
    fixes: dict[str, _Fix] = {
        "prompt taken off the responses": _without_prompt,
        "windows line breaks made plain": _plain_lines,
        "end token taken off a response": lambda texts: _last_turns(texts, lambda text: end.sub("", text)),
        "empty <think> taken out": _without_empty_think,
    }
    if subject.template.bos is not None:
        begin = re.compile(rf"^\s*(?:{re.escape(subject.template.begin)}\s*)+")
        first = {"begin token taken off a text": lambda texts: _first_turns(texts, begin)}
        fixes = {**first, **fixes}
    if not subject.template.trims:
        fixes["white space at the ends made alike"] = _alike_ends
    return fixes


def _without_prompt(texts: _Texts) -> _Texts:
    prompt, *sides = texts
    chosen, rejected = (turns[len(prompt) :] if repeats_turns(prompt, turns) else turns for turns in sides)
    said = repeats_text(prompt, chosen, rejected)
    if said is None:
        return _Texts(prompt, chosen, rejected)
    return _Texts(prompt, _put(chosen, 0, _after(said, chosen)), _put(rejected, 0, _after(said, rejected)))


def _after(said: str, turns: Turns) -> str:
    return turns[0].content.lstrip().removeprefix(said).lstrip()


def _plain_lines(texts: _Texts) -> _Texts:
    found = ["\r\n" in turns[-1].content for turns in texts[1:]]
    if found[0] == found[1]:
        return texts
    return _last_turns(texts, lambda text: text.replace("\r\n", "\n"))


def _first_turns(texts: _Texts, begin: re.Pattern[str]) -> _Texts:
    return _Texts(*(_put(turns, 0, begin.sub("", turns[0].content)) for turns in texts))


def _without_empty_think(texts: _Texts) -> _Texts:
    found = [re.search(EMPTY_THINK, turns[-1].content) is not None for turns in texts[1:]]
    if found[0] == found[1]:
        return texts
    return _last_turns(texts, lambda text: re.sub(EMPTY_THINK, "", text))


def _alike_ends(texts: _Texts) -> _Texts:
    one, other = (turns[-1].content for turns in texts[1:])
    if one.startswith(tuple(SPACE)) != other.startswith(tuple(SPACE)):
        texts = _last_turns(texts, lambda text: text.lstrip(SPACE))
    if one.endswith(tuple(SPACE)) != other.endswith(tuple(SPACE)):
        texts = _last_turns(texts, lambda text: text.rstrip(SPACE))
    return texts


def _last_turns(texts: _Texts, change: Callable[[str], str]) -> _Texts:
    chosen, rejected = (_put(turns, -1, change(turns[-1].content)) for turns in texts[1:])
    return _Texts(texts.prompt, chosen, rejected)


def _put(turns: Turns, at: int, text: str) -> Turns:
    found = list(turns)
    found[at] = found[at]._replace(content=text)
    return tuple(found)
