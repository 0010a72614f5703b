"""Docs are tested like code: recipes load, the stage table is current, the README's commands exist."""

import importlib.util
import inspect
import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from prefkit.cli import run
from prefkit.cli.app import app
from prefkit.columns import COLUMNS
from prefkit.described import meanings
from prefkit.objectives.extras import EXTRAS, PENALTIES
from prefkit.objectives.heads import Heads
from prefkit.objectives.labels import LABELS
from prefkit.objectives.masks import MASKS
from prefkit.objectives.more_links import LINKS
from prefkit.objectives.offsets import OFFSETS
from prefkit.objectives.presets import PRESETS, make
from prefkit.objectives.reducers import REDUCERS
from prefkit.objectives.rewards import REWARDS
from prefkit.objectives.weights import WEIGHTS
from prefkit.recipe import Recipe
from prefkit.stages import BUILTIN, HOMES
from prefkit.testing import check_stage

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def stage_table() -> str:
    rows = ["| stage | kind | rows | what it does |", "| --- | --- | --- | --- |"]
    for stage in BUILTIN:
        takes = "any" if len(stage.level.takes) == 3 else " or ".join(stage.level.takes)
        gives = f" → {stage.level.gives}" if stage.level.gives else ""
        summary = (stage.__doc__ or "").strip().splitlines()[0].replace("|", "\\|")
        rows.append(f"| `{stage.name}` | {stage.kind} | {takes}{gives} | {summary} |")
    return "\n".join(rows) + "\n"


def test_the_stage_table_of_the_readme_is_current():
    text = README.read_text(encoding="utf-8")
    head, _, rest = text.partition("<!-- stages -->\n")
    _, mark, tail = rest.partition("<!-- /stages -->")
    assert mark, "the README has no place for the stage table"
    wanted = f"{head}<!-- stages -->\n{stage_table()}<!-- /stages -->{tail}"
    if os.environ.get("PREFKIT_GOLDEN") == "write":
        README.write_text(wanted, encoding="utf-8")
    assert README.read_text(encoding="utf-8") == wanted, "run `make docs`"


def preset_table() -> str:
    rows = ["| preset | parameters | what it is | made of |", "| --- | --- | --- | --- |"]
    for name, preset in PRESETS.items():
        settings = inspect.signature(preset).parameters.values()
        needed = [one.name for one in settings if one.default is one.empty]
        given = {
            one: {"helpful": 0.5, "honest": 0.5} if one == "weights" else ["helpful", "honest"]
            for one in needed
        }
        shown = ", ".join(one.name if one.name in needed else f"{one.name}={one.default}" for one in settings)
        made = make(name, given).describe()
        told = " ".join((preset.__doc__ or "").split())
        rows.append(
            "| " + " | ".join(one.replace("|", "\\|") for one in (f"`{name}`", shown, told, made)) + " |"
        )
    return "\n".join(rows) + "\n"


def piece_table() -> str:
    rows = ["| part | piece | settings | what it is |", "| --- | --- | --- | --- |"]
    for piece in (
        *MASKS,
        *REWARDS,
        *OFFSETS,
        *LINKS,
        *LABELS,
        *WEIGHTS,
        *REDUCERS,
        *EXTRAS,
        *PENALTIES,
        Heads,
    ):
        told = " ".join((piece.__doc__ or "").split("\n\n")[0].split()).replace("|", "\\|")
        settings = ", ".join(piece.model_fields)
        rows.append(f"| {piece.part} | `{piece.name}` | {settings} | {told} |")
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize(("name", "table"), [("presets", preset_table), ("pieces", piece_table)])
def test_the_tables_of_objectives_are_current(name: str, table: Callable[[], str]) -> None:
    path = ROOT / "docs" / "objectives.md"
    head, _, rest = path.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
    _, mark, tail = rest.partition(f"<!-- /{name} -->")
    assert mark
    wanted = f"{head}<!-- {name} -->\n{table()}<!-- /{name} -->{tail}"
    if os.environ.get("PREFKIT_GOLDEN") == "write":
        path.write_text(wanted, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == wanted, "run `make docs`"


def test_the_example_in_the_notes_on_objectives_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "objectives.md").read_text(), re.DOTALL)
    exec(block, {})
    assert "phrases · mean-log-ratio(beta=2.0)" in capsys.readouterr().out


def test_there_are_recipes():
    assert [path.stem for path in RECIPES] == ["gsm8k-solutions", "hh-harmless", "quickstart", "wmt-mqm"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_opens_with_a_question_and_comes_back_from_its_text(path):
    recipe = Recipe.load(path)
    assert recipe.name == path.stem
    head = path.read_text().split("name:")[0]
    assert "?" in head or "pair right with wrong" in head, "a recipe opens with what it asks"
    assert f"prefkit train recipes/{path.name}" in head
    assert Recipe.parse(recipe.text(), path.parent).build == recipe.build


def test_the_quick_start_in_the_readme_is_the_recipe():
    block = next(
        b for b in re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL) if "quickstart" in b
    )
    shown, kept = Recipe.parse(block, ROOT / "recipes"), Recipe.load(ROOT / "recipes" / "quickstart.yaml")
    assert shown.model_dump() == kept.model_dump()


def test_every_command_line_of_the_readme_exists():
    verbs = typer.main.get_command(app).commands
    lines = [
        line.split("#")[0].strip()
        for block in re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
        for line in block.splitlines()
        if line.strip()
    ]
    assert len(lines) >= 10
    makefile = (ROOT / "Makefile").read_text()
    for line in lines:
        tool, verb, *rest = shlex.split(line)
        if tool == "make":
            assert f"\n{verb}:" in makefile, line
            continue
        assert tool == "prefkit", line
        known = {flag for option in verbs[verb].params for flag in option.opts}
        assert {word for word in rest if word.startswith("-")} <= known, line


def test_the_quick_commands_of_the_readme_run(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PREFKIT_STORE", str(tmp_path / "runs"))
    for line in (["plan", "recipes/quickstart.yaml"], ["stages"], ["stages", "pair"], ["gc"]):
        assert run(line) == 0, line
    assert "sample" in capsys.readouterr().out


def test_every_column_and_setting_says_what_it_is():
    writers = {stage.name for stage in BUILTIN} | {"source", "any"}
    for column in COLUMNS.values():
        assert column.meaning, column.name
        assert set(column.writer.split(", ")) <= writers, column.name
    settings = [(stage, name) for stage in BUILTIN for name in stage.model_fields]
    assert len(settings) > 50
    assert [(stage.name, name) for stage, name in settings if not meanings(stage).get(name)] == []


def test_every_link_to_a_file_of_the_repository_leads_somewhere():
    pages = [README, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text())]
    assert len(links) >= 5
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []


def test_no_path_of_a_machine_is_in_the_repository():
    pages = [
        p
        for folder in ("prefkit", "recipes", "docs", "data_cards", "benchmarks")
        for p in (ROOT / folder).rglob("*.*")
    ]
    pages = [
        p
        for p in [*pages, README, ROOT / "Makefile"]
        if p.suffix in {".py", ".md", ".yaml", ".json", ".html", ".txt", ""}
    ]
    assert len(pages) > 150
    found = [
        str(p.relative_to(ROOT))
        for p in pages
        if re.search(r"/(root|work|home|tmp)/\w", p.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_the_stage_that_the_readme_adds_keeps_every_law(tmp_path, pairs):
    block = next(
        b for b in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "class LengthGap" in b
    )
    (tmp_path / "length_gap.py").write_text(block)
    spec = importlib.util.spec_from_file_location("length_gap", tmp_path / "length_gap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert check_stage(module.LengthGap(), pairs)["length_gap"].to_pylist() == [-2, 3, 1]


NAMES = [
    "policy",
    "critic",
    "judge",
    "reward",
    "large",
    "small",
    "a",
    "b",
    "c",
    "d",
    "step1",
    "step2",
    "step3",
    "embed",
    "model",
]
HEAD = f"name: x\nmodels: {{{', '.join(f'{name}: {{id: {name}}}' for name in NAMES)}}}\ndata: [{{file: x.jsonl}}]\nbuild:\n"


def steps_of(text: str) -> Iterator[str]:
    """Yield every block of steps, and every step in running text that is written out."""
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        if block.startswith("- "):
            yield block
    for span in re.findall(r"(?<!`)`([a-z-]+: \{[^`]*\})`(?!`)", text):
        if span.partition(":")[0] in HOMES:
            yield "- " + " ".join(span.split()) + "\n"


def test_every_step_in_the_docs_can_be_read():
    files = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    steps = [each for file in files for each in steps_of(file.read_text())]
    whole = [each for each in steps if "..." not in each and "NAME" not in each]
    assert len(whole) > 30
    for each in whole:
        Recipe.parse(HEAD + each)
