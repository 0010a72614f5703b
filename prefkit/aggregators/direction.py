"""Directions: several objectives as one, by how far a response lies in a wanted direction.

Source: Arithmetic Control of LLMs for Diverse User Preferences: Directional Preference Alignment (DPA, ACL 2024), and
Robust Preference Alignment via Directional Neighborhood Consensus (RPS, 2025) for the neighbours.
A sum with weights never picks a response that lies in a dent of the Pareto front, whatever the weights.
"""

import numpy as np

from prefkit.errors import EstimateError

__all__ = ["along", "from_angles", "neighbours", "prompt_weights", "unit"]


def unit(weights: np.ndarray) -> np.ndarray:
    """Return weights at length 1, over the last axis. Raises EstimateError if there is no direction in them."""
    weights = np.asarray(weights, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.linalg.norm(weights, axis=-1, keepdims=True)
    if not (np.isfinite(length).all() and (length > 0).all()):
        raise EstimateError("a direction needs a weight that is not zero, and all finite")
    told: np.ndarray = weights / length
    return told


def from_angles(degrees: np.ndarray) -> np.ndarray:
    """Return (cos, sin) of angles: directions over two objectives, float64 [..., 2]. Degrees, 0 is all of the first."""
    turned = np.deg2rad(degrees)
    return np.stack([np.cos(turned), np.sin(turned)], axis=-1)


def along(scores: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Return how far scores lie in a direction: the sum of score times weight. Shapes: [..., objectives] both; [...]."""
    # one product after the other, so that a row's sum does not depend on how many rows a library adds at once
    parts = [scores[..., at] * direction[..., at] for at in range(scores.shape[-1])]
    told: np.ndarray = np.sum(parts, axis=0)
    return told


def prompt_weights(direction: np.ndarray) -> np.ndarray:
    """Return a direction as a prompt names it: whole numbers, round(100 v). Their length is not quite 100."""
    told: np.ndarray = np.rint(100 * np.asarray(direction)).astype(np.int64)
    return told


def neighbours(degrees: float, count: int, widest: float) -> np.ndarray:
    """Return angles spaced evenly within `widest` degrees of one: float64 [count]; the angle itself if `count` is 1."""
    if count == 1:
        return np.array([degrees])
    return degrees + np.linspace(-widest, widest, count)
