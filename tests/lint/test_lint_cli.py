"""`prefkit lint` from the command line: what it takes, prints, writes and returns."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefkit.cli import run

RECIPE = """
name: small
models: { policy: { id: org/policy } }
data: [{ file: responses.jsonl }]
build: [pair]
"""
TOY = ("--model", "prefkit/toy-policy")


@pytest.fixture
def told(tmp_path, monkeypatch, capsys) -> Callable[..., str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFKIT_STORE", raising=False)

    def tell(*arguments: str, code: int = 0) -> str:
        assert run(["lint", *arguments]) == code
        out, err = capsys.readouterr()
        return err if code == 2 else out

    return tell


def save(rows: list, path: str = "pairs.jsonl") -> str:
    Path(path).write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def test_sound_pairs_end_in_zero_and_one_line(told, row):
    out = told(save([row(rejected="twenty"), row(rejected="twenty")]), *TOY)
    assert out.splitlines()[-1].startswith(
        "2 pairs, 2 to train prefkit/toy-policy on at 512 tokens; tokens p50/p95/max: prompt "
    )
    assert "error" not in out


def test_an_error_ends_in_one_and_says_where_and_what_to_do(told, row):
    out = told(save([row(), row(chosen="no")]), *TOY, code=1)
    assert "error" in out
    assert "same-text" in out
    assert "50.0%" in out
    assert 'pairs.jsonl:2: "no"' in out
    assert "--fix drops it" in out


def test_json_has_all_of_it(told, row):
    found = json.loads(told(save([row(), row(chosen="no")]), *TOY, "--max-length", "300", "--json", code=1))
    assert (found["rows"], found["trained_on"], found["limit"], found["model"]) == (2, 1, 300, TOY[1])
    (finding,) = [one for one in found["findings"] if one["severity"] == "error"]
    assert (finding["rule"], finding["count"], finding["share"]) == ("same-text", 1, 0.5)
    assert finding["examples"] == [{"id": "pairs.jsonl:2", "detail": '"no"'}]
    assert set(found["tokens"]) == {"prompt", "chosen", "rejected", "first difference"}


def test_truncate_and_max_length_are_the_trainers(told, row):
    path = save([row(chosen="red pens " * 40)])
    dropped = json.loads(told(path, *TOY, "--max-length", "40", "--json"))
    assert (dropped["trained_on"], dropped["findings"][0]["rule"]) == (0, "too-long")
    cut = json.loads(told(path, *TOY, "--max-length", "40", "--truncate", "response", "--json"))
    assert (cut["trained_on"], cut["findings"][0]["rule"]) == (1, "truncated")


def test_fix_writes_a_copy_and_leaves_the_file_alone(told, row, capsys):
    path = save([row(), row(chosen="red</s>"), row(chosen="no")])
    before = Path(path).read_bytes()
    told(path, *TOY, "--fix", "mended", code=1)
    assert Path(path).read_bytes() == before
    actions = [json.loads(line)["action"] for line in Path("mended/fixes.jsonl").read_text().splitlines()]
    assert actions == ["changed", "dropped"]
    assert "2 pairs, 2 to train" in told("mended", *TOY)
    assert "nothing is mended in place" in told("mended", *TOY, "--fix", "mended", code=2)
    assert "nothing is mended in place" in told(".", *TOY, "--fix", "again", code=2)
    assert "nothing is mended in place" in told("mended/data", *TOY, "--fix", "mended", code=2)


@pytest.mark.parametrize("kind", ["parquet", "arrow", "folder"])
def test_pairs_come_from_files_and_folders_of_any_kind(told, row, kind):
    table = pa.Table.from_pylist([row(), row(chosen="no")])
    path = Path(f"rows.{kind}") if kind != "folder" else Path("rows/data/train-0.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "arrow":
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table, path)
    assert f"{path.name}:2" in told("rows" if kind == "folder" else str(path), *TOY, code=1)


def test_a_step_of_a_build_is_linted_by_its_name(told, capsys):
    save(
        [
            {"prompt": f"how many pens {at // 2}", "response": "red" * (1 + at), "score": float(at % 2)}
            for at in range(6)
        ],
        "responses.jsonl",
    )
    Path("small.yaml").write_text(RECIPE)
    assert run(["build", "small.yaml"]) == 0
    capsys.readouterr()
    assert "3 pairs, 3 to train" in told("small", *TOY)
    assert "3 pairs, 3 to train" in told("small/pair", *TOY)
    assert "holds responses, not pairs" in told("small/00-data", *TOY, code=2)
    assert "no run is called 'big'" in told("big", *TOY, code=2)


def test_what_a_user_can_mend_is_code_2(told, row):
    assert "missing option '--model'" in told(save([row()]), code=2)
    assert "does not exist" in told("nowhere.jsonl", *TOY, code=2)
    assert "no such folder" in told("pairs.jsonl", "--model", "./nowhere", code=2)


def test_texts_are_shown_without_what_a_terminal_would_obey(told, row):
    evil = "\x1b]0;owned\x07\u202e\r[bold]red\n"
    rows = [
        row(chosen=evil, rejected=evil),
        row(evil * 2, f"{evil * 2}a", f"{evil * 2}b"),
        row([{"role": evil, "content": "x"}]),
        row(tools=f"[{evil}"),
        row(f"<|user|>{evil}", f"<tool_call>{{{evil}</tool_call>"),
    ]
    path = save(rows, "e\x1b[2Jvil.jsonl")
    for arguments in ((path, *TOY), (path, *TOY, "--json")):
        out = told(*arguments, code=1)
        assert not {"\x1b", "\x07", "\u202e", "\r"} & set(out)
    assert out.count("owned") >= 4
