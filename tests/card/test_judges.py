"""From a recipe to the card: two judges on sampled responses, pairs, labels, and what is said of the judges."""

import re

import pytest

from prefkit.card import write_card
from prefkit.engines.placement import Placement
from prefkit.recipe import Recipe
from prefkit.run import Settings, build
from prefkit.store import Store

HEAD = """
name: judged
seed: 3
models: { policy: { id: org/policy }, judge: { id: org/judge }, other: { id: org/other } }
data: [{ file: prompts.jsonl }]
build:
  - sample: { model: policy, n: 4 }
"""
PAIRWISE = """
  - judge: { model: judge, topology: all, verdict: token, canaries: 0.5 }
  - judge: { model: other, topology: all, verdict: token, swap: false, as: second }
  - pair: { kind: all }
  - label: { ops: [from-votes, { tie: { delta: 0.1 } }, orient] }
  - label: { ops: [from-judges] }
"""
ON_PAIRS = """
  - score: { rule: length }
  - pair: { kind: fold }
  - judge: { model: judge, verdict: token, votes: 2, temperature: 1 }
  - label: { ops: [{ from-votes: { use: p } }] }
"""


@pytest.fixture
def made(tmp_path):
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"prompt": "say {n}"}}\n' for n in range(12)))
    store = Store(tmp_path / "runs")
    fakes = Placement(engines=dict.fromkeys(("policy", "judge", "other"), "fake"))

    def make(steps):
        recipe = Recipe.parse(HEAD + steps, tmp_path)
        return build(recipe, store, Settings(placement=fakes, shard_rows=16)), store

    return make


def test_a_recipe_goes_from_judged_responses_to_labels_and_a_card(made):
    found, store = made(PAIRWISE)
    assert found.last.rows.failed == 0
    pairs = found["pair"]
    assert {len(votes) for votes in pairs["votes"].to_pylist()} == {3}
    assert {vote["judge"] for vote in pairs["votes"].to_pylist()[0]} == {"org/judge", "org/other"}
    assert found.table["p_chosen"].null_count == 0
    card = write_card(store, "judged")
    _, _, section = card.partition("## Judges")
    section = section.partition("\n## ")[0]
    assert "`02-judge`: `org/judge`, kind `pairwise`." in section
    assert re.search(
        r"the answer shown first wins, of verdicts that are no tie: \d+\.\d % \(\d+ of \d+; 95 %:", section
    )
    assert "both orders of a pair give the same verdict" in section
    assert "| truncated |" in section
    assert "judge/measure" not in card


def test_a_recipe_judges_pairs_that_a_score_made(made):
    found, _ = made(ON_PAIRS)
    assert all(0 <= p <= 1 for p in found.table["p_chosen"].to_pylist())
    assert {len(votes) for votes in found["judge"]["votes"].to_pylist()} <= {4, 1}
