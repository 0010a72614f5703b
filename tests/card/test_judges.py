"""From a recipe to the card: two judges on sampled responses, pairs, labels, and what is said of the judges."""

import json
import random
import re

import pytest

from prefkit.card import write_card
from prefkit.engines.placement import Placement
from prefkit.recipe import Recipe
from prefkit.run import Settings, build
from prefkit.store import Store
from prefkit.toy import demonstrate, prompts, read_prompt, write_prompt

HEAD = """
name: judged
seed: 3
fail_if: { order-inconsistency: mark, reversed-labels: mark }
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


TOY = """
name: toyed
models: { critic: { id: prefkit/toy-critic } }
data: [{ file: pairs.jsonl }]
build:
  - score: { rule: toy-gold, at: pair, canaries: 1 }
  - judge: { model: critic, votes: 2, temperature: 1, canaries: 1 }
  - rationale: { model: critic, kinds: [general, specific], about: [pair, response], strict: true }
"""


def toy_pairs(count):
    """Write prompts of the toy world with a perfect answer and one that some sentences say nothing in."""
    tasks = [read_prompt(prompt) for prompt in prompts(count)]
    for at, task in enumerate(tasks):
        best = demonstrate(random.Random(at), task)
        worse = demonstrate(random.Random(at), task, 0.5)
        yield {"prompt": write_prompt(task), "chosen": best, "rejected": f"{worse} We should talk soon."}


def section_of(card, title):
    return card.partition(f"## {title}")[2].partition("\n## ")[0]


def test_the_bundled_critic_judges_and_its_card_says_how_far_to_believe_it(tmp_path):
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in toy_pairs(60)))
    store = Store(tmp_path / "runs")
    found = build(Recipe.parse(TOY, tmp_path), store, Settings())
    assert found.last.rows.failed == 0
    assert {vote["winner"] for votes in found["judge"]["votes"].to_pylist() for vote in votes} == {"chosen"}
    assert {len(entries) for entries in found.table["rationales"].to_pylist()} == {6}
    assert not [note for note in found.last.notes if note.startswith("rationale/")]
    section = section_of(write_card(store, "toyed"), "Judges")
    judged, _, scored = section.partition("canaries of `score`")
    assert "the answer shown first wins, of verdicts that are no tie: 50.0 % (120 of 240;" in judged
    assert "both orders of a pair give the same verdict: 100.0 % (120 of 120;" in judged
    assert "two samples of one question give the same verdict: 100.0 % (120 of 120;" in judged
    assert "the longer answer wins, of verdicts that are no tie" in judged
    assert "questions whose answer could not be read in the end: 0.0 % (0 of 240;" in judged
    for kind in ("identical", "swapped"):
        assert f"| {kind} | 100.0 % (" in judged
    assert "right, of all canaries: " in scored
    assert "an identical copy scores the same: 100.0 % (" in scored
    assert "a copy that is longer and says nothing more scores higher: 0.0 % (0 of" in scored
    for kind in ("identical", "truncated", "padded", "wrong-fact"):
        assert re.search(rf"\| {kind} \| \d+\.\d % \(", scored)
    assert "| swapped |" not in scored
