"""Faults of object storage and of those who use it: what a user is told, and that nothing is lost."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

import fsspec
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from prefkit.cli import run
from prefkit.errors import StoreError
from prefkit.remote import Remote
from prefkit.remote_errors import masked
from prefkit.store import Store

TABLE = pa.table({"prompt_id": ["p", "q"], "id": ["a", "b"]})
BUILD = """
import sys
from prefkit.engines.placement import Placement
from prefkit.recipe import Recipe
from prefkit.run import Settings, build
from prefkit.store import Store

place = Placement(engines={"policy": "fake", "reward": "fake"})
made = build(Recipe.load(sys.argv[1]), Store(sys.argv[2]), Settings(place, shard_rows=4))
print(",".join(manifest.digest for manifest in made.steps.values()))
"""


def building(recipe: Path, address: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(recipe), address],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


class Line:
    """A line to a server that goes dead in the middle of an upload."""

    def __init__(self, url: str, after: int) -> None:
        """Let this many uploads of objects through, and half of the next one."""
        host, _, port = url.removeprefix("http://").partition(":")
        self._server, self._left = (host, int(port)), after
        self.stuck = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._open = [self._listening]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for each in self._open:
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            far = socket.create_connection(self._server)
            self._open += [near, far]
            threading.Thread(target=self._carry, args=(near, far), daemon=True).start()
            threading.Thread(target=self._carry, args=(far, near), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                if data.startswith(b"PUT ") and b"/objects/" in data.partition(b"\r\n")[0]:
                    self._left -= 1
                    if self._left < 0:
                        target.sendall(data[: len(data) // 2])
                        self.stuck.set()
                        return
                target.sendall(data)
        except OSError:
            return


@pytest.mark.parametrize("after", [0, 6])
def test_a_build_killed_in_the_middle_of_an_upload_is_finished_by_another_machine(
    after, s3, s3_server, recipe, make, expected, machine, tmp_path
):
    line = Line(s3_server.url, after)
    killed = building(recipe, s3, AWS_ENDPOINT_URL=line.url)
    assert line.stuck.wait(120)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    line.close()
    machine("two")
    store = Store(s3)
    for name in store.remote.listed("objects"):
        assert pa.ipc.open_file(store.remote.read(name)).read_all().num_rows > 0, "no half object is seen"
    filed = [Path(name).stem for name in store.remote.listed("parts")]
    named = [shard for part in store.parts(filed).values() for shard in part.outputs]
    assert all(store.has(shard) for shard in named), "a part is there after what it names"
    stands = len(filed) + (4 if store.remote.listed("steps") else 0)  # the data is read in 4 shards
    assert (stands >= 4) == (after >= 4)
    finished = make(recipe, store)
    assert finished.digests == expected.digests
    assert finished.parts == expected.parts - stands, "a part that is there is not made again"


def test_two_builds_at_once_on_one_store_make_the_same_and_leave_it_sound(
    s3, recipe, make, expected, machine, tmp_path
):
    both = [building(recipe, s3, PREFKIT_CACHE=str(tmp_path / name)) for name in ("a", "b")]
    told = [each.communicate(timeout=240)[0].strip().split(",") for each in both]
    assert told == [list(expected.digests.values())] * 2
    machine("three")
    after = make(recipe, Store(s3))
    assert (after.digests, after.parts, after.calls) == (expected.digests, 0, 0)
    assert Store(s3).remote.listed("leases") == {}


class Faulty(MemoryFileSystem):
    """Storage that refuses, is full or is busy: `faulty://refuses/…`."""

    protocol = "faulty"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    left = 0

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("faulty://", "memory://"))

    def _fail(self, path: str) -> None:
        kind = self._strip_protocol(path).split("/")[1]
        if kind == "refuses":
            raise PermissionError("Access Denied")
        if kind == "full":
            raise OSError(errno.EIO, "QuotaExceeded: the quota of the project is used up")
        if kind == "busy" and Faulty.left:
            Faulty.left -= 1
            raise OSError(errno.EBUSY, "Please reduce your request rate.")
        if kind == "torn" and Faulty.left:
            Faulty.left -= 1
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        self._fail(path)
        return super().pipe_file(path, value, mode)

    def put_file(self, lpath, rpath, **kwargs):
        self._fail(rpath)
        return super().put_file(lpath, rpath, **kwargs)


@pytest.fixture
def faulty():
    fsspec.register_implementation("faulty", Faulty, clobber=True)
    Faulty.left = 0
    Faulty.store.clear()


@pytest.mark.parametrize("kind", ["busy", "torn"])
def test_a_build_does_not_die_of_what_passes(kind, faulty, recipe, make, expected):
    store = Store(f"faulty://{kind}/store")
    store.put(TABLE)
    Faulty.left = 2
    assert make(recipe, store).digests == expected.digests
    assert Faulty.left == 0


@pytest.mark.parametrize(
    ("kind", "what", "hint"),
    [("refuses", "the storage refuses: Access Denied", "rights"), ("full", "has no room", "quota")],
)
def test_what_does_not_pass_is_told_at_once(kind, what, hint, faulty):
    with pytest.raises(StoreError, match=what) as caught:
        Store(f"faulty://{kind}/store").put(TABLE)
    assert hint in caught.value.hint
    assert f"faulty://{kind}/store/" in caught.value.where


def test_a_store_that_may_only_be_read_is_read_without_a_lease(faulty, recipe, make, machine):
    made = make(recipe, Store("faulty://store/x"))
    Faulty.store.update({name.replace("/store/", "/refuses/"): data for name, data in Faulty.store.items()})
    machine("two")
    store = Store("faulty://refuses/x")
    with store.locked():
        assert store.resolve("small").digest == made.digests["04-margin"]
        assert store.table(store.resolve("small")).num_rows
    with pytest.raises(StoreError, match="refuses"), store.locked(exclusive=True):
        pass


def test_storage_that_knows_no_single_put_is_written_by_renaming(faulty):
    store = Store("faulty://store/x")
    store.put(TABLE)
    assert not [name for name in Faulty.store if ".tmp-" in name]
    assert store.get(store.put(TABLE)).equals(TABLE)


def test_a_bucket_that_is_not_there_is_told(s3):
    with pytest.raises(StoreError, match="there is no such bucket") as caught:
        Store("s3://other-bucket/x")
    assert caught.value.where == "s3://other-bucket/x/store.json"


@pytest.mark.parametrize(
    ("address", "what", "hint"),
    [
        ("abfs://box/x", "needs a library that is not installed", "install"),
        ("nothing://box/x", "is no kind of storage", "s3://bucket/folder"),
    ],
)
def test_storage_that_cannot_be_used_here_is_told(address, what, hint):
    with pytest.raises(StoreError, match=what) as caught:
        Store(address)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("environment", "what", "hint"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "does not answer", "check the network"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "no credentials", "AWS_ACCESS_KEY_ID"),
    ],
)
def test_no_network_and_no_credentials_are_told(environment, what, hint, s3, tmp_path):
    command = [sys.executable, "-m", "prefkit", "show", "--store", s3]
    environment = {name: value for name, value in {**os.environ, **environment}.items() if value}
    environment["HOME"] = str(tmp_path)
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert what in done.stderr
    assert hint in done.stderr


def test_secrets_in_an_address_are_not_shown(faulty):
    address = "faulty://me:hunter2@refuses/store?token=hunter3"
    assert masked(address) == "faulty://***@refuses/store?***"
    with pytest.raises(StoreError) as caught:
        Store("nothing://me:hunter2@box/x?key=hunter3")
    assert "hunter" not in str(caught.value)
    assert "hunter" not in Remote(address).where("store.json")


def test_names_that_leave_the_store_are_not_copied(faulty, tmp_path):
    store = Store("faulty://store/x")
    store.put(TABLE)
    for name in ("trained/../../../../evil/report.json", "trained/a/report.json"):
        Faulty.store[f"/store/x/{name}"] = next(iter(Faulty.store.values()))
    assert [path.relative_to(store.root).as_posix() for path in store.files("trained/*/report.json")] == [
        "trained/a/report.json"
    ]


def test_every_verb_reads_and_writes_object_storage(memory, recipe, tmp_path, monkeypatch, capsys, machine):
    monkeypatch.chdir(tmp_path)
    place = ["--engine", "policy=fake", "--engine", "reward=fake"]
    assert run(["build", str(recipe), "--store", memory, *place]) == 0
    machine("two")
    for arguments in (
        ["plan", str(recipe)],
        ["show"],
        ["show", "small/pair"],
        ["card", "small", "card.md"],
        ["report", "small", "report.html"],
        ["export", "small", "exported", "--to", "trl"],
        ["diff", "small/pair", "small/margin"],
        ["gc", "--yes"],
    ):
        assert run([*arguments, "--store", memory]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "small/04-margin" in out
    assert (tmp_path / "exported").is_dir()
    row = Store(memory).table(Store(memory).resolve("small"))["id"][0].as_py()
    assert run(["why", "small", row, "--store", memory]) == 0
    assert "sample" in capsys.readouterr().out


def test_folders_of_models_and_reports_are_copied_back_and_forth(memory, machine):
    one = Store(memory)
    out = one.root / "trained" / "small-0123"
    with one.synced(out):
        (out / "model").mkdir(parents=True)
        (out / "checkpoint").mkdir()
        for name in ("model/weights", "checkpoint/state", "report.json"):
            (out / name).write_text(name)
    machine("two")
    two = Store(memory)
    there = two.root / "trained" / "small-0123"
    with two.synced(there):
        assert sorted(path.name for path in there.rglob("*") if path.is_file()) == ["report.json", "weights"]
        (there / "report.json").write_text("changed!")
        (there / "model" / "weights").unlink()
    with pytest.raises(RuntimeError), two.synced(there):
        (there / "report.json").write_text("by a run that failed")
        raise RuntimeError
    assert set(two.remote.listed("trained")) == {"trained/small-0123/report.json"}
    assert two.remote.read("trained/small-0123/report.json") == b"changed!"
