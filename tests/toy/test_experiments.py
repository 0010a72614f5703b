"""What is learned from labels that are right and from labels that are not, by the gold reward of fresh samples.

Margins are about half of what `docs/toy_world.md` measures over several seeds, so that another machine's rounding does
not decide.
"""

from pathlib import Path

import pytest

import prefkit
from prefkit.train import TrainPlacement, train

RECIPES = Path(__file__).parents[2] / "recipes"
RECIPE = """
name: toy
seed: 5
models:
  policy: { id: prefkit/toy-policy }
data:
  - file: data/toy-prompts.jsonl
    take: 280
build:
  - sample: { model: policy, n: 8, max_tokens: 96 }
  - filter: { drop: [empty, truncated] }
  - dedup: { by: response }
  - score: { rule: toy-gold, as: gold }
  - pair: { kind: fold, by: gold, max_pairs: 2, min_margin: 0.05 }
  - split: { test: 0.3 }
  - reference: { model: policy }
  - label: { ops: [{ flip: { rate: RATE } }] }
train:
  model: policy
  objective: { preset: dpo, beta: 0.5 }
  epochs: 2
  batch: 32
  learning_rate: 2e-4
  evaluate: { prompts: 80, max_tokens: 96, score: { rule: toy-gold } }
"""


@pytest.mark.slow
def test_right_labels_teach_and_wrong_ones_undo_it(tmp_path: Path) -> None:
    gold = {}
    for rate in ("0.0", "0.4"):
        recipe = prefkit.Recipe.parse(RECIPE.replace("RATE", rate), folder=RECIPES)
        pairs = prefkit.build(recipe, prefkit.Store(tmp_path / "runs")).table
        assert recipe.train is not None
        placement = TrainPlacement(device="cpu")
        report = train(recipe.train, pairs, out=tmp_path / rate, placement=placement).report
        assert report.samples is not None
        assert report.samples.score is not None
        gold["untrained"] = report.samples.score.before.mean
        gold[rate] = report.samples.score.after.mean
    assert gold["0.0"] - gold["untrained"] > 0.06, gold
    assert gold["0.0"] - gold["0.4"] > 0.04, gold
