"""The example notebook runs from top to bottom in a real kernel, without a network, and shows what it says."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from prefkit.charts.theme import COLOURS

NOTEBOOK = Path(__file__).parents[1] / "examples" / "inspect.ipynb"


def test_the_notebook_is_kept_without_outputs():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert len(code) >= 10
    assert [cell.source for cell in code if cell.outputs or cell.execution_count] == []


RUN = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": "."}}).execute()
nbformat.write(notebook, "run.ipynb")
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What each cell shows, by its source: run in another process, with folders of its own and no network."""
    folder = tmp_path_factory.mktemp("kernel")
    places = dict.fromkeys(("TMPDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"), str(folder))
    offline = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(NOTEBOOK.parents[1])}
    command = [sys.executable, "-c", RUN, str(NOTEBOOK)]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | places | offline, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cells = nbformat.read(folder / "run.ipynb", as_version=4).cells
    return {cell.source: cell.outputs for cell in cells if cell.cell_type == "code"}


def shown(outputs: dict[str, list[Any]], source: str, kind: str) -> list[Any]:
    """What the cells show whose last line asks for `source`."""
    cells = [cell for cell in outputs if f"{cell.splitlines()[-1]}(".startswith(f"{source}(")]
    assert cells
    return [output.data[kind] for cell in cells for output in outputs[cell] if kind in output.get("data", {})]


def everything(outputs: dict[str, list[Any]]) -> Iterator[Any]:
    for cell in outputs.values():
        yield from cell


def test_no_cell_fails_or_warns(outputs: dict[str, list[Any]]):
    assert [output for output in everything(outputs) if output.output_type == "error"] == []
    said = [output.text for output in everything(outputs) if output.get("name") == "stderr"]
    assert [text for text in said if "IProgress not found" not in text] == [], (
        "ipywidgets is not installed here"
    )


def test_a_step_says_what_it_is(outputs: dict[str, list[Any]]):
    (page,) = shown(outputs, "data", "text/html")
    assert "Where the rows went" in page
    assert "02-filter" in page


@pytest.mark.parametrize("source", ["data.plot.length_bias", "data.plot.scores"])
def test_charts_are_interactive(outputs: dict[str, list[Any]], source: str):
    (page,) = shown(outputs, source, "text/html")
    found = re.search(r"\}\)\((\{.*\}), \{\"mode\": \"vega-lite\"\}\)", page)
    assert found is not None
    chart = json.loads(found[1])
    assert chart["title"]["text"]
    assert chart["datasets"]
    assert "var(--" not in page, "a canvas knows no CSS"
    assert COLOURS["soft"] in page


def test_rows_differences_and_lives_are_pages(outputs: dict[str, list[Any]]):
    assert shown(outputs, "data.sample", "text/html")[0].count("<article>") == 3
    assert "<mark>" in shown(outputs, "data.sample", "text/html")[0]
    assert "labels flipped" in shown(outputs, "data.diff", "text/html")[0]
    kept, dropped = shown(outputs, "data.why", "text/html")
    assert "generate by prefkit/toy-policy" in kept
    assert ">kept<" in kept
    assert ">dropped<" in dropped
    assert "truncated" in dropped


def test_a_gallery_draws_without_scripts(outputs: dict[str, list[Any]]):
    (page,) = shown(outputs, "data.plot", "text/html")
    assert page.count('role="img"') > 8
    assert "<script" not in page
