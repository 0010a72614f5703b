"""Telling: put a life together, step by step."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from prefkit.engines.memo import Memo
from prefkit.engines.spend import Price
from prefkit.errors import PrefkitError
from prefkit.stage import Stage
from prefkit.store import Store
from prefkit.why.kin import Lines, Row, Tree, family, level_of_row, lines_of
from prefkit.why.life import Biography, Chapter, Fate, Kin, Passage, Wrote
from prefkit.why.reasons import decided, twin
from prefkit.why.recollecting import Books, Recalled, made_of, recall
from prefkit.why.replay import stage_of
from prefkit.why.rows import Found, Passed, Refused, Steps, find, of_prompt, steps_of

__all__ = ["biography"]

_MOST = 200
"""Rows of one life that are told in one step: those of a prompt may be many more."""
_NOT_WRITTEN = ("id", "prompt_id", "drop_reason", "error")
_DUPLICATES = ("duplicate", "near-duplicate")


def biography(
    store: Store,
    ref: str,
    row: str,
    *,
    prices: Mapping[str, Price] | None = None,
    calls: bool = True,
    folder: Path = Path(),
) -> Biography:
    """Return the life of a row: its id, the first digits of it, or `file:line` of a row that could not be read.

    `ref` is a run; with `run/05-pair`, the life ends there. `prices` are by what a model is served as. Without `calls`
    no model call is looked up, which is quicker. Paths in settings of the steps are relative to `folder`.
    Raises StoreError if there is no such row, or several.
    """
    steps = steps_of(store, ref)
    found = find(store, steps, row)
    run = ref.partition("/")[0]
    if isinstance(found, Refused):
        return _refused(run, steps, found)
    books = Books(Memo(store.answers(), read_only=True), folder, prices or {})
    passed = list(of_prompt(store, steps, found.prompt_id))
    scenes = list(_scenes(store, passed, books))
    tree = _tree(scenes, found)
    chapters = [
        _chapter(scene, found.id, tree, books if calls else None)
        for scene in scenes
        if _present(scene, found.id, tree)
    ]
    return _closed(run, found, scenes, chapters)


class _Scene(NamedTuple):
    """A step, and the rows of the prompt around it."""

    store: Store
    before: Passed | None
    step: Passed
    lines: Lines
    stage: Stage | None
    """None for the source, and where this prefkit does not know the step's stage."""


def _scenes(store: Store, passed: Sequence[Passed], books: Books) -> Iterator[_Scene]:
    before: Passed | None = None
    for step in passed:
        lines = lines_of(before, step, {})
        if before is not None and not all(lines.parents.values()):
            lines = lines_of(before, step, made_of(before, step, list(lines.before)[:_MOST], books))
        yield _Scene(store, before, step, lines, None if before is None else _stage(step))
        before = step


def _stage(step: Passed) -> Stage | None:
    try:
        return stage_of(step.manifest)
    except PrefkitError:
        return None


def _tree(scenes: Sequence[_Scene], found: Found) -> Tree:
    if found.id != found.prompt_id:
        return family([scene.lines for scene in scenes], found.id)
    everyone = {id_ for scene in scenes for id_ in (*scene.lines.before, *scene.lines.parents)}
    return Tree(frozenset(), frozenset(everyone - {found.id}))


def _kin(id_: str, focus: str, tree: Tree) -> Kin | None:
    if id_ == focus:
        return "itself"
    return "ancestor" if id_ in tree.ancestors else "descendant" if id_ in tree.descendants else None


def _present(scene: _Scene, focus: str, tree: Tree) -> list[str]:
    """Return the ids of this life that are in a step: ancestors first, then the row, then what was made of it."""
    order = ("ancestor", "itself", "descendant")
    there = dict.fromkeys((*scene.lines.before, *scene.lines.parents))
    kin = {id_: kin for id_ in there if (kin := _kin(id_, focus, tree)) is not None}
    return sorted(kin, key=lambda id_: order.index(kin[id_]))


def _chapter(scene: _Scene, focus: str, tree: Tree, books: Books | None) -> Chapter:
    manifest, there = scene.step.manifest, _present(scene, focus, tree)
    shown = there[:_MOST]
    known = Recalled()
    if books is not None:
        asked_for = [id_ for id_ in shown if id_ in scene.lines.before]
        kin = frozenset((focus, *tree.ancestors, *tree.descendants))
        known = recall(scene.before, scene.step, asked_for, kin, books)
    return Chapter(
        scene.step.name,
        manifest.stage,
        manifest.version,
        manifest.kind,
        manifest.config,
        manifest.seed,
        manifest.rows.model_dump(),
        manifest.made.at,
        tuple(_passage(scene, id_, _kin(id_, focus, tree) or "itself") for id_ in shown),
        len(there) - len(shown),
        known.calls,
        known.others,
        known.note,
    )


def _passage(scene: _Scene, id_: str, kin: Kin) -> Passage:
    lines = scene.lines
    failed = [row for row in lines.failed if row["id"] == id_]
    after = lines.kept.get(id_) or lines.dropped.get(id_) or (failed[0] if failed else None)
    parents = lines.parents.get(id_, ())
    before = lines.before.get(id_) or next((lines.before[one] for one in parents if one in lines.before), {})
    became = tuple(child for child, of in lines.parents.items() if id_ in of)
    fate = _fate(scene, id_, became)
    reason = "; ".join(dict.fromkeys(str(row["error"]) for row in failed))
    if fate == "dropped":
        reason = str(lines.dropped[id_].get("drop_reason") or "")
    turned = (
        after is not None and "chosen_id" in after and "chosen_id" in before and _is_turned(before, after)
    )
    return Passage(
        id_,
        level_of_row(after or before),
        kin,
        fate,
        reason,
        parents,
        became,
        tuple(_wrote(before, after)) if after is not None else (),
        _decided(scene, id_, fate, reason),
        turned,
    )


def _fate(scene: _Scene, id_: str, became: Sequence[str]) -> Fate:
    lines = scene.lines
    if any(row["id"] == id_ for row in lines.failed):
        return "failed"
    if id_ in lines.dropped:
        return "dropped"
    if id_ in lines.kept:
        return "kept" if id_ in lines.before else "made" if scene.before is not None else "read"
    # a step of whose new rows nobody knows what they were made of may have made them of this one
    return "became" if became or not all(lines.parents.values()) else "unused"


def _wrote(before: Row, after: Row) -> Iterator[Wrote]:
    for name, value in after.items():
        if name not in _NOT_WRITTEN and not _same(before.get(name), value):
            yield Wrote(name, before.get(name), value)


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) or (one != one and other != other)  # noqa: PLR0124 - NaN is NaN


def _is_turned(before: Row, after: Row) -> bool:
    return (before["chosen_id"], before["rejected_id"]) == (after["rejected_id"], after["chosen_id"])


def _decided(scene: _Scene, id_: str, fate: Fate, reason: str) -> Mapping[str, Any]:
    if scene.stage is None or fate not in ("dropped", "unused"):
        return {}
    row = scene.lines.dropped.get(id_) or scene.lines.before.get(id_) or {}
    found = decided(scene.stage, row, scene.lines.before, reason)
    if reason in _DUPLICATES and scene.stage.name == "dedup":
        dropped = scene.step.dropped
        same = twin(
            scene.store, scene.step.manifest, dropped.filter(pc.equal(dropped["id"], id_)).slice(0, 1)
        )
        found |= {} if same is None else {"same as": same}
    return found


def _closed(run: str, found: Found, scenes: Sequence[_Scene], chapters: Sequence[Chapter]) -> Biography:
    row: Row = {}
    for scene in scenes:
        for rows in (scene.lines.before, scene.lines.kept, scene.lines.dropped):
            row = rows.get(found.id, row)
        row = next((each for each in scene.lines.failed if each["id"] == found.id), row)
    own = [
        (chapter.step, passage)
        for chapter in chapters
        for passage in chapter.passages
        if passage.kin == "itself"
    ]
    step, last = own[-1] if own else (chapters[-1].step if chapters else "", None)
    return Biography(
        run,
        found.id,
        level_of_row(row) if row else "prompt",
        found.prompt_id,
        step,
        last.fate if last is not None else "read",
        last.reason if last is not None else "",
        row,
        tuple(row.get("prompt") or _any_prompt(scenes)),
        tuple(chapters),
    )


def _any_prompt(scenes: Sequence[_Scene]) -> Sequence[Mapping[str, Any]]:
    """Return the prompt of any row: rows of data that begins with responses or pairs are no prompts themselves."""
    tables: Iterator[pa.Table] = (scene.step.kept for scene in scenes)
    return next((table["prompt"][0].as_py() for table in tables if table.num_rows), ())


def _refused(run: str, steps: Steps, refused: Refused) -> Biography:
    """Return the short life of a row that the data could not be read from."""
    name, manifest = next(iter(steps.items()))
    row = refused.row
    id_, reason = f"{row.get('file') or ''}:{row['line']}", str(row.get("reason") or "")
    said = {"text": row.get("text")} if row.get("text") is not None else {}
    passage = Passage(id_, manifest.level, "itself", "dropped", reason, decided=said)
    chapter = Chapter(
        name,
        manifest.stage,
        manifest.version,
        manifest.kind,
        manifest.config,
        manifest.seed,
        manifest.rows.model_dump(),
        manifest.made.at,
        (passage,),
    )
    return Biography(run, id_, manifest.level, "", name, "dropped", reason, row, (), (chapter,))
