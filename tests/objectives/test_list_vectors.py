"""The worked numbers of methods on lists: how each comes out of the public objects, or why it does not."""

from typing import Any

import numpy as np
import pytest
import torch


def l4(lab: Any) -> Any:
    return lab.ranked([1.0, 0.2, -0.5, -1.0], [0.9, 0.4, 0.6, 0.1])


def l4_step(lab: Any, spelling: str) -> float:
    told: float = lab.step(spelling, l4(lab))
    return told


def scores(told: Any, batch: Any, responses: int) -> np.ndarray:
    found = np.zeros(responses)
    found[batch.lists.chosen] = told.chosen_reward
    found[batch.lists.rejected] = told.rejected_reward
    return found


def lambda_weights(lab: Any) -> list[list[float]]:
    batch = l4(lab)
    told = lab.costs("{ preset: lipo, beta: 0.5 }", batch).weight
    return torch.stack([batch.lists.chosen, batch.lists.rejected, told], 1).tolist()


def pro(lab: Any) -> Any:
    """Mean log-probs -0.8, -1.0 and -1.3; the best response has the sum -8."""
    return lab.ranked([-8.0, -1.0, -1.3], [2.0, 1.2, 0.5], tokens=[10, 1, 1])


STEPS = [[0.2, 0.4, 0.6], [0.2, 0.1, -0.3], [0.2, -0.5, -0.4]]
COSINES = [[1, 1, 1], [1, 0.8, 0.5], [1, 0.3, 0.1]]


def tree(lab: Any, mask: object) -> Any:
    """Three responses of three steps, one token each."""
    told = []
    for values, cosines in zip(STEPS, COSINES, strict=True):
        marks = [("step", at, at + 1, at + 1, cosine) for at, cosine in enumerate(cosines)]
        told.append(float(lab.weights(mask, marks, 3, "chosen") @ np.asarray(values)))
    return lab.ranked(told, [1.0, 0.5, 0.0])


def tree_scores(lab: Any) -> np.ndarray:
    batch = tree(lab, WITH_COSINES)
    return scores(lab.costs("{ preset: lipo, beta: 1 }", batch), batch, 3)


WITH_COSINES = {"steps": {"weigh": "one-plus-cos"}}
VECTORS = {
    "A14.lipo.scores.beta0.5": lambda lab: scores(
        lab.costs("{ preset: lipo, beta: 0.5 }", l4(lab)), l4(lab), 4
    ),
    "A14.lipo.lambda.weights(i,j,w)": lambda_weights,
    "A14.lipo.lambda_loss": lambda lab: l4_step(lab, "{ preset: lipo, beta: 0.5 }"),
    "A14.lipo.pair_logistic": lambda lab: l4_step(lab, "{ preset: list-logistic, beta: 0.5 }"),
    "A14.lipo.list_mle": lambda lab: l4_step(lab, "{ preset: list-mle, beta: 0.5 }"),
    "A14.lipo.pair_hinge": lambda lab: l4_step(
        lab, "{ reward: { log-ratio: { beta: 0.5 } }, link: hinge, weights: each-pair }"
    ),
    "A15.pro.rank_term": lambda lab: lab.costs("pro", pro(lab)).loss.sum().item(),
    "A15.pro.total.sft0.05": lambda lab: lab.step("pro", pro(lab)),
    "A20.tpo.scores.weight=1+cos,normalised": tree_scores,
    "A20.tpo.lambda_loss.beta0.5": lambda lab: lab.step("tpo", tree(lab, WITH_COSINES)),
    "A20.tpo.no_step_weight.lambda_loss.beta0.5": lambda lab: lab.step(
        "{ preset: lipo, beta: 0.5 }", lab.ranked(np.sum(STEPS, 1).tolist(), [1.0, 0.5, 0.0])
    ),
}
LEFT_OUT = {
    "A14.lipo.softmax": "a cross entropy over single responses, not a loss over pairs",
    "A14.lipo.point_mse": "a regression of single responses, not a loss over pairs",
    "A20.tpo.released_code.inner": "told so that it can be recognised, not to be built",
    "A20.tpo.released_code.outer.beta0.5": "told so that it can be recognised, not to be built",
}


@pytest.mark.parametrize("name", VECTORS)
def test_a_worked_number_comes_out(lab: Any, name: str) -> None:
    lab.equal(VECTORS[name](lab), name, "lists")


def test_every_number_is_covered_or_left_out_for_a_stated_reason(lab: Any) -> None:
    assert {*VECTORS, *LEFT_OUT} == set(lab.golden("lists"))
    assert (len(VECTORS), len(LEFT_OUT)) == (11, 4)
