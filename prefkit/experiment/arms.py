"""Arms: the datasets of a comparison, the controls beside them, and the held-out prompts and pairs that all are measured on.

A prompt on which any arm was trained measures nothing, and neither does one that shares most of its words with such a
prompt: both are taken out, and counted.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from prefkit import rng, sources
from prefkit.columns import COLUMNS
from prefkit.engines import Engines
from prefkit.errors import DataError
from prefkit.experiment.settings import CompareSettings
from prefkit.identity import digest
from prefkit.near.coverage import index, overlaps
from prefkit.near.words import parts
from prefkit.prompts import spoken
from prefkit.stage import Context, level_of
from prefkit.stages.label import Label
from prefkit.stages.reference import Reference
from prefkit.store import Store
from prefkit.tables import message_tuples
from prefkit.train.settings import TrainSettings
from prefkit.train.work import split

__all__ = ["Arm", "HeldOut", "controls", "held_out", "open_arms", "subsampled", "with_reference"]

COPY, FLIP = "copy", "flip"
_OTHER_SEEDS = 1_000
"""What is added to the seeds of a copy."""
_RUN, _COVERED = 13, 0.8
"""Words in a row that count as shared, and the share of a prompt that makes it the same."""


class Arm(NamedTuple):
    """A dataset, ready to be trained on."""

    name: str
    ref: str
    """What it is in the store; "" for a control."""
    digest: str
    """Of all its rows."""
    train: pa.Table
    test: pa.Table
    """Pairs that it set aside."""
    control: str = ""
    """`copy` or `flip`, of the first arm."""
    other_seeds: bool = False
    """Whether it is trained with seeds of its own, since its rows are those of the first arm."""

    def seed(self, number: int) -> int:
        """Return the seed that its run `number` is trained with, less that of the settings."""
        return number + _OTHER_SEEDS * self.other_seeds


class HeldOut(NamedTuple):
    """What everything is measured on."""

    prompts: pa.Table
    """Prompt rows."""
    pairs: Mapping[str, pa.Table]
    """By arm: pairs it held out whose prompts no arm was trained on."""
    removed: Mapping[str, int]
    """Prompts that were taken out, by reason."""


def open_arms(store: Store, refs: Sequence[str]) -> list[Arm]:
    """Open runs or steps of runs. Raises DataError for what cannot be an arm, StoreError for what is not there."""
    arms: list[Arm] = []
    for ref in refs:
        manifest = store.resolve(ref)
        table = store.table(manifest)
        if level_of(table.schema) != "pair":
            what = f"'{ref}' has {level_of(table.schema)} rows, and arms are pairs"
            raise DataError(
                what, hint=f"name a step of it whose rows are pairs: {ref.partition('/')[0]}/pair"
            )
        sides = split(table)
        if not sides.trained.num_rows:
            raise DataError(f"'{ref}' has no pair to train on", hint=f"prefkit show {ref}")
        name = ref if ref not in {arm.name for arm in arms} else f"{ref}#{len(arms) + 1}"
        same = any(arm.digest == manifest.digest for arm in arms)
        arms.append(Arm(name, ref, manifest.digest, sides.trained, sides.held_out, other_seeds=same))
    return arms


def controls(first: Arm, settings: CompareSettings, seed: int) -> Iterator[Arm]:
    """Yield a copy of the first arm, trained with other seeds, and one with flipped labels."""
    nothing = first.test.slice(0, 0)
    if COPY in settings.controls:
        yield first._replace(
            name=f"{first.name} (copy)", ref="", test=nothing, control=COPY, other_seeds=True
        )
    if FLIP in settings.controls:
        flip = Label.model_validate({"ops": [{"flip": {"rate": settings.flip_rate}}]})
        table = flip(first.train, Context(seed=seed))
        name = f"{first.name} ({settings.flip_rate:.0%} flipped)"
        yield Arm(name, "", digest(table), table, nothing, control=FLIP)


def subsampled(table: pa.Table, share: float, seed: int) -> pa.Table:
    """Return the pairs of about this share of the prompts, the same prompts for the same seed in every arm that has them."""
    prompts = table["prompt_id"].to_pylist()
    return table.filter(pa.array(rng.uniform(seed, "compare", prompts) < share))


def with_reference(arm: Arm, settings: TrainSettings, engines: Engines, fingerprint: str | None) -> Arm:
    """Return the arm with the reference log-probs that training reads, if its rows lack them or have another's.

    `fingerprint` is what the columns must name. Pairs that the reference cannot read are left out.
    """
    if not settings.objective.needs_reference():
        return arm
    if "ref_fingerprint" in arm.train.column_names:
        found = pc.unique(arm.train["ref_fingerprint"]).to_pylist()
        if found == [fingerprint]:
            return arm
    stage = Reference(model=settings.reference or settings.model, too_long="drop")
    return arm._replace(train=stage(arm.train, Context(engines=engines)))


def held_out(arms: Sequence[Arm], settings: CompareSettings, folder: Path, store: Store) -> HeldOut:
    """Return prompts and pairs that no arm was trained on. Raises DataError where too few are left."""
    trained = pl.concat([_prompts(arm.train) for arm in arms]).unique("prompt_id", keep="first")
    found = _given(settings, folder, store) if settings.data else [_prompts(arm.test) for arm in arms]
    asked = pl.concat(found).unique("prompt_id", keep="first", maintain_order=True)
    seen, near = _known(asked, trained)
    left = asked.filter(~(seen | near))
    if left.height < 2:
        what = f"{left.height} prompts are left to measure on: {asked.height} were held out, {seen.sum()} of them trained on in another arm"
        hint = "let every arm hold out the same prompts (`split`), or name others: compare: { data: [{ file: prompts.jsonl }] }"
        raise DataError(what, where="compare", hint=hint)
    pairs = {arm.name: _unseen(arm, trained, settings.pairs) for arm in arms if arm.test.num_rows}
    removed = {"trained on in an arm": int(seen.sum()), "nearly trained on in an arm": int(near.sum())}
    over = left.height - settings.prompts
    if over > 0:
        removed["more than asked for"] = over
    prompts = _as_rows(left.head(settings.prompts))
    return HeldOut(prompts, pairs, {reason: count for reason, count in removed.items() if count})


def _given(settings: CompareSettings, folder: Path, store: Store) -> list[pl.DataFrame]:
    tables = [
        batch.table for source in settings.data for batch in sources.read(source, folder, store.read_ref)
    ]
    return [_prompts(table) for table in tables]


def _prompts(table: pa.Table) -> pl.DataFrame:
    """Return the distinct prompts of a table, in its order: id, spoken text, and what a prompt row has."""
    key = "prompt_id" if "prompt_id" in table.column_names else "id"
    _, first = np.unique(np.asarray(table[key].to_pylist(), dtype=str), return_index=True)
    rows = table.take(pa.array(np.sort(first), pa.int64()))
    frame = pl.DataFrame({"prompt_id": pl.Series(rows[key], dtype=pl.String)})
    texts = [spoken(turns) for turns in message_tuples(rows["prompt"])]
    more = {"prompt": pl.Series(rows["prompt"]), "text": pl.Series(texts, dtype=pl.String)}
    if "tools" in rows.column_names:
        more["tools"] = pl.Series(rows["tools"])
    return frame.with_columns(**more)


def _as_rows(frame: pl.DataFrame) -> pa.Table:
    """Return prompts as prompt rows."""
    table = frame.drop("text").with_columns(id=pl.col("prompt_id")).to_arrow()
    for name in table.column_names:
        at = table.column_names.index(name)
        table = table.set_column(at, name, table[name].cast(COLUMNS[name].type))
    return table


def _known(asked: pl.DataFrame, trained: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    """Return which prompts were trained on, and which others nearly: bool [prompts] each."""
    seen = asked["prompt_id"].is_in(trained["prompt_id"].to_list())
    return seen, _alike(asked, trained) & ~seen


def _alike(asked: pl.DataFrame, trained: pl.DataFrame) -> pl.Series:
    """Return which prompts share nearly all their runs of words with one that was trained on."""
    items = index([parts(asked["text"].to_arrow().cast(pa.string()))], _RUN)
    texts = parts(trained["text"].to_arrow().cast(pa.string()))
    hits = overlaps(texts, items, np.arange(trained.height))
    covered = np.zeros(asked.height, dtype=bool)
    covered[hits.item[hits.coverage >= _COVERED]] = True
    return pl.Series(covered)


def _unseen(arm: Arm, trained: pl.DataFrame, most: int) -> pa.Table:
    """Return an arm's held-out pairs, less those whose prompt was trained on, or nearly."""
    asked = _prompts(arm.test)
    seen, near = _known(asked, trained)
    out = pa.array(asked.filter(seen | near)["prompt_id"].to_list(), pa.string())
    return arm.test.filter(pc.invert(pc.is_in(arm.test["prompt_id"], out))).slice(0, most)
