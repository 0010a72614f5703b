"""Pages as people open them: from a file, in Chromium, with nothing else in reach."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from prefkit.columns import MESSAGES
from prefkit.manifest import Made, Manifest, Rows
from prefkit.page import write_report
from prefkit.stage import level_of
from prefkit.statistics import summarise
from prefkit.store import Store

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
WAIT = 60_000
"""Milliseconds until something is taken to never come."""


def turns(role: str, texts: Sequence[str | None]) -> pa.Array:
    rows = [None if text is None else [{"role": role, "content": text}] for text in texts]
    return pa.array(rows, MESSAGES)


@pytest.fixture(scope="session")
def pairs_of() -> Callable[..., pa.Table]:
    """Pairs whose texts, scores and ids say which row they are; other columns as given."""

    def made(count: int, **more: Any) -> pa.Table:
        at = range(count)
        columns = {
            "id": [f"pair-{k:06d}" for k in at],
            "prompt_id": [f"prompt-{k}" for k in at],
            "prompt": turns("user", [f"question {k}" for k in at]),
            "chosen": turns("assistant", [f"the good answer is {k}" for k in at]),
            "rejected": turns("assistant", [f"the bad answer is {k} or so" for k in at]),
            "chosen_score": [float(k % 7) for k in at],
            "rejected_score": [0.0] * count,
            "margin": [None if k == 1 else float(count - k) for k in at],
            "source": ["web" if k % 3 else "book" for k in at],
        }
        texts = {
            name: turns(name, value)
            for name, value in more.items()
            if name in ("prompt", "chosen", "rejected", "response")
        }
        return pa.table({**columns, **more, **texts})

    return made


@pytest.fixture(scope="session")
def file_run() -> Callable[..., Manifest]:
    """File a table as a run of one step, `tiny`."""

    def filed(store: Store, table: pa.Table, dropped: pa.Table | None = None, **more: Any) -> Manifest:
        shard = store.put(table)
        gone = () if dropped is None else (store.put(dropped),)
        lost = 0 if dropped is None else dropped.num_rows
        facts: dict[str, Any] = {
            "key": "k0",
            "stage": "data",
            "version": 1,
            "kind": "source",
            "level": level_of(table.schema),
            "config": {"data": [{"file": "rows.jsonl"}]},
            "seed": None,
            "input": None,
            "digest": shard.digest,
            "columns": tuple((column.name, str(column.type)) for column in table.schema),
            "shards": (shard,),
            "dropped": gone,
            "rows": Rows(read=len(table) + lost, kept=len(table), dropped=lost),
            "statistics": summarise(table),
            "made": Made(prefkit="0.1.0", python="3.11.7"),
        }
        manifest = Manifest(**{**facts, **more})
        store.save_step(manifest)
        store.save_refs("tiny", {"00-data": "k0"}, {"name": "tiny"})
        return manifest

    return filed


@pytest.fixture(scope="session")
def page_of(
    tmp_path_factory: pytest.TempPathFactory, file_run: Callable[..., Manifest]
) -> Callable[..., Path]:
    """Write the page of a table."""

    def written(table: pa.Table, **more: Any) -> Path:
        folder = tmp_path_factory.mktemp("page")
        store = Store(folder / "runs")
        file_run(store, table, **more)
        return write_report(store, "tiny", folder / "report.html")

    return written


class Visit(NamedTuple):
    """An open page, and what went wrong or was asked for since."""

    page: Any
    problems: list[str]
    requests: list[str]

    def status(self) -> str:
        return str(self.page.get_by_role("status").text_content())

    def ids(self) -> list[str]:
        """The first words of the prompts in the list, as shown."""
        return list(self.page.locator("[role=option] > span:first-child").all_text_contents())

    def control(self, role: str, name: str) -> Any:
        return self.page.get_by_role(role, name=name, exact=True)

    def ask(self, act: Callable[[], object]) -> int:
        """Do what asks for other rows, wait for them, and return the milliseconds that the page itself took."""
        browser = self.page.locator("#browser")
        turn = int(browser.get_attribute("data-answered"))
        act()
        self.page.wait_for_selector(f'#browser[data-answered="{turn + 1}"]', timeout=WAIT)
        return int(browser.get_attribute("data-milliseconds"))

    def looks_at(self, row: str) -> None:
        self.page.wait_for_selector(f'#browser[data-row="{row}"]', timeout=WAIT)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium. Where there is none these tests are skipped, but CI must have one.

    One a module: its driver keeps an event loop running, in which tests of other modules could start none of their own.
    """
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("pages are tested in Chromium, and CI must have it: apt-get install chromium")
        pytest.skip("no chromium here")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Visit]]:
    """Open a page from disk; at the end, nothing may have gone wrong on it and nothing been asked for."""
    visits: list[Visit] = []

    def opened(path: Path, link: str = "", *, ready: bool = True, **context: Any) -> Visit:
        page = chromium.new_context(viewport={"width": 1280, "height": 900}, **context).new_page()
        made = Visit(page, [], [])
        page.on("console", lambda message: made.problems.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: made.problems.append(str(error)))
        page.on("request", lambda request: made.requests.append(request.url))
        page.goto(f"{path.as_uri()}{link}")
        if ready:
            page.wait_for_selector('#browser[data-ready="yes"]', timeout=WAIT)
        visits.append(made)
        return made

    yield opened
    problems = [problem for each in visits for problem in each.problems]
    asked = [url for each in visits for url in each.requests if not url.startswith("file:")]
    for each in visits:
        each.page.context.close()
    assert problems == []
    assert asked == []
