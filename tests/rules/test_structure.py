import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefkit.rules.markdown import last_code, outline
from prefkit.rules.structure import Structure

REPORT = """# Summary
It **works**.

## Method:
1. one
2. two

| a | b |
|---|---|
| 1 | 2 |

```python
# Results
```
"""


def test_elements_are_those_that_markdown_has(judge):
    found = outline(REPORT)
    assert found.elements == {"heading", "bold", "numbered-list", "table", "code-block"}
    assert found.headings == ("Summary", "Method:")  # a comment in code is no heading
    assert judge({"structure": {"has": ["table", "list"], "lacks": ["link"]}}, [REPORT, "plain"]).scores == [
        2 / 3,
        1 / 3,
    ]


def test_sections_stand_in_order_and_others_may_stand_between(judge):
    texts = [REPORT, "# Method\n# Summary", "# Summary\n# x\n# **METHOD**", "Summary\nMethod", None]
    found = judge({"structure": {"sections": ["Summary", "method"]}}, texts)
    assert found.scores == [1.0, 0.0, 1.0, 0.0, None]
    assert found.notes == {"no-response": 1}


def test_a_code_block_must_close_and_be_in_the_language(judge):
    texts = [
        "```python\nx\n```",
        "```\nx\n```",
        "```python\nx",
        "~~~~ Python\nx\n~~~~",
        "```python\n```",
        "`x`",
    ]
    assert judge({"structure": {"code": "python"}}, texts).scores == [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    assert judge({"structure": {"code": ""}}, texts).scores == [1.0, 1.0, 0.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("<think>a</think>b", 1.0),
        (" \n<think>\na\n</think>\n\nb", 1.0),
        ("<think>a</think>", 0.0),
        ("<think> </think>b", 0.0),
        ("a<think>a</think>b", 0.0),
        ("<think>a<think>b</think>c</think>d", 0.0),
        ("<think>a</think>b<think>c</think>d", 0.0),
        ("<think>a", 0.0),
        ("a</think>b", 0.0),
        ("b", 0.0),
    ],
)
def test_thoughts_come_first_once_and_are_followed_by_an_answer(judge, text, score):
    assert judge({"structure": {"tags": ["think"]}}, [text]).scores == [score]


def test_several_tags_stand_one_after_another(judge):
    texts = [
        "<think>a</think>\n<answer>b</answer>",
        "<answer>b</answer><think>a</think>",
        "<think>a</think> b <answer>c</answer>",
    ]
    assert judge({"structure": {"tags": ["think", "answer"]}}, texts).scores == [1.0, 0.0, 0.0]


def test_what_is_thought_is_no_part_of_the_build(judge):
    rule = {"structure": {"tags": ["think"], "lacks": ["heading"]}}
    assert judge(rule, ["<think>\n# plan\n</think>\ndone"]).scores == [1.0]


def test_a_text_too_long_to_parse_has_no_score(judge):
    found = judge({"structure": {"has": ["link"]}}, ["![[" * 70_000, "[a](b)"])
    assert found == ([None, 1.0], {"too-long": 1})


@pytest.mark.parametrize("settings", [{}, {"tags": ["<think>"]}, {"has": ["footnote"]}])
def test_a_rule_that_asks_for_nothing_or_nonsense_is_refused(settings):
    with pytest.raises(ValidationError):
        Structure(**settings)


@given(st.text(alphabet="`~#->|*_[]() \n\tapython", max_size=200))
def test_any_text_has_an_outline(text):
    assert all(block.text in text + "\n" or "\n" in block.text for block in outline(text).code)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\na\n```\nthen\n```py\nb\n```", "b\n"),
        ("```python\na\n```\nrun it:\n```bash\nls\n```", "a\n"),
        ("```\na\n```", "a\n"),
        ("- item\n  ```python\n  a\n  ```", "a\n"),
        ("````python\n'''\n```\n'''\n````", "'''\n```\n'''\n"),
        ("```python\na", "a"),
        ("a = 1", None),
        ("```bash\nls\n```", None),
    ],
)
def test_the_last_block_of_the_language_is_the_code(text, code):
    assert last_code(text, ("", "python", "py")) == code
