"""The browser of rows: what somebody finds, filters, sorts and reads, with a mouse or with keys alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from prefkit.columns import VOTES

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def many(pairs_of: Open, page_of: Open) -> Path:
    vote = {
        "judge": "ann",
        "order": None,
        "winner": "chosen",
        "p": 1.0,
        "strength": None,
        "rationale": "clear Reasons",
    }
    table = pairs_of(
        130,
        flip_prob=[k / 130 for k in range(130)],
        tie=[k % 2 == 0 if k else None for k in range(130)],
        votes=pa.array([[vote] if k % 10 == 0 else [] for k in range(130)], VOTES),
    )
    gone = pairs_of(
        3, drop_reason=["too-long", "too-long", "empty"], id=["gone-000001", "gone-000002", "gone-000003"]
    )
    return Path(page_of(table, dropped=gone, drops={"too-long": 2, "empty": 1}))


def test_a_page_opens_on_the_first_row(visit: Open, many: Path) -> None:
    seen = visit(many)
    assert seen.status() == "130 pairs, all shown"
    assert seen.ids()[:2] == ["question 0", "question 1"]
    row = seen.page.get_by_role("region", name="The row that is looked at")
    assert "the good answer is 0" in row.text_content()
    assert "clear Reasons" in row.text_content()


def test_a_search_finds_rows_with_all_words_wherever_they_stand(visit: Open, many: Path) -> None:
    seen = visit(many)
    search = seen.control("searchbox", "search")
    seen.ask(lambda: search.fill("GOOD 12 question"))
    assert seen.ids() == [f"question {k}" for k in (12, 112, *range(120, 130))]
    seen.ask(lambda: search.fill('"bad answer is 12 or"'))
    assert seen.status() == "1 of 130 pairs match"
    seen.ask(lambda: search.fill("reasons"))
    assert seen.status() == "13 of 130 pairs match"
    seen.ask(lambda: seen.control("combobox", "in").select_option("chosen"))
    assert seen.status() == "0 of 130 pairs match"
    assert "No row matches" in seen.page.locator("#browser").text_content()


def test_rows_are_sorted_by_any_number_with_what_is_missing_last(visit: Open, many: Path) -> None:
    seen = visit(many)
    seen.ask(lambda: seen.control("combobox", "sort by").select_option("margin"))
    assert seen.ids()[:2] == ["question 129", "question 128"]
    seen.ask(lambda: seen.control("combobox", "order").select_option("descending"))
    assert seen.ids()[:2] == ["question 0", "question 2"]
    seen.page.get_by_role("listbox").press("End")
    seen.looks_at("pair-000001")
    offered = seen.control("combobox", "sort by").locator("option").all_text_contents()
    assert {"margin", "flip prob", "length gap", "score gap"} <= set(offered)


@pytest.mark.parametrize(
    ("column", "fill", "matches"),
    [
        ("flip_prob", lambda seen: seen.control("spinbutton", "at least").fill("0.9"), 13),
        ("margin", lambda seen: seen.control("combobox", "rows").select_option("only"), 1),
        ("margin", lambda seen: seen.control("spinbutton", "at most").fill("2"), 2),
        ("source", lambda seen: seen.page.get_by_role("checkbox", name="book").check(), 44),
        ("tie", lambda seen: seen.page.get_by_role("checkbox", name="missing").check(), 1),
        ("id", lambda seen: seen.control("textbox", "contains").fill("00012"), 11),
        ("votes", lambda seen: seen.control("combobox", "rows").select_option("there"), 13),
        ("chosen", lambda seen: seen.control("textbox", "contains").fill("is 129"), 1),
    ],
)
def test_rows_are_filtered_by_any_column(
    visit: Open, many: Path, column: str, fill: Callable[[Any], None], matches: int
) -> None:
    seen = visit(many)
    seen.control("combobox", "filter by").select_option(column)
    seen.ask(lambda: fill(seen))
    assert seen.status() == f"{matches} of 130 pairs match"
    seen.ask(lambda: seen.page.get_by_role("button", name=f"Remove the filter by {column}").click())
    assert seen.status() == "130 pairs, all shown"


def test_filters_and_a_search_narrow_together(visit: Open, many: Path) -> None:
    seen = visit(many)
    seen.control("combobox", "filter by").select_option("source")
    seen.ask(lambda: seen.page.get_by_role("checkbox", name="book").check())
    seen.control("combobox", "filter by").select_option("flip_prob")
    seen.ask(lambda: seen.control("spinbutton", "at least").fill("0.5"))
    seen.ask(lambda: seen.control("searchbox", "search").fill("question 9"))
    assert seen.ids() == [f"question {k}" for k in (69, 90, 93, 96, 99, 129)]
    seen.ask(lambda: seen.control("button", "Show all").click())
    assert seen.status() == "130 pairs, all shown"


def test_keys_walk_through_rows_and_pages(visit: Open, many: Path) -> None:
    seen = visit(many)
    press = seen.page.keyboard.press
    press("j")
    press("j")
    press("k")
    seen.looks_at("pair-000001")
    assert seen.page.url.endswith("#pair-000001")
    press("/")
    assert seen.page.evaluate("document.activeElement.type") == "search"
    seen.ask(lambda: press("j"))
    assert seen.control("searchbox", "search").input_value() == "j", "letters in a field are text"
    seen.ask(lambda: press("Backspace"))
    press("Escape")
    press("PageDown")
    seen.looks_at("pair-000050")
    press("ArrowDown")
    seen.looks_at("pair-000051")
    press("End")
    seen.looks_at("pair-000129")
    assert "Page 3 of 3" in seen.page.locator(".paging").text_content()
    press("Home")
    seen.looks_at("pair-000000")


def test_single_keys_can_be_switched_off(visit: Open, many: Path) -> None:
    seen = visit(many)
    seen.page.get_by_role("checkbox", name="single keys are on").uncheck()
    seen.page.get_by_role("listbox").focus()
    seen.page.keyboard.press("j")
    seen.page.keyboard.press("ArrowDown")
    seen.looks_at("pair-000001")


def test_buttons_do_what_keys_do(visit: Open, many: Path) -> None:
    seen = visit(many)
    seen.control("button", "next page").click()
    seen.looks_at("pair-000050")
    seen.control("button", "Next row").click()
    seen.looks_at("pair-000051")
    seen.control("button", "Row before").click()
    seen.control("button", "page before").click()
    seen.looks_at("pair-000000")
    seen.page.get_by_role("listbox").get_by_role("option").nth(7).click()
    seen.looks_at("pair-000007")


def test_a_link_opens_its_row_whatever_is_filtered(visit: Open, many: Path) -> None:
    seen = visit(many, "#pair-000077")
    seen.looks_at("pair-000077")
    seen.ask(lambda: seen.control("searchbox", "search").fill("nothing has this"))
    seen.page.evaluate("location.hash = 'pair-000101'")
    seen.looks_at("pair-000101")
    seen.page.evaluate("location.hash = 'gone-000003'")
    seen.looks_at("gone-000003")
    assert seen.status() == "3 pairs, all shown"
    seen.page.evaluate("location.hash = 'no-such-row'")
    seen.page.get_by_text("No row of this page has the id no-such-row").wait_for()


def test_dropped_rows_are_there_with_their_reasons(visit: Open, many: Path) -> None:
    seen = visit(many)
    seen.ask(lambda: seen.control("button", "Dropped pairs 3").click())
    assert seen.status() == "3 pairs, all shown"
    assert "drop reason too-long" in seen.page.get_by_role("listbox").text_content()
    seen.control("combobox", "filter by").select_option("drop_reason")
    seen.ask(lambda: seen.page.get_by_role("checkbox", name="empty").check())
    assert seen.status() == "1 of 3 pairs match"


def test_a_view_is_kept_in_the_address_and_opens_again(visit: Open, many: Path) -> None:
    seen = visit(many)
    seen.control("combobox", "filter by").select_option("source")
    seen.ask(lambda: seen.page.get_by_role("checkbox", name="book").check())
    seen.control("combobox", "filter by").select_option("margin")
    seen.ask(lambda: seen.control("spinbutton", "at most").fill("100"))
    seen.ask(lambda: seen.control("combobox", "sort by").select_option("margin"))
    seen.ask(lambda: seen.control("searchbox", "search").fill("question 9"))
    status, ids = seen.status(), seen.ids()
    again = visit(many, seen.page.url[seen.page.url.index("#") :])
    assert (again.status(), again.ids()) == (status, ids)
    assert ids == [f"question {k}" for k in (129, 99, 96, 93, 90, 69, 39)]
    assert again.control("searchbox", "search").input_value() == "question 9"
    assert again.page.get_by_role("checkbox", name="book").is_checked()
    seen.control("button", "Copy link to this view").click()
    seen.page.get_by_text("The link to this view is copied").or_(
        seen.page.get_by_text("stands in the address bar")
    ).wait_for()


def test_an_address_with_nonsense_opens_all_rows(visit: Open, many: Path) -> None:
    link = "#?set=none&sort=no&min.margin=much&is.nowhere=1&rows.id=odd&%E0=1"
    assert visit(many, link).status() == "130 pairs, all shown"
    assert visit(many, f"{link}&is.source=nothing").status() == "0 of 130 pairs match"
    assert visit(many, "#%E0%A4%A").status().startswith("No row of this page")


def test_the_count_of_a_reason_leads_to_its_rows(visit: Open, many: Path) -> None:
    seen = visit(many)
    seen.page.get_by_text("3 dropped: too-long").click()
    seen.page.get_by_role("link", name="2", exact=True).click()
    seen.page.get_by_text("2 of 3 pairs match").wait_for()
    assert seen.page.get_by_role("checkbox", name="too-long").is_checked()


def test_ready_made_filters_count_what_they_find(visit: Open, pairs_of: Open, page_of: Open) -> None:
    said = [["chosen"] * 3, ["chosen", "rejected"], ["tie"] * 3, ["chosen"], ["tie", "chosen"]]
    vote = {"judge": "ann", "order": None, "p": None, "strength": None, "rationale": None}
    votes = pa.array([[{**vote, "winner": each} for each in row] for row in said], VOTES)
    seen = visit(page_of(pairs_of(5, votes=votes, chosen_score=[1.0, -1.0, 0.0, 2.0, 3.0])))
    seen.ask(lambda: seen.control("button", "raters disagree 2").click())
    assert seen.ids() == ["question 1", "question 4"]
    seen.ask(lambda: seen.control("button", "chosen scored lower 1").click())
    assert seen.ids() == ["question 1"]
    assert "All raters agree on 50\u00a0% of pairs" in seen.page.locator("#short").text_content()


def test_an_id_is_found_by_searching_and_where_it_is(visit: Open, many: Path) -> None:
    seen = visit(many)
    seen.ask(lambda: seen.control("searchbox", "search").fill("pair-000042"))
    assert seen.ids() == ["question 42"]
    seen.ask(lambda: seen.control("searchbox", "search").fill("gone-000002"))
    assert seen.status() == "0 of 130 pairs match; that id is among the dropped pairs"


def test_words_that_only_one_side_has_are_marked(visit: Open, pairs_of: Open, page_of: Open) -> None:
    table = pairs_of(
        3,
        chosen=["one two three red four five six", "all of it is other here", "same"],
        rejected=["one two three blue four five six", "nothing common whatsoever", "same"],
    )
    seen = visit(page_of(table))
    row = seen.page.get_by_role("region", name="The row that is looked at")
    assert row.locator("ins").all_text_contents() == ["red"]
    assert row.locator("del").all_text_contents() == ["blue"]
    assert "underline" in row.locator("del").evaluate("(it) => getComputedStyle(it).textDecorationLine")
    seen.page.get_by_role("checkbox", name="mark differences").uncheck()
    seen.page.wait_for_selector("section.rejected del", state="detached")
    assert "one two three blue four five six" in row.text_content()
    seen.page.get_by_role("checkbox", name="mark differences").check()
    seen.control("button", "Next row").click()
    row.get_by_text("so differences are not marked").wait_for()
    seen.control("button", "Next row").click()
    row.get_by_text("both sides are the same").wait_for()


@pytest.mark.parametrize("level", ["prompt", "response"])
def test_prompts_and_responses_can_be_browsed_too(
    visit: Open, pairs_of: Open, page_of: Open, level: str
) -> None:
    table = pairs_of(9, response=[f"reply {k}" for k in range(9)], score=[float(k) for k in range(9)])
    names = ["id", "prompt_id", "prompt", *(["response", "score"] if level == "response" else [])]
    seen = visit(page_of(table.select(names)))
    assert seen.status() == f"9 {level}s, all shown"
    seen.ask(lambda: seen.control("searchbox", "search").fill("question 8"))
    assert seen.ids() == ["question 8"]
    assert ("reply 8" in seen.page.locator("#browser").text_content()) == (level == "response")


def test_a_page_without_rows_opens(visit: Open, pairs_of: Open, page_of: Open) -> None:
    seen = visit(page_of(pairs_of(2).slice(0, 0)))
    assert seen.status() == "0 pairs, all shown"


def test_more_rows_than_fit_are_sampled_and_the_page_says_so(
    visit: Open, pairs_of: Open, page_of: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefkit.page.rows.MOST_CHARS", 2_000)
    seen = visit(page_of(pairs_of(100)))
    assert "of 100, spread evenly" in seen.page.locator("#browser").text_content()
    assert len(seen.ids()) < 50
