"""Flaws of texts: refusals at the opening, endings in the middle, markers, scripts, and style as numbers."""

from importlib.util import find_spec

import polars as pl
import pyarrow as pa
import pytest

from prefkit.columns import MESSAGES
from prefkit.errors import PrefkitError
from prefkit.quality.endings import cut_off, special_tokens
from prefkit.quality.languages import other_language, other_script
from prefkit.quality.phrases import refusal
from prefkit.quality.style import FEATURES, counted, style

PROSE = "It was late in the autumn when the three of them set out at last for the coast and"


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I cannot assist you with this request.",
        "As an AI language model, I am unable to browse the web.",
        "Sorry. I must respectfully decline.",
        "I’m not able to share that.",
        "That goes against my guidelines.",
    ],
)
def test_declining_at_the_opening_is_a_refusal(text):
    assert refusal(pl.Series([text])).tolist() == [True]


def test_what_is_no_refusal():
    texts = [
        "Sure, here is how.",
        "I cannot wait to see it!",
        "As an AI, I do not have opinions, but here is an overview.",
        "Fine. " * 80 + "I cannot help with that.",
        "",
        None,
    ]
    assert refusal(pl.Series(texts, dtype=pl.String)).tolist() == [False] * 6


def test_text_that_stops_in_the_middle():
    texts = [
        PROSE,
        PROSE + " then,",
        "```python\nx = 1",
        PROSE + " stopped.",
        "```\nx\n```",
        "- a point without a stop, of as many words as prose would have on its last line",
        "A title",
        "",
        None,
        "他们三个人终于在深秋出发去海边 他 们 三 个 人 终 于 在 深 秋 出 发 去 海 边",
    ]
    assert cut_off(pl.Series(texts)).tolist() == [True] * 3 + [False] * 7


def test_markers_of_tokenizers():
    texts = [
        "a <|im_end|>",
        "<s>[INST] b",
        "<｜end▁of▁sentence｜>",
        "x</s>",
        "<b>bold</b> a | b",
        "a < b > c",
        None,
    ]
    assert special_tokens(pl.Series(texts)).tolist() == [True] * 4 + [False] * 3


def test_an_answer_in_another_script_than_its_question():
    prompts = pl.Series(
        ["What is the capital of France, please?"] * 3 + ["Translate this text to Russian, please."]
    )
    answers = pl.Series(
        [
            "Столица Франции называется Париж.",
            "It is the city of Paris, as you know.",
            "ok",
            "Столица Франции называется Париж.",
        ]
    )
    assert other_script(prompts, answers).tolist() == [True, False, False, False]
    japanese = pl.Series(["東京の天気はどうですか、教えてください。"])
    assert other_script(japanese, pl.Series(["今日东京的天气非常好，阳光明媚，适合出门。"])).tolist() == [
        True
    ]
    assert other_script(japanese, pl.Series(["東京は今日とても晴れています。"])).tolist() == [False]


def test_code_is_in_no_script():
    prompts = pl.Series(["Напиши функцию, которая складывает два числа"])
    assert other_script(
        prompts, pl.Series(["```python\ndef add(one, other):\n    return one + other\n```"])
    ).tolist() == [False]


def test_an_answer_in_another_language_than_its_question():
    pytest.importorskip("py3langid", reason="the extra `language` is not installed")
    prompts = pl.Series(["What would you like to have for dinner tonight, and where should we eat?"] * 3)
    answers = pl.Series(
        [
            "Ich würde heute Abend gerne italienisch essen gehen, am liebsten in der Stadt.",
            "I would love to have some pasta at the little place around the corner.",
            "ja",
        ]
    )
    assert other_language(prompts, answers).tolist() == [True, False, False]


@pytest.mark.skipif(find_spec("py3langid") is not None, reason="the extra `language` is installed")
def test_without_the_package_it_is_said_what_to_install():
    text = pl.Series(["Long enough a sentence to be in some language."])
    with pytest.raises(PrefkitError, match="needs py3langid"):
        other_language(text, text)


def test_style_counts_what_is_seen():
    text = "# Title\n\n- one **bold** point\n- two\n1. three\n\nGreat! Is it `x`? Perhaps 12.\n"
    column = pa.chunked_array([[[{"role": "assistant", "content": text}], None]], MESSAGES)
    found = dict(zip(FEATURES, counted(column)[0], strict=True))
    assert found["length"] == len(text)
    wanted = {
        "headings": 1,
        "bullets": 2,
        "numbered": 1,
        "bold": 1,
        "questions": 1,
        "exclamations": 1,
        "code": 1,
    }
    assert {name: found[name] for name in wanted} == wanted
    assert (found["hedges"], found["praise"], found["refusal"], found["paragraphs"]) == (1, 1, 0, 2)
    assert style(column)[1].tolist() == [0.0] * len(FEATURES)
