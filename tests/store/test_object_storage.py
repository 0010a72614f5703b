"""A store in object storage: the digests of a folder, whoever builds, and nothing made or paid for twice."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from prefkit.errors import StoreError
from prefkit.identity import digest
from prefkit.store import DamagedError, Store

TABLE = pa.table({"prompt_id": ["p", "q"], "id": ["a", "b"], "n": [1, None]})


@pytest.fixture(params=["s3", "gs", "memory"])
def anywhere(request) -> str:
    return request.getfixturevalue(request.param)


@pytest.fixture
def address(memory) -> str:
    return memory


def test_a_build_makes_the_digests_of_a_folder_and_a_second_machine_makes_nothing(
    anywhere, recipe, make, expected, machine
):
    first = make(recipe, Store(anywhere))
    assert first == expected
    assert first.calls == 16 * 2 * 2
    machine("two")
    second = make(recipe, Store(anywhere))
    assert second.digests == expected.digests
    assert (second.started, second.parts, second.calls) == ([], 0, 0)


def test_opening_a_store_writes_nothing_there(anywhere):
    store = Store(anywhere)
    assert store.runs() == []
    assert store.remote.listed("") == {}
    assert not store.root.exists()


def test_a_store_is_opened_from_its_address_alone(address, tmp_path, monkeypatch):
    shard = Store(address).put(TABLE)
    assert Store(Store(address).address).get(shard).equals(TABLE)
    monkeypatch.chdir(tmp_path)
    local = Store("runs")
    assert local.address == str(tmp_path / "runs")


def test_an_address_that_was_made_a_path_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="is an address that was made a path"):
        Store(Path("s3://bucket/folder"))
    assert list(tmp_path.iterdir()) == [tmp_path / "one"], "no folder is called s3:"


def test_a_file_address_is_that_folder(tmp_path):
    shard = Store(f"file://{tmp_path}/runs").put(TABLE)
    assert Store(tmp_path / "runs").get(shard).equals(TABLE)


def test_the_mirror_may_be_deleted_and_then_only_what_is_read_is_copied(address, recipe, make, machine):
    store = Store(address)
    made = make(recipe, store)
    shutil.rmtree(store.root)
    again = make(recipe, store)
    assert (again.digests, again.parts, again.calls) == (made.digests, 0, 0)
    assert len(list(store.root.rglob("*.arrow"))) == len(store.resolve("small").shards)


def test_what_stopped_on_one_machine_goes_on_from_there_on_another(anywhere, recipe, make, expected, machine):
    make(recipe, Store(anywhere), until="score")
    machine("two")
    rest = make(recipe, Store(anywhere))
    assert rest.digests == expected.digests
    assert rest.started == ["03-pair", "04-margin"]
    assert rest.calls == 0


def test_no_answer_is_paid_for_again_where_steps_are_made_anew(address, recipe, make, expected, machine):
    store = Store(address)
    make(recipe, store, until="score")
    store.remote.remove(
        [name for folder in ("steps", "parts", "objects") for name in store.remote.listed(folder)]
    )
    machine("two")
    again = make(recipe, Store(address))
    assert again.digests == expected.digests
    assert again.parts > 0
    assert again.calls == 0


@pytest.mark.parametrize(
    ("damage", "place"),
    [("cut", "s3"), ("gone", "gs"), *((damage, "memory") for damage in ("cut", "edited", "gone", "emptied"))],
)
def test_a_damaged_object_is_found_by_whoever_reads_it_and_made_anew(
    damage, place, request, recipe, make, expected, machine
):
    address = request.getfixturevalue(place)
    make(recipe, Store(address))
    machine("two")
    store = Store(address)
    shard = store.resolve("small").shards[1]
    name = f"objects/{shard.digest[:2]}/{shard.digest}.arrow"
    whole = store.remote.read(name)
    if damage == "gone":
        store.remote.remove([name])
    else:
        half = len(whole) // 2
        wrong = {
            "cut": whole[:half],
            "edited": whole[:half] + b"\x00\xff" + whole[half + 2 :],
            "emptied": b"",
        }
        store.remote.write(name, wrong[damage])
    with pytest.raises(DamagedError) as caught:
        store.get(shard)
    assert name in caught.value.where
    mended = make(recipe, Store(address))
    assert mended.digests == expected.digests
    assert mended.calls == 0
    assert store.remote.read(name) == whole, "the same rows are the same bytes"


def test_a_damaged_copy_is_copied_again_and_nothing_is_made(address, recipe, make):
    store = Store(address)
    made = make(recipe, store)
    copy = store.path(store.resolve("small").shards[0])
    copy.write_bytes(copy.read_bytes()[:-40])
    again = make(recipe, Store(address))
    assert (again.digests, again.started) == (made.digests, [])


@pytest.mark.parametrize("folder", ["steps", "parts", "refs"])
def test_damaged_records_count_as_absent(folder, address, recipe, make, expected, machine):
    store = Store(address)
    make(recipe, store)
    for name in store.remote.listed(folder):
        store.remote.write(name, store.remote.read(name)[:-20])
    if folder == "refs":
        with pytest.raises(StoreError, match="is damaged"):
            store.resolve("small")
    machine("two")
    again = make(recipe, Store(address))
    assert (again.digests, again.calls) == (expected.digests, 0)
    assert Store(address).resolve("small").digest == list(expected.digests.values())[-1]


def test_every_object_is_whole_and_named_by_its_content(address, recipe, make):
    store = Store(address)
    make(recipe, store)
    names = list(store.remote.listed("objects"))
    assert names
    for name in names:
        table = pa.ipc.open_file(store.remote.read(name)).read_all()
        assert digest(table) == Path(name).stem


def test_requests_grow_with_what_is_made_and_not_with_what_is_there(s3, s3_server, recipe, make, machine):
    def asked(build) -> Counter[str]:
        before = len(s3_server.requests())
        build()
        lines = s3_server.requests()[before:]
        return Counter("LIST" if "list-type=2" in line else line.split()[0] for line in lines)

    cold = asked(lambda: make(recipe, Store(s3)))
    parts, steps = 13, 5  # `pair` groups, `sample`, `score` and `margin` map: 4 parts each but for the source
    assert cold["LIST"] <= steps + 5
    assert cold["PUT"] <= 2 * 2 * parts + 3 * steps + 3
    warm = asked(lambda: make(recipe, Store(s3)))
    assert warm["PUT"] == 1, "the lease"
    assert warm["LIST"] <= 4
    assert warm["GET"] + warm["HEAD"] <= 1 + steps + 2 * (steps + 1) + 16
    machine("two")
    copied = asked(lambda: make(recipe, Store(s3)))
    assert copied["GET"] == warm["GET"] + 4, "the rows of the last step"


def test_a_warm_build_lists_objects_instead_of_asking_for_each(s3, s3_server, tmp_path):
    store = Store(s3)
    shards = [store.put(pa.table({"id": [str(number)]})) for number in range(60)]
    before = len(s3_server.requests())
    with store.locked():
        assert all(map(store.has, shards))
        assert all(map(store.has, shards))
    asked = s3_server.requests()[before:]
    assert sum(line.startswith("HEAD") for line in asked) == 16
    assert sum("prefix" in line and "objects" in line for line in asked) == 1
    store.discard(shards[30])
    assert not store.has(shards[30]), "what this machine removed is not believed to be there"


@pytest.mark.slow
def test_a_big_object_goes_up_in_parts_and_is_whole(s3, s3_server):
    store = Store(s3)
    table = pa.table({"id": np.random.default_rng(0).integers(0, 1 << 62, 14 << 20)})  # 112 MiB
    shard = store.put(table)
    assert sum("uploadId" in line and "PUT" in line for line in s3_server.requests()) > 1
    shutil.rmtree(store.root)
    assert Store(s3).get(shard).equals(table)
