"""One digest per stage: what a stage makes of a fixed table may change only together with its version."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

from prefkit.columns import MESSAGES, RATINGS, VOTES
from prefkit.engines import Engines, Model
from prefkit.engines.fake import FakeEngine
from prefkit.identity import canonical, digest
from prefkit.stages import BUILTIN
from prefkit.tables import put
from prefkit.testing import check_stage, run_stage

GOLDEN = Path(__file__).parent / "golden" / "stages.json"
MODEL = {"id": "test/model"}
OTHER = {"id": "test/other"}
ENGINES = Engines({model["id"]: FakeEngine() for model in (MODEL, OTHER)})
PROMPTS = {"id": ["p", "q"], "prompt_id": ["p", "q"], "prompt": ["Say hi", "Count to 3"]}
TEXTS = ["hi A: 1", "hello there A: 2", "hi", "1 2 3 A: 6", "1, 2 and 3", "A: 5", "three A: 6"]


def say(role, texts):
    return pa.array([[{"role": role, "content": text}] for text in texts], MESSAGES)


def prompts():
    return pa.table({**PROMPTS, "prompt": say("user", PROMPTS["prompt"]), "source": ["toy", "toy"]})


def responses():
    rows = 7
    of = ["p"] * 3 + ["q"] * 4
    scores = [0.5, 2.0, 0.5, 1.0, 0.25, 0.0, 1.0]
    return pa.table(
        {
            "id": [f"r{n}" for n in range(rows)],
            "prompt_id": of,
            "prompt": say("user", ["Say hi"] * 3 + ["Count to 3"] * 4),
            "response": say("assistant", TEXTS),
            "index": pa.array([0, 1, 2, 0, 1, 2, 3], pa.int32()),
            "model": ["human", "one", "two", "human", "one", "two", "three"],
            "origin": ["dataset"] * rows,
            "score": scores,
            "reference_answer": ["1"] * 3 + ["6"] * 4,
            "ratings": pa.array(
                [[{"annotator": a, "score": s + d} for a, d in (("x", 0.0), ("y", 0.5))] for s in scores],
                RATINGS,
            ),
        }
    )


def pairs():
    made = run_stage(BY_NAME["pair"].model_validate({"kind": "all"}), responses()).table
    votes = [
        [{"judge": "x", "winner": w, "p": p, "strength": 1.0}] for w, p in (("chosen", 1.0), ("tie", 0.5))
    ]
    rows = made.num_rows
    extra = {
        "margin": pa.array([0.1 * (n % 5) for n in range(rows)], pa.float64()),
        "p_chosen": pa.array([0.5 + 0.05 * (n % 9) for n in range(rows)], pa.float64()),
        "flip_prob": pa.array([0.1 * (n % 4) for n in range(rows)], pa.float64()),
        "votes": pa.array([votes[n % 2] for n in range(rows)], VOTES),
    }
    for name, column in extra.items():
        at = made.schema.get_field_index(name)
        made = made.append_column(name, column) if at < 0 else made.set_column(at, name, column)
    return made


def views():
    """Two pairs with reasoning and two without, each two of one prompt."""
    made = pairs().slice(0, 3).to_pylist()
    rows = [
        {**row, "id": f"{row['id']}{mark}", "chosen": [{"role": "assistant", "content": thought + "so"}]}
        for row in made
        for mark, thought in (("t", "<think>why"), ("e", "<think> </think>"))
    ]
    rows = [{**row, "rejected": row["chosen"]} for row in rows]
    return pa.Table.from_pylist(rows, schema=pairs().schema)


def faulty():
    """Responses with the first step that a judge found wrong."""
    return put(responses(), "first_error", pa.array([1, 0, None, 1, 0, 1, 0], pa.int32()))


def continued():
    stage = BY_NAME["continue"].model_validate({"model": MODEL, "n": 2})
    out = run_stage(stage, faulty(), seed=3, engines=ENGINES).table
    return put(out, "score", pa.array([1.0] * out.num_rows))


def searched():
    stage = BY_NAME["tree"].model_validate(TREE)
    out = run_stage(stage, prompts(), seed=3, engines=ENGINES).table
    return put(out, "q_value", pa.array([0.1 * at for at in range(out.num_rows)]))


def of_two_people():
    made = pairs()
    return put(made, "annotator", pa.array([("one", "two")[at % 2] for at in range(made.num_rows)]))


def of_two_groups():
    return put(of_two_people(), "group", pa.array([("a", "b")[at % 2] for at in range(pairs().num_rows)]))


def of_one_person():
    made = put(pairs(), "annotator", pa.array(["someone"] * pairs().num_rows))
    return put(made, "prompt_id", pa.array([f"p{at}" for at in range(made.num_rows)]))


def with_reference():
    made = pairs()
    made = put(made, "ref_chosen_logp", pa.array([-1.0 * at for at in range(made.num_rows)]))
    return put(made, "ref_rejected_logp", pa.array([-2.0] * made.num_rows))


def twice_scored():
    return put(responses(), "other", pa.array([1.0, 0.0, 0.5, 0.25, 0.5, 1.0, 2.0]))


BY_NAME = {stage.name: stage for stage in BUILTIN}
TREE = {"model": MODEL, "judge": OTHER, "n": 3, "depth": 2, "max_tokens": 8, "separator": " "}
CASES = {
    "sample": [(prompts, {"model": MODEL, "n": 3, "max_tokens": 8})],
    "reference-answer": [(responses, {"writer": "human", "marker": "A:"})],
    "score": [
        (responses, {"model": MODEL}),
        (responses, {"rule": "length", "as": "length"}),
        (responses, {"rule": {"math-answer": {"marker": "A:"}}}),
        (responses, {"ratings": "mean"}),
        (responses, {"ensemble": [MODEL, OTHER]}),
        (responses, {"log_prob": {"model": MODEL, "unit": "mean"}}),
        (responses, {"implicit": {"policy": MODEL, "reference": OTHER, "beta": 0.2}}),
    ],
    "combine": [
        (responses, {"of": ["score"], "as": "all", "normalise": "z"}),
        (responses, {"of": ["score"], "as": "all", "kind": "hypervolume"}),
    ],
    "select": [(responses, {"n": 1}), (responses, {"kind": "rso", "n": 1})],
    "judge": [
        (pairs, {"model": MODEL}),
        (responses, {"model": MODEL, "topology": "all", "verdict": "token"}),
        (responses, {"model": MODEL, "kind": "pointwise"}),
    ],
    "pass-rate": [(responses, {"at_least": 1.0})],
    "win-rate": [(responses, {"scale": 2.0})],
    "pair": [
        (responses, {"kind": kind}) for kind in ("best-worst", "best-random", "all", "fold", "tournament")
    ],
    "rationale": [(pairs, {"model": MODEL, "kinds": ["general", "specific"]})],
    "label": [
        (
            pairs,
            {
                "ops": [
                    "from-scores",
                    {"tie": {"rule": "delta", "delta": 0.1}},
                    {"smooth": {"rate": 0.1}},
                    "orient",
                ]
            },
        ),
        (pairs, {"ops": ["from-votes", {"tie": {"rule": "agree", "agree": 0.6}}]}),
        (pairs, {"ops": [{"flip": {"rate": 0.4}}]}),
    ],
    "margin": [(pairs, {"scale": 2.0}), (pairs, {"transform": "residual-length", "clip": 1.0})],
    "weight": [
        (pairs, {"kind": "trust"}),
        (pairs, {"kind": "expression", "formula": "1 + margin"}),
        (pairs, {"kind": "wasserstein-dro"}),
    ],
    "filter": [
        (pairs, {"drop": ["empty", "identical"], "min_chars": 3}),
        (pairs, {"best": {"column": "margin", "share": 0.5}}),
        (pairs, {"peers": {"scores": ["score", "score"], "keep": "either", "noise": 0.3}}),
        (pairs, {"agree": {"scores": "score", "above": 0.5}}),
        (pairs, {"drop": ["personal-data", "special-token", "cut-off", "refusal", "other-script"]}),
    ],
    "redact": [(pairs, {})],
    "balance": [(pairs, {"bins": 2})],
    "acquire": [
        (pairs, {"budget": 6, "explore": 0.3}),
        (pairs, {"by": "d-optimal", "budget": 4, "diverse": MODEL}),
    ],
    "analyse": [(pairs, {"what": ["shortcut", "length", "votes", "cells"], "scores": ["score"]})],
    "pool": [(prompts, {"models": [MODEL, OTHER], "n": 2})],
    "direction": [(twice_scored, {"aspects": ["score", "other"]})],
    "consistency": [(twice_scored, {"of": ["score", "other"]})],
    "continue": [(faulty, {"model": MODEL, "n": 2})],
    "siblings": [(continued, {})],
    "tree": [(prompts, TREE)],
    "tree-pairs": [(searched, {}), (searched, {"rejected": "random"})],
    "revise": [(responses, {"model": MODEL, "max_edit_ratio": 1.0})],
    "corrupt": [(pairs, {"model": MODEL})],
    "condition": [
        (pairs, {"kind": "reward-goal"}),
        (of_one_person, {"kind": "few-shot", "k": 2, "passes": 2}),
    ],
    "constraints": [(pairs, {"kinds": ["response", "margin", "prompt"]})],
    "difficulty": [(with_reference, {}), (with_reference, {"kind": "agreement-needed"})],
    "personas": [(pairs, {"model": MODEL, "traits": ["a", "b"], "n": 2})],
    "on-policy": [(pairs, {"model": MODEL, "share": 0.5})],
    "dedup": [
        (responses, {"by": "response"}),
        (pairs, {"by": "pair", "within": "dataset"}),
        (responses, {"by": "response", "kind": "minhash"}),
    ],
    "decontaminate": [(responses, {"against": "tests/golden/benchmark.jsonl", "n": 2, "threshold": 0.4})],
    "split": [(pairs, {"test": 0.5})],
    "mix": [(prompts, {"total": 1})],
    "order": [
        (pairs, {"by": "margin"}),
        (pairs, {"kind": "phases", "k": 2}),
        (pairs, {"kind": "shuffle"}),
        (pairs, {"kind": "split", "gamma": 0.2}),
        (pairs, {"kind": "interleave", "k": 2}),
    ],
    "reference": [(pairs, {"model": MODEL}), (pairs, {"model": MODEL, "history": True})],
    "annotators": [
        (pairs, {}),
        (pairs, {"ties": "keep"}),
        (pairs, {"kind": "only-vote"}),
        (of_two_groups, {"kind": "each-group"}),
    ],
    "groups": [(of_two_people, {"of": ["score"]})],
    "spans": [
        (pairs, {"without": "drop"}),
        (pairs, {"kind": "sentence"}),
        (pairs, {"kind": "step", "separator": ",", "most": 2}),
    ],
    "trace": [(views, {})],
    "degree": [(pairs, {})],
    "teacher": [(pairs, {"model": MODEL, "k": 3}), (pairs, {"model": MODEL, "k": 2, "before": OTHER})],
}


def made_now(name):
    found = {}
    for table, settings in CASES[name]:
        stage = BY_NAME[name].model_validate(settings)
        out = check_stage(stage, table(), seed=3, engines=ENGINES)
        found[json.dumps(canonical(stage), sort_keys=True)] = digest(out)
    return {"version": BY_NAME[name].version, "digests": found}


def test_every_stage_has_a_golden_case():
    assert set(CASES) == set(BY_NAME)
    assert len(CASES) >= 14
    assert Model(**MODEL).id in ENGINES.serving


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_golden_digest(name):
    now = made_now(name)
    if os.environ.get("PREFKIT_GOLDEN") == "write":
        kept = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
        GOLDEN.write_text(json.dumps({**kept, name: now}, indent=1, sort_keys=True) + "\n")
    golden = json.loads(GOLDEN.read_text()).get(name)
    assert golden is not None, f"{name} is new: run `make golden`"
    if golden["version"] == now["version"]:
        told = f"{name}'s output changed: set version = {now['version'] + 1}, then `make golden`"
        assert golden["digests"] == now["digests"], told
    else:
        assert golden == now, f"{name} has a new version: run `make golden`"
