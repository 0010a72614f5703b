"""Every preset trains a real model on pairs that carry what it reads, and moves it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from transformers import PreTrainedTokenizerFast

from prefkit.columns import COLUMNS
from prefkit.engines import Conversation, Message, Model
from prefkit.engines.chat import Encoded, encode, vocabulary_fingerprint
from prefkit.errors import TrainError
from prefkit.objectives import PRESETS, SIDES, Objective
from prefkit.train import TrainPlacement, TrainSettings, train

NEEDED: dict[str, dict[str, Any]] = {
    "modpo": {"weights": {"helpful": 0.5}},
    "mah-dpo": {"dimensions": ["helpful", "honest"]},
}
REFERENCE_FREE = {"simpo", "cpo", "orpo", "mapo-text", "pro", "adpa", "dckd"}


def spans_of(text: str) -> list[dict[str, object]]:
    """Mark the second word as a phrase, the halves as a true and a false sentence and as steps, all as weights."""
    first = text.index(" ")
    second = text.find(" ", first + 1)
    marks = [
        ("phrase", first + 1, second if second > 0 else len(text), 1, None),
        ("sentence", 0, first, 1, 1.0),
        ("sentence", first + 1, len(text), 2, 0.0),
        ("weight", 0, first, 1, 0.5),
        ("weight", first + 1, len(text), 1, 1.0),
        ("kl-weight", 0, len(text), 1, 0.25),
        ("step", 0, first, 1, 1.0),
        ("step", first + 1, len(text), 2, 0.5),
    ]
    return [dict(zip(("kind", "start", "end", "id", "value"), mark, strict=True)) for mark in marks]


def teacher_of(tokenizer: PreTrainedTokenizerFast, row: dict[str, Any], side: str) -> list[list[int]]:
    told = [tuple(Message(turn["role"], turn["content"]) for turn in row[name]) for name in ("prompt", side)]
    encoded = encode(tokenizer, Conversation(*told))
    assert isinstance(encoded, Encoded)
    return [[token, (token + 1) % 20] for token in encoded.response_ids]


@pytest.fixture(scope="session")
def rich(pairs: pa.Table, tokenizer: PreTrainedTokenizerFast) -> pa.Table:
    """The pairs with every column that a preset reads."""
    draw, rows = np.random.default_rng(0), pairs.to_pylist()
    for at, row in enumerate(rows):
        texts = {side: row[side][0]["content"] for side in SIDES}
        row |= {f"{side}_spans": spans_of(texts[side]) for side in SIDES}
        tops = {side: teacher_of(tokenizer, row, side) for side in SIDES}
        row |= {
            f"{side}_teacher": [[{"id": one, "logp": np.log(0.4)} for one in ids] for ids in tops[side]]
            for side in SIDES
        }
        row["teacher_fingerprint"] = f"{vocabulary_fingerprint(tokenizer)}/somebody"
        row["rejected_advantage"] = [[{"id": one, "value": 0.3} for one in ids] for ids in tops["rejected"]]
        row |= {"chosen_score": 0.6 + 0.3 * draw.random(), "rejected_score": 0.4 * draw.random()}
        row |= {"chosen_helpful": draw.random(), "rejected_helpful": draw.random()}
        row |= {"chosen_win_rate": 0.7, "rejected_win_rate": 0.2 + 0.1 * draw.random()}
        row |= {
            "p_chosen": 0.6 + 0.3 * draw.random(),
            "flip_prob": 0.1,
            "margin": draw.normal(),
            "tie": at % 3 == 0,
        }
        row |= {"weight": 0.5 + at % 2, "annotator": f"a{at % 3}", "dimension": ["helpful", "honest"][at % 2]}
        row |= {"pair_group": f"g{at // 2}", "trace_mode": ["trace", "empty"][at % 2], "degree": at % 3}
        row["ref_history"] = [{"model": "before", "chosen_logp": -30.0, "rejected_logp": -31.0}]
    known = {name: column.type for name, column in COLUMNS.items()}
    schema = pa.schema([(name, known.get(name, pa.float64())) for name in rows[0]])
    return pa.Table.from_pylist(rows, schema)


def settings(policy: Model, preset: str, **kind: object) -> TrainSettings:
    objective = {"preset": preset, **NEEDED.get(preset, {})}
    return TrainSettings(
        model=policy, objective=objective, **{"batch": 8, "learning_rate": 1e-3, "steps": 4, **kind}
    )


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_and_moves_the_policy(
    preset: str, policy: Model, rich: pa.Table, tmp_path: Path
) -> None:
    result = train(settings(policy, preset), rich, out=tmp_path)
    told = losses(tmp_path)
    assert len(told) == 4
    assert all(np.isfinite(told))
    assert result.report.held_out is not None
    held_out = result.report.held_out
    assert max(abs(one.difference.mean) for one in (held_out.chosen_logp, held_out.rejected_logp)) > 1e-3


@pytest.mark.parametrize("preset", [name for name in PRESETS if name not in REFERENCE_FREE])
def test_before_the_first_step_policy_and_reference_are_the_same(
    preset: str, policy: Model, rich: pa.Table, tmp_path: Path
) -> None:
    """Every gap is 0 then, masked or not, whatever its temperature: the accuracy is one half."""
    result = train(settings(policy, preset, steps=1, learning_rate=1e-12), rich, out=tmp_path)
    assert result.report.held_out is not None
    accuracy = result.report.held_out.accuracy.before.mean
    if preset == "mnpo":  # part of its reference are earlier policies
        assert 0 <= accuracy <= 1
    elif preset == "mah-dpo":  # heads start apart
        assert result.report.held_out.reward_margin.before.mean == pytest.approx(0, abs=0.05)
    else:
        assert accuracy == 0.5


def test_the_presets_without_a_reference_are_these() -> None:
    free = {
        name
        for name in PRESETS
        if not Objective.model_validate({"preset": name, **NEEDED.get(name, {})}).needs_reference()
    }
    assert free == REFERENCE_FREE


def test_a_missing_column_names_the_stage_that_writes_it(
    policy: Model, rich: pa.Table, tmp_path: Path
) -> None:
    with pytest.raises(TrainError, match="reads column 'chosen_spans'") as raised:
        train(settings(policy, "rrpo"), rich.drop_columns(["chosen_spans"]), out=tmp_path)
    assert raised.value.hint == "add the stage that writes it: spans, source"


def test_a_list_is_one_micro_batch_whatever_the_budget(policy: Model, rich: pa.Table, tmp_path: Path) -> None:
    whole = train(settings(policy, "pro"), rich, out=tmp_path / "whole")
    cut = train(settings(policy, "pro"), rich, out=tmp_path / "cut", placement=TrainPlacement(micro_tokens=8))
    assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / "cut"), abs=1e-5)
    assert whole.report.steps == cut.report.steps


@pytest.mark.parametrize("preset", ["wdpo", "lcpo", "mah-dpo", "rrpo", "tpo", "kldpo", "rpo", "bvpo", "adpa"])
def test_cutting_a_step_into_micro_batches_changes_no_loss(
    preset: str, policy: Model, rich: pa.Table, tmp_path: Path
) -> None:
    for name, tokens in (("whole", 100_000), ("cut", 40)):
        train(
            settings(policy, preset), rich, out=tmp_path / name, placement=TrainPlacement(micro_tokens=tokens)
        )
    assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / "cut"), abs=2e-5)


def test_a_teacher_with_other_tokens_is_refused(policy: Model, rich: pa.Table, tmp_path: Path) -> None:
    at = rich.column_names.index("teacher_fingerprint")
    other = rich.set_column(at, "teacher_fingerprint", pa.array(["a/b/c"] * rich.num_rows))
    with pytest.raises(TrainError, match="the teacher's tokens are not those of model") as raised:
        train(settings(policy, "adpa"), other, out=tmp_path)
    assert raised.value.where == "column 'teacher_fingerprint'"


def test_pairs_with_parts_taken_out_are_trained_on_and_not_measured(
    policy: Model, rich: pa.Table, tmp_path: Path
) -> None:
    whole = sum(row["split"] == "test" and row["degree"] == 0 for row in rich.to_pylist())
    result = train(settings(policy, "spo-degree"), rich, out=tmp_path)
    assert result.report.held_out is not None
    assert 0 < result.report.held_out.pairs == whole
