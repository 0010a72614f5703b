"""The same with models that are run: their answers are found again by what was asked."""

import json
from pathlib import Path

from prefkit.cli import run
from prefkit.recipe import Recipe
from prefkit.run import build
from prefkit.store import Store
from prefkit.why import biography

RECIPE = """
name: toy
seed: 5
models:
  policy: { id: prefkit/toy-policy }
  reward: { id: prefkit/toy-reward }
  critic: { id: prefkit/toy-critic }
data: [{ file: prompts.jsonl }]
build:
  - sample: { model: policy, n: 2, max_tokens: 24 }
  - score: { model: reward }
  - score: { log_prob: { model: policy }, as: likelihood }
  - pair: { kind: best-worst }
  - rationale: { model: critic, kinds: [general] }
  - reference: { model: policy }
"""


def test_answers_of_models_that_are_run_are_found_again_without_running_them(tmp_path, capsys):
    asks = [{"prompt": f"Add {at}, 2 and 5 step by step."} for at in (3,)]
    Path(tmp_path, "prompts.jsonl").write_text("".join(json.dumps(ask) + "\n" for ask in asks))
    store = Store(tmp_path / "runs")
    pair = build(Recipe.parse(RECIPE, tmp_path), store).table.to_pylist()[0]
    life = biography(store, "toy", pair["id"])
    assert [chapter.note for chapter in life.chapters] == [""] * 7
    assert [(call.model.removeprefix("prefkit/toy-"), call.method) for call in life.calls] == [
        *[("policy", "generate")] * 2,
        *[("reward", "rewards")] * 2,
        *[("policy", "log-probs")] * 2,
        ("critic", "generate"),
        *[("policy", "log-probs")] * 2,
    ]
    found = [call.answer["logp"] for call in life.chapters[-1].calls]
    assert found == [pair["ref_chosen_logp"], pair["ref_rejected_logp"]]
    assert life.chapters[5].calls[0].answer["text"] == pair["rationales"][0]["text"]
    assert run(["why", "toy", pair["id"], "--store", str(tmp_path / "runs")]) == 0
    assert "9 calls" in capsys.readouterr().out
