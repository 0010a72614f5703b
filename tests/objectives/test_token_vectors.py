"""The worked numbers of methods on tokens: how each comes out of the public objects, or why it does not."""

from typing import Any

import pytest
import torch

PHRASES = (
    [("phrase", 2, 4, 1, None), ("phrase", 4, 5, 2, None)],
    [
        ("phrase", 2, 4, 1, None),
        ("phrase", 5, 6, 2, None),
    ],
)
FACTS = (
    [("sentence", 0, 2, 1, 1.0), ("sentence", 2, 4, 2, 0.0), ("sentence", 4, 5, 3, 1.0)],
    [
        ("sentence", 0, 2, 1, 1.0),
        ("sentence", 2, 4, 2, 0.0),
        ("sentence", 4, 6, 3, 1.0),
    ],
)


def valued(kind: str, *values: float) -> list[tuple[str, int, int, int, float]]:
    return [(kind, at, at + 1, at, value) for at, value in enumerate(values)]


COMMON = valued("weight", 0, 0.5, 1, 0.5, 0), valued("weight", 0, 0, 1, 1, 0.5, 0)
APART = (
    COMMON[0] + valued("kl-weight", 1, 0.5, 0, 0.5, 1),
    COMMON[1] + valued("kl-weight", 1, 1, 0.5, 0, 0, 1),
)
PLAIN = "{ preset: dpo, beta: 1 }"


def phrase_sums(lab: Any) -> list[list[float]]:
    told = []
    for number in (1, 2):
        mine = [[span for span in spans if span[3] == number] for spans in PHRASES]
        costs = lab.costs(PLAIN, lab.masked("phrases", *mine))
        told.append([costs.chosen_reward.item(), costs.rejected_reward.item()])
    return told


def rrpo(lab: Any, beta: float, alpha: float) -> float:
    told = lab.costs(f"{{ preset: rrpo, beta: {beta}, alpha: {alpha} }}", lab.masked("phrases", *PHRASES))
    return float(told.loss + told.extra)


def logs(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities], dtype=torch.float64).log()


def teacher(lab: Any, side: str) -> torch.Tensor:
    """KL(teacher || student) where all three tokens of the vocabulary are known."""
    known, said = {
        "chosen": (logs(0.7, 0.2, 0.1), logs(0.5, 0.3, 0.2)),
        "rejected": (logs(0.1, 0.6, 0.3), logs(0.2, 0.5, 0.3)),
    }[side]
    (term,) = lab.objective("dckd").terms()
    told: torch.Tensor = term.function(said, None, (torch.arange(3)[None], known))
    return told


def advantage(lab: Any) -> torch.Tensor:
    (term,) = lab.objective("adpa").terms()
    gain = logs(0.6, 0.3, 0.1) - logs(0.4, 0.4, 0.2)
    told: torch.Tensor = term.function(logs(0.2, 0.5, 0.3), None, (torch.arange(3)[None], gain))
    return -told


def distilled(lab: Any, preset: str, terms: dict[str, tuple[float, float]]) -> float:
    told: float = lab.step(preset, lab.pairs((-0.9, -1.0, 0.0, 0.0), tokens=(1, 1), terms=terms))
    return told


VECTORS = {
    "A17.rrpo.phrase_sums": phrase_sums,
    "A17.rrpo.u": lambda lab: lab.logit(PLAIN, lab.masked("phrases", *PHRASES)),
    "A17.rrpo.kl_chosen": lambda lab: (
        lab.costs("{ preset: rrpo, alpha: 1 }", lab.masked("phrases", *PHRASES)).extra
    ),
    "A17.rrpo.beta0.1.alpha0.01": lambda lab: rrpo(lab, 0.1, 0.01),
    "A17.rrpo.beta0.5.alpha0.05": lambda lab: rrpo(lab, 0.5, 0.05),
    "A18.maskdpo.u_w": lambda lab: lab.costs(PLAIN, lab.masked("facts", *FACTS)).chosen_reward,
    "A18.maskdpo.u_l": lambda lab: lab.costs(PLAIN, lab.masked("facts", *FACTS)).rejected_reward,
    "A18.maskdpo.loss": lambda lab: lab.costs("mask-dpo", lab.masked("facts", *FACTS)).loss,
    "A19.sparse.u": lambda lab: lab.logit(PLAIN, lab.masked("weights", *APART)),
    "A19.sparse.delta": lambda lab: (
        lab.logit(PLAIN, lab.masked("weights", *APART))
        - lab.logit("{ preset: sparsepo, beta: 1 }", lab.masked("weights", *APART))
    ),
    "A19.sparse.indep.loss": lambda lab: (
        lab.costs("{ preset: sparsepo, beta: 0.1 }", lab.masked("weights", *APART)).loss
    ),
    "A19.sparse.common.loss": lambda lab: (
        lab.costs("{ preset: sparsepo, beta: 0.1 }", lab.masked("weights", *COMMON)).loss
    ),
    "A19.sparse.allones(=TDPO1)": lambda lab: lab.costs("tdpo", lab.masked("everything", [], [])).loss,
    "A28.dckd.kl_chosen": lambda lab: teacher(lab, "chosen"),
    "A28.dckd.kl_rejected": lambda lab: teacher(lab, "rejected"),
    "A28.dckd.total(nll0.9)": lambda lab: distilled(
        lab, "dckd", {"teacher": (teacher(lab, "chosen").item(), teacher(lab, "rejected").item())}
    ),
    "A28.adpa.term": advantage,
    "A28.adpa.total.gamma1(nll0.9)": lambda lab: distilled(
        lab, "adpa", {"advantage": (0.0, -advantage(lab).item())}
    ),
}
LEFT_OUT = {
    "A19.sparse.indep.loss+l1(1e-3)": "the size of masks that a network learns; ours are columns, whose size is given",
    "A19.mapo_mask.zn_rescale": "how a model's activations become a mask, which is the writer's of the column",
    "A28.adpa.advantage": "two teachers' log-probs apart, which is the writer's of the column",
}


@pytest.mark.parametrize("name", VECTORS)
def test_a_worked_number_comes_out(lab: Any, name: str) -> None:
    lab.equal(VECTORS[name](lab), name, "tokens")


def test_every_number_is_covered_or_left_out_for_a_stated_reason(lab: Any) -> None:
    assert {*VECTORS, *LEFT_OUT} == set(lab.golden("tokens"))
    assert (len(VECTORS), len(LEFT_OUT)) == (18, 3)
