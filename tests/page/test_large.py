"""As many rows as a page holds: it opens, searches, filters and sorts while somebody waits, and stays small enough to send."""

from collections.abc import Callable
from typing import Any

import numpy as np

from prefkit.page.rows import MOST

Make = Callable[..., Any]
PATIENCE_MS = 3_000
"""For each answer, on a machine that does other things too; docs/report_page.md has what was measured on a quiet one."""


def words(rows: int, of: int, seed: int) -> list[str]:
    known = np.array([f"word{at}" for at in range(3_000)])
    drawn = np.random.default_rng(seed).zipf(1.3, size=(rows, of)) % len(known)
    return [" ".join(row) for row in known[drawn]]


def test_twenty_thousand_pairs_stay_smooth(visit: Make, pairs_of: Make, page_of: Make) -> None:
    chosen, rejected = words(MOST + 10, 20, 1), words(MOST + 10, 20, 2)
    drawn = np.random.default_rng(3).random(MOST + 10)
    path = page_of(pairs_of(MOST + 10, chosen=chosen, rejected=rejected, flip_prob=drawn))
    assert path.stat().st_size < 10e6
    seen = visit(path)
    loaded = seen.page.evaluate("performance.getEntriesByType('navigation')[0].domComplete")
    assert loaded < PATIENCE_MS
    assert seen.status() == "20,000 pairs, all shown"
    assert "20,000 of 20,010, spread evenly" in seen.page.locator("#browser").text_content()

    took = {}
    took["first search"] = seen.ask(lambda: seen.control("searchbox", "search").fill("word1 word2"))
    took["second search"] = seen.ask(lambda: seen.control("searchbox", "search").fill("word77"))
    took["no search"] = seen.ask(lambda: seen.control("searchbox", "search").fill(""))
    took["sort"] = seen.ask(lambda: seen.control("combobox", "sort by").select_option("flip_prob"))
    took["turned"] = seen.ask(lambda: seen.control("combobox", "order").select_option("descending"))
    seen.control("combobox", "filter by").select_option("flip_prob")
    took["filter"] = seen.ask(lambda: seen.control("spinbutton", "at least").fill("0.9"))
    assert {what: spent for what, spent in took.items() if spent >= PATIENCE_MS} == {}
    assert seen.status() == f"{int((drawn_in_page(seen) >= 0.9).sum()):,} of 20,000 pairs match"


def drawn_in_page(seen: Any) -> np.ndarray:
    """The column as the page has it: it holds six digits."""
    opened = """async () => {
      const packed = atob(document.getElementById('rows-kept').textContent);
      const bytes = Uint8Array.from(packed, (mark) => mark.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
      const head = JSON.parse(await new Response(stream).text());
      return head.columns.find((column) => column.name === 'flip_prob').values;
    }"""
    return np.array(seen.page.evaluate(opened))
