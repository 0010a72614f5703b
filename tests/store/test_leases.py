"""Builds and `gc` on one store in object storage: neither takes from the other, whatever their clocks say."""

import threading
import time
from datetime import UTC, datetime, timedelta

import fsspec
import pytest

from prefkit.errors import StoreError
from prefkit.gc import collect, find
from prefkit.leases import STALE_SECONDS
from prefkit.store import Store


def age(address: str, seconds: float) -> None:
    """Let the storage's time pass for every lease in it."""
    files = fsspec.filesystem("memory").store
    folder = "/" + address.partition("://")[2] + "/leases/"
    for name in [name for name in files if name.startswith(folder)]:
        files[name].modified = files[name].created = datetime.now(UTC) - timedelta(seconds=seconds)


@pytest.fixture(params=["s3", "memory"])
def anywhere(request) -> str:
    return request.getfixturevalue(request.param)


def test_gc_deletes_only_what_no_ref_reaches(anywhere, recipe, make, machine):
    make(recipe, Store(anywhere))
    make(recipe, Store(anywhere), sets=("build.margin.scale=3.0",))
    machine("two")
    store = Store(anywhere)
    before = set(store.remote.listed(""))
    garbage = find(store)
    assert set(store.remote.listed("")) == before, "finding deletes nothing"
    assert {name.removeprefix(store.shown).split("/")[1] for name in garbage.files} == {
        "steps",
        "parts",
        "objects",
    }
    assert collect(store) == garbage
    gone = before - set(store.remote.listed(""))
    assert {store.place.where(name) for name in gone} == set(garbage.files)
    assert find(store).files == ()
    machine("three")
    left = make(recipe, Store(anywhere), sets=("build.margin.scale=3.0",))
    assert (left.started, left.parts, left.calls) == ([], 0, 0)
    assert make(recipe, Store(anywhere)).started == ["04-margin"]


def test_gc_refuses_while_a_build_runs_on_another_machine(anywhere, machine):
    with Store(anywhere).locked():
        machine("two")
        store = Store(anywhere)
        with pytest.raises(StoreError, match="a build is running"):
            collect(store)
        assert len(store.remote.listed("leases")) == 1, "it leaves no lease of its own behind"
        with store.locked():
            assert len(store.remote.listed("leases")) == 2, "builds do not exclude each other"
    assert Store(anywhere).remote.listed("leases") == {}
    collect(Store(anywhere))


def test_a_build_waits_until_gc_is_done(memory, machine):
    began = threading.Event()

    def build() -> None:
        with waiting.locked():
            began.set()

    collecting = Store(memory)
    with collecting.locked(exclusive=True):
        machine("two")
        waiting = Store(memory)
        thread = threading.Thread(target=build)
        thread.start()
        assert not began.wait(1.0)
    thread.join(30)
    assert began.is_set()


@pytest.mark.parametrize("clock", [0.0, 4e9])
def test_no_clock_of_a_machine_is_believed(memory, machine, monkeypatch, clock):
    monkeypatch.setattr(time, "time", lambda: clock)
    with Store(memory).locked():
        machine("two")
        with pytest.raises(StoreError, match="a build is running"):
            collect(Store(memory))


def test_a_killed_build_holds_gc_up_for_five_minutes_and_not_longer(memory, machine):
    store = Store(memory)
    store._make()
    store.remote.write("leases/build-0123456789abcdef.json", b"{}\n")  # what a kill -9 leaves
    age(memory, STALE_SECONDS - 30)
    with pytest.raises(StoreError, match="killed less than five minutes ago"):
        collect(store)
    age(memory, STALE_SECONDS + 30)
    collect(store)


def test_a_build_that_slept_while_gc_ran_files_no_step_and_no_ref(memory, machine, recipe, make):
    slept = Store(memory)
    done = make(recipe, slept)
    manifest = slept.resolve("small")
    with slept.locked():
        age(memory, STALE_SECONDS + 30)
        machine("two")
        collect(Store(memory))
        for file in (
            lambda: slept.save_step(manifest),
            lambda: slept.save_refs("other", {"00-data": manifest.key}, {}),
        ):
            with pytest.raises(StoreError, match="was not heard of") as caught:
                file()
            assert "run it again" in caught.value.hint
    assert Store(memory).runs() == ["small"]
    assert make(recipe, slept).digests == done.digests


def test_a_run_of_gc_that_slept_deletes_nothing_more(memory, machine, recipe, make):
    collecting = Store(memory)
    make(recipe, collecting)
    with collecting.locked(exclusive=True):
        age(memory, STALE_SECONDS + 30)
        machine("two")
        with Store(memory).locked(), pytest.raises(StoreError, match="was not heard of"):
            collecting.check_lease()
