"""Every preset and every piece keeps the laws of an objective, and the checker tells which one is broken."""

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import torch

from prefkit.columns import types
from prefkit.errors import TrainError
from prefkit.objectives import PRESETS, Mask, Objective, Piece, TokenTerm
from prefkit.objectives.extras import EXTRAS, PENALTIES
from prefkit.objectives.heads import Heads
from prefkit.objectives.labels import LABELS
from prefkit.objectives.masks import MASKS
from prefkit.objectives.more_links import LINKS
from prefkit.objectives.offsets import OFFSETS
from prefkit.objectives.piece import Extra, Labels, Link, Offset, Reducer, Reward, Weights
from prefkit.objectives.reducers import REDUCERS
from prefkit.objectives.rewards import REWARDS
from prefkit.objectives.weights import WEIGHTS
from prefkit.testing import check_objective

PIECES = [*MASKS, *REWARDS, *OFFSETS, *LINKS, *LABELS, *WEIGHTS, *REDUCERS, *EXTRAS, *PENALTIES, Heads]
SETTINGS: dict[str, list[dict[str, object]]] = {
    "f-divergence": [
        {"divergence": name} for name in ("reverse-kl", "forward-kl", "jensen-shannon", "alpha", "chi2-mix")
    ],
    "log-ratio": [{}, {"beta_rejected": 0.0}],
    "mixture-log-ratio": [{}, {"over": "sum", "weights": [3, 0, 1]}],
    "rewards": [{"weights": {"kind": 0.5, "true": 2}}],
    "squared": [{}, {"times": "p-chosen"}, {"times": "win-rate"}, {"times": "score"}],
    "bregman": [
        {},
        {"power": 0},
        {"form": "kliep"},
        {"form": "lsif"},
        {"form": "ba", "power": 0.5, "low": 0.01},
    ],
    "pointwise-squared": [{}, {"hard": True}],
    "smooth": [{}, {"rate": 0.1}],
    "robust": [{}, {"rate": 0.4}],
    "posterior": [{}, {"by": "none", "warmup": 3}],
    "kl-robust": [{}, {"normalise": False}],
    "sft": [{}, {"over": "sum"}, {"over": "step"}, {"over": "best"}],
    "token-kl": [{}, {"on": "both"}, {"direction": "policy||reference"}],
    "embedding-gradient": [{}, {"root": False}],
    "per-dimension": [{}],
    "steps": [{}, {"weigh": "one-plus-cos"}, {"weigh": "one-minus-cos"}],
}
NEEDED: dict[str, dict[str, object]] = {
    "modpo": {"weights": {"helpful": 0.5}},
    "mah-dpo": {"dimensions": ["a", "b"]},
}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_keeps_the_laws(preset: str) -> None:
    check_objective(Objective.model_validate({"preset": preset, **NEEDED.get(preset, {})}))


@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: f"{piece.part}-{piece.name}")
def test_every_piece_keeps_the_laws_in_every_form(piece: type[Piece]) -> None:
    known = (
        [{"dimensions": ["a", "b"], "shares": [1, 3]}] if piece is Heads else SETTINGS.get(piece.name, [{}])
    )
    for settings in known:
        check_objective(piece.model_validate(settings))


def test_every_piece_of_every_catalog_was_checked() -> None:
    assert len(PIECES) == len(set(PIECES)) == 58
    assert set(SETTINGS) <= {piece.name for piece in PIECES}


def test_a_table_is_checked_with_the_objective() -> None:
    rows = pa.table({"margin": [0.5, 1.0]})
    check_objective(Objective.model_validate({"reward": "log-prob", "offset": "margin"}), rows)
    with pytest.raises(TrainError, match="every margin is 0"):
        check_objective(
            Objective.model_validate({"reward": "log-prob", "offset": "margin"}),
            pa.table({"margin": [0.0, 0.0]}),
        )


# planted faults: each piece breaks one law


class Undeclared(Offset):
    name: ClassVar[str] = "undeclared"

    def __call__(self, pairs):
        return pairs.columns["margin"]


class Unused(Offset):
    name: ClassVar[str] = "unused"

    def reads(self):
        return types("margin")

    def __call__(self, pairs):
        return 0.0


class Forgetful(Offset):
    name: ClassVar[str] = "forgetful"
    value: float = 0.0

    def __call__(self, pairs):
        return self.value

    def model_dump_json(self, **kind: Any) -> str:
        return '{"forgetful": {"value": 7}}'


class Neighbours(Weights):
    name: ClassVar[str] = "neighbours"

    def __call__(self, gap, pairs):
        return torch.ones_like(gap.logit) / (1 + gap.logit.detach().square().mean())


class ByPlace(Reducer):
    name: ClassVar[str] = "by-place"

    def __call__(self, rows):
        return torch.arange(len(rows.losses), dtype=rows.losses.dtype) / rows.units


class Leaking(Labels):
    name: ClassVar[str] = "leaking"

    def __call__(self, right, wrong, pairs):
        belief = (wrong - right).sigmoid()
        return belief, 1 - belief


class Doubled(Labels):
    name: ClassVar[str] = "doubled"

    def __call__(self, right, wrong, pairs):
        return torch.ones_like(right), torch.ones_like(wrong)


class Overflowing(Link):
    name: ClassVar[str] = "overflowing"

    def __call__(self, gap, pairs):
        return (-gap.logit).exp()


class Cancelling(Link):
    name: ClassVar[str] = "cancelling"

    def __call__(self, gap, pairs):
        return (gap.logit + 1e6) - 1e6 - gap.logit.sigmoid().log()


class Detached(Link):
    name: ClassVar[str] = "detached"

    def __call__(self, gap, pairs):
        return gap.logit * gap.logit.detach()


class OneSided(Link):
    name: ClassVar[str] = "one-sided"

    def __call__(self, gap, pairs):
        return torch.nn.functional.softplus(-gap.chosen)


class Total(Link):
    name: ClassVar[str] = "total"

    def __call__(self, gap, pairs):
        return -gap.logit.sum()


class Crashing(Weights):
    name: ClassVar[str] = "crashing"

    def reads(self):
        return types("weight")

    def refuse(self, table):
        return None if table["weight"][0].as_py() > 0 else "no"

    def __call__(self, gap, pairs):
        return pairs.columns["weight"]


class Flat(Extra):
    name: ClassVar[str] = "flat"

    def terms(self):
        return (TokenTerm("flat", lambda policy, *_: policy.exp().sum()),)

    def __call__(self, pairs):
        return pairs.chosen.terms["flat"]


class Shortened(Mask):
    name: ClassVar[str] = "shortened"

    def tokens(self, spans, offsets, side):
        return np.ones(len(spans))


class StraightThrough(Reward):
    name: ClassVar[str] = "straight-through"

    def __call__(self, pairs):
        logp = pairs.chosen.logp
        return logp + (logp.round() - logp).detach(), pairs.rejected.logp


FAULTS = {
    Undeclared: "'margin' is used, and neither reads() nor terms() declares it",
    Unused: "reads() declares 'margin', and nothing needs it",
    Forgetful: "the settings of offset 'forgetful' must survive JSON",
    Neighbours: "one batch of 64 and eight micro-batches of 8 must have the same loss",
    ByPlace: "the order of rows must not matter",
    Leaking: "the gradient of the loss and the extras, beliefs being given, must be",
    Doubled: "the labels' shares of right and wrong must add up to 1",
    Overflowing: "log-ratios of 10,000 nats must stay finite in float32",
    Cancelling: "must stay finite in float32",
    Detached: "must be that of finite differences",
    OneSided: "a link with `symmetric` set must see nothing but the logit",
    Total: "loss must be one number a pair, not ()",
    Crashing: "must be refused by a TrainError with a hint, not by",
    Flat: "term 'flat' must be one number a token, not ()",
    Shortened: "mask 'shortened' must give each token a weight",
    StraightThrough: "the gradient of the loss and the extras",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_broken_law_is_named(fault: type[Piece]) -> None:
    with pytest.raises(AssertionError) as raised:
        check_objective(fault())
    assert FAULTS[fault] in str(raised.value)
