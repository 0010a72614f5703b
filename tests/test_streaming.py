"""A global stage gives the same rows, drops and shards whether it sees whole tables or narrow ones."""

import importlib.util
import pickle
import sys
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st

from prefkit import testing
from prefkit.columns import COLUMNS, MESSAGES, types
from prefkit.engines import Engines
from prefkit.engines.fake import FakeEngine
from prefkit.identity import digest
from prefkit.labels.direction import SIDES, exchange_sides
from prefkit.narrow import Narrow
from prefkit.parts import Task, make_part
from prefkit.shards import cut
from prefkit.stage import PAIRS, Context, Flow, Kind, Stage
from prefkit.stages import BUILTIN
from prefkit.store import Store
from prefkit.streaming import Here
from prefkit.tables import put
from prefkit.texts import contents

SHARD_ROWS = 6


def say(role, texts):
    return pa.array([[{"role": role, "content": text}] for text in texts], MESSAGES)


def cases():
    """Every golden case whose stage is global."""
    path = Path(__file__).parent / "test_golden_stages.py"
    spec = importlib.util.spec_from_file_location("golden_stages", path)
    golden = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = golden
    spec.loader.exec_module(golden)
    by_name = {stage.name: stage for stage in BUILTIN}
    found = []
    for name, each in golden.CASES.items():
        for at, (table, settings) in enumerate(each):
            stage = by_name[name].model_validate(settings)
            if stage.scope() == "global":
                found.append(pytest.param(stage, table, golden.ENGINES, id=f"{name}-{at}"))
    return found


def rich(rows: int = 24) -> pa.Table:
    """Pairs with everything that a stage may move, change or leave alone; every other column of a side has nulls."""
    at = range(rows)
    sided = {
        "id": [f"c{n}" for n in at],
        "score": [None if n % 7 == 3 else 0.25 * (n % 5) for n in at],
        "model": ["one" if n % 2 else None for n in at],
        "spans": [
            None if n % 3 else [{"start": 0, "end": n, "kind": "phrase", "id": n, "value": 1.0}] for n in at
        ],
    }
    columns = {
        "id": [f"{7 * n % rows:03d}" for n in at],
        "prompt_id": [f"p{n // 3}" for n in at],
        "prompt": say("user", [f"Question {n // 6}" for n in at]),
        "chosen": say("assistant", [f"Answer {n % 4} of many words that say little\n" * 2 for n in at]),
        "rejected": say("assistant", [f"Other {n % 5}" for n in at]),
        "margin": [None if n == 5 else (n % 9 - 4) / 3 for n in at],
        "p_chosen": [0.1 * (n % 10) for n in at],
        "source": [("toy", "web", None)[n // 3 % 3] for n in at],
        "split": ["test" if n // 3 % 4 == 3 else "train" for n in at],
        "annotator": [("x", "y", "z")[n % 3] for n in at],
        "votes": [
            [
                {
                    "judge": judge,
                    "winner": "chosen" if n % 3 else "rejected",
                    "p": 0.5 + n % k / 8,
                    "order": "ab",
                }
                for k, judge in ((3, "j"), (4, "k"), (5, "l"))
            ]
            for n in at
        ],
        "flip_prob": [0.05 * (n % 9) for n in at],
        "extra": [None if n % 5 == 0 else f"unknown to all stages {n}" * 3 for n in at],
        "said": say("assistant", [f"a text that nobody knows {n}" for n in at]),
        "ref_chosen_logp": [-1.0 * n for n in at],
        "ref_rejected_logp": [-2.0 * n for n in at],
    }
    columns |= {f"chosen_{name}": values for name, values in sided.items()}
    columns |= {f"rejected_{name}": values[::-1] for name, values in sided.items()}
    known = {name: COLUMNS[name].type for name in columns if name in COLUMNS}
    return pa.table({name: pa.array(values, known.get(name)) for name, values in columns.items()})


MODEL = {"id": "test/model"}
MORE = [
    ("dedup", {"by": "prompt"}),
    ("dedup", {"by": "prompt", "kind": "minhash", "n": 1, "threshold": 0.5}),
    ("dedup", {"by": "prompt", "kind": "embedding", "model": MODEL}),
    ("dedup", {"by": "chosen", "within": "dataset", "keep": "best", "score": "chosen_score"}),
    ("dedup", {"by": "pair", "within": "dataset", "kind": "minhash", "n": 2}),
    ("dedup", {"by": "chosen", "within": "dataset", "kind": "embedding", "model": MODEL}),
    ("order", {"kind": "phases", "phases": "prompt-rank"}),
    ("order", {"kind": "phases", "within": "shuffled", "k": 2}),
    ("order", {"kind": "split", "on_disagree": "flip", "gamma": 0.5}),
    ("order", {"kind": "split", "on_disagree": "flip", "by": "chosen_score", "quantile": 0.3}),
    ("order", {"kind": "split", "on_disagree": "drop", "hard_route": "sft"}),
    ("label", {"ops": [{"flip": {"bottom": 0.5}}]}),
    ("label", {"ops": [{"flip": {"bottom": 0.9, "only_negative": False}}, "orient"]}),
    ("label", {"ops": [{"noise": {}}, "orient", {"flip": {"rate": 0.5}}]}),
    ("label", {"ops": ["from-judges"]}),
    ("filter", {"cut": [{"column": "margin", "lowest": 0.3}], "drop": ["identical", "empty", "refusal"]}),
    ("filter", {"cut": {"column": "margin", "highest": 0.3}, "max_chars": 60, "length_ratio_max": 20}),
    ("filter", {"best": {"column": "chosen_score", "share": 0.5, "by": "source"}}),
    ("filter", {"drop": ["repeating", "other-script"], "best": {"column": "margin", "k": 9}}),
    ("mix", {"total": 3}),
    ("mix", {"shares": {"toy": 1, "web": 2}}),
    ("balance", {"of": "length", "by": "source"}),
    ("balance", {"of": "exclamations"}),
    ("weight", {"kind": "annotator"}),
    ("weight", {"kind": "novelty", "model": MODEL}),
    ("margin", {"transform": "standardise"}),
    ("margin", {"transform": "log-odds", "calibrate_on": "p_chosen"}),
    ("groups", {"of": ["score"], "groups": 2}),
    ("groups", {"model": MODEL, "kind": "hard"}),
    ("acquire", {"budget": 20, "by": "gap", "scores": ["score"]}),
    ("acquire", {"budget": 12, "diverse": MODEL}),
    ("combine", {"of": ["score"], "as": "z", "at": "pair", "normalise": {"kind": "z", "within": "dataset"}}),
    ("combine", {"of": ["score"], "as": "w", "at": "pair", "kind": "prompt-aware", "model": MODEL}),
    ("analyse", {"what": ["shortcut", "factors", "gaps", "votes"]}),
    ("on-policy", {"model": MODEL, "share": 0.5}),
]


def more_cases():
    by_name = {stage.name: stage for stage in BUILTIN}
    engines = Engines({"test/model": FakeEngine()})
    return [
        pytest.param(by_name[name].model_validate(settings), rich, engines, id=f"{name}-more-{at}")
        for at, (name, settings) in enumerate(MORE)
    ]


CASES = [*cases(), *more_cases()]


def by_hand(stage, table, engines):
    """Return the digests of all that a stage gives for a whole table."""
    ctx = Context(seed=3, engines=engines)
    result = stage(table, ctx)
    aside = [digest(pa.concat_tables(tables)) if tables else None for tables in (ctx.dropped, ctx.failed)]
    shards = [digest(piece) for piece in cut(result, SHARD_ROWS)]
    return [shards, *aside, dict(ctx.notes)]


def by_the_runner(stage, table, engines, folder, here=None):
    """Return the same of the part that is made of a store's shards."""
    store = Store(folder)
    shards = tuple(store.put(piece) for piece in cut(table, SHARD_ROWS))
    part = make_part(stage, Task("key", shards), store, engines, 3, SHARD_ROWS, here)
    aside = [shard and shard.digest for shard in (part.dropped, part.failed)]
    assert digest(pa.concat_tables(store.get(s) for s in part.outputs))
    return [[shard.digest for shard in part.outputs], *aside, part.notes]


@pytest.mark.parametrize(("stage", "table", "engines"), CASES)
def test_a_global_stage_gives_the_same_from_narrow_tables(stage, table, engines, tmp_path):
    assert by_the_runner(stage, table(), engines, tmp_path) == by_hand(stage, table(), engines)


@pytest.mark.parametrize(("stage", "table", "engines"), CASES)
def test_a_global_stage_gives_the_same_where_others_make_its_rows_whole(stage, table, engines, tmp_path):
    calls, told = [], []

    def apart(function, tasks):
        for task in tasks:
            calls.append(function)
            yield pickle.loads(pickle.dumps(function))(*pickle.loads(pickle.dumps(task)))

    found = by_the_runner(stage, table(), engines, tmp_path, Here(2, apart, told.append))
    assert found == by_hand(stage, table(), engines)
    assert [shard.digest for shard in told] == found[0]
    assert bool(calls) == (stage.looks() is not None and table().num_rows > SHARD_ROWS)


def test_the_sweep_has_every_global_stage():
    swept = {case.values[0].name for case in CASES}
    assert swept == {stage.name for stage in BUILTIN if stage.kind == "global"}
    assert len(CASES) >= 50
    assert all(case.values[0].scope() == "global" for case in CASES)
    wide = {case.values[0].name for case in CASES if case.values[0].looks() is None}
    assert wide == {"condition", "on-policy"}


class Moving(Stage):
    """A stage that takes rows in any order, some twice, exchanges the sides of some and drops others."""

    name: ClassVar[str] = "moving"
    kind: ClassVar[Kind] = "global"
    level: ClassVar[Flow] = PAIRS

    rows: tuple[int, ...]
    peeks: bool = False
    """Whether it looks into what it says it does not."""

    def reads(self):
        return {}

    def writes(self):
        return types("id", "chosen", "rejected", "flipped")

    def touches(self):
        return SIDES

    def looks(self):
        return ()

    def drops(self):
        return ("moved",)

    def apply(self, table, ctx):
        turned = np.arange(table.num_rows) % 3 == 1
        if self.peeks:
            turned = np.char.find(np.array(contents(table["chosen"]).to_pylist(), str), "Answer 1") >= 0
        table = exchange_sides(table, turned).take(pa.array(self.rows, pa.int64()))
        table = put(table, "id", pa.array([f"new {n}" for n in range(table.num_rows)], pa.string()))
        return ctx.drop(table, [None if n % 4 else "moved" for n in range(table.num_rows)])


def moved(stage, table, edges):
    """Return what a stage keeps and drops of a table cut at these rows, seen narrow, and the same seen whole."""
    narrow = Narrow(stage, [table.slice(a, b - a) for a, b in pairwise([0, *sorted(edges), table.num_rows])])
    seen, plain = Context(spare=narrow.spare), Context()
    kept, dropped = (
        narrow.whole(stage(narrow.table, seen)),
        [narrow.whole_aside(each) for each in seen.dropped],
    )
    return [kept, *dropped], [stage(table, plain), *plain.dropped]


@trying(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 23), max_size=40), st.lists(st.integers(0, 24), max_size=5))
def test_rows_may_move_come_twice_or_go(rows, edges):
    made, wanted = moved(Moving(rows=tuple(rows)), rich(), edges)
    assert [each.to_pylist() for each in made] == [each.to_pylist() for each in wanted]
    assert [each.schema for each in made] == [each.schema for each in wanted]


def test_a_stage_that_looks_where_it_says_it_does_not_is_found_out():
    table = rich()
    told = r"what it looks into must be declared in looks\(\)"
    with pytest.raises(AssertionError, match=told):
        check_looks(Moving(rows=tuple(range(24)), peeks=True), table)
    check_looks(Moving(rows=tuple(range(24))), table)


def check_looks(stage, table):
    testing._check_looks(stage, table, testing.run_stage(stage, table), 0, None)


def test_nothing_is_a_table_too(tmp_path):
    stage = next(each for each in BUILTIN if each.name == "order").model_validate({"by": "margin"})
    assert by_the_runner(stage, rich().slice(0, 0), Engines(), tmp_path) == by_hand(
        stage, rich().slice(0, 0), Engines()
    )


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("weight", {"kind": "novelty", "model": MODEL}),
        ("groups", {"model": MODEL, "kind": "hard"}),
        ("dedup", {"by": "prompt", "kind": "embedding", "model": MODEL}),
    ],
)
def test_what_fails_is_set_aside_the_same_way(name, settings, tmp_path):
    stage = next(each for each in BUILTIN if each.name == name).model_validate(settings)
    engines = Engines({"test/model": FakeEngine(failing="3")})
    made = by_the_runner(stage, rich(), engines, tmp_path)
    assert made == by_hand(stage, rich(), engines)
    assert made[2] is not None
