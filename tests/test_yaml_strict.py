import json
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prefkit.errors import RecipeError
from prefkit.yaml_strict import MAX_BYTES, MAX_DEPTH, Node, parse, parse_value, plain, read, scalar


def load(text: str | bytes) -> object:
    return plain(parse(text.encode() if isinstance(text, str) else text, "r.yaml").root)


def wrong(text: str | bytes) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        load(text)
    return caught.value


def test_words_mean_what_they_say():
    wanted = {
        "true": True,
        "false": False,
        "null": None,
        "1": 1,
        "-7": -7,
        "+5": 5,
        "0": 0,
        "5e-7": 5e-7,
        "1e5": 1e5,
        "1.10": 1.1,
        ".5": 0.5,
        "1.": 1.0,
        "-2.5E+3": -2500.0,
    }
    assert {word: scalar(word) for word in wanted} == wanted
    assert type(scalar("1e5")) is float
    assert type(scalar("1")) is int


@pytest.mark.parametrize(
    "word",
    [
        *("no", "on", "yes", "off", "True", "NULL", "~", ".inf", ".nan", ".", "-", "½", "١"),
        *("007", "0x1f", "1_000", "1.2.3", "1e999", "e5", "5e", "12:30", "2020-01-01"),
    ],
)
def test_everything_else_is_text(word):
    assert scalar(word) == word


def test_numbers_keep_the_text_they_were_written_as():
    root = parse(b"revision: 1.10\nword: no", "r.yaml").root
    assert root.value["revision"] == Node(1.1, 1, "1.10")
    assert root.value["word"] == Node("no", 2)


def test_quotes_make_text():
    assert load("a: '5'\nb: \"true\"\nc: |\n  1\n") == {"a": "5", "b": "true", "c": "1\n"}


def test_every_value_knows_its_line():
    root = parse(b"# first\na:\n  b: 1\n  c:\n    - x\n    - y: 2\n", "r.yaml").root
    inside = root.value["a"]
    assert (inside.line, inside.value["b"].line, inside.value["c"].line) == (2, 3, 4)
    assert [item.line for item in inside.value["c"].value] == [5, 6]


def test_a_duplicate_key_names_both_lines_and_hides_nothing_else():
    document = parse(b"a: 1\nb: 2\na: 3\nb: 4\n", "r.yaml")
    assert plain(document.root) == {"a": 1, "b": 2}
    assert [problem.what for problem in document.problems] == [
        "'a' is given twice, at lines 1 and 3",
        "'b' is given twice, at lines 2 and 4",
    ]
    assert [problem.where for problem in document.problems] == ["r.yaml:3", "r.yaml:4"]


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("a: 1\nb: &x 2", "anchors and aliases are not allowed: '&x'", 2),
        ("a: 1\nb: *x", "anchors and aliases are not allowed: '*x'", 2),
        ("a: 1\n<<: {b: 1}", "merge keys are not allowed: '<<'", 2),
        ("a: !!int 1", "tags are not allowed: 'tag:yaml.org,2002:int'", 1),
        ("a: !!python/object/apply:os.system [ls]", "tags are not allowed", 1),
        ("a:\nb: 1", "'a' has no value", 1),
        ("- 1\n-\n", "an item has no value", 2),
        ("a: 1\n---\nb: 1", "a recipe is one document", 3),
        ("a: 1\n? [b]\n: 1", "a key must be one word", 2),
        ("a: 1\n\tb: 2", "a tab where YAML wants spaces", 2),
        ("a: 1\nb: [1, 2", "not valid YAML: expected ',' or ']'", 2),
        ('a: "\\ud800"', "a text has half of a surrogate pair", 1),
        ('a: "\\UFFFFFFFF"', "bad escape", 1),
        ("", "the file is empty", 0),
        ("# nothing but this\n", "the file is empty", 0),
        ("---\n", "the file is empty", 0),
        (b"a: 1\nb: \xff\xfe", "the file is not UTF-8: byte 0xff at offset 8", 2),
        (b"a: 1\nb: \x00", "character U+0000 is not allowed in YAML", 2),
        ("[" * 100, f"nested more than {MAX_DEPTH} levels deep", 1),
    ],
)
def test_what_is_refused_says_what_and_where(text, what, line):
    error = wrong(text)
    assert error.problems[0].what.startswith(what)
    assert error.problems[0].where == ("r.yaml" if line == 0 else f"r.yaml:{line}")


def test_all_refused_constructs_are_reported_together():
    error = wrong("b: *x\na: &x 1\nc: !!str 5\nd:\n<<: {e: 1}\n")
    assert [problem.line for problem in error.problems] == [1, 2, 3, 4, 5]


def test_a_bomb_costs_nothing():
    layers = "".join(f"l{at}: &l{at} [{', '.join([f'*l{at - 1}'] * 9)}]\n" for at in range(1, 40))
    started = time.process_time()
    wrong("l0: &l0 [lol]\n" + layers)
    wrong("[" * 900_000)
    wrong("{a: " * 200_000)
    assert time.process_time() - started < 5


def test_a_file_beyond_the_limit_is_refused(tmp_path):
    path = tmp_path / "big.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(RecipeError, match="larger than 1,000,000 bytes"):
        read(path)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path, make):
    path = tmp_path / "recipe.yaml"
    make(path)
    with pytest.raises(RecipeError) as caught:
        read(path)
    assert caught.value.problems[0].what in (
        "cannot read the recipe: no such file or directory",
        "cannot read the recipe: is a directory",
    )
    assert caught.value.problems[0].where == str(path)


def test_a_byte_order_mark_is_no_content():
    assert load(b"\xef\xbb\xbfa: 1") == {"a": 1}


def test_values_of_the_command_line_may_be_lists_and_quoted():
    assert plain(parse_value("[a, 1, 1.5]", "--set x")) == ["a", 1, 1.5]
    assert plain(parse_value("'7'", "--set x")) == "7"
    assert parse_value("7", "--set x") == Node(7, 1, "7")
    assert plain(parse_value("a: b", "--set x")) == "a: b"
    assert plain(parse_value("", "--set x")) == ""
    with pytest.raises(RecipeError) as caught:
        parse_value("[a", "--set x=[a")
    assert caught.value.problems[0].where == "--set x=[a"


TREES = st.recursive(
    st.integers(-(10**9), 10**9)
    | st.booleans()
    | st.none()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(st.text("abcdefgh", min_size=1), inner, min_size=1, max_size=3)
    ),
    max_leaves=10,
)


def loads_or_says_why(data: str | bytes) -> bool:
    try:
        load(data)
    except RecipeError as error:
        return all(problem.what and problem.where for problem in error.problems)
    return True


@given(TREES)
def test_what_json_says_is_what_is_read(tree):
    assert load(json.dumps(tree)) == tree


@given(st.binary(max_size=200))
@example(b"? : :")
@example(b"!<>\x00")
@example(b"%TAG ! x\n---\n!a b")
@example(b"--- >\n  a\n...\n--- b")
def test_no_bytes_crash_the_reader(data):
    assert loads_or_says_why(data)


@settings(max_examples=300)
@given(st.text(st.sampled_from(list("ab1 .:-?[]{},#&*!|>'\"%@`\\\n\t~<x=")), max_size=60))
def test_no_yaml_like_text_crashes_the_reader(text):
    assert loads_or_says_why(text)
