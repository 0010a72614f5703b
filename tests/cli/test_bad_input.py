"""Whatever is wrong with a recipe or its data is one clear error, code 2, and costs nothing that was finished."""

import gzip
import json
from pathlib import Path

import pytest

SCORED = "name: d\ndata: [{ file: d.jsonl%s }]\nbuild: [pair]\n"


def rows(*entries: object) -> bytes:
    return "".join(json.dumps(entry) + "\n" for entry in entries).encode()


def answer(text: object, score: object, prompt: str = "q") -> dict[str, object]:
    return {"prompt": prompt, "response": text, "score": score}


def data(content: bytes, settings: str = "") -> None:
    Path("d.jsonl").write_bytes(content)
    Path("d.yaml").write_text(SCORED % settings)


# recipes


@pytest.mark.parametrize(
    ("old", "new", "what", "hint"),
    [
        ("- margin", "- magrin", "no stage is called 'magrin'", "did you mean 'margin'?"),
        ("seed: 3", "sead: 3", "no key is called 'sead'", "did you mean 'seed'?"),
        ("n: 4,", "m: 4,", "stage 'sample': no setting is called 'm'", ""),
        ("n: 4,", "n: four,", "stage 'sample': n: input should be a whole number, got 'four'", ""),
        ("n: 4,", "n: 0,", "stage 'sample': n: input should be greater than 0, got 0", ""),
        ("n: 4,", "n: 4, n: 5,", "'n' is given twice, at lines 10 and 10", "keep one of them"),
        (
            "{ model: policy, n",
            "{ model: polcy, n",
            "stage 'sample': model: no model is called 'polcy'",
            "did you mean",
        ),
        (
            "- margin",
            "- margin: { scale: .nan }",
            "stage 'margin': scale: input should be a number, got '.nan'",
            "",
        ),
        ("{ kind: best-worst }", "{ by: taste }", "stage 'pair' reads column 'taste', which no ", ""),
        (
            "prompts.jsonl",
            "promts.jsonl",
            "file 'promts.jsonl' does not exist",
            "did you mean 'prompts.jsonl'?",
        ),
        ("small\n", "../small\n", "name: string should match pattern", ""),
        ("seed: 3", "seed: &a 3", "anchors and aliases are not allowed: '&a'", "write the value out"),
        ("seed: 3", "seed:\t3\n\tx: 1", "a tab where YAML wants spaces", "indent with spaces"),
    ],
)
def test_a_mistake_in_a_recipe_is_named_with_its_line(cli, old, new, what, hint):
    assert cli.recipe.count(old) >= 1
    Path("small.yaml").write_text(cli.recipe.replace(old, new, 1))
    for verb in ("plan", "build"):
        told = cli.fails(verb, "small.yaml")
        assert told.what.startswith(what)
        assert told.where.startswith("small.yaml:")
        assert told.hint.startswith(hint)
    assert not Path("runs").exists(), "nothing is written for a recipe that is wrong"


def test_a_recipe_that_is_no_recipe_is_one_clear_error(cli):
    Path("folder.yaml").mkdir()
    Path("binary.yaml").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(range(256)))
    Path("control.yaml").write_bytes(b"name: \x1b[31mred")
    Path("empty.yaml").write_text("")
    Path("list.yaml").write_text("- 1\n")
    Path("nested.yaml").write_text("a: " + "[" * 100_000)
    Path("huge.yaml").write_bytes(b"# " + b"x" * 2_000_000)
    for name in ("folder", "binary", "control", "empty", "list", "nested", "huge", "missing"):
        assert cli.fails("plan", f"{name}.yaml").where.startswith(f"{name}.yaml")


def test_an_alias_bomb_is_refused_at_once_in_a_screen_of_errors(cli, capsys):
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 60)]
    Path("bomb.yaml").write_text("name: bomb\na0: &a0 [x]\n" + "\n".join(levels))
    from prefkit.cli import run

    assert run(["plan", "bomb.yaml"]) == 2
    err = capsys.readouterr().err
    assert err.count("error:") == 20
    assert err.endswith("more\n")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--engine", "polcy=fake"], "--engine places 'polcy', and the recipe has no such model"),
        (["--engine", "policy=nonsense"], "no engine is called 'nonsense'"),
        (["--engine", "policy=http://"], "'http://' is no address of a server"),
        (["--device", "nonsense", "--engine", "reward=fake"], "no device is called 'nonsense'"),
        (["--set", "build.sample.n=x"], "stage 'sample': n: input should be a whole number, got 'x'"),
        (["--set", "build.nope.n=1"], "'build' has no step 'nope'"),
        (["--set", "x"], "'x' is not PATH=VALUE"),
        (["--until", "pear"], "the recipe has no step 'pear'"),
        (["--store", "small.yaml"], "the store 'small.yaml' is not a folder"),
        (["--store", "small.yaml/runs"], "the store 'small.yaml/runs' is not a folder"),
    ],
)
def test_a_mistake_on_the_command_line_is_named(cli, arguments, what):
    assert cli.fails("build", "small.yaml", *arguments).what == what


def test_numbers_beyond_every_machine_are_answered(cli, finished):
    cli.ok("show", "small", "--rows", "99999999999999999999")
    cli.ok("build", "small.yaml", *cli.engines, "--set", "seed=99999999999999999999", "--jobs", "99999999")


# data


def test_an_error_in_the_data_loses_nothing_that_was_built(cli, finished):
    good = Path("prompts.jsonl").read_bytes()
    Path("prompts.jsonl").write_bytes(good[:-20])
    assert "cannot be read, above max_bad" in cli.build_fails().what
    assert cli.ok("show", "small")
    Path("prompts.jsonl").write_bytes(good)
    assert cli.cached() == len(finished)
    assert cli.digests() == finished


def test_a_prompt_with_no_responses_is_set_aside_and_counted(cli):
    one, none = {"prompt": "a", "answers": ["x", "y"]}, {"prompt": "b", "answers": []}
    data(rows(one, none))
    Path("d.yaml").write_text(
        "name: d\ndata: [{ file: d.jsonl, max_bad: 0.5, explode: answers, columns: { prompt: prompt, response: answers } }]\n"
    )
    found = json.loads(cli.ok("build", "d.yaml", "--json"))["00-data"]
    assert found["rows"]["kept"] == 2
    assert found["rows"]["dropped"] + sum(found["notes"].values()) == 1, (
        "the prompt is not lost without a word"
    )


def test_a_null_response_is_a_row_that_cannot_be_read(cli):
    data(rows(answer("x", 1.0), answer(None, 2.0)))
    assert cli.fails("build", "d.yaml").where.startswith("first at d.jsonl:2")
    assert cli.fails("build", "d.yaml").hint.endswith("max_bad: 0.5")


def test_prompts_where_responses_are_wanted_are_found_before_the_build(cli):
    data(rows({"prompt": "q"}))
    assert (
        cli.fails("build", "d.yaml").what == "stage 'pair' takes response rows, and the rows here are prompts"
    )


def test_scores_that_are_no_numbers_label_nothing_and_are_counted(cli):
    data(rows(*(answer(f"r{n}", score) for n, score in enumerate((float("nan"), float("inf"), 1.0, 2.0)))))
    found = json.loads(cli.ok("build", "d.yaml", "--json"))
    assert sum(found["00-data"]["notes"].values()) == 2
    assert found["01-pair"]["rows"]["kept"] == 1
    shown = json.loads(cli.ok("show", "d", "--json"))
    assert (shown["chosen_score"], shown["rejected_score"]) == (2.0, 1.0)


def test_an_empty_response_stays_and_an_empty_prompt_is_named(cli):
    data(rows(answer("", 1.0), answer("b", 2.0)))
    cli.ok("build", "d.yaml")
    assert json.loads(cli.ok("show", "d", "--json"))["rejected"][0]["content"] == ""
    data(rows(answer("", 1.0), answer("b", 2.0), answer("c", 1.0, prompt="")))
    assert "empty prompt (1)" in cli.fails("build", "d.yaml").what


def test_a_response_of_two_megabytes_is_kept_whole_and_shown_short(cli):
    data(rows(answer("x" * 2_000_000, 1.0), answer("b", 2.0)))
    cli.ok("build", "d.yaml")
    assert len(cli.ok("show", "d")) < 10_000
    assert len(json.loads(cli.ok("show", "d", "--json"))["rejected"][0]["content"]) == 2_000_000
    assert len(cli.ok("card", "d")) < 100_000
    page = Path(cli.ok("card", "d", "d.html").strip()).stat().st_size
    assert page < 200_000, "its script, style and drawings; the text is packed"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "file 'd.jsonl' is empty"),
        (b"\n\n", "file 'd.jsonl' is empty"),
        (b"\x00" * 5000, "file 'd.jsonl' "),
        (
            rows(answer("a\udcff", 1.0)).replace(b"\\udcff", b"\xff") + rows(answer("b", 2.0)),
            "1 of 2 rows of ",
        ),
        (gzip.compress(rows(*[answer("a", 1.0)] * 3000), mtime=0)[:-30], "file 'd.jsonl' ends too early"),
        (b"PAR1" + b"x" * 100 + b"PAR1", "file 'd.jsonl' cannot be read as parquet"),
        (b"{" * 100_000, "file 'd.jsonl' has no row that can be read"),
        (rows(answer(["not", "text"], 1.0), answer("b", {"a": 1})), ""),
    ],
)
def test_a_broken_file_is_one_clear_error(cli, content, what):
    data(content)
    told = cli.fails("build", "d.yaml")
    assert told.what.startswith(what)
    assert "d.jsonl" in told.what + told.where or "d.yaml" in told.where


def test_a_run_that_ends_with_no_pairs_is_described_by_every_verb(cli):
    data(rows(answer("a", float("nan")), answer("b", 1.0)))
    cli.ok("build", "d.yaml")
    assert cli.ok("show", "d").startswith("d · pair v1 · 0 pair rows")
    assert "0" in cli.ok("card", "d")
    cli.ok("card", "d", "d.html")
    cli.ok("export", "d", "out")
    assert cli.ok("diff", "d/pair", "d/pair") == ""
