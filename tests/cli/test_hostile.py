"""Prompts, answers and names come from strangers and models: they are shown, never obeyed."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import pytest
import yaml

from prefkit import page

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\x00\x08\r\u202e"
MARKUP = (
    "</script><script>alert(1)</script><img src=x onerror=alert(1)>|a|b|\n---\n# H1\n```\n"
    "{{ 7*191 }}{% raw %}{# c #}[bold red]x[/bold red] :smile: <!-- ]]> &lt;"
)
HOSTILE = ESCAPES + MARKUP
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
RECIPE = """
name: hostile
license: {text}
language: [{text}]
models: {{ judge: {{ id: {text} }} }}
data: [{{ file: rows.jsonl, max_bad: 0.5, name: {text} }}]
build: [pair, margin, split]
"""


@pytest.fixture
def hostile(cli) -> None:
    """A run in which every text that a stranger can choose is hostile."""
    rows = [
        {
            "prompt": f"q{n // 2} {HOSTILE}",
            "response": f"a{n} {HOSTILE}",
            "score": float(n % 2),
            "model": f"m{n % 2} {HOSTILE}",
            "source": HOSTILE,
        }
        for n in range(8)
    ]
    bad = [{"prompt": HOSTILE, "response": 5}, {"prompt": "", "response": HOSTILE}]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, *bad]))
    Path("hostile.yaml").write_text(RECIPE.format(text=json.dumps(HOSTILE)))
    cli.ok("build", "hostile.yaml")


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "hostile.yaml"],
        ["build", "hostile.yaml"],
        ["show"],
        ["show", "hostile", "-n", "9"],
        ["show", "hostile/pair", "-n", "9"],
        ["show", "hostile/00-data", "-n", "9"],
        ["show", "hostile/00-data", "--dropped"],
        ["show", "hostile", "--columns"],
        ["card", "hostile"],
        ["diff", "hostile/00-data", "hostile/pair"],
    ],
)
def test_nothing_a_terminal_obeys_is_printed(cli, hostile, arguments):
    out = cli.ok(*arguments)
    assert out
    assert OBEYED.findall(out) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", HOSTILE],
        ["show", f"hostile/{HOSTILE}"],
        ["show", "hostile", "--id", HOSTILE],
        ["diff", "hostile", HOSTILE],
        ["stages", HOSTILE],
        ["new", HOSTILE],
        ["plan", HOSTILE.replace("\0", "")],
        ["build", "hostile.yaml", "--until", HOSTILE],
        ["build", "hostile.yaml", "--set", f"{HOSTILE}=1"],
        ["build", "hostile.yaml", "--set", f"seed={HOSTILE}"],
        [HOSTILE],
        ["--" + HOSTILE],
    ],
)
def test_an_error_quotes_in_one_line_and_without_escapes(cli, hostile, arguments):
    told = cli.fails(*arguments)
    assert OBEYED.findall("".join(told)) == []


def test_what_looks_like_an_error_in_the_data_is_none(cli):
    fake = "x\nerror: the disk is on fire\n  hint: rm -rf /"
    Path("rows.jsonl").write_text(json.dumps({"prompt": "q", "response": "a", "score": 1}) + "\n")
    Path("fake.yaml").write_text(
        f"name: fake\ndata: [{{ file: rows.jsonl }}]\nbuild: [{{ pair: {{ by: {json.dumps(fake)} }} }}]\n"
    )
    assert "\\nerror: the disk is on fire" in cli.fails("plan", "fake.yaml").what


def test_what_a_model_fails_with_is_shown_in_one_line(cli, monkeypatch):
    monkeypatch.setenv("PREFKIT_FAKE_FAILING", "Question 3")
    told = cli.build_fails()
    assert "the fake engine fails on 'Question 3'" in told.what
    assert OBEYED.findall("".join(told)) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "hostile.yaml", "--json"],
        ["build", "hostile.yaml", "--json"],
        ["show", "--json"],
        ["show", "hostile", "-n", "9", "--json"],
        ["show", "hostile/00-data", "-n", "9", "--dropped", "--json"],
        ["show", "hostile", "--columns", "--json"],
        ["diff", "hostile/pair", "hostile/margin", "--json"],
        ["stages", "--json"],
        ["stages", "pair", "--json"],
        ["new", "--json"],
    ],
)
def test_json_output_is_only_json_and_safe_to_print(cli, hostile, arguments):
    out = cli.ok(*arguments)
    for line in out.splitlines():
        json.loads(line)
    assert out.count("\n") == len(out.splitlines()) > 0
    assert OBEYED.findall(out) == []


def test_json_gives_the_texts_as_they_are(cli, hostile):
    row = json.loads(cli.ok("show", "hostile/pair", "-n", "1", "--json"))
    assert row["chosen"][0]["content"] == f"a1 {HOSTILE}"


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.events: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.events += [name for name, _ in attrs if name.startswith("on") or name == "src"]
        self.events += [value or "" for name, value in attrs if name == "href" and (value or "")[:1] != "#"]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] != ["script"]:  # which is prefkit's own, or rows in base64
            self.text += data


def test_the_report_runs_only_its_own_script_and_asks_for_nothing(cli, hostile):
    cli.ok("card", "hostile", "report.html")
    html = Path("report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(html)
    assert not set(page.tags) & {"img", "iframe", "link", "object"}
    assert page.events == []
    assert "<script>alert(1)</script>" in page.text, "it is there to be read"
    assert "{{ 7*191 }}" in page.text
    assert "1337" not in page.text
    assert OBEYED.findall(html) == []


def test_the_card_has_no_markup_that_is_not_its_own(cli, hostile):
    card = cli.ok("card", "hostile")
    cli.ok("card", "hostile", "card.md")
    assert Path("card.md").read_text(encoding="utf-8").rstrip("\n") == card.rstrip("\n")
    _, head, body = card.split("---\n", 2)
    assert set(yaml.safe_load(head)) >= {"license", "language", "configs"}
    assert not any(line.startswith(("# H1", "---", "<")) for line in body.splitlines())
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", re.sub(r"(?ms)^(`{3,})\w*\n.*?^\1$", "", body))
    assert "<script" not in outside
    assert "<img" not in outside
    assert outside.count("H1") == 0


def test_every_table_of_the_card_keeps_its_columns(cli, hostile):
    tables = re.findall(r"(?m)(?:^\|.*\|$\n?)+", cli.ok("card", "hostile"))
    assert len(tables) > 5
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


def test_an_export_names_no_file_after_a_stranger(cli, hostile):
    cli.ok("export", "hostile", "out")
    names = [path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file()]
    assert len(names) >= 6
    assert all(re.fullmatch(r"[\w./-]+", name) for name in names)
    assert yaml.safe_load(Path("out/README.md").read_text(encoding="utf-8").split("---\n")[1])


def test_no_template_is_made_from_data(cli, hostile, monkeypatch):
    rendered: list[str] = []
    compiled: Callable[..., object] = jinja2.Environment.compile

    def watched(self: jinja2.Environment, source: str, *rest: object, **more: object) -> object:
        rendered.append(source)
        return compiled(self, source, *rest, **more)

    monkeypatch.setattr(jinja2.Environment, "compile", watched)
    cli.ok("card", "hostile")
    cli.ok("card", "hostile", "report.html")
    own = {path.read_text(encoding="utf-8") for path in (Path(page.__file__).parent / "files").glob("*.html")}
    assert {source for source in rendered if "{% block main %}" in source or "{% macro" in source} <= own
    assert own & set(rendered)
    assert all("7*191" not in source for source in rendered)
