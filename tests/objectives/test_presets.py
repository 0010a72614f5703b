"""Presets: each is its pieces written out, names its paper, and survives being written as YAML and JSON."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from prefkit.objectives import PRESETS, Objective
from prefkit.yaml_strict import parse, plain
from prefkit.yaml_text import yaml_text

COMPOSED = {
    "dpo": "{}",
    "salsa": "{}",
    "cdpo": "{ labels: { smooth: { rate: 0.1 } } }",
    "rdpo": "{ labels: { robust: { rate: 0.1 } } }",
    "soft-dpo": "{ labels: soft }",
    "weighted-dpo": "{ weights: column }",
    "lcpo": "{ labels: posterior }",
    "hinge": "{ link: hinge }",
    "exo": "{ link: exo }",
    "nca": "{ link: nca }",
    "bco": "{ link: binary }",
    "apo-zero": "{ link: apo-zero }",
    "apo-down": "{ link: apo-down }",
    "discopop": "{ reward: { log-ratio: { beta: 0.05 } }, link: discovered }",
    "ipo": "{ reward: { log-ratio: { beta: 1 } }, link: squared }",
    "ipo-mean": "{ reward: { mean-log-ratio: { beta: 1 } }, link: squared }",
    "online-ipo": "{ reward: { log-ratio: { beta: 1 } }, link: { squared: { times: p-chosen } } }",
    "egpo": "{ reward: { mean-log-ratio: { beta: 1 } }, link: { squared: { target: 10, times: win-rate } } }",
    "mnpo": "{ reward: mixture-log-ratio, link: { squared: { target: 66.66666666666667 } } }",
    "sppo": "{ reward: { log-ratio: { beta: 1 } }, link: pointwise-squared }",
    "copg": "{ reward: { log-ratio: { beta: 1 } }, link: { squared: { target: 10, times: score } }, scale: 0.05 }",
    "ln-dpo": "{ reward: mean-log-ratio }",
    "simpo": "{ reward: mean-log-prob, offset: 0.5 }",
    "cpo": "{ reward: log-prob, extras: [{ sft: { coefficient: 1, over: step } }] }",
    "orpo": "{ reward: log-odds, scale: 0.1, extras: [{ sft: { coefficient: 1, over: step } }] }",
    "mapo-text": "{ reward: log-odds, scale: 0.1, extras: [{ sft: { coefficient: 1 } }] }",
    "odpo": "{ offset: margin }",
    "modpo": "{ reward: { log-ratio: { beta: 0.2 } }, offset: { rewards: { weights: { kind: 1 } } } }",
    "mah-dpo": "{ reducer: per-dimension, heads: { per-dimension: { dimensions: [a, b] } } }",
    "madpo": "{ weights: margin-adaptive }",
    "dpo-rk": "{ link: rao-kupper }",
    "dpo-d": "{ link: davidson }",
    "bpo": "{ link: { bregman: { low: 0.01 } } }",
    "f-dpo": "{ reward: { f-divergence: { divergence: forward-kl } } }",
    "kldpo": "{ reward: { log-ratio: { beta: 0.01 } }, reducer: kl-robust }",
    "wdpo": "{ reward: { log-ratio: { beta: 0.01 } }, penalty: embedding-gradient }",
    "dr-dpo": "{ reducer: soft-min }",
    "rpo": "{ reward: { log-ratio: { beta: 0.5 } }, extras: [sft] }",
    "vpo": "{ extras: [value] }",
    "flex-dpo": "{ reward: { log-ratio: { beta_rejected: 0.05 } } }",
    "spo-degree": "{ weights: untouched, extras: [degree] }",
    "bvpo": "{ weights: views }",
    "rrpo": "{ mask: phrases, extras: [token-kl] }",
    "mask-dpo": "{ mask: facts }",
    "tdpo": "{ reward: sequential-kl }",
    "sparsepo": "{ mask: weights, reward: { sequential-kl: { beta: 0.8 } } }",
    "lipo": "{ reward: { log-ratio: { beta: 0.05 } }, weights: lambda-rank }",
    "list-logistic": "{ reward: { log-ratio: { beta: 0.05 } }, weights: each-pair }",
    "list-mle": "{ reward: { log-ratio: { beta: 0.05 } }, link: plackett-luce }",
    "tpo": "{ mask: steps, reward: { log-ratio: { beta: 0.5 } }, weights: lambda-rank }",
    "pro": "{ reward: { mean-log-prob: { beta: 1 } }, link: reward-ranking, extras: [{ sft: { coefficient: 0.05, over: best } }] }",
    "adpa": "{ reward: { log-prob: { beta: 1 } }, weights: none, extras: [{ sft: { coefficient: 1 } }, advantage] }",
    "dckd": "{ reward: { log-prob: { beta: 1 } }, weights: none, extras: [{ sft: { coefficient: 1 } }, distill] }",
}  # fmt: skip
NEEDED: dict[str, dict[str, object]] = {
    "modpo": {"weights": {"kind": 0.5}},
    "mah-dpo": {"dimensions": ["a", "b"]},
}
ASKED_FOR = """dpo cdpo rdpo ipo simpo ln-dpo dpo-rk dpo-d bpo kldpo wdpo f-dpo copg spo-degree rpo modpo mah-dpo madpo
    rrpo mask-dpo sparsepo tpo lipo pro bvpo flex-dpo lcpo salsa adpa mapo-text sppo mnpo"""


def preset(name: str) -> Objective:
    return Objective.model_validate({"preset": name, **NEEDED.get(name, {})})


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_its_pieces_written_out(lab: Any, name: str) -> None:
    assert preset(name) == lab.objective(COMPOSED[name])


def test_every_preset_is_written_out_and_none_that_people_ask_for_is_missing() -> None:
    assert set(COMPOSED) == set(PRESETS)
    assert len(PRESETS) == 53
    assert set(PRESETS) >= set(ASKED_FOR.split())


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json_and_yaml(name: str) -> None:
    written = preset(name).model_dump_json()
    assert Objective.model_validate_json(written) == preset(name)
    assert Objective.model_validate(
        plain(parse(yaml_text(json.loads(written)).encode(), name).root)
    ) == preset(name)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_its_paper_and_describes_itself_in_one_line(name: str) -> None:
    assert re.search(r"\b20[12][0-9]\b", PRESETS[name].__doc__ or "")
    described = preset(name).describe()
    assert described
    assert "\n" not in described


def test_settings_of_a_preset_reach_its_pieces(lab: Any) -> None:
    assert lab.objective("{ preset: dpo, beta: 0.2 }") == lab.objective(
        "{ reward: { log-ratio: { beta: 0.2 } } }"
    )
    assert lab.objective("{ preset: madpo, c_max: 4 }").weights.c_min == 0.25
    assert lab.objective("{ preset: rpo, beta: 0.5, eta: 0.2, over: sum }").extras[
        0
    ].coefficient == pytest.approx(0.1)
    assert lab.objective("{ preset: kldpo, normalise: false }").reducer.normalise is False


def test_an_objective_describes_what_is_not_at_its_default(lab: Any) -> None:
    assert lab.objective("dpo").describe() == "log-ratio(beta=0.1) · logistic"
    told = lab.objective("{ preset: copg, beta: 0.5 }").describe()
    assert told == "log-ratio(beta=1.0) · squared(target=2.0, times=score) · times 0.25"


WRONG = [
    ("dop", "no objective is called 'dop' (did you mean 'dpo'?)"),
    ("{ preset: dpo, beta: -1 }", "preset 'dpo': beta: input should be greater than 0, got -1"),
    ("{ preset: dpo, bta: 1 }", "preset 'dpo': bta: unexpected keyword argument, got 1"),
    ("{ preset: rdpo, rate: 0.5 }", "preset 'rdpo': rate: input should be less than 0.5, got 0.5"),
    ("{ preset: dpo-rk, nu: 1 }", "preset 'dpo-rk': nu: input should be greater than 1, got 1"),
    ("{ preset: madpo, c_max: 1 }", "preset 'madpo': c_max: input should be greater than 1, got 1"),
    ("{ preset: bpo, power: -1 }", "preset 'bpo': power: input should be greater than -1, got -1"),
    ("{ preset: modpo, weights: { kind: 1 }, w: 0 }", "preset 'modpo': w: input should be greater than 0, got 0"),
    ("{ link: logstic }", "no link is called 'logstic' (did you mean 'logistic'?)"),
    ("{ reward: { log-ratio: { beta: 0 } } }", "reward 'log-ratio': beta: input should be greater than 0, got 0"),
    ("{ link: { bregman: { form: ba, power: 0 } } }", "form 'ba' has no power 0: take `kliep`"),
    ("{ link: davidson, labels: soft }", "labels must be 'hard', not 'soft'"),
    ("{ link: { squared: { times: p-chosen } }, labels: soft }", "labels must be 'hard', not 'soft'"),
    ("{ reward: { dpo: {}, ipo: {} } }", "reward takes one name with its settings, got ['dpo', 'ipo']"),
]  # fmt: skip


@pytest.mark.parametrize(("spelling", "told"), WRONG)
def test_a_wrong_spelling_is_told_in_one_line(lab: Any, spelling: str, told: str) -> None:
    with pytest.raises(ValidationError) as raised:
        lab.objective(spelling)
    assert told in raised.value.errors()[0]["msg"]


def test_a_reference_is_asked_for_only_where_it_is_read() -> None:
    free = {name for name in PRESETS if not preset(name).needs_reference()}
    assert free == {"simpo", "cpo", "orpo", "mapo-text", "pro", "adpa", "dckd"}
    assert not preset("simpo").reads()
    lists = {name for name in PRESETS if preset(name).listwise()}
    assert lists == {"lipo", "list-logistic", "list-mle", "tpo", "pro"}


def test_objectives_and_their_laws_import_no_torch() -> None:
    code = "import sys, prefkit.objectives, prefkit.testing, prefkit.train.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_piece_beside_a_preset_takes_the_place_of_its_piece(lab: Any) -> None:
    mixed = lab.objective("{ preset: simpo, gamma: 1.0, labels: { smooth: { rate: 0.2 } }, extras: [sft] }")
    pieces = "{ reward: { mean-log-prob: { beta: 2.0 } }, offset: 1.0, labels: { smooth: { rate: 0.2 } }, extras: [sft] }"
    assert mixed == lab.objective(pieces)
    own = {"preset": "modpo", "weights": {"helpful": 0.5}}  # its parameter, not the piece of that name
    assert lab.objective(own).weights == lab.objective("dpo").weights
