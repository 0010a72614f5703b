"""`prefkit.open`: rows by level, rows to read, charts, differences and lives, in Python and as pages of a notebook."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import prefkit
from prefkit.columns import MESSAGES
from prefkit.errors import PrefkitError, StoreError
from prefkit.opened import Opened
from prefkit.opened.excerpts import Excerpt
from prefkit.opened.plots import Plots
from prefkit.store import Store

RECIPE = """
name: {name}
models: {{ m: {{ id: prefkit/toy-policy }} }}
data: [{{ file: rows.jsonl }}]
build:
  - filter: {{ drop: [empty] }}
  - pair: {{ kind: fold, max_pairs: 1, min_margin: 0.2 }}
  - margin
  - split: {{ test: 0.5 }}
{more}
"""
ROWS = """\
{"prompt": "Say HELLO <b>now</b>", "response": "hello there, friend", "score": 3}
{"prompt": "Say HELLO <b>now</b>", "response": "hello there, enemy <script>alert(1)</script>", "score": 1}
{"prompt": "Say HELLO <b>now</b>", "response": "", "score": 0}
{"prompt": "What is 2 + 2?", "response": "4", "score": 2}
{"prompt": "What is 2 + 2?", "response": "five, \u202eI think", "score": 0}
{"prompt": "Nobody answers alike", "response": "Straße", "score": 1}
{"prompt": "Nobody answers alike", "response": "street", "score": 1.1}
"""


def turns(role: str, *texts: str | None) -> pa.Array:
    return pa.array([None if text is None else [{"role": role, "content": text}] for text in texts], MESSAGES)


def build(folder: Path, store: Store, name: str = "small", more: str = "") -> None:
    (folder / "rows.jsonl").write_text(ROWS, encoding="utf-8")
    prefkit.build(prefkit.Recipe.parse(RECIPE.format(name=name, more=more), folder), store)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    folder = tmp_path_factory.mktemp("opened")
    store = Store(folder / "runs")
    build(folder, store)
    return prefkit.open("small", store)


class Page(HTMLParser):
    """Tags that are open, all there were, and the text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in {"br", "meta"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(shown: Any) -> Page:
    page = Page()
    page.feed(shown._repr_html_())
    page.close()
    assert page.open == []
    assert set(page.tags).isdisjoint({"script", "iframe", "img", "link", "object"})
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    return page


# rows


def test_a_step_is_opened_with_its_rows(data: Opened):
    assert data.table.num_rows == 2
    assert data.pairs.collect().equals(data.frame.collect())
    assert repr(data) == f"<small: 2 pairs, {len(data.table.column_names)} columns>"


def test_rows_of_another_level_are_those_of_the_last_step_that_has_them(data: Opened):
    assert data.responses.collect().height == 6, "the empty one is dropped by then"
    assert (
        prefkit.open("small/data", data.store).pairs.collect()["id"].to_list() == data.table["id"].to_pylist()
    )


def test_a_level_that_no_step_has_is_an_error_that_says_what_there_is(data: Opened):
    with pytest.raises(StoreError, match="no step of run 'small' has prompts") as caught:
        _ = data.prompts
    assert "00-data (responses)" in caught.value.hint


def test_a_sample_is_the_same_rows_in_whatever_order_they_are_stored(pairs: pa.Table):
    from prefkit.opened.excerpts import sampled

    table = pa.table({"id": [str(at) for at in range(100)]})
    back = table.take(pa.array(range(99, -1, -1)))
    one, other = sampled(table, 10, 0)["id"].to_pylist(), sampled(back, 10, 0)["id"].to_pylist()
    assert sorted(one) == sorted(other)
    assert len(set(one)) == 10
    assert one == sorted(one, key=int), "in the order they are stored in"
    assert set(sampled(table, 10, 1)["id"].to_pylist()) != set(one)
    assert sampled(pairs, 10, 0).num_rows == 3
    assert sampled(pairs, 0, 0).num_rows == 0


def test_a_sample_of_less_than_nothing_is_refused(data: Opened):
    with pytest.raises(PrefkitError, match="-1"):
        data.sample(-1)


def test_rows_are_found_by_any_of_their_texts_whatever_the_case(data: Opened):
    assert len(data.find("say hello")) == 1, "prompt"
    assert len(data.find("FRIEND")) == 1, "chosen"
    assert len(data.find("ENEMY")) == 1, "rejected"
    assert len(data.find("2 + 2?")) == 1, "not a pattern"
    assert len(data.find("nowhere")) == 0
    assert prefkit.open("small/data", data.store).find("STRASSE").frame.height == 0
    assert prefkit.open("small/data", data.store).find("sTRAßE").frame.height == 1


def test_found_rows_are_limited_and_counted(data: Opened):
    found = data.find("e", most=1)
    assert found.frame.height == 1
    assert found.title == "2 of 2 pairs of small have 'e', the first 1 are here"


def test_nothing_cannot_be_looked_for(data: Opened):
    with pytest.raises(PrefkitError, match="no text to find"):
        data.find("")


def test_finding_looks_past_rows_without_texts():
    from prefkit.opened.excerpts import found

    table = pa.table(
        {
            "id": list("abc"),
            "chosen": turns("assistant", None, "Yes", None),
            "rejected": turns("assistant", "yes", None, None),
        }
    )
    whole = pa.concat_tables([table, table.slice(1), table.slice(0, 0)])
    assert found(whole, "YES").tolist() == [0, 1, 3]


# pages


def test_a_step_shows_where_rows_went_and_what_columns_mean(data: Opened):
    page = read(data)
    assert "2 pairs of 2 prompts" in page.text
    assert "empty 1" in page.text
    assert "small-margin" in page.text
    assert "by how much chosen is better" in page.text


def test_sides_stand_beside_each_other_with_what_differs_marked(data: Opened):
    shown = data.find("friend")
    page = read(shown)
    marks = re.findall("<mark>(.*?)</mark>", shown._repr_html_())
    assert [re.sub("<[^>]*>", "", mark) for mark in marks][:1] == ["friend"]
    assert page.tags.count("article") == 1
    assert '<b class="found">friend</b>' in shown._repr_html_()


def test_texts_of_rows_are_escaped_and_cannot_turn_the_page(data: Opened):
    html = data.sample()._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "\u202e" not in html
    assert "\\u202e" in html


def test_a_long_text_is_cut_and_says_so():
    long = turns("assistant", "word " * 2000)
    table = pa.table({"id": ["a"], "chosen": long, "rejected": turns("assistant", "no")})
    page = read(Excerpt(table, "one"))
    assert len(page.text) < 9000
    assert "6 000 more characters" in page.text.replace("\u00a0", " ")


def test_conversations_of_different_length_are_shown_whole():
    one = pa.array([[{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]], MESSAGES)
    page = read(Excerpt(pa.table({"id": ["a"], "chosen": one, "rejected": turns("assistant", "a")}), "one"))
    assert page.text.count("assistant") == 2
    assert "user" in page.text


def test_no_rows_are_a_page_too(data: Opened):
    assert "0 of 2 pairs" in read(data.find("nowhere")).text


# charts


def test_charts_have_methods_that_complete(data: Opened):
    chart = data.plot.margin().to_dict()
    assert chart["title"]["text"] == "By how much chosen is better"
    assert {"margin", "length", "length_bias", "scores", "soft_labels", "agreement"} <= set(dir(data.plot))


def test_a_chart_that_the_rows_do_not_give_says_what_they_do(data: Opened):
    with pytest.raises(PrefkitError, match="has no columns to draw 'agreement'") as caught:
        data.plot.agreement()
    assert "length-bias" in caught.value.hint


def test_rows_without_a_training_run_have_no_loss(data: Opened):
    with pytest.raises(PrefkitError, match="no model was trained"):
        data.plot.loss()


def test_every_figure_of_a_step_can_be_asked_for_alone(data: Opened):
    responses = prefkit.open("small/filter", data.store)
    for step in (data, responses):
        calls = re.findall(r"<code>\.plot\.(\w+)\((.*?)\)</code>", step.plot._repr_html_())
        assert len(calls) == len(step.plot.figures())
        for name, argument in calls:
            assert name != "figures", step.plot.figures()
            method = getattr(step.plot, name)
            assert method(*([argument.replace("&#39;", "")] if argument else [])).to_dict()["title"]["text"]


def test_the_gallery_shows_every_figure_with_its_finding(data: Opened):
    page = read(data.plot)
    for figure in data.plot.figures().values():
        assert figure.title in page.text
        assert figure.description in page.text


def test_no_rows_have_nothing_to_draw(pairs: pa.Table):
    assert "nothing to draw" in read(Plots("none", pairs.slice(0, 0))).text


# differences and lives


def test_what_changed_is_told(data: Opened, tmp_path: Path):
    build(tmp_path, data.store, "turned", "  - label: { ops: [{ flip: { rate: 1.0 } }] }")
    changed = data.diff("turned")
    assert changed.difference.flipped == 2
    page = read(changed)
    assert "2 labels flipped" in page.text
    assert "hello there, friend" in page.text
    assert "nothing changed" in read(data.diff(prefkit.open("small", data.store))).text


def test_the_life_of_a_kept_row_is_told(data: Opened):
    life = data.why(data.table["id"][0].as_py())
    page = read(life)
    assert life.biography.fate == "kept"
    assert "02-pair" in page.text
    assert "margin" in page.text


def test_the_life_of_a_dropped_row_is_told(data: Opened):
    (dropped,) = prefkit.open("small/filter", data.store).dropped()
    page = read(data.why(dropped["id"][0].as_py()))
    assert "dropped in 01-filter: empty" in " ".join(page.text.split())


def test_a_row_that_is_not_there_has_no_life(data: Opened):
    with pytest.raises(StoreError):
        data.why("nowhere")
