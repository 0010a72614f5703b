"""The page of a build: safe whatever the rows say, and worth reading without a script."""

import base64
import hashlib
import itertools
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from markupsafe import Markup

from prefkit.card import save_report
from prefkit.card.facts import collect
from prefkit.columns import MESSAGES
from prefkit.errors import PrefkitError, StoreError
from prefkit.page import write_report
from prefkit.page.opening import opening
from prefkit.page.rows import spread
from prefkit.page.words import Glossary
from prefkit.store import Store
from prefkit.train.report import Change, HeldOut, Interval, Report

Make = Callable[..., Any]
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*191 }} <!-- ]]> &lt; \u2028 \u202edesrever \x00 \x1b[2J"


class Tags(HTMLParser):
    """The tags of a page, its text, the addresses in it and the attributes that act."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.places: list[str] = []
        self.acting: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.places += [value or "" for name, value in attrs if name in {"src", "href", "action", "data"}]
        self.acting += [name for name, _ in attrs if name.startswith("on") or name == "style"]

    def handle_data(self, data: str) -> None:
        self.text += data.replace("\u00a0", " ")


def hostile(pairs_of: Make) -> pa.Table:
    return pairs_of(
        3,
        id=["a", "b </script>", "\u202ec"],
        prompt=[EVIL, None, EVIL],
        chosen=[EVIL, "x" * 1_000_000, ""],
        rejected=["", None, EVIL],
        source=[EVIL] * 3,
        note=[EVIL, None, "\u202e"],
        margin=[float("nan"), float("inf"), None],
    )


@pytest.fixture(scope="module")
def evil(pairs_of: Make, page_of: Make) -> Path:
    """A page on which every text that a stranger can choose is hostile."""
    return Path(page_of(hostile(pairs_of), dropped=hostile(pairs_of), drops={EVIL: 3}))


def test_a_page_holds_nothing_but_its_own_script_and_asks_for_nothing(evil: Path) -> None:
    page = Tags(evil.read_text(encoding="utf-8"))
    assert {"img", "link", "iframe", "object", "base"}.isdisjoint(page.tags)
    assert [place for place in page.places if not place.startswith("#")] == []
    assert page.acting == []
    assert "<img src=x onerror=alert(1)>" in page.text, "it is there to be read"
    assert "1337" not in page.text


def test_the_policy_names_the_style_and_the_script_and_nothing_else(evil: Path) -> None:
    html = evil.read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    assert policy
    found = dict(part.split(" ", 1) for part in policy[1].replace("&#39;", "'").split("; "))
    style = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    script = re.findall(r'<script type="module">(.*?)</script>', html, re.DOTALL)
    assert len(style) == len(script) == 1
    for name, source in (("style-src", style[0]), ("script-src", script[0])):
        assert (
            found[name] == f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
        )
    assert found["default-src"] == "'none'"
    assert "innerHTML" not in script[0]
    assert "insertAdjacentHTML" not in script[0]


def test_hostile_rows_stay_text(visit: Make, evil: Path) -> None:
    seen = visit(evil)
    assert seen.status() == "3 pairs, all shown"
    row = seen.page.get_by_role("region", name="The row that is looked at")
    assert "<script>alert(1)</script>" in row.text_content()
    assert {"\\u2028", "\\u202e", "\\u0000", "\\u001b"} <= set(row.locator(".unseen").all_text_contents())
    assert not re.search("[\u2028\u202e\x00\x1b]", seen.page.locator("main").text_content())
    seen.control("button", "Next row").click()
    row.get_by_text("950,000 more characters are not in this page").wait_for()
    row.get_by_role("button", name="Show 44,000 more characters").click()
    assert len(row.locator("section.chosen .said").text_content()) == 50_000
    seen.control("combobox", "filter by").select_option("source")
    seen.control("combobox", "filter by").select_option("margin")
    seen.ask(lambda: seen.control("searchbox", "search").fill("</script> onerror"))
    assert seen.status() == "3 of 3 pairs match" or seen.status() == "3 pairs, all shown"
    assert seen.page.locator("img").count() == 0


def test_a_page_reads_without_a_script(visit: Make, pairs_of: Make, page_of: Make) -> None:
    seen = visit(page_of(pairs_of(40)), ready=False, java_script_enabled=False)
    text = seen.page.locator("main").inner_text()
    for said in (
        "In one minute",
        "40 preference pairs",
        "Does length explain the labels?",
        "Checks",
        "needs JavaScript",
    ):
        assert said in text
    assert seen.page.locator(".still article").count() == 3
    assert seen.page.locator(".still article").first.is_visible()
    assert not seen.page.get_by_role("button").all()


def told(store: Store) -> str:
    return " ".join(f"{each.short} {each.because}" for each in opening(collect(store, "tiny")))


def test_the_opening_says_what_where_and_whether_length_explains_the_labels(
    pairs_of: Make, file_run: Make, store: Store
) -> None:
    table = pairs_of(200, chosen=["long " * 9] * 200, rejected=["x"] * 200)
    gone = pairs_of(50, drop_reason=["too-long"] * 50)
    file_run(store, table, gone, drops={"too-long": 50})
    text = told(store)
    assert "200 preference pairs on 200 prompts" in text
    assert "250 pairs → 200 kept" in text
    assert "Lost most: 50 pairs at `data` (`too-long`)" in text
    assert "Chosen is the longer answer in 100.0 % (200 of 200" in text
    assert "labels are largely length" in text
    assert "No training run on these rows is recorded" in text


def test_the_opening_says_so_where_length_explains_nothing(
    pairs_of: Make, file_run: Make, store: Store
) -> None:
    sides = [("longer text", "short")[k % 2] for k in range(200)]
    other = [("longer text", "short")[(k // 2) % 2] for k in range(200)]
    file_run(store, pairs_of(200, chosen=sides, rejected=other))
    assert "no sign that labels follow length" in told(store)


def test_the_opening_says_which_kind_of_row_a_step_took(pairs_of: Make, file_run: Make, store: Store) -> None:
    domains = ["ende"] * 50 + ["zhen"] * 50
    table = pairs_of(100, domain=domains)
    gone = table.slice(10, 45).append_column("drop_reason", pa.array(["too-long"] * 45))
    file_run(store, table)
    stayed = pa.concat_tables([table.slice(0, 10), table.slice(55)])
    config = {"model": {"id": "prefkit/toy-policy"}, "too_long": "drop"}
    step = {"key": "k1", "stage": "reference", "kind": "map", "config": config, "drops": {"too-long": 45}}
    file_run(store, stayed, gone, **step)
    store.save_refs("tiny", {"00-data": "k0", "01-reference": "k1"}, {"name": "tiny"})
    text = told(store)
    assert "`reference` took 80 % of `ende`, 10 % of `zhen`" in text
    assert "So `zhen` is 82 % of what is left; it was 50 % before." in text
    assert "45 pairs at `reference` (`too-long`: a side is longer than `prefkit/toy-policy` reads)" in text
    assert "the toy model that ships with prefkit" in text


def test_the_opening_tells_what_became_of_pairs_that_were_proposed(
    pairs_of: Make, file_run: Make, store: Store
) -> None:
    responses = pairs_of(9, response=["a"] * 9).select(["id", "prompt_id", "prompt", "response"])
    file_run(store, responses)
    notes = {"pair/pairs-over-limit": 7, "pair/pairs-equal-scores": 3, "pair/equal-scores": 1}
    config = {"max_pairs": 4}
    file_run(store, pairs_of(4), key="k1", stage="pair", kind="group", config=config, notes=notes)
    store.save_refs("tiny", {"00-data": "k0", "01-pair": "k1"}, {"name": "tiny"})
    wanted = "14 were proposed: 4 made, 7 not (more than `max_pairs: 4` of a prompt), 3 not (`equal-scores`)."
    assert wanted in told(store)


def test_a_check_that_chance_could_have_failed_is_called_just_over(
    pairs_of: Make, page_of: Make, file_run: Make, store: Store
) -> None:
    sides = ["a longer text" if k % 10 < 7 else "x" for k in range(200)]
    table = pairs_of(200, chosen=sides, rejected=["short"] * 200)
    file_run(store, table)
    assert "wanted 35 to 65 % (just over: the interval holds the limit, so it could be chance)" in told(store)
    assert "✗ just over" in page_of(table).read_text(encoding="utf-8")


def test_words_are_linked_where_they_first_stand_and_nowhere_else() -> None:
    glossary = Glossary()
    made = str(glossary.link(Markup("<p>the <code>AUC</code> and AUC, AUC; a &lt;b&gt; tie</p>")))
    assert made == (
        '<p>the <code>AUC</code> and <a class="word" href="#word-auc">AUC</a>, AUC; a &lt;b&gt;'
        ' <a class="word" href="#word-tie">tie</a></p>'
    )
    assert str(glossary.link(Markup("<p>AUC</p>"))) == "<p>AUC</p>"
    assert [word for _, word, _ in glossary.words()] == ["AUC", "tie"]


def test_training_is_told_with_its_interval(
    pairs_of: Make, file_run: Make, store: Store, tmp_path: Path
) -> None:
    manifest = file_run(store, pairs_of(2))
    one = Interval(mean=0.9, low=0.85, high=0.95, prompts=40)
    change = Change(before=one, after=one, difference=Interval(mean=0.0, low=-0.1, high=0.1, prompts=40))
    report = Report(
        key="k",
        model="m",
        objective="dpo",
        settings={},
        placement={},
        pairs=2,
        notes={},
        steps=3,
        seconds=1.0,
        tokens=5,
        first_loss=0.69,
        last_loss=0.5,
        curve=((0, 0.69), (1, 0.6), (2, 0.5)),
        held_out=HeldOut(
            pairs=40,
            accuracy=change,
            loss=change,
            reward_margin=change,
            chosen_logp=change,
            rejected_logp=change,
        ),
        samples=None,
        warnings=["it looks <b>odd</b>"],
    )
    save_report(store, "tiny", manifest.digest, report)
    html = write_report(store, "tiny", tmp_path).read_text(encoding="utf-8")
    assert "90.0 % (95 %: 85.0 to 95.0) of held-out pairs" in Tags(html).text
    assert "<b>odd</b>" not in html
    assert "Loss" in Tags(html).text


def test_the_same_build_makes_the_same_page_and_a_folder_gets_a_report_html(
    pairs_of: Make, file_run: Make, store: Store, tmp_path: Path
) -> None:
    file_run(store, pairs_of(9).select(["id", "prompt_id", "prompt"]))
    paths = [write_report(store, "tiny", tmp_path / name) for name in ("one", "two.html")]
    assert paths == [tmp_path / "one" / "report.html", tmp_path / "two.html"]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_rows_that_are_gone_are_an_error(
    pairs_of: Make, file_run: Make, store: Store, tmp_path: Path
) -> None:
    file_run(store, pairs_of(2))
    for path in store.root.glob("objects/*/*.arrow"):
        path.unlink()
    with pytest.raises(StoreError):
        write_report(store, "tiny", tmp_path)


def test_a_page_that_cannot_be_written_is_an_error(
    pairs_of: Make, file_run: Make, store: Store, tmp_path: Path
) -> None:
    file_run(store, pairs_of(2).select(["id", "prompt_id", "prompt"]))
    (tmp_path / "here").write_text("a file")
    with pytest.raises(PrefkitError, match="the page cannot be written"):
        write_report(store, "tiny", tmp_path / "here" / "page.html")


def test_a_part_is_spread_evenly_over_the_rows() -> None:
    places = spread(1_000, 100, "rows").to_pylist()
    assert len(places) == 100
    assert {late - early for early, late in itertools.pairwise(places)} == {10}
    assert places == spread(1_000, 100, "rows").to_pylist()
    assert spread(3, 100, "rows").to_pylist() == [0, 1, 2]


def test_columns_that_nobody_reads_are_left_out(pairs_of: Make, page_of: Make) -> None:
    tokens = pa.array(
        [[[{"id": 1, "logp": -0.5}]]] * 2,
        pa.list_(pa.list_(pa.struct([("id", pa.int32()), ("logp", pa.float32())]))),
    )
    turns = pa.array([None, [{"role": None, "content": None}]], MESSAGES)
    html = page_of(pairs_of(2, chosen_teacher=tokens, extra=turns)).read_text(encoding="utf-8")
    assert "chosen_teacher" in Tags(html).text
