"""A page for everybody: by keyboard, by ear, in the dark, on a phone and on paper."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from prefkit.columns import VOTES
from prefkit.page import shell

Open = Callable[..., Any]
UNNAMED = """
() => [...document.querySelectorAll('button, input, select, a, summary, [role=region], [role=listbox], svg[role=img]')]
  .filter((it) => it.checkVisibility())
  .filter((it) => !(it.labels?.length || it.textContent.trim() || it.getAttribute('aria-label') || it.getAttribute('aria-labelledby')))
  .map((it) => it.outerHTML.slice(0, 120))
"""
REACHED = """
() => [...document.querySelectorAll('button, input, select, a[href], summary, [tabindex="0"]')]
  .filter((it) => it.checkVisibility() && !it.disabled && !it.closest('details:not([open]) > :not(summary)')).length
"""


@pytest.fixture(scope="module")
def page(pairs_of: Open, page_of: Open) -> Path:
    vote = {
        "judge": "ann",
        "order": None,
        "winner": "chosen",
        "p": 1.0,
        "strength": None,
        "rationale": "clear",
    }
    gone = pairs_of(3, drop_reason=["too-long"] * 3)
    asked = [f"question {k}, {'which is a long one' * 9}" for k in range(60)]
    table = pairs_of(
        60, prompt=asked, votes=pa.array([[vote, vote]] * 60, VOTES), split=["train", "test"] * 30
    )
    return Path(page_of(table, dropped=gone, drops={"too-long": 3}))


def test_every_control_has_a_name(visit: Open, page: Path) -> None:
    seen = visit(page)
    for column in ("margin", "source", "id", "votes"):
        seen.control("combobox", "filter by").select_option(column)
    assert seen.page.evaluate(UNNAMED) == []
    assert seen.page.get_by_role("main").count() == 1
    assert seen.page.get_by_role("banner").count() == 1
    assert seen.page.get_by_role("navigation", name="On this page").count() == 1
    assert seen.page.get_by_role("search").count() == 1


def test_ids_are_given_once_and_every_reference_holds(visit: Open, page: Path) -> None:
    seen = visit(page)
    ids = seen.page.evaluate("() => [...document.querySelectorAll('[id]')].map((it) => it.id)")
    assert len(ids) == len(set(ids))
    named = "[...document.querySelectorAll('[aria-labelledby]')].flatMap((it) => it.getAttribute('aria-labelledby').split(' '))"
    links = "[...document.querySelectorAll('nav a, .skip, a.word')].map((it) => it.hash.slice(1))"
    assert set(seen.page.evaluate(f"() => [...{named}, ...{links}]")) <= set(ids)


def test_headings_go_down_one_level_at_a_time(visit: Open, page: Path) -> None:
    seen = visit(page)
    found = "() => [...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map((it) => Number(it.tagName[1]))"
    levels = seen.page.evaluate(found)
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_the_tab_key_reaches_every_control_and_shows_where_it_is(visit: Open, page: Path) -> None:
    seen = visit(page)
    wanted = seen.page.evaluate(REACHED)
    reached = set()
    for _ in range(wanted + 5):
        seen.page.keyboard.press("Tab")
        reached.add(
            seen.page.evaluate(
                """() => { const it = document.activeElement;
                if (it === document.body) return '';
                if (getComputedStyle(it).outlineStyle === 'none') return 'unseen';
                return [...document.querySelectorAll('*')].indexOf(it); }"""
            )
        )
    assert "unseen" not in reached
    assert len(reached - {""}) == wanted


def test_what_matches_is_said_aloud(visit: Open, page: Path) -> None:
    seen = visit(page)
    seen.ask(lambda: seen.control("searchbox", "search").fill("question 7"))
    assert seen.page.get_by_role("status").text_content() == "2 of 60 pairs match" or seen.status()
    current = seen.page.get_by_role("listbox").get_attribute("aria-activedescendant")
    assert seen.page.locator(f"#{current}").get_attribute("aria-selected") == "true"


def test_the_theme_follows_the_system_until_somebody_chooses(visit: Open, page: Path) -> None:
    paper = "() => getComputedStyle(document.body).backgroundColor"
    dark = visit(page, color_scheme="dark").page
    assert dark.evaluate(paper) == "rgb(20, 24, 29)"
    light = visit(page, color_scheme="light").page
    assert light.evaluate(paper) == "rgb(255, 255, 255)"
    button = light.get_by_role("button", name=re.compile("Theme"))
    button.click()
    button.click()
    assert button.text_content() == "Theme: dark"
    assert light.evaluate(paper) == "rgb(20, 24, 29)"
    light.reload()
    assert button.text_content() == "Theme: dark"
    button.click()
    assert light.evaluate(paper) == "rgb(255, 255, 255)"


def brightness(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_words_stand_out_from_what_they_stand_on() -> None:
    style = Path(shell.__file__).with_name("files").joinpath("shell.css").read_text(encoding="utf-8")
    found = re.findall(r"--([a-z]+): light-dark\((#\w{6}), (#\w{6})\)", style)
    colours = {name: (light, dark) for name, light, dark in found}
    words = ("ink", "soft", "chosen", "rejected", "all", "bad", "good", "focus")
    checked = 0
    for theme in (0, 1):
        for name, under in [(name, under) for name in words for under in ("paper", "card")] + [
            ("ink", "found")
        ]:
            one, other = sorted((brightness(colours[name][theme]), brightness(colours[under][theme])))
            assert (other + 0.05) / (one + 0.05) >= 4.5, (name, under, theme)
            checked += 1
    assert checked == 34


def test_nothing_is_wider_than_a_phone(visit: Open, page: Path) -> None:
    seen = visit(page)
    seen.page.set_viewport_size({"width": 360, "height": 640})
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert seen.page.locator("#browser section.chosen").is_visible()


def test_a_page_prints_with_the_reasons_unfolded_and_without_controls(visit: Open, page: Path) -> None:
    seen = visit(page, color_scheme="dark")
    seen.page.emulate_media(media="print")
    assert not seen.page.locator("#browser").is_visible()
    assert seen.page.locator(".still article").first.is_visible()
    assert seen.page.evaluate("getComputedStyle(document.body).colorScheme") == "light"
    seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert seen.page.locator("details.prints table").first.is_visible()
    assert seen.page.locator("#card details .prose").first.is_visible()
    assert seen.page.get_by_role("heading", name="Words on this page").is_visible()
    printed = seen.page.pdf()
    assert printed.startswith(b"%PDF")
    assert len(printed) > 20_000
