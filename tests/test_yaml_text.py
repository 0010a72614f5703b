import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.yaml_strict import parse, plain
from prefkit.yaml_text import yaml_text


def read_back(data: object) -> object:
    return plain(parse(yaml_text(data).encode(), "written").root)


def test_it_reads_as_a_person_would_have_written_it():
    data = {
        "name": "small",
        "models": {"policy": {"id": "org/policy", "revision": "1.10"}},
        "data": [{"file": "rows.jsonl", "take": 5}],
        "build": ["margin", {"filter": {"drop": ["empty", "too long"], "rules": {"a": {"b": 1}}}}],
        "rate": 5e-7,
    }
    assert yaml_text(data) == (
        "name: small\n"
        "models:\n"
        '  policy: { id: org/policy, revision: "1.10" }\n'
        "data:\n"
        "  - { file: rows.jsonl, take: 5 }\n"
        "build:\n"
        "  - margin\n"
        "  - filter:\n"
        "      drop: [empty, too long]\n"
        "      rules:\n"
        "        a: { b: 1 }\n"
        "rate: 5e-07\n"
    )
    assert read_back(data) == data


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "true",
        "5",
        "a: b",
        "a #b",
        " a",
        "a ",
        "<<",
        "---",
        "*a",
        "\x85",
        "a\u2028b",
        "\ufeff",
        "\U0010fffe",
        "é",
        "日本",
    ],
)
def test_text_stays_text(text):
    assert read_back({"a": [text], "b": text}) == {"a": [text], "b": text}


TREES = st.recursive(
    st.integers()
    | st.booleans()
    | st.none()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab1 :#é\n", min_size=1), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(TREES)
def test_what_is_written_is_read_back(tree):
    assert read_back(tree) == tree
