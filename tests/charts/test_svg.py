"""A drawing for a page: safe whatever the rows say, with colours of the page, and one sentence for who cannot see."""

import re
import xml.etree.ElementTree as ET
from typing import Any

import altair as alt
import polars as pl
import pytest

from prefkit.charts import svg
from prefkit.charts.figure import words
from prefkit.charts.theme import COLOURS, HUES, styled

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</svg><style>*{display:none}</style>",
    "&lt;b&gt; &amp; ]]> <!--",
    "javascript:alert(1)",
    "control \x00 \x08 \x1b[31m \x7f \ufffe \uffff",
    "right to left \u202e \u2066",
    "quotes \\\" + 1 + ' + alert(1) + ` \\",
    "{{ 7 * 7 }} ${7*7} datum.name",
]


def drawn(names: list[str], **said: str) -> str:
    frame = pl.DataFrame({"name": names, "value": list(range(1, len(names) + 1))})
    chart = (
        alt.Chart(frame)
        .mark_bar(color=COLOURS["chosen"])
        .encode(
            x=alt.X("value:Q", title=words(names[0])),
            y=alt.Y("name:N", title=None, sort=names),
            color=alt.Color("name:N", scale=alt.Scale(domain=names, range=[COLOURS["chosen"], *HUES])),
            tooltip=[alt.Tooltip("name:N", title=words(names[0]))],
        )
    )
    return svg(styled(chart), said.get("title", "a title"), said.get("description", "a finding"))


def test_a_drawing_is_xml_with_a_title_and_a_description_and_nothing_else_to_hear():
    root = ET.fromstring(drawn(["a", "b"], title="Loss & more", description="loss falls < 1"))
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    title, description = root[0], root[1]
    assert (title.tag, title.text) == (f"{SVG}title", "Loss & more")
    assert (description.tag, description.text) == (f"{SVG}desc", "loss falls < 1")
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert [child.get("aria-hidden") for child in root[2:]] == ["true"]
    heard = [name for inner in root[2].iter() for name in inner.attrib if name == "role" or "aria" in name]
    assert heard == ["aria-hidden"]


def test_a_drawing_takes_the_size_of_its_place():
    root = ET.fromstring(drawn(["a", "b"]))
    assert root.get("viewBox") == "0 0 380 200"
    assert root.get("width") is None
    assert root.get("height") is None


@pytest.mark.parametrize("hostile", HOSTILE)
def test_texts_of_rows_stay_texts(hostile: str):
    markup = drawn([hostile, f"{hostile} again"], title=hostile, description=hostile)
    root = ET.fromstring(markup)
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert tags <= {"svg", "title", "desc", "g", "path", "line", "text", "rect", "circle", "defs", "clipPath"}
    for element in root.iter():
        for name, value in element.attrib.items():
            assert not name.startswith("on"), (name, value)
            assert "href" not in name
            assert name not in {"style", "src"}
            assert "alert" not in value
    assert "<script" not in markup
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e\u2066\ufffe\uffff]", markup)


def test_colours_are_those_of_the_page_and_hold_without_them():
    markup = drawn(["a", "b"])
    assert f'fill="var(--chosen, {COLOURS["chosen"]})"' in markup
    assert f'fill="var(--hue-1, {HUES[0]})"' in markup
    assert f'fill="var(--soft, {COLOURS["soft"]})"' in markup
    fills = set(re.findall(r'(?:fill|stroke)="([^"]*)"', markup))
    assert all(fill in {"none", "transparent"} or fill.startswith("var(--") for fill in fills), fills


def test_no_two_roles_share_a_colour():
    colours = [*COLOURS.values(), *HUES]
    assert len(set(colours)) == len(colours)


def test_colours_can_be_seen_on_white_and_on_near_black():
    for colour in [*COLOURS.values(), *HUES]:
        assert contrast(colour, "#ffffff") >= 3, colour
        assert contrast(colour, "#111111") >= 3, colour


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2: 3 is enough for what is no small text."""

    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([light(one), light(other)])
    return (high + 0.05) / (low + 0.05)


def test_ids_of_drawings_on_one_page_do_not_clash():
    pages = [drawn(["a", "b"]), drawn(["a", "c"]), drawn(["a", "b"], title="another title")]
    ids = [identity for page in pages for identity in re.findall(r'\bid="([^"]*)"', page)]
    assert len(ids) == 6
    assert len(set(ids)) == 6


def test_a_drawing_is_the_same_each_time():
    assert drawn(["a", "b"]) == drawn(["a", "b"])


def test_clipping_keeps_its_reference():
    frame = pl.DataFrame({"x": [0.0, 1.0, 5.0], "y": [0.0, 1.0, 9.0]})
    chart: Any = (
        alt.Chart(frame).mark_line(clip=True).encode(x="x:Q", y=alt.Y("y:Q", scale=alt.Scale(domain=[0, 2])))
    )
    markup = svg(styled(chart), "clipped", "clipped")
    (used,) = set(re.findall(r"url\(#([\w-]+)\)", markup))
    assert f'id="{used}"' in markup
    assert used.startswith("c")
