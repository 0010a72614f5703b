"""Files made to fill memory or disk, to be waited for for ever, or to lead elsewhere: refused, and soon."""

import gzip
import io
import json
import os
import sqlite3
import time
import zlib
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import ipc

from prefkit import sources
from prefkit.engines import Completion, Message, Model, Request, Spend
from prefkit.engines.fake import FakeEngine
from prefkit.engines.memo import Memo, Remembering
from prefkit.errors import DataError, StoreError
from prefkit.judging.verdicts import choice, first_error, number, ranking, read
from prefkit.manifest import Shard
from prefkit.sources import files
from prefkit.sources.source import Source
from prefkit.store import DamagedError, Store

MODEL = Model(id="test/model")
ASKED = Request((Message("user", "hi"),), 4)
SECONDS = 30
"""What any of these may take on a machine with other things to do; each takes less than one."""


def refused(name: str, **settings) -> str:
    """Read a file that is to be refused, within seconds; return what is said."""
    source, started = Source.model_validate({"file": name, **settings}), time.process_time()
    with pytest.raises(DataError) as caught:
        for _ in sources.read(source, Path()):
            pass
    assert time.process_time() - started < SECONDS
    return caught.value.what


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def squeezed(head: bytes, unit: bytes, times: int) -> bytes:
    """Compress a text that nobody has to hold."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([packer.compress(head), *(packer.compress(unit) for _ in range(times)), packer.flush()])


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("a.jsonl.gz", b'{"prompt": "'),
        ("a.json.gz", b'[{"prompt": "'),
        ("a.csv.gz", b"prompt,response\n"),
        ("b.json.gz", b"["),
    ],
)
def test_a_file_that_unfolds_without_end_is_refused(name, head, monkeypatch):
    monkeypatch.setattr(files, "_FREELY", 1 << 20)
    unit = b" " if name == "b.json.gz" else b"a"
    Path(name).write_bytes(squeezed(head, unit * (1 << 18), 16))
    assert Path(name).stat().st_size < 10_000
    assert "unfolds to more than 250 times its size" in refused(name)


def test_a_file_that_is_compressed_as_rows_are_is_read():
    rows = [{"prompt": f"q{n % 7}", "response": f"{n} {n * n} {n**3}", "score": n} for n in range(3000)]
    Path("a.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    assert sum(batch.table.num_rows for batch in sources.read(Source(file="a.jsonl.gz"), Path())) == 3000


def test_rows_that_hold_nothing_are_not_read_one_by_one():
    schema = pa.schema([("prompt", pa.null()), ("response", pa.null())])
    sink = io.BytesIO()
    with ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch([pa.nulls((1 << 31) - 1)] * 2, schema=schema))
    Path("a.arrow").write_bytes(sink.getvalue())
    assert "claims 2,147,483,647 rows" in refused(
        "a.arrow", columns={"prompt": "prompt", "response": "response"}
    )


def test_a_table_of_very_many_columns_is_looked_at_once():
    Path("a.csv").write_text(",".join(f"c{n}" for n in range(2_000)) + ",c7\n")
    assert "two columns called 'c7'" in refused("a.csv")
    Path("a.csv").write_text(",".join(f"c{n}" for n in range(50_000)) + "\n")
    assert "has 50,000 columns" in refused("a.csv")


@pytest.mark.parametrize("depth", [10_000, 300_000])
def test_deep_nesting_is_a_row_that_cannot_be_read(depth):
    Path("a.jsonl").write_text('{"prompt": ' + "[" * depth + "]" * depth + "}\n")
    assert "no row that can be read: invalid JSON" in refused("a.jsonl")


@pytest.mark.parametrize("name", ["pipe", "/dev/zero", "link.jsonl"])
def test_what_is_no_file_is_not_waited_for(name):
    os.mkfifo("pipe")
    Path("link.jsonl").symlink_to("/dev/zero")
    assert "is not a regular file" in refused(name)


def test_a_store_full_of_pipes_and_devices_is_not_waited_for():
    for key, name in enumerate(("steps", "parts")):
        Path("store", name).mkdir(parents=True)
        os.mkfifo(f"store/{name}/{key}.json")
        Path(f"store/{name}/zero.json").symlink_to("/dev/zero")
    store = Store("store")
    for look in (
        lambda: store.step("0"),
        lambda: store.part("1"),
        lambda: store.step("zero"),
        lambda: store.part("zero"),
    ):
        with pytest.raises(StoreError, match="not a regular file"):
            look()
    shard = Shard(digest="ab" + "0" * 30, rows=1, bytes=1)
    Path("store/objects/ab").mkdir(parents=True)
    os.mkfifo(f"store/objects/ab/{shard.digest}.arrow")
    with pytest.raises(DamagedError, match="not a regular file"):
        store.get(shard)


def test_offsets_that_point_outside_are_never_followed():
    buffers = [
        None,
        pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 1 << 30, 5))),
        pa.py_buffer(b"abcde"),
    ]
    inner = pa.Array.from_buffers(pa.string(), 2, buffers)
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 1 << 30, 2)))
    listed = pa.Array.from_buffers(pa.list_(pa.string()), 2, [None, offsets], children=[pa.array(["a", "b"])])
    for column in (inner, listed):
        sink = io.BytesIO()
        with ipc.new_file(sink, pa.schema([("prompt", column.type)])) as writer:
            writer.write_batch(pa.record_batch([column], names=["prompt"]))
        shard = Shard(digest="ab" + "0" * 30, rows=2, bytes=len(sink.getvalue()))
        path = Path(f"store/objects/ab/{shard.digest}.arrow")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sink.getvalue())
        with pytest.raises(DamagedError):
            Store("store").get(shard)


HOSTILE_SCHEMAS = {
    "view": "DROP TABLE answers; CREATE VIEW answers AS WITH RECURSIVE n(key) AS (SELECT 1 UNION ALL SELECT key + 1 FROM n) "
    "SELECT key, 'x' AS answer FROM n",
    "trigger": "CREATE TRIGGER t BEFORE INSERT ON answers BEGIN DELETE FROM answers; END",
    "table": "DROP TABLE answers; CREATE TABLE answers (key, answer, more AS (zeroblob(1000000000)))",
}


@pytest.mark.parametrize("kind", HOSTILE_SCHEMAS)
def test_a_memo_with_code_of_its_own_is_refused(kind):
    Memo(Path("memo.sqlite"))
    db = sqlite3.connect("memo.sqlite")
    db.executescript(HOSTILE_SCHEMAS[kind])
    db.commit()
    db.close()
    for read_only in (True, False):
        with pytest.raises(StoreError, match=f"has a {kind} that is not its own") as caught:
            Memo(Path("memo.sqlite"), read_only=read_only)
        assert "move the file away" in caught.value.hint


def test_a_memo_that_is_a_pipe_is_not_waited_for():
    os.mkfifo("memo.sqlite")
    with pytest.raises(StoreError, match="not a regular file"):
        Memo(Path("memo.sqlite"))


@pytest.mark.parametrize(
    "answer", [b"1", b"{}", b'["hi"]', b'[1, 2, "stop"]', b'["hi", "many", "stop"]', b"\xff", None, 5]
)
def test_what_is_no_answer_is_never_given_as_one(answer):
    memo = Memo(Path("memo.sqlite"))
    engine = Remembering(FakeEngine(), memo, Spend(), lambda model: model.id)
    ((_, first),) = engine.generate(MODEL, [ASKED])
    assert list(engine.generate(MODEL, [ASKED])) == [(0, first)]
    db = sqlite3.connect("memo.sqlite")
    db.execute("UPDATE answers SET answer = ?", (answer,))
    db.commit()
    db.close()
    with pytest.raises(StoreError, match="holds something that is no answer"):
        list(engine.generate(MODEL, [ASKED]))


MEANINGS = {"choice": choice, "number": number(1, 10), "ranking": ranking(3), "first_error": first_error(4)}


@pytest.mark.parametrize("meaning", MEANINGS)
@pytest.mark.parametrize(
    "text",
    [
        "9" * 5000,
        "step " + "9" * 5000 + ": wrong",
        " > ".join(["9" * 5000] * 3),
        '{"reason": "none"}',
        '{"a": ' * 3000,
        "verdict" + " " * 19_000 + "x",
        "verdict is" + " " * 19_000 + "x",
        "the " * 5000,
    ],
    ids=lambda text: text[:12],
)
def test_an_answer_that_is_no_verdict_is_a_flaw_and_takes_no_time(meaning, text):
    started = time.process_time()
    reading = read(Completion(text, 1, "stop"), MEANINGS[meaning])
    assert (reading.value, reading.flaw) == (None, "no-verdict")
    assert time.process_time() - started < 5
