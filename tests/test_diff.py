import pyarrow as pa
import pytest

from prefkit.diff import Change, Example, Flip, compare, compare_runs
from prefkit.identity import digest, hash_json
from prefkit.manifest import Made, Manifest, Rows
from prefkit.store import Store

PAIRS = pa.table(
    {
        "id": ["a", "b", "c", "d"],
        "prompt_id": ["p", "p", "q", "r"],
        "chosen_id": ["1", "3", "5", "7"],
        "rejected_id": ["2", "4", "6", "8"],
        "margin": [0.5, None, float("nan"), 1.0],
        "tags": [["x"], [], None, ["y", "z"]],
    }
)


def filed(store: Store, table: pa.Table, **more) -> Manifest:
    shard = store.put(table)
    fields = {
        "key": digest(table),
        "stage": "margin",
        "version": 1,
        "kind": "map",
        "level": "pair",
        "config": {"scale": 1.0, "inner": {"by": "score"}},
        "seed": None,
        "input": None,
        "digest": shard.digest,
        "columns": tuple((field.name, str(field.type)) for field in table.schema),
        "shards": (shard,),
        "rows": Rows(read=len(table), kept=len(table)),
        "made": Made(prefkit="0", python="3"),
    }
    return Manifest.model_validate(fields | more)


def changed(table: pa.Table, name: str, values: list) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, name, pa.array(values, table.schema.field(name).type))


def test_a_step_does_not_differ_from_itself(store):
    manifest = filed(store, PAIRS)
    assert compare(store, manifest, manifest).empty


def test_equal_rows_are_not_read(store):
    one, other = filed(store, PAIRS), filed(store, PAIRS, config={"scale": 2.0, "inner": {"by": "score"}})
    store.discard(one.shards[0])
    found = compare(store, one, other)
    assert found.settings == (Change("scale", 1.0, 2.0),)
    assert (found.rows, found.values) == ((0, 4, 0), {})


def test_settings_are_compared_by_path(store):
    other = filed(store, PAIRS, config={"inner": {"by": "taste"}, "new": [1]}, version=2)
    assert compare(store, filed(store, PAIRS), other).settings == (
        Change("version", 1, 2),
        Change("scale", 1.0, None),
        Change("inner.by", "score", "taste"),
        Change("new", None, [1]),
    )


def test_columns_that_came_went_or_changed_type_are_named(store):
    other = PAIRS.drop_columns(["tags"]).append_column("rank", pa.array([0, 1, 2, 3]))
    other = changed(other.drop_columns(["margin"]), "id", ["a", "b", "c", "d"]).append_column(
        "margin", pa.array([1, 2, 3, 4])
    )
    found = compare(store, filed(store, PAIRS), filed(store, other))
    assert set(found.columns) == {
        Change("tags", "list<item: string>", None),
        Change("rank", None, "int64"),
        Change("margin", "double", "int64"),
    }


def test_rows_are_counted_as_gone_kept_and_new(store):
    other = changed(PAIRS.slice(1), "rejected_id", ["4", "6", "new"])
    found = compare(store, filed(store, PAIRS), filed(store, other))
    assert found.rows == (2, 2, 1)


def test_a_pair_stored_the_other_way_round_has_flipped(store):
    other = changed(changed(PAIRS, "chosen_id", ["2", "3", "5", "8"]), "rejected_id", ["1", "4", "6", "7"])
    other = changed(other, "id", ["aa", "b", "c", "dd"])
    found = compare(store, filed(store, PAIRS), filed(store, other))
    assert found.flipped == 2
    assert found.rows == (0, 4, 0)
    assert found.values == {}


@pytest.mark.parametrize(
    ("column", "values", "count"),
    [
        ("margin", [0.5, None, float("nan"), 2.0], 1),
        ("margin", [0.5, 0.0, None, 1.0], 2),
        ("tags", [["x"], None, None, ["z", "y"]], 2),
    ],
)
def test_values_that_differ_are_counted_by_column(store, column, values, count):
    found = compare(store, filed(store, PAIRS), filed(store, changed(PAIRS, column, values)))
    assert found.values == {column: count}


def test_another_order_is_no_other_value(store):
    found = compare(store, filed(store, PAIRS), filed(store, PAIRS.take([2, 0, 1, 3])))
    assert found.reordered
    assert (found.rows, found.flipped, found.values) == ((0, 4, 0), 0, {})


def test_rows_that_are_no_pairs_are_matched_by_id(store):
    prompts = PAIRS.select(["id", "prompt_id", "margin"])
    other = changed(prompts.slice(0, 3), "margin", [0.5, None, 3.0])
    found = compare(store, filed(store, prompts), filed(store, other))
    assert (found.rows, found.values, found.flipped) == ((1, 3, 0), {"margin": 1}, 0)


def with_texts(table: pa.Table) -> pa.Table:
    for name in ("prompt", "chosen", "rejected"):
        said = [[{"role": "user", "content": f"{name} {at}"}] for at in range(table.num_rows)]
        table = table.append_column(name, pa.array(said))
    return table


def test_flipped_pairs_are_named_with_both_sides(store):
    one = with_texts(PAIRS)
    other = changed(changed(one, "chosen_id", ["2", "3", "5", "8"]), "rejected_id", ["1", "4", "6", "7"])
    found = compare(store, filed(store, one), filed(store, other))
    assert found.flips == (
        Flip("a", "prompt 0", "chosen 0", "rejected 0"),
        Flip("d", "prompt 3", "chosen 3", "rejected 3"),
    )
    assert len(compare(store, filed(store, one), filed(store, other), examples=1).flips) == 1


def test_rows_that_are_gone_or_new_are_named(store):
    other = changed(changed(PAIRS.slice(1), "rejected_id", ["4", "6", "new"]), "id", ["b", "c", "e"])
    found = compare(store, filed(store, PAIRS), filed(store, other))
    assert (found.gone, found.new) == (("a", "d"), ("e",))


def test_values_that_differ_have_examples(store):
    other = changed(PAIRS, "margin", [0.5, 2.0, None, 4.0])
    found = compare(store, filed(store, PAIRS), filed(store, other), examples=2)
    assert found.values == {"margin": 3}
    assert found.examples["margin"][0] == Example("b", None, 2.0)
    assert len(found.examples["margin"]) == 2
    assert (
        len(compare(store, filed(store, PAIRS), filed(store, other), examples=None).examples["margin"]) == 3
    )


def test_runs_are_compared_step_by_step(store):
    def run(name: str, models: dict, **steps: Manifest) -> None:
        for manifest in steps.values():
            store.save_step(manifest)
        keys = {f"{at:02d}-{step}": manifest.key for at, (step, manifest) in enumerate(steps.items())}
        store.save_refs(name, keys, {"name": name, "seed": 1, "models": models, "build": []})

    def step(stage: str, table: pa.Table = PAIRS, **more: object) -> Manifest:
        return filed(store, table, stage=stage, key=hash_json([stage, digest(table)]), **more)

    data = step("data")
    fewer = step("margin", PAIRS.slice(1), config={"scale": 2.0})
    run("one", {"a": {"id": "x"}}, data=data, pair=step("pair"), margin=step("margin"), split=step("split"))
    run("two", {"a": {"id": "y"}}, data=data, dedup=step("dedup"), pair=step("pair"), margin=fewer)
    found = compare_runs(store, "one", "two")
    assert found.recipe == (Change("models.a.id", "x", "y"),)
    assert [(each.before, each.after, each.state, each.rows) for each in found.steps] == [
        ("00-data", "00-data", "same", (4, 4)),
        (None, "01-dedup", "added", (None, 4)),
        ("01-pair", "02-pair", "same", (4, 4)),
        ("02-margin", "03-margin", "changed", (4, 3)),
        ("03-split", None, "removed", (4, None)),
    ]
    assert Change("scale", 1.0, 2.0) in found.steps[3].settings
