"""Export: a run as a folder that other programs open: Parquet files by split, with the card as README.

`datasets.load_dataset(<folder>)` opens every kind. `parquet` has every column; `hub-folder` adds the recipe and the
manifests, so that whoever has the folder has the whole account of it; `trl` has only the columns that TRL reads, in its
explicit conversational form, and says which labels are lost on the way: TRL has no soft label, no weight and no phase.
Rows stream shard by shard. The folder appears under its name when it is whole, and never in place of other files.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa

from prefkit.card import render
from prefkit.card.facts import Facts, collect
from prefkit.card.markdown import public_tree
from prefkit.card.provenance import recipe_text
from prefkit.errors import ContractError, DataError
from prefkit.export_folder import fresh_folder
from prefkit.export_rows import KWARGS, Shape, projected, write_rows
from prefkit.statistics import Summary, summarise
from prefkit.store import Store

__all__ = ["Exported", "Target", "export", "lost_labels"]

Target = Literal["trl", "parquet", "hub-folder"]

_TRL = ("prompt", "chosen", "rejected", "tools", "chat_template_kwargs")


class Exported(NamedTuple):
    """What was written."""

    path: Path
    rows: int
    warnings: tuple[str, ...]
    """What the copy cannot say that the dataset does."""


def export(store: Store, ref: str, out: Path, to: Target, threads: int = 1) -> Exported:
    """Write the rows that `run` or `run/05-pair` names to a folder, `threads` files at once; an earlier export is replaced.

    Raises: StoreError if there is no such run; ContractError if `to` cannot hold the rows; PrefkitError if `out` has
    files of its own or cannot be written.
    """
    with store.locked():
        facts = collect(store, ref)
        if not facts.last.statistics:
            facts = facts._replace(summary=Summary.model_validate(summarise(store.table(facts.last))))
        shape = _shape(store, facts, to)
        warnings = tuple(lost_labels(facts.summary)) if to == "trl" else ()
        about: dict[str, object] = {"to": to, "ref": ref}
        about |= {"digest": facts.last.digest, "rows": facts.summary.rows}
        blank = projected(store.get(facts.last.shards[0]).slice(0, 0), shape)
        about["columns"] = [[column.name, str(column.type)] for column in blank.schema]
        with fresh_folder(out, about) as work:
            splits = write_rows(store, facts, work / "data", shape, blank.schema, threads)
            about["splits"] = {name: split._asdict() for name, split in splits.items()}
            rows = sum(split.rows for split in splits.values())
            if rows < facts.summary.rows:
                left = facts.summary.rows - rows
                what = "responses with parts taken out, which would count as preferences"
                warnings = (*warnings, f"{left:,} of {facts.summary.rows:,} pairs are left out: {what}")
            (work / "README.md").write_text(_readme(facts, shape, warnings), encoding="utf-8")
            if to == "hub-folder":
                _write_account(facts, work)
    return Exported(out, rows, warnings)


def lost_labels(found: Summary) -> Iterator[str]:
    """Say which labels TRL's DPO trainer would not see, with the number of pairs that have them."""
    pairs = found.pairs
    if pairs is None:
        return
    labels, order = pairs.labels, pairs.order
    phases = len(order.phases) if order is not None else 0
    counted = (
        ("p_chosen", labels.graded, "have a graded label and would count as certain"),
        ("tie", labels.tie, "are ties and would count as preferences"),
        ("flip_prob", labels.doubted, "may be mislabelled and would count as certain"),
        ("weight", labels.weighted, "have a weight other than 1 and would count as 1"),
    )
    for column, share, what in counted:
        if share is not None and share.count:
            yield f"'{column}' is lost: {share.count:,} of {found.rows:,} pairs {what}"
    if order is not None and phases > 1:
        rows = sum(phase.rows for phase in order.phases)
        yield f"'phase' is lost: {rows:,} of {found.rows:,} pairs are in {phases} phases and would be shuffled together"
    if order is not None and order.ranked:
        yield f"'rank' is lost: {order.ranked:,} of {found.rows:,} pairs have a place in the order of training"
    if pairs.reference is not None and pairs.reference.prefers.n:
        rows = pairs.reference.prefers.n
        yield f"'ref_chosen_logp' and 'ref_rejected_logp' are lost: TRL would compute those of {rows:,} pairs again"


# columns


def _shape(store: Store, facts: Facts, to: Target) -> Shape:
    names = [name for name, _ in facts.last.columns]
    if to != "trl":
        return Shape(tuple(names), (), None)
    if facts.last.level != "pair":
        what = f"'{facts.run}' ends in {facts.last.level}s, and TRL wants pairs"
        raise ContractError(what, hint="add `pair` to the recipe, or export with --to parquet")
    kept = [name for name in _TRL if name in names and not _is_void(store, facts, name)]
    kwargs = _kwargs_type(store, facts) if KWARGS in kept else None
    left_out = tuple(name for name in names if name not in kept)
    return Shape(tuple(kept), left_out, kwargs, whole="degree" in names)


def _is_void(store: Store, facts: Facts, name: str) -> bool:
    """Say whether an optional column is null throughout: TRL takes a column of nulls for a value."""
    if name in {"prompt", "chosen", "rejected"}:
        return False
    return all(store.get(shard)[name].null_count == shard.rows for shard in facts.last.shards)


def _kwargs_type(store: Store, facts: Facts) -> pa.DataType | None:
    found: dict[str, Mapping[str, object]] = {}
    for shard in facts.last.shards:
        column = store.get(shard)[KWARGS]
        if not pa.types.is_string(column.type):
            return None
        found |= {text: _decoded(text, facts) for text in column.unique().to_pylist() if text is not None}
    return pa.array(list(found.values())).type


def _decoded(text: str, facts: Facts) -> Mapping[str, object]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict) or not value:
        what = f"'{KWARGS}' holds {text[:80]!r}, which is no JSON object with a key"
        raise DataError(what, where=facts.run, hint="mend or null the column where the data is read")
    return value


# beside the rows


def _readme(facts: Facts, shape: Shape, warnings: tuple[str, ...]) -> str:
    card = render(facts)
    if not shape.left_out:
        return card
    lines = [
        "## This copy",
        "Columns of the dataset that are not in this copy, since TRL does not read them:",
    ]
    lines.append(", ".join(f"`{name.replace('`', '')}`" for name in shape.left_out))
    lines.append("\n".join(f"- {warning}" for warning in warnings))
    return "\n\n".join([card.rstrip(), *(line for line in lines if line)]) + "\n"


def _write_account(facts: Facts, work: Path) -> None:
    (work / "recipe.yaml").write_text(recipe_text(facts), encoding="utf-8")
    (work / "manifests").mkdir()
    for step in facts.steps:
        _write_json(work / "manifests" / f"{step.name}.json", step.manifest.model_dump(mode="json"))
    if facts.report is not None:
        _write_json(work / "train-report.json", facts.report.model_dump(mode="json"))


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    text = json.dumps(public_tree(value), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
