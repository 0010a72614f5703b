"""Weights that depend on the prompt: what a good answer to such a prompt is good at.

Which objectives the preferred answers were good at is a target for each prompt; a softmax on the prompt's embedding is
fitted to those targets, and gives weights for every prompt, smoothed over prompts alike. By level, an objective gets
weight where chosen is strong, whether or not that is why it was chosen; by contrast, where chosen is stronger than
rejected.
Source: Preference Orchestrator: Prompt-Aware Multi-Objective Alignment (PRO, 2025); embeddings with a linear softmax in
place of its adapter, and contrast, are ours. `influence_weights` are the gradient-influence weights of Learning to
Optimize Multi-Objective Alignment Through Dynamic Reward Weighting (2025).
"""

import numpy as np

from prefkit.errors import EstimateError
from prefkit.estimators.regression import descend, log_softmax

__all__ = ["divergence", "fit_prompt_weights", "influence_weights", "predict_weights", "targets"]


def targets(scores: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return softmax(scores / temperature) over objectives: [rows, objectives] both. A level common to all drops out."""
    told: np.ndarray = np.exp(log_softmax(np.asarray(scores, np.float64) / temperature))
    return told


def divergence(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return KL(wanted || found) in nats, over the last axis; 0 ln 0 is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(wanted > 0, wanted * (np.log(wanted) - np.log(found)), 0.0)
    told: np.ndarray = terms.sum(axis=-1)
    return told


def fit_prompt_weights(context: np.ndarray, wanted: np.ndarray, ridge: float = 0.01) -> np.ndarray:
    """Fit softmax([context, 1] @ head) to targets by mean KL plus ridge / 2 |head|^2, the last row unpenalised.

    Shapes: `context` [rows, dims], `wanted` [rows, objectives] on the simplex; returns float64 [dims + 1, objectives].
    Raises: EstimateError without rows, or if the descent does not converge.
    """
    if not len(context):
        raise EstimateError("there is no row to fit weights of prompts to")
    features = _with_ones(context)
    shape = (features.shape[1], wanted.shape[1])
    held = np.full((shape[0], 1), ridge)
    held[-1] = 0.0

    def slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
        head = flat.reshape(shape)
        told = log_softmax(features @ head)
        gradient = features.T @ (np.exp(told) - wanted) / len(features) + held * head
        return float(-(wanted * told).sum() / len(features) + (held * head**2).sum() / 2), gradient.ravel()

    return descend(slope, np.zeros(shape).ravel()).reshape(shape)


def predict_weights(head: np.ndarray, context: np.ndarray, floor: float = 0.1) -> np.ndarray:
    """Return the weights of prompts, mixed with `floor` parts of equal ones: float64 [rows, objectives], each sums to 1."""
    share = np.exp(log_softmax(_with_ones(context) @ head))
    told: np.ndarray = (1 - floor) * share + floor / head.shape[1]
    return told


def influence_weights(
    weights: np.ndarray, gradients: np.ndarray, step: float = 0.1, floor: float = 0.0
) -> np.ndarray:
    """Return weights after one exponentiated step along each objective's influence, its product with all gradients.

    Shapes: `weights` [objectives] on the simplex, `gradients` [objectives, parameters]. `step` is the learning rate over
    the method's mu. No weight falls below `floor`, before all are made to sum to 1.
    """
    influence = gradients @ gradients.sum(axis=0)
    moved = np.maximum(np.exp(log_softmax(np.log(weights) + step * influence)), floor)
    told: np.ndarray = moved / moved.sum()
    return told


def _with_ones(context: np.ndarray) -> np.ndarray:
    return np.concatenate([context, np.ones((len(context), 1))], axis=1)
