"""Laws as a library: check a stage on an example table, or an objective on random batches, in one line.

    out = check_stage(Margin(scale=2.0), table)
    check_objective(MyLink(nu=2.0))

Raises AssertionError that names the law. The laws are those the runner relies on (see `prefkit.stage`), so a stage
that passes may be sharded, resumed, cached and projected without changing a result.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.engines import Engines
from prefkit.identity import digest, fingerprint
from prefkit.narrow import Narrow
from prefkit.objectives.laws import check_objective
from prefkit.stage import Context, Stage, level_of
from prefkit.tables import prompt_offsets

__all__ = ["Outcome", "check_objective", "check_stage", "run_stage"]


class Outcome(NamedTuple):
    """All that a stage gave for a table."""

    table: pa.Table
    dropped: list[pa.Table]
    failed: list[pa.Table]
    notes: Mapping[str, int]


def run_stage(stage: Stage, table: pa.Table, *, seed: int = 0, engines: Engines | None = None) -> Outcome:
    """Apply a stage by hand and return everything it gave."""
    ctx = Context(seed=seed, engines=engines or Engines())
    result = stage(table, ctx)
    return Outcome(result, ctx.dropped, ctx.failed, dict(ctx.notes))


def check_stage(stage: Stage, table: pa.Table, *, seed: int = 0, engines: Engines | None = None) -> pa.Table:
    """Check every law of a stage on an example table of at least two rows; return the result."""
    assert table.num_rows >= 2, "give check_stage at least two rows: most laws are about neighbours"
    whole = run_stage(stage, table, seed=seed, engines=engines)
    _check_config(stage)
    again = run_stage(stage, table, seed=seed, engines=engines)
    _same(whole.table, again.table, "two runs must agree")
    assert whole.notes == again.notes, "two runs must count the same"
    _check_seed(stage, table, whole, seed, engines)
    nothing = run_stage(stage, table.slice(0, 0), seed=seed, engines=engines)
    assert nothing.table.num_rows == 0, "an empty table must stay empty"
    assert nothing.table.schema == whole.table.schema, "an empty table must keep the output schema"
    chopped = pa.concat_tables([table.slice(row, 1) for row in range(table.num_rows)])
    _same(
        whole.table, run_stage(stage, chopped, seed=seed, engines=engines).table, "chunking must not matter"
    )
    _check_reads(stage, table, whole, seed, engines)
    _check_kind(stage, table, whole, seed, engines)
    _check_looks(stage, table, whole, seed, engines)
    _check_rows(stage, table, whole)
    return whole.table


def _check_config(stage: Stage) -> None:
    back = type(stage).model_validate_json(stage.model_dump_json())
    assert back == stage, "the config must survive a JSON round trip"
    assert fingerprint(back) == fingerprint(stage), "the fingerprint must survive a JSON round trip"


def _check_seed(stage: Stage, table: pa.Table, whole: Outcome, seed: int, engines: Engines | None) -> None:
    if not stage.draws():
        other = run_stage(stage, table, seed=seed + 1, engines=engines)
        _same(
            whole.table,
            other.table,
            "a stage that does not declare random = True must not depend on the seed",
        )


def _check_reads(stage: Stage, table: pa.Table, whole: Outcome, seed: int, engines: Engines | None) -> None:
    if stage.level.gives is not None:
        return  # such a stage carries every column on, so what it makes depends on all of them
    level = {"prompt": (), "response": ("response",), "pair": ("chosen", "rejected")}[level_of(table.schema)]
    needed = {"id", "prompt_id", "prompt", *level, *stage.reads()}
    narrow = table.select([name for name in table.column_names if name in needed or _touched(stage, name)])
    result = run_stage(stage, narrow, seed=seed, engines=engines).table
    for name in ("id", *stage.writes()):
        if name in result.column_names:
            told = f"declared reads must be enough to compute '{name}'"
            _same(whole.table.select([name]), result.select([name]), told)


def _check_kind(stage: Stage, table: pa.Table, whole: Outcome, seed: int, engines: Engines | None) -> None:
    if stage.scope() == "global":
        return
    if stage.scope() == "map":
        cuts = list(range(1, table.num_rows))
        law = "a map stage must not see its neighbours"
    else:
        cuts = [int(start) for start in prompt_offsets(table).starts[1:]]
        law = "a group stage must not see other prompts"
    for cut in cuts:
        parts = [
            run_stage(stage, part, seed=seed, engines=engines)
            for part in (table.slice(0, cut), table.slice(cut))
        ]
        _same(whole.table, pa.concat_tables([part.table for part in parts]), f"{law} (cut at {cut})")
        counts = [sum(part.notes.get(name, 0) for part in parts) for name in whole.notes]
        assert counts == list(whole.notes.values()), f"notes must add up over shards (cut at {cut})"


def _check_looks(stage: Stage, table: pa.Table, whole: Outcome, seed: int, engines: Engines | None) -> None:
    """A stage that says what it looks into must give the same where it can look into nothing else."""
    if stage.scope() != "global" or stage.looks() is None:
        return
    narrow = Narrow(stage, [table.slice(0, 1), table.slice(1)])
    ctx = Context(seed=seed, engines=engines or Engines(), spare=narrow.spare)
    told = "what it looks into must be declared in looks(), and looked into before the first row is set aside"
    _same(whole.table, narrow.whole(stage(narrow.table, ctx)), told)
    for one, other in ((whole.dropped, ctx.dropped), (whole.failed, ctx.failed)):
        assert len(one) == len(other), told
        for before, after in zip(one, other, strict=True):
            _same(before, narrow.whole_aside(after), told)
    assert whole.notes == dict(ctx.notes), told


def _check_rows(stage: Stage, table: pa.Table, whole: Outcome) -> None:
    ids = whole.table["id"]
    assert ids.null_count == 0, "every row must have an id"
    assert pc.count_distinct(ids).as_py() == len(ids), "ids must be unique"
    reasons = {reason for part in whole.dropped for reason in part["drop_reason"].unique().to_pylist()}
    assert reasons <= set(stage.drops()), f"undeclared drop reasons: {sorted(reasons - set(stage.drops()))}"
    if stage.level.gives is not None:
        return
    gone = [part["id"] for part in [*whole.dropped, *whole.failed]]
    after = np.sort(np.concatenate([np.asarray(column.to_pylist(), dtype=object) for column in [ids, *gone]]))
    before = np.sort(np.asarray(table["id"].to_pylist(), dtype=object))
    assert after.tolist() == before.tolist(), "every row must come out, be dropped with a reason, or fail"
    _check_untouched(stage, table, whole.table)


def _check_untouched(stage: Stage, before: pa.Table, after: pa.Table) -> None:
    where = {row: at for at, row in enumerate(before["id"].to_pylist())}
    rows = before.take(pa.array([where[row] for row in after["id"].to_pylist()], pa.int64()))
    for name in set(before.column_names) - set(stage.writes()):
        if _touched(stage, name):
            continue
        _same(rows.select([name]), after.select([name]), f"column '{name}' is not declared in writes()")


def _touched(stage: Stage, name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in stage.touches())


def _same(one: pa.Table, other: pa.Table, law: str) -> None:
    assert one.schema == other.schema, f"{law}: schemas differ"
    assert digest(one) == digest(other), law
