"""From a recipe to the card: a set that length gives away, balanced, and what is said of it before and after."""

import json
import random
import re

import pytest

from prefkit.card.analysis import analysis, is_of_analysis
from prefkit.card.facts import collect
from prefkit.recipe import Recipe
from prefkit.run import build
from prefkit.store import Store

RECIPE = """
name: looked-at
seed: 3
data: [{ file: pairs.jsonl }]
build:
  - analyse: { what: [shortcut, length, factors, gaps, cycles] }
  - balance: { bins: 4 }
  - analyse: { what: shortcut }
"""


@pytest.fixture
def facts(tmp_path):
    draw = random.Random(0)
    rows = [
        {
            "prompt": f"say {at}",
            "chosen": "very " * draw.randint(5, 40) + "oak",
            "rejected": "very " * draw.randint(1, 25) + ("elm!" if at % 4 == 0 else "elm"),
        }
        for at in range(240)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    store = Store(tmp_path / "runs")
    build(Recipe.parse(RECIPE, tmp_path), store)
    return collect(store, "looked-at")


def test_the_card_shows_a_shortcut_before_and_after_balancing(facts):
    told = analysis(facts)
    before, _, after = told.partition("`03-analyse`, after")
    assert "`01-analyse`, after 240 rows were read:" in before
    found = [
        float(each)
        for each in re.findall(r"tone alone tell chosen from rejected \(AUC.*?\): ([\d.]+) ", told)
    ]
    assert len(found) == 2
    assert found[0] > found[1]
    assert "chosen is the longer side, of pairs that differ" in before
    assert re.search(r"\| `exclamations` \| .?0\.25 \(n 240; 95 %", before)
    assert "`bullets`" not in before.partition("By how much more")[0]
    assert "chosen is the longer side" not in after


def test_every_note_of_an_analysis_is_known_as_one(facts):
    notes = [name for step in facts.steps for name in step.manifest.notes if step.manifest.stage == "analyse"]
    assert notes
    assert all(is_of_analysis(name) for name in notes)


def test_without_an_analysis_nothing_is_shown(facts):
    assert analysis(facts._replace(steps=facts.steps[:1])) == ""
