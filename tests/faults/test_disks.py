"""Disks that are full, out of inodes or read-only. What one process meets is in tests/cli/test_broken_store.py."""

import contextlib
import resource
import shutil
from pathlib import Path

import pytest

READERS = (["show", "small"], ["card", "small"], ["verify"], ["verify", "small/pair"])


@pytest.fixture
def whole(bench):
    return bench.unbroken()


@pytest.mark.parametrize("room", ["size=200k", "size=1m,nr_inodes=12", "size=1m,nr_inodes=26"])
def test_a_disk_without_room_or_inodes_is_one_clear_error_and_the_next_build_goes_on(
    bench, tmpfs, whole, room
):
    tmpfs(room)
    told = bench.tells(bench.start(*bench.command(store="disk/runs")))
    assert "No space left on device" in told or "full" in told
    assert "hint" in told
    bench.check_sound("disk/runs")
    tmpfs("size=8m,nr_inodes=1000")
    bench.check_whole(whole, store="disk/runs")
    assert bench.asked_twice() == []


def test_a_disk_that_fills_up_under_workers_is_one_clear_error_and_the_next_build_goes_on(bench, tmpfs):
    whole = bench.unbroken("many")
    tmpfs("size=3m")
    told = bench.tells(bench.start(*bench.command("many", "-j", "2", store="disk/runs")))
    assert "No space left on device" in told
    assert list((bench.folder / "disk").rglob("objects/**/.tmp-*")) == [], "nothing half-written takes room"
    bench.check_sound("disk/runs")
    tmpfs("size=64m")
    bench.check_whole(whole, "many", store="disk/runs")


@pytest.mark.parametrize("size", [2000, 6000, 30_000])
def test_a_quota_is_one_clear_error_and_the_next_build_goes_on(bench, whole, size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        child = bench.start(*bench.command())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    bench.tells(child)
    bench.check_sound()
    bench.check_whole(whole)
    assert bench.asked_twice() == []


def test_a_read_only_store_is_checked_and_read_and_nothing_is_written_to_it(bench, tmpfs, whole):
    tmpfs("size=8m")
    shutil.copytree("whole", "disk/runs")
    before = sorted(path.name for path in Path("disk").rglob("*"))
    tmpfs("ro")
    for arguments in READERS:
        code, out, err = bench.cli(*arguments, "--store", "disk/runs")
        assert code == 0, err
        assert out or "sound" in err
    assert bench.build(store="disk/runs") == whole
    assert sorted(path.name for path in Path("disk").rglob("*")) == before
    told = bench.tells(bench.start(*bench.command("small", "--set", "seed=9", store="disk/runs")))
    assert "Read-only file system" in told


def test_a_read_only_store_of_a_killed_build_is_checked(bench, tmpfs, whole):
    """Its memo has a log that SQLite would want an index for, beside it."""
    tmpfs("size=8m")
    child = bench.hooked(*bench.command(store="disk/runs"), store="disk/runs", at=200)
    assert bench.ends(child)[0] == -9
    with contextlib.suppress(FileNotFoundError):
        Path("disk/runs/memo.sqlite-shm").unlink()
    tmpfs("ro")
    assert bench.verify("--store", "disk/runs") == (0, [])
