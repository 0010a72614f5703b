"""Prices, budgets and estimates, as they are typed and printed."""

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from prefkit.cli import run
from prefkit.cli.progress import Progress
from prefkit.engines import Spend
from prefkit.engines.spend import Price, Tokens
from prefkit.steps import Event

FAKE = ("--engine", "policy=fake")
ASKING = """
name: asking
models:
  policy: { id: test/policy }
data:
  - file: prompts.jsonl
build:
  - sample: { model: policy, n: 4, max_tokens: 16 }
  - filter: { drop: [empty] }
"""
LEAST = 40
"""Requests of `asking.yaml`: ten prompts, four samples each."""


@pytest.fixture
def log(cli, tmp_path, monkeypatch) -> Path:
    """What the fake engine was asked, in a folder with `asking.yaml`."""
    Path("asking.yaml").write_text(ASKING)
    monkeypatch.delenv("PREFKIT_PRICES", raising=False)
    monkeypatch.setenv("PREFKIT_FAKE_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def made(cli, *arguments: str) -> dict:
    found = json.loads(cli.ok("build", "asking.yaml", *FAKE, "--json", *arguments))
    return found["01-sample"]["made"]


def asked(log: Path) -> Counter:
    return Counter(log.read_text().splitlines())


def test_what_each_model_took_is_in_the_manifest(cli, log):
    used = made(cli, "--price", "policy=1000/2000")["models"]["test/policy"]
    assert used["calls"] == LEAST
    cost = (Decimal(used["tokens_in"]) * 1000 + Decimal(used["tokens_out"]) * 2000) / 1_000_000
    assert Decimal(used["dollars"]) == cost
    assert "remembered" not in used


def test_without_a_price_there_is_no_cost(cli, log, capsys):
    assert "dollars" not in made(cli)["models"]["test/policy"]
    assert "$" not in cli.ok("plan", "asking.yaml")
    cli.ok("card", "asking", "card.md")
    assert "where a price was given" not in Path("card.md").read_text()


def test_prices_come_from_a_file_by_name_or_id_and_flags_count_more(cli, log, monkeypatch):
    for text in (
        "policy: 1/2",
        "test/policy: { in: 1, out: 2 }",
        '{"org/other": "9/9", "policy": {"in": 1, "out": 2.0}}',
    ):
        Path("prices.yaml").write_text(text)
        used = made(cli, "--prices", "prices.yaml", "--store", f"runs{len(text)}")["models"]["test/policy"]
        assert Decimal(used["dollars"]) == Decimal(used["tokens_in"] + 2 * used["tokens_out"]) / 1_000_000
    monkeypatch.setenv("PREFKIT_PRICES", "prices.yaml")
    used = made(cli, "--price", "test/policy=0/0", "--store", "free")["models"]["test/policy"]
    assert Decimal(used["dollars"]) == 0


def test_prices_change_no_digest_and_no_key(cli, log):
    plain = json.loads(cli.ok("build", "asking.yaml", *FAKE, "--json"))
    priced = json.loads(
        cli.ok(
            "build",
            "asking.yaml",
            *FAKE,
            "--json",
            "--store",
            "other",
            "--price",
            "policy=1/1",
            "--budget",
            "9M",
        )
    )
    assert [(step["key"], step["digest"]) for step in plain.values()] == [
        (step["key"], step["digest"]) for step in priced.values()
    ]


def test_a_spent_budget_ends_the_build_and_nothing_is_paid_twice(cli, log):
    told = cli.fails("build", "asking.yaml", *FAKE, "--budget", "policy=100tokens")
    assert told.what.startswith("the budget of 100 tokens for model 'test/policy' is spent: 1")
    assert told.hint == "what was answered is kept: the same command goes on from there, with its budget anew"
    first = sum(asked(log).values())
    assert 0 < first < LEAST
    used = made(cli, "--budget", "1M", "--price", "policy=1/1")["models"]["test/policy"]
    assert used["calls"] == LEAST - used["remembered"]
    assert (
        first <= used["remembered"] <= first + 1
    )  # the last line is written once the next answer is asked for
    assert used["saved_in"] + used["saved_out"] >= 100
    assert max(asked(log).values()) == 1


def test_the_same_small_budget_gets_there_in_the_end(cli, log):
    whole = json.loads(cli.ok("build", "asking.yaml", *FAKE, "--json", "--store", "whole"))
    log.unlink()
    runs = 1
    while run(["build", "asking.yaml", *FAKE, "--budget", "100tokens"]) == 2:
        runs += 1
    cli.ok("stages")
    assert 2 < runs < 10
    again = json.loads(cli.ok("build", "asking.yaml", *FAKE, "--json"))
    assert {name: step["digest"] for name, step in again.items()} == {
        name: step["digest"] for name, step in whole.items()
    }
    assert max(asked(log).values()) == 1


@pytest.mark.parametrize(
    ("flags", "what", "hint"),
    [
        (["--budget", "5"], "'5' is no budget", "dollars: 5usd"),
        (["--budget", "policy="], "'' is no budget", "in quotes"),
        (["--budget", "polic=5usd"], "the recipe has no model 'polic'", "did you mean 'policy'?"),
        (["--price", "policy=1"], "'1' is no price", "0.15/0.60"),
        (["--price", "1/2"], "'1/2' is not NAME=IN/OUT", "--price judge=0.15/0.60"),
        (["--prices", "nowhere"], "cannot read the prices: no such file or directory", "PREFKIT_PRICES"),
        (
            ["--budget", "policy=1usd"],
            "a budget of $1.00 cannot hold: model 'test/policy' has no price",
            "--price",
        ),
    ],
)
def test_what_is_typed_wrongly_is_said(cli, log, flags, what, hint):
    told = cli.fails("build", "asking.yaml", *FAKE, *flags)
    assert told.what == what
    assert hint in told.hint


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ("policy: 1", "'1' is no price", "prices.yaml:1"),
        ("\npolicy: { in: 1 }", "no price", "prices.yaml:2"),
        ("[1]", "the file holds no prices", "prices.yaml"),
        ("a: 1/1\na: 2/2", "a", "prices.yaml:2"),
    ],
)
def test_what_is_wrong_with_a_price_file_is_said_with_its_line(cli, log, text, what, where):
    Path("prices.yaml").write_text(text)
    told = cli.fails("plan", "asking.yaml", "--prices", "prices.yaml")
    assert what in told.what
    assert told.where == where


def test_a_plan_says_what_it_would_cost_and_what_that_rests_on(cli, log):
    told = cli.ok("plan", "asking.yaml", "--price", "policy=1000/2000")
    assert "about 40 model calls, 640 generated tokens, $1.38" in told
    assert "01-sample: about 40 calls, 100 tokens in, 640 out, $1.38\n" in told
    assert "  prompts as in 10 rows, at 4 bytes a token, answers as long as they may be\n" in told
    found = json.loads(cli.ok("plan", "asking.yaml", "--price", "policy=1000/2000", "--json"))
    assert Decimal(found["steps"][1]["dollars"]) == Decimal("1.38")
    assert not Path("runs").exists()


def test_the_progress_line_says_what_is_spent_as_it_is_spent():
    spend = Spend(prices={"m": Price(Decimal(1), Decimal(2))})
    progress = Progress(spend)
    progress(Event("01-sample", "start", 0, 10))
    assert progress.spent() == ""
    for _ in range(1234):
        spend.answered("m", Tokens(100, 50))
    spend.failed("m")
    assert progress.spent() == "1 234 calls, 185k tokens, $0.25, 1 failed"
    progress(Event("02-judge", "start", 0, 10))
    assert progress.spent() == ""
    spend.answered("m", Tokens(1_000_000, 0))
    assert progress.spent() == "1 calls, 1M tokens, $1.00, $1.25 in all"


def test_the_card_says_what_was_spent_in_all(cli, log):
    made(cli, "--price", "policy=1000/2000")
    cli.ok("card", "asking", "card.md")
    card = Path("card.md").read_text()
    assert "| model | answered | failed | tokens in | tokens out | seconds | dollars |" in card
    assert "In all 40 answers and " in card
    assert " dollars where a price was given." in card
