"""What is fuzzed: everything that reads what a stranger, a model or a bad disk wrote.

A target takes bytes and ends with a result or with an error made for the purpose; whatever else comes out of it is a
bug. `seeds` are inputs that reach deep. The same targets are run by `test_fuzz.py`, on seeds, mutated seeds and inputs
that were bugs once, and by `run_fuzz.py`, guided by coverage for as long as somebody likes.
"""

import gzip
import io
import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from markdown_it import MarkdownIt
from pyarrow import ipc

from prefkit import sources
from prefkit.card import markdown
from prefkit.disk import SEAL, read_sealed, unsealed
from prefkit.engines import Completion, Conversation, Message, Model, Request, Spend
from prefkit.engines.fake import FakeEngine
from prefkit.engines.http_answer import read_completion, read_json, retry_after, told
from prefkit.engines.http_parse import Broken, Reading
from prefkit.engines.http_scored import _pooled, _vector
from prefkit.engines.memo import Memo, Remembering
from prefkit.errors import PrefkitError
from prefkit.identity import digest, hash_json
from prefkit.judging import verdicts
from prefkit.logs import JsonLines, listening, note
from prefkit.manifest import Manifest, Part, Shard
from prefkit.recipe import Recipe
from prefkit.show import as_json, cut, in_brief, visible
from prefkit.sources.source import Source
from prefkit.store import Store
from prefkit.yaml_strict import parse, plain

ROOT = Path(__file__).parents[2]
SMALL = """
name: small
models: { policy: { id: test/policy } }
data: [{ file: rows.jsonl }]
build: [{ filter: { drop: [empty] } }, { pair: { kind: best-worst } }, margin]
"""


class Target(NamedTuple):
    """One door that strangers knock at."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    modules: tuple[str, ...]
    """Modules whose coverage guides the search."""
    most_bytes: int = 4096


@contextmanager
def scratch(data: bytes, name: str) -> Iterator[Path]:
    """A file of these bytes, in memory."""
    folder = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=folder, prefix="prefkit-fuzz-") as made:
        path = Path(made) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        yield path


# recipes


def recipe(data: bytes) -> None:
    document = parse(data, "r.yaml")
    plain(document.root)
    found = Recipe.parse(data.decode("utf-8-sig"))
    again = Recipe.parse(found.text())
    assert again.described() == found.described(), "what a recipe writes is the recipe"
    hash_json(found.described())


def sets(data: bytes) -> None:
    lines = data.decode("utf-8", "surrogateescape").split("\n")[:4]
    Recipe.parse(SMALL, sets=lines).described()


def recipes() -> list[bytes]:
    found = [path.read_bytes() for path in sorted((ROOT / "recipes").glob("*.yaml"))]
    return [*found, SMALL.encode(), b"a: &a [*a]", b"<<: {a: 1}", b'name: "\\ud800"', b"? [a]\n: b"]


def edits() -> list[bytes]:
    texts = (
        "seed=3",
        "name=x",
        "build.pair.kind=fold",
        "build.0.filter.drop=[empty]",
        "data.0.file=x.jsonl",
        "build.margin={}",
        "models.policy.id=a/b",
        'build.pair={"kind": "fold"}',
        "build.pair.by='x'",
        "max_failures=1e-3",
        "data.0.columns.prompt=q",
        "train={}",
        "fail_if.rows=stop",
        "seed=" + "9" * 5000,
    )
    return [*(text.encode() for text in texts), b"seed=1\nname=y\nbuild.pair.max_pairs=3"]


# data files

NAMES = ("x.jsonl", "x.json", "x.csv", "x.tsv", "x.parquet", "x.arrow", "x.jsonl.gz", "x")
SETTINGS: tuple[dict[str, object], ...] = (
    {},
    {"columns": {"prompt": "p", "response": "r"}, "keep": ["k"], "scores": ["s"]},
    {"columns": {"prompt": "p", "first": "a", "second": "b", "preference": "v"}, "coding": "signed"},
    {"prompt_template": "{p} and {k}", "columns": {"chosen": "a", "rejected": "b"}, "where": {"k": 1}},
    {"explode": "items", "columns": {"prompt": "p", "response": "text", "score": "score"}, "take": 5},
    {"columns": {"prompt": "p", "first": "a", "second": "b", "votes": ["v", "s"]}},
)


def reader(data: bytes) -> None:
    """The first byte says how the rest is named and read."""
    how, body = data[:1] or b"\0", data[1:]
    name, settings = NAMES[how[0] % len(NAMES)], SETTINGS[how[0] // len(NAMES) % len(SETTINGS)]
    with scratch(body, name) as path:
        source = Source.model_validate({"file": name, "max_bad": 0.99, **settings})
        promised = sources.peek(source, path.parent).schema
        for batch in sources.read(source, path.parent):
            batch.table.validate(full=True)
            assert batch.table.schema.equals(promised), "read gives what peek promised"
            digest(batch.table)
            digest(batch.bad)


def columnar(data: bytes) -> None:
    """A Parquet file, or one or a stream of Arrow; what they hold is spelled in many ways."""
    reader(
        bytes([NAMES.index("x.arrow" if data.startswith((b"ARROW1", b"\xff\xff\xff\xff")) else "x.parquet")])
        + data
    )


def columns() -> list[bytes]:
    """Tables in each spelling: pages of both versions, dictionaries, codecs, views, runs, lists."""
    rows = {"prompt": ["a question"] * 40, "chosen": ["yes " * n for n in range(40)], "rejected": ["no"] * 40}
    plain = pa.table({**rows, "k": pa.array([[n, None] for n in range(40)])})
    found = []
    for pages, codec, listed in product(("1.0", "2.0"), ("none", "snappy", "zstd", "lz4"), (True, False)):
        sink = io.BytesIO()
        pq.write_table(plain, sink, data_page_version=pages, compression=codec, use_dictionary=listed)
        found.append(sink.getvalue())
    for encoding in ("DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "PLAIN"):
        sink = io.BytesIO()
        spelled = dict.fromkeys(rows, encoding)
        pq.write_table(plain.select(list(rows)), sink, use_dictionary=False, column_encoding=spelled)
        found.append(sink.getvalue())
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([30, 40], pa.int32()), pa.array(["x", "y"]))
    spelled = plain.append_column("v", plain["chosen"].cast(pa.string_view())).append_column("r", runs)
    spelled = spelled.append_column("d", plain["prompt"].dictionary_encode())
    for codec, stream in product((None, "zstd", "lz4"), (True, False)):
        found.append(arrow_bytes(spelled, stream=stream, codec=codec))
    return found


ROWS: tuple[dict[str, object], ...] = (
    {
        "p": "q",
        "r": "a",
        "a": "x",
        "b": "y",
        "v": 1,
        "k": 1,
        "s": 0.5,
        "t": 2,
        "items": [{"text": "a", "score": 1}],
    },
    {
        "p": [{"role": "user", "content": "hé"}],
        "r": None,
        "a": "",
        "b": "z",
        "v": "tie",
        "k": None,
        "items": [],
    },
)
PUBLIC: tuple[dict[str, object], ...] = (
    {"prompt": "q", "chosen": "a", "rejected": "b"},
    {
        "prompt": "q",
        "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}],
    },
    {"instruction": "i", "completions": [{"response": "a", "overall_score": 3.0, "annotations": {}}]},
    {"prompt": "q", "response": "a", "helpfulness": 3, "correctness": 2},
    {"conversation_a": [{"role": "user", "content": "x"}], "conversation_b": [], "winner": "model_a"},
    {"transcript": "\n\nHuman: a\n\nAssistant: b"},
    {"prompt": "q"},
    {"question": "q", "answer_a": "a", "answer_b": "b", "preference": 1},
)


def files() -> list[bytes]:
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()
    table = pa.table(
        {
            "p": ["q", "w"],
            "r": ["a", None],
            "s": [1.0, float("nan")],
            "k": [1, 2],
            "a": ["x", "y"],
            "b": ["z", "z"],
            "v": [1, 2],
            "items": [[{"text": "t", "score": 1.0}], []],
        }
    )
    made = [
        (0, lines),
        (1, b"[" + lines.replace(b"\n", b",") + b"]"),
        (2, b'p,r,k\nq,"a\nb",1\n'),
        (3, b"p\tr\tk\nq\ta\t1\n"),
        (4, parquet_bytes(table)),
        (5, arrow_bytes(table)),
        (5, arrow_bytes(table, stream=True)),
        (6, gzip.compress(lines)),
    ]
    made += [(0, json.dumps(row).encode()) for row in PUBLIC]
    every = [bytes([at + len(NAMES) * how]) + body for at, body in made[:8] for how in range(len(SETTINGS))]
    return [*every, *(bytes([at]) + body for at, body in made[8:])]


def arrow_bytes(table: pa.Table, *, stream: bool = False, codec: str | None = None) -> bytes:
    sink = io.BytesIO()
    options = ipc.IpcWriteOptions(compression=codec)
    with (ipc.new_stream if stream else ipc.new_file)(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


# answers of models and their servers

MEANINGS: tuple[Callable[[str], object], ...] = (
    verdicts.choice,
    verdicts.number(1, 10),
    verdicts.ranking(3),
    verdicts.first_error(4),
)


def judge(data: bytes) -> None:
    how, text = (data[:1] or b"\0")[0], data[1:].decode("utf-8", "replace")
    answer = Completion(text, 1, "length" if how & 128 else "stop")
    reading = verdicts.read(answer, MEANINGS[how % len(MEANINGS)])
    assert (reading.value is None) == (reading.flaw is not None)
    assert reading.flaw is None or reading.flaw in verdicts.FLAWS
    verdicts.odds([[(text[:9], -0.1), ("A", -3.0)]], ["A", "B", "tie"])


def judgements() -> list[bytes]:
    texts = (
        "[[A]]",
        "Verdict: B",
        '{"winner": "A"}',
        "<think>hm</think>\n7/10",
        "Ranking: 3 > 1 > 2",
        "Score: 8.5",
        "Step 1: correct; Step 2: incorrect",
        "I cannot help",
        '"[[A]]" says he. [[B]]',
        "tie",
        "> [[A]]\n[[B]]",
        '{"score": 1e999}',
        '{"ranking": [2, 1, 3]}',
        "step " + "9" * 5000 + ": wrong",
        "9" * 5000,
        "\ud7ff\u202e",
        "verdict" + " " * 2000 + "x",
        '{"a":' * 500,
        "[[" * 500,
        "my " * 300,
    )
    return [bytes([how]) + text.encode() for how in range(4) for text in texts]


def http(data: bytes) -> None:
    """The first byte says into how many pieces the rest is cut."""
    pieces, body = 1 + (data[:1] or b"\0")[0] % 7, data[1:]
    reading, size = Reading(1 << 20), max(1, len(body) // pieces)
    try:
        reply = next(
            filter(None, (reading.feed(body[at : at + size]) for at in range(0, len(body), size))), None
        )
        reply = reply or reading.end()
    except Broken:
        return
    told(reply.body).encode("utf-8", "replace")
    retry_after(reply.headers.get("retry-after"), datetime.now(UTC))
    answers(reply.body)


def answers(data: bytes) -> None:
    """The body of a reply."""
    told(data)
    try:
        value = read_json(data)
    except ValueError:
        return
    for read in (read_completion, _vector, lambda body: _pooled(body, 3)):
        read(value)


def replies() -> list[bytes]:
    bodies = bodies_of_replies()
    heads = (
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n",
        b"HTTP/1.0 429 Slow\r\nRetry-After: 3\r\n\r\n",
    )
    made = [heads[0] % len(body) + body for body in bodies] + [heads[1] + bodies[0]]
    chunked = b"".join(
        b"%x\r\n%s\r\n" % (len(bodies[0][at : at + 9]), bodies[0][at : at + 9])
        for at in range(0, len(bodies[0]), 9)
    )
    made.append(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked + b"0\r\n\r\n")
    made.append(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n")
    return [bytes([at % 7]) + one for at, one in enumerate(made)]


def bodies_of_replies() -> list[bytes]:
    choice = {
        "message": {"role": "assistant", "content": "hi"},
        "finish_reason": "stop",
        "logprobs": {
            "content": [{"token": "h", "logprob": -0.5, "top_logprobs": [{"token": "h", "logprob": -1}]}]
        },
    }
    values = (
        {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}, "model": "m"},
        {"choices": [{"message": {"content": [{"type": "text", "text": "x"}]}}]},
        {"choices": [{"text": "x", "finish_reason": "length"}]},
        {"error": {"message": "no", "code": "insufficient_quota"}}, {"error": "no"}, {"detail": [{"msg": "x"}]},
        {"data": [{"embedding": [0.1, 0.2], "index": 0}]}, {"data": [{"data": [0.5], "index": 0}]},
        {"choices": []}, [], {"choices": [{"message": {"content": None, "reasoning_content": "x"}}]},
    )  # fmt: skip
    return [json.dumps(value).encode() for value in values]


# stores


def manifest(data: bytes) -> None:
    """JSON, sealed as a forger would seal it."""
    unsealed(data)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(value, dict):
        return
    value.pop(SEAL, None)
    try:
        text = json.dumps({**value, SEAL: hash_json(value)}, ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )
    except (ValueError, RecursionError):
        return
    key = "0" * 32
    with scratch(text, f"store/steps/{key}.json") as path:
        root = path.parents[1]
        (root / "parts").mkdir()
        (root / "parts" / f"{key}.json").write_bytes(text)
        (root / "refs" / "run").mkdir(parents=True)
        for name in ("00-data.json", "recipe.json"):
            (root / "refs" / "run" / name).write_bytes(text)
        store = Store(root)
        for look in (
            lambda: store.step(key),
            lambda: store.part(key),
            lambda: store.resolve("run"),
            lambda: store.recipe("run"),
        ):
            try:
                found = look()
            except PrefkitError:
                continue
            if isinstance(found, Manifest):
                try:
                    store.table(found)
                except PrefkitError:
                    continue
        read_sealed(path)


def manifests() -> list[bytes]:
    made = {
        "prefkit": "1",
        "python": "3",
        "calls": 1,
        "models": {"m": {"calls": 1, "dollars": "0.1"}},
        "timing": {"wall": 1.0},
    }
    shard = {"digest": "0" * 32, "rows": 1, "bytes": 10}
    rows = {"read": 1, "kept": 1, "dropped": 0, "failed": 0}
    part = {"key": "0" * 32, "outputs": [shard], "rows": rows, "made": made}
    step = {
        "key": "0" * 32,
        "stage": "pair",
        "version": 1,
        "kind": "map",
        "level": "pair",
        "config": {"a": [1]},
        "seed": None,
        "input": None,
        "digest": "0" * 32,
        "columns": [["id", "string"]],
        "shards": [shard],
        "rows": rows,
        "made": made,
    }
    ref = {"run": "run", "step": "00-data", "key": "0" * 32}
    Part.model_validate(part)
    Manifest.model_validate(step)
    return [json.dumps(each).encode() for each in (part, step, ref)]


def table(data: bytes) -> None:
    """An object of a store."""
    name = "ab" + "0" * 30
    with scratch(data, f"store/objects/ab/{name}.arrow") as path:
        try:
            Store(path.parents[2]).get(Shard(digest=name, rows=1, bytes=len(data)))
        except PrefkitError:
            return
        raise AssertionError("an object that is not what its name says was served")


def tables() -> list[bytes]:
    plain_table = pa.table({"id": ["a", "b"], "score": [0.5, None], "ok": [True, False]})
    nested = pa.table(
        {
            "prompt": [[{"role": "user", "content": "x"}], None],
            "n": pa.array([[1, 2], [3]], pa.list_(pa.int32())),
            "f": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),
            "l": pa.array(["x", None], pa.large_string()),
        }
    )
    return [
        arrow_bytes(plain_table),
        arrow_bytes(nested),
        arrow_bytes(nested.slice(1)),
        b"ARROW1\0\0" + b"\xff" * 64,
    ]


MODEL = Model(id="test/model")
ASKED = Request((Message("user", "hi"),), 4)


def memo(data: bytes) -> None:
    """An answer in a memo, or a whole memo where it begins as a database does."""
    if data.startswith(b"SQLite format 3\0"):
        with scratch(data, "memo.sqlite") as path:
            ask(path)
        return
    with scratch(b"", "memo.sqlite") as path:
        kept = Memo(path)
        engine = Remembering(FakeEngine(), kept, Spend(), lambda model: model.id)
        db = sqlite3.connect(path)
        list(engine.generate(MODEL, [ASKED]))
        list(engine.log_probs(MODEL, [SAID]))
        list(engine.rewards(MODEL, [SAID]))
        db.execute("UPDATE answers SET answer = ?", (data,))
        db.commit()
        db.close()
        ask(path)


SAID = Conversation((Message("user", "hi"),), (Message("assistant", "yes"),))


def ask(path: Path) -> None:
    engine = Remembering(FakeEngine(), Memo(path), Spend(), lambda model: model.id)
    for call in (
        lambda: engine.generate(MODEL, [ASKED]),
        lambda: engine.log_probs(MODEL, [SAID]),
        lambda: engine.rewards(MODEL, [SAID]),
    ):
        try:
            answers = list(call())
        except PrefkitError:
            continue
        for _, answer in answers:
            if isinstance(answer, Completion):
                assert isinstance(answer.text, str)
                assert isinstance(answer.tokens, int)


def memos() -> list[bytes]:
    values = (["hi", 1, "stop", 2, None, None], ["hi", 1, "stop"], [-1.0, 2], [0.5], ["hi", 1, "stop", 2, -0.5, [[["a", -1.0]]]],
              {}, 1, [[]], ["x"] * 9)  # fmt: skip
    return [json.dumps(value).encode() for value in values]


# what people see

OBEYED = set(
    map(
        chr,
        [
            *range(9),
            *range(11, 32),
            *range(127, 160),
            0x200E,
            0x200F,
            *range(0x2028, 0x202F),
            *range(0x2066, 0x206A),
        ],
    )
)


def shown(data: bytes) -> None:
    """Text on its way to a terminal, a card and a log."""
    text = data.decode("utf-8", "surrogateescape")
    for made in (
        visible(text),
        as_json(text),
        cut(text, 40),
        in_brief(text, 30),
        markdown.text(text),
        markdown.code(text),
    ):
        assert not OBEYED & set(made), repr(made)
        made.encode()
    assert json.loads(as_json(text)) == text
    assert "\n" not in markdown.text(text) + markdown.code(text) + in_brief(text)
    fenced = MarkdownIt("commonmark").parse(markdown.fence(text))
    assert [token.type for token in fenced] == ["fence"]
    page = MarkdownIt("commonmark", {"html": True}).enable("table")
    tokens = page.parse(markdown.table(("a", "b"), [(markdown.code(text), markdown.code(text))]))
    kinds = [token.type for token in tokens] + [one.type for token in tokens for one in token.children or ()]
    assert not {"html_block", "html_inline", "link_open", "image", "fence", "heading_open"} & set(kinds), (
        kinds
    )
    assert kinds.count("td_open") == 2, kinds
    sink = io.StringIO()
    with listening(JsonLines(sink)):
        note("said", {"text": text})
    line = sink.getvalue()
    assert line.count("\n") == 1
    assert not OBEYED & set(line[:-1])
    json.loads(line)


def texts() -> list[bytes]:
    made = ("plain", "<script>alert(1)</script>", "a|b\\|c", "[x](javascript:1)", "![x](y)", "\x1b[2J\u202e", "`` ` ``",
            "{{ 7*7 }}", "# H\n---\n| a |", "&lt;&#60;", "a\\", "http://x.y/?<a>", "*b* _c_ ~d~", "<!-- ", "]]>", "$x$", "@me")  # fmt: skip
    return [text.encode() for text in made]


TARGETS: dict[str, Target] = {
    "recipe": Target(recipe, recipes, ("prefkit.recipe", "prefkit.yaml_strict", "yaml"), 3000),
    "sets": Target(sets, edits, ("prefkit.edits", "prefkit.yaml_strict", "prefkit.recipe"), 600),
    "reader": Target(reader, files, ("prefkit.sources",), 4096),
    "columnar": Target(
        columnar,
        columns,
        tuple(f"prefkit.sources.{name}" for name in ("columnar", "pages", "thrift", "bodies", "unfolding")),
        16_384,
    ),
    "judge": Target(judge, judgements, ("prefkit.judging.verdicts",), 6000),
    "http": Target(
        http,
        replies,
        ("prefkit.engines.http_parse", "prefkit.engines.http_answer", "prefkit.engines.http_scored"),
        3000,
    ),
    "answers": Target(
        answers, bodies_of_replies, ("prefkit.engines.http_answer", "prefkit.engines.http_scored"), 2000
    ),
    "manifest": Target(
        manifest, manifests, ("prefkit.disk", "prefkit.store", "prefkit.manifest", "prefkit.records"), 3000
    ),
    "table": Target(table, tables, ("prefkit.store", "prefkit.identity"), 4096),
    "memo": Target(memo, memos, ("prefkit.engines.memo", "prefkit.engines.answers"), 600),
    "shown": Target(shown, texts, ("prefkit.show", "prefkit.card.markdown", "prefkit.logs"), 400),
}


def bug(name: str, data: bytes) -> BaseException | None:
    """Return what comes out of a target that must not."""
    try:
        TARGETS[name].run(data)
    except PrefkitError:
        return None
    except Exception as error:  # noqa: BLE001 - the question is which
        return error
    return None
