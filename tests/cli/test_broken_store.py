"""A store that is full, read-only, damaged, newer or edited: one clear error, and the next build ends as if unbroken."""

import contextlib
import json
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prefkit.engines.memo import Memo
from prefkit.store import Store

READERS = (["show"], ["show", "small"], ["card", "small"], ["gc"], ["export", "small", "out"])


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a number of bytes: a quota that needs no root."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def temporary(root: Path) -> list[Path]:
    return list(root.rglob(".tmp-*"))


# full and read-only disks


@pytest.mark.parametrize("size", [8, 20, 44, 84, 160, 236, 260, 284])
def test_a_full_disk_is_one_clear_error_and_the_next_build_goes_on(cli, tmpfs, size):
    whole = cli.digests("--store", "whole")
    disk = tmpfs(f"size={size}k")
    told = cli.build_fails("--store", "disk/runs")
    assert told.what.startswith(("cannot write", "the memo of engine answers cannot be"))
    assert told.where.startswith("disk/runs")
    assert told.hint
    assert temporary(disk) == [], "no half-written file takes the room that is missing"
    tmpfs("size=8m")
    assert cli.digests("--store", "disk/runs") == whole


def test_a_disk_that_fills_up_keeps_the_finished_steps(cli, tmpfs):
    whole = cli.digests("--store", "whole")
    tmpfs("size=284k")
    cli.build_fails("--store", "disk/runs")
    tmpfs("size=8m")
    assert cli.cached("--store", "disk/runs") >= 3
    assert cli.digests("--store", "disk/runs") == whole


@pytest.mark.parametrize("size", [100, 1000, 3000, 5000, 9000])
def test_a_quota_on_files_is_one_clear_error_and_the_next_build_goes_on(cli, size):
    whole = cli.digests("--store", "whole")
    with largest_file(size):
        told = cli.build_fails()
    assert told.where.startswith("runs")
    assert temporary(Path("runs")) == []
    assert cli.digests() == whole


def test_a_full_disk_spoils_no_earlier_copy_of_what_is_written_over(cli, tmpfs, finished):
    disk = tmpfs("size=2m")
    for arguments in (["card", "small", "disk/card.md"], ["card", "small", "disk/card.html"]):
        cli.ok(*arguments)
    cli.ok("export", "small", "disk/out")
    before = {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
    (disk / "filler").write_bytes(
        bytes(2**21 - sum(4096 * (1 + len(b) // 4096) for b in before.values()) - 2**16)
    )
    with contextlib.suppress(OSError), (disk / "rest").open("wb", buffering=0) as rest:
        while rest.write(bytes(4096)):
            pass
    for arguments in (["card", "small", "disk/card.md"], ["card", "small", "disk/card.html"]):
        assert "No space left" in cli.fails(*arguments).what
    assert "No space left" in cli.fails("export", "small", "disk/out").what
    assert cli.fails("new", "quickstart", "disk/new").where == "disk/new"
    assert {path: path.read_bytes() for path in before} == before
    assert temporary(disk) == []


def test_a_full_disk_behind_stdout_is_one_clear_error(cli, finished):
    import sys

    program = [sys.executable, "-c", "from prefkit.cli import main; main()", "show", "small", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(program, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write: No space left on device\n  where: the output\n")
    assert done.stderr.count("\n") == 3


def test_a_read_only_store_is_read_and_a_finished_build_found_in_it(cli, tmpfs):
    whole = cli.digests("--store", "whole")
    tmpfs("size=8m")
    shutil.copytree("whole", "disk/runs")
    tmpfs("ro")
    for arguments in READERS:
        cli.ok(*arguments, "--store", "disk/runs")
    assert cli.cached("--store", "disk/runs") == len(whole)
    for arguments in (["--set", "seed=4"], ["--refresh", "margin"]):
        assert "Read-only file system" in cli.build_fails(*arguments, "--store", "disk/runs").what
    assert "Read-only file system" in cli.fails("gc", "--yes", "--store", "disk/runs").what
    assert "Read-only file system" in cli.build_fails("--store", "disk/other").what


# other versions, other things


@pytest.mark.parametrize(
    "marker", ['{"format": 2}', '{"format": "2"}', '{"format": null}', "[]", "", "\x1b[31m"]
)
def test_a_store_that_this_version_does_not_know_is_left_alone(cli, finished, marker):
    Path("runs/store.json").write_text(marker)
    before = sorted(Path("runs").rglob("*"))
    for arguments in (*READERS, ["plan", "small.yaml"], ["build", "small.yaml"], ["gc", "--yes"]):
        told = cli.fails(*arguments)
        assert told.where.startswith("runs")
        assert "--store" in told.hint
    assert sorted(Path("runs").rglob("*")) == before


def test_a_store_that_is_a_file_is_left_alone(cli):
    Path("file").write_text("mine")
    for root in ("file", "file/runs"):
        for arguments in (*READERS, ["plan", "small.yaml"], ["build", "small.yaml", *cli.engines]):
            assert cli.fails(*arguments, "--store", root).what == f"the store '{root}' is not a folder"
    assert Path("file").read_text() == "mine"


# damage and edits

DAMAGE = {
    "empty": lambda _: b"",
    "cut": lambda data: data[: len(data) // 2],
    "binary": lambda _: b"\xff\x00",
    "other": lambda _: b'{"a": 1}',
    "null": lambda _: b"null",
    "deep": lambda _: b"[" * 100_000,
    "edited": lambda data: data.replace(b'"key": "', b'"key": "0', 1),
    "escape": lambda data: data.replace(b'"key": "', b'"key": "../../', 1),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_ref_is_named_and_nothing_is_collected_by_mistake(cli, finished, how):
    path = Path("runs/refs/small/01-sample.json")
    path.write_bytes(DAMAGE[how](path.read_bytes()))
    for arguments in (*READERS, ["gc", "--yes"], ["diff", "small", "small"]):
        told = cli.fails(*arguments)
        assert told.what == "the ref 'small/01-sample' is damaged"
        assert told.where == str(path)
        assert "prefkit build" in told.hint
    assert cli.cached() == len(finished)
    assert cli.digests() == finished
    cli.ok("show", "small/sample")


@pytest.mark.parametrize("how", [*DAMAGE, "gone"])
def test_a_damaged_manifest_is_named_and_made_again(cli, finished, keys, how):
    path = Path("runs/steps") / f"{keys['03-score']}.json"
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(DAMAGE[how](path.read_bytes()))
    for arguments in (
        ["show"],
        ["show", "small/score"],
        ["card", "small"],
        ["export", "small", "out"],
        ["gc", "--yes"],
    ):
        told = cli.fails(*arguments)
        assert told.what == "the manifest of 'small/03-score' is gone or damaged"
        assert told.where == str(path)
    assert cli.cached() == len(finished) - 1
    assert cli.digests() == finished


def edit(path: Path, change: Callable[[dict], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.update(digest="0" * 32),
        lambda manifest: manifest.update(shards=[]),
        lambda manifest: manifest["shards"][0].update(digest="../../../etc/passwd"),
        lambda manifest: manifest["rows"].update(dropped=0, kept=10**30),
        lambda manifest: manifest.update(config={"model": "\x1b[31m"}),
        lambda manifest: manifest.pop("seal"),
    ],
)
def test_a_manifest_that_was_edited_is_never_believed(cli, finished, keys, change):
    edit(Path("runs/steps") / f"{keys['06-reference']}.json", change)
    assert "is gone or damaged" in cli.fails("card", "small").what
    assert cli.digests() == finished


def test_a_manifest_under_the_key_of_another_is_never_believed(cli, finished, keys):
    folder = Path("runs/steps")
    shutil.copy(folder / f"{keys['02-filter']}.json", folder / f"{keys['03-score']}.json")
    assert "is gone or damaged" in cli.fails("show", "small/score").what
    assert cli.digests() == finished


@pytest.mark.parametrize("how", ["empty", "cut", "edited"])
def test_damaged_parts_are_made_again(cli, finished, how):
    parts = list(Path("runs/parts").glob("*.json"))
    assert len(parts) >= len(finished) - 1
    for path in parts:
        path.write_bytes(DAMAGE[how](path.read_bytes()))
    for path in Path("runs/steps").glob("*.json"):
        path.unlink()
    assert cli.cached() == 0
    assert cli.digests() == finished


def test_a_damaged_recipe_of_a_run_is_named(cli, finished):
    edit(Path("runs/refs/small/recipe.json"), lambda recipe: recipe.update(seed=9))
    assert cli.fails("card", "small").what == "the recipe of run 'small' is gone or damaged"
    assert cli.digests() == finished
    cli.ok("card", "small")


def test_a_build_that_stops_early_takes_no_later_step_from_a_run_it_fits(cli, finished):
    cli.build("--until", "sample")
    assert [ref.step for ref in Store("runs").refs("small")] == list(finished)
    cli.build("--until", "sample", "--set", "seed=4")
    assert [ref.step for ref in Store("runs").refs("small")] == ["00-data", "01-sample"]
    assert cli.cached() == len(finished), "the later steps are filed still"


# the memo


def scramble(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:4096] + bytes(reversed(data[4096:])))


def newer(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 9")
        db.commit()


def other(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE answers (question TEXT)")
        db.execute("PRAGMA user_version = 1")
        db.commit()


@pytest.mark.parametrize(
    "damage",
    [
        scramble,
        newer,
        other,
        lambda path: path.write_bytes(b"nonsense" * 999),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_a_damaged_memo_is_named_and_moved_away_by_hand(cli, finished, damage):
    path = Path("runs/memo.sqlite")
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")  # one file, all of it damaged
    damage(path)
    told = cli.build_fails("--refresh", "sample")
    assert told.what.startswith("the memo of engine answers ")
    assert told.where == str(path)
    assert "move the file away" in told.hint or "upgrade" in told.hint
    assert cli.cached() == len(finished), "what is finished needs no memo"
    path.rename("away")
    assert cli.digests("--refresh", "sample") == finished


def test_an_empty_memo_is_a_new_one(cli, finished):
    for path in Path("runs").glob("memo.sqlite*"):
        path.unlink()
    Path("runs/memo.sqlite").touch()
    assert cli.digests("--refresh", "sample") == finished
    assert Memo(Path("runs/memo.sqlite")).find([b"x"]) == {}
