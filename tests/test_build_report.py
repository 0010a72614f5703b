"""The report of a build: one page, safe whatever the rows say."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from prefkit.build_report import SAMPLES, write_report
from prefkit.build_report_drawings import curve, drawings
from prefkit.card import save_report
from prefkit.columns import MESSAGES
from prefkit.errors import StoreError
from prefkit.manifest import Made, Manifest, Rows
from prefkit.stage import level_of
from prefkit.statistics import Summary, summarise
from prefkit.store import Store
from prefkit.train.report import Report


def turns(role: str, texts: list[str]) -> pa.Array:
    return pa.array([[{"role": role, "content": text}] for text in texts], MESSAGES)


def pairs_of(count: int, **more: Any) -> pa.Table:
    at = range(count)
    columns = {
        "id": [f"pair-{k}" for k in at],
        "prompt_id": [f"prompt-{k}" for k in at],
        "prompt": turns("user", [f"question {k}" for k in at]),
        "chosen": turns("assistant", [f"good {k}" for k in at]),
        "rejected": turns("assistant", [f"bad {k}" for k in at]),
        "chosen_score": [float(k) for k in at],
        "rejected_score": [0.0] * count,
    }
    return pa.table({**columns, **more})


def file_run(store: Store, table: pa.Table) -> Manifest:
    shard = store.put(table)
    manifest = Manifest(
        key="k0",
        stage="data",
        version=1,
        kind="source",
        level=level_of(table.schema),
        config={"data": [{"file": "rows.jsonl"}]},
        seed=None,
        input=None,
        digest=shard.digest,
        columns=tuple((column.name, str(column.type)) for column in table.schema),
        shards=(shard,),
        rows=Rows(read=len(table) + 2, kept=len(table), dropped=2),
        drops={"<b>not</b> a row": 2},
        statistics=summarise(table),
        made=Made(prefkit="0.1.0", python="3.11.7"),
    )
    store.save_step(manifest)
    store.save_refs("tiny", {"00-data": "k0"}, {"name": "tiny"})
    return manifest


class Page(HTMLParser):
    """The tags of a page, and the addresses in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.places: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.places += [
            value or "" for name, value in attrs if name in {"src", "href"} or name.startswith("on")
        ]


def test_a_page_runs_nothing_and_asks_for_nothing(store: Store, tmp_path: Path) -> None:
    evil = "</div><script>alert(1)</script><img src=x onerror=alert(1)>"
    table = pairs_of(3, chosen=turns("<script>", [evil] * 3), chosen_model=[evil] * 3, source=[evil] * 3)
    file_run(store, table)
    page = Page(write_report(store, "tiny", tmp_path / "report.html").read_text(encoding="utf-8"))
    assert {"script", "img", "link", "iframe", "b"}.isdisjoint(set(page.tags) - {"b"})
    assert page.places == []
    assert page.tags.count("article") == 3


def test_samples_are_spread_evenly_and_long_texts_cut(store: Store, tmp_path: Path) -> None:
    file_run(store, pairs_of(500, rejected=turns("assistant", ["x" * 9000] * 500)))
    text = write_report(store, "tiny", tmp_path / "report.html").read_text(encoding="utf-8")
    assert Page(text).tags.count("article") == SAMPLES
    assert "pair-0<" in text
    assert "pair-490<" in text
    assert "7,500 more characters" in text
    assert len(text) < 400_000


def test_a_folder_gets_a_report_html(store: Store, tmp_path: Path) -> None:
    file_run(store, pairs_of(2))
    assert write_report(store, "tiny", tmp_path / "out") == tmp_path / "out" / "report.html"


@pytest.mark.parametrize(
    "names", [["id", "prompt_id", "prompt"], ["id", "prompt_id", "prompt", "response", "score"]]
)
def test_prompts_and_responses_have_a_report_too(store: Store, tmp_path: Path, names: list[str]) -> None:
    table = pairs_of(4, response=turns("assistant", ["r"] * 4), score=[1.0, 2.0, None, 4.0])
    file_run(store, table.select(names))
    assert "question 3" in write_report(store, "tiny", tmp_path).read_text(encoding="utf-8")


def test_an_empty_run_has_a_report(store: Store, tmp_path: Path) -> None:
    file_run(store, pairs_of(2).slice(0, 0))
    assert "0 pairs" in write_report(store, "tiny", tmp_path).read_text(encoding="utf-8")


def test_a_training_run_is_drawn(store: Store, tmp_path: Path) -> None:
    manifest = file_run(store, pairs_of(2))
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
        held_out=None,
        samples=None,
    )
    save_report(store, "tiny", manifest.digest, report)
    text = write_report(store, "tiny", tmp_path).read_text(encoding="utf-8")
    assert "loss by step" in text
    assert "highest 0.69, lowest 0.5" in text


def test_rows_that_are_gone_are_an_error(store: Store, tmp_path: Path) -> None:
    file_run(store, pairs_of(2))
    for path in store.root.glob("objects/*/*.arrow"):
        path.unlink()
    with pytest.raises(StoreError):
        write_report(store, "tiny", tmp_path)


def test_drawings_stay_in_their_plane_and_hold_every_figure() -> None:
    found = list(drawings(Summary.model_validate(summarise(pairs_of(100)))))
    assert [drawing.title for drawing in found] == [
        "score",
        "score: chosen less rejected",
        "length, characters",
        "length, characters: chosen less rejected",
    ]
    assert [line.name for line in found[0].lines] == ["chosen", "rejected"]
    assert all("nan" not in line.path for drawing in found for line in drawing.lines)


def test_a_curve_needs_two_finite_points() -> None:
    assert curve([(0, 0.7)]) is None
    assert curve([(0, 0.7), (1, float("nan"))]) is None
    drawn = curve([(0, 0.7), (1, 0.7)])
    assert drawn is not None
    assert (drawn.low, drawn.high) == (0, 1)
