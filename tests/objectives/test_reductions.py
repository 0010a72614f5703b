"""At the value of its parameter that changes nothing, a preset is the simpler loss it grew out of, to nine places."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from prefkit.objectives import PRESETS

ROWS = [(-12.0, -14.5, -13.0, -13.5), (-30.0, -21.0, -28.5, -24.0), (-7.25, -7.0, -7.0, -9.0)]
FREE = [(chosen, rejected, 0.0, 0.0) for chosen, rejected, _, _ in ROWS]
DPO = "{ preset: dpo, beta: 0.1 }"
IPO, IPO_MEAN = "{ preset: ipo, tau: 0.1 }", "{ preset: ipo-mean, tau: 0.1 }"
SFT = "{ weights: none, reward: log-prob, extras: [{ sft: { coefficient: 1 } }] }"
SPPO = "{ reward: { log-ratio: { beta: 1 } }, link: { pointwise-squared: { hard: true } } }"


class Neutral(NamedTuple):
    """A spelling, the one it equals, and the rows at which it does."""

    spelling: str
    columns: dict[str, object] = {}  # noqa: RUF012 - nothing writes to it
    other: str = DPO
    rows: list[tuple[float, float, float, float]] = ROWS
    tokens: tuple[float, float] = (8, 10)


SAME = {
    "dpo": Neutral("{ reward: { log-ratio: { beta: 0.1 } }, link: logistic, labels: hard }"),
    "salsa": Neutral("salsa"),
    "cdpo": Neutral("{ preset: cdpo, rate: 0 }"),
    "rdpo": Neutral("{ preset: rdpo, rate: 0 }"),
    "soft-dpo": Neutral("soft-dpo", {"p_chosen": 1.0}),
    "weighted-dpo": Neutral("weighted-dpo", {"weight": 1.0}),
    "lcpo": Neutral("lcpo", {"reliability": 1.0}),
    "dpo-rk": Neutral("{ preset: dpo-rk, nu: 1.000000000001 }", {"tie": 0.0}),
    "dpo-d": Neutral("{ preset: dpo-d, nu: 1e-12 }", {"tie": 0.0}),
    "f-dpo": Neutral("{ preset: f-dpo, divergence: reverse-kl }"),
    "kldpo": Neutral("{ preset: kldpo, beta: 0.1, tau: 1e12 }"),
    "wdpo": Neutral("{ preset: wdpo, beta: 0.1, rho: 1e-12 }"),
    "dr-dpo": Neutral("{ preset: dr-dpo, tau: 1e12 }"),
    "odpo": Neutral("odpo", {"margin": 0.0}),
    "modpo": Neutral(
        "{ preset: modpo, weights: { kind: 0 }, w: 1 }", {"chosen_kind": 2.0, "rejected_kind": 1.0}
    ),
    "mah-dpo": Neutral("{ preset: mah-dpo, dimensions: [a] }", {"dimension": 0.0}),
    "madpo": Neutral("{ preset: madpo, c_max: 1.000000000001 }", {"margin": [0.5, -1.0, 3.0]}),
    "rpo": Neutral("{ preset: rpo, beta: 0.1, eta: 1e-12 }"),
    "vpo": Neutral("{ preset: vpo, alpha: 1e-12 }"),
    "flex-dpo": Neutral("{ preset: flex-dpo, beta_minus: 0.1 }"),
    "spo-degree": Neutral("{ preset: spo-degree, gamma: 1e-12 }", {"degree": 0.0}),
    "bvpo": Neutral("bvpo", {"trace_mode": [0.0, 1.0, 1.0]}),
    "ln-dpo": Neutral("{ preset: ln-dpo, beta: 0.9 }", tokens=(9, 9)),
    "simpo": Neutral("{ preset: simpo, beta: 0.9, gamma: 0 }", rows=FREE, tokens=(9, 9)),
    "cpo": Neutral("{ preset: cpo, eta: 1e-12 }", rows=FREE),
    "tdpo": Neutral("tdpo"),
    "ipo": Neutral("{ reward: { log-ratio: { beta: 1 } }, link: squared }", other=IPO),
    "ipo-mean": Neutral(IPO_MEAN, other=IPO, tokens=(1, 1)),
    "online-ipo": Neutral("online-ipo", {"p_chosen": 1.0}, IPO),
    "egpo": Neutral(
        "{ preset: egpo, beta: 0.2 }", {"chosen_win_rate": 1.0, "rejected_win_rate": 0.0}, IPO_MEAN
    ),
    "copg": Neutral(
        "copg",
        {"chosen_score": 0.25, "rejected_score": -0.25},
        "{ reward: { log-ratio: { beta: 1 } }, link: squared, scale: 0.05 }",
    ),
    "sppo": Neutral("sppo", {"chosen_win_rate": 1.0, "rejected_win_rate": 0.0}, SPPO),
    "orpo": Neutral("{ preset: orpo, beta: 1e-12 }", other=SFT),
    "mapo-text": Neutral("{ preset: mapo-text, beta: 1e-12 }", other=SFT),
    "adpa": Neutral("adpa", other=SFT),
    "dckd": Neutral("dckd", other=SFT),
}
TERMS = {"teacher": (0.0, 0.0), "advantage": (0.0, 0.0), "masked-kl": (0.0, 0.0)}


@pytest.mark.parametrize("name", SAME)
def test_a_preset_at_its_neutral_value_is_the_loss_it_grew_out_of(lab: Any, name: str) -> None:
    spelling, columns, other, rows, tokens = SAME[name]
    batch = lab.pairs(*rows, tokens=tokens, terms=TERMS, **columns)
    if name == "spo-degree":
        nothing = [side._replace(hidden=torch.zeros(3, 1).double()) for side in batch[:2]]
        heads = {"degree": torch.zeros(3, 1).double()}
        batch = batch._replace(chosen=nothing[0], rejected=nothing[1], heads=heads)
    squares = torch.tensor([1.0, 2.0, 3.0]).double()
    assert lab.step(spelling, batch, squares) == pytest.approx(lab.step(other, batch), rel=1e-9, abs=1e-9)


def test_mnpo_is_ipo_where_its_mixture_is_the_reference(lab: Any) -> None:
    batch = lab.pairs(*ROWS)
    past = torch.stack([batch.chosen.ref_logp, batch.rejected.ref_logp], -1)[:, None]
    batch = batch._replace(columns={"ref_history": past})
    for share in (0, 0.4, 1):
        spelling = f"{{ preset: mnpo, eta: 0.1, ratio: {share}, weights: [3] }}"
        assert lab.step(spelling, batch) == pytest.approx(lab.step(IPO_MEAN, batch), rel=1e-9)


ALL_OF_IT = {
    "rrpo": (
        "{ preset: rrpo, alpha: 1e-12 }",
        "phrases",
        "phrase",
        (2, None),
        (2, None),
    ),  # past what both begin with
    "mask-dpo": ("mask-dpo", "facts", "sentence", (0, 1.0), (0, 0.0)),
    "tpo": ("{ preset: dpo, beta: 0.1 }", "steps", "step", (0, 1.0), (0, 1.0)),
}


@pytest.mark.parametrize("name", ALL_OF_IT)
def test_a_mask_that_keeps_all_that_differs_changes_nothing(lab: Any, name: str) -> None:
    spelling, mask, kind, chosen, rejected = ALL_OF_IT[name]
    spans = [[(kind, start, end, 1, value)] for (start, value), end in ((chosen, 5), (rejected, 6))]
    told = lab.costs(spelling, lab.masked(mask, *spans))
    whole = lab.costs(DPO, lab.masked("everything", [], []))
    assert (told.loss + told.extra).item() == pytest.approx(whole.loss.item(), abs=1e-9)


def test_sparse_weights_of_one_without_their_kl_are_dpo_and_scale_like_beta(lab: Any) -> None:
    spans = [[("weight", 0, 9, 1, 1.0), ("kl-weight", 0, 9, 1, 0.0)]] * 2
    whole = lab.costs(DPO, lab.masked("everything", [], [])).loss.item()
    assert lab.costs(
        "{ preset: sparsepo, beta: 0.1 }", lab.masked("weights", *spans)
    ).loss.item() == pytest.approx(whole, abs=1e-9)
    half = [[("weight", 0, 9, 1, 0.5), ("kl-weight", 0, 9, 1, 0.0)]] * 2
    told = lab.costs("{ preset: sparsepo, beta: 0.2 }", lab.masked("weights", *half)).loss.item()
    assert told == pytest.approx(whole, abs=1e-9)


TWO = {
    "list-logistic": ("{ preset: list-logistic, beta: 0.1 }", 1.0),
    "list-mle": ("{ preset: list-mle, beta: 0.1 }", 1.0),
    # a list of two has one pair, whose places are 1 and 2
    "lipo": ("{ preset: lipo, beta: 0.1 }", (2**0.9 - 2**0.3) * (1 / np.log(2) - 1 / np.log(3))),
}


@pytest.mark.parametrize("name", TWO)
def test_a_list_of_two_is_a_pair(lab: Any, name: str) -> None:
    spelling, by = TWO[name]
    batch = lab.ranked([-3.0, 1.5], [0.9, 0.3])
    assert lab.step(spelling, batch) == pytest.approx(by * lab.costs(DPO, batch).loss.item(), abs=1e-9)


def test_pro_on_a_list_of_two_is_a_pair_at_the_temperature_of_its_scores(lab: Any) -> None:
    batch = lab.ranked([-3.0, 1.5], [0.9, 0.3], tokens=[3, 5])
    spelling = "{ preset: simpo, beta: 0.6, gamma: 0 }"
    told = lab.costs("pro", batch).loss.item()
    assert told == pytest.approx(lab.costs(spelling, batch).loss.item(), abs=1e-9)


@pytest.mark.parametrize("power", [-0.9, -0.5, 0, 0.5, 1, 3])
def test_every_power_of_bpo_has_the_slope_of_dpo_where_the_policy_is_its_reference(
    lab: Any, power: float
) -> None:
    spelling = f"{{ preset: bpo, power: {power}, low: null }}"
    here = (-3.0, -4.0, -3.0, -4.0)
    assert lab.slopes(spelling, here).flatten() == pytest.approx(lab.slopes("dpo", here).flatten(), abs=1e-9)


def test_every_preset_is_covered_or_has_no_neutral_value() -> None:
    none = {"hinge", "exo", "nca", "bco", "apo-zero", "apo-down", "discopop"}
    elsewhere = {"mnpo", "sparsepo", "pro", "bpo"}
    parts = [set(SAME), set(ALL_OF_IT), set(TWO), elsewhere, none]
    assert set().union(*parts) == set(PRESETS)
    assert sum(map(len, parts)) == len(PRESETS)
