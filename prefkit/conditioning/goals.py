"""Goals and directions: how good an answer should be, told in the prompt.

    goal        reach this score; the reward it implies is -(r - goal)^2, so that the worse answer wins under its own
    direction   maximise a weighted sum of ratings; the weights are a unit vector in the plane of two aspects

Sources: Reward-Augmented Data (Zhang et al., 2024), arXiv 2410.08067; Directional Preference Alignment (Wang et al.,
2024), arXiv 2402.18571; neighbours of a direction, RPS (Mao et al., 2026), arXiv 2510.20498.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from prefkit.engines import Message
from prefkit.prompts import fill, template

__all__ = [
    "Place",
    "direction_text",
    "goal_text",
    "goal_words",
    "implied_reward",
    "neighbour_angles",
    "placed",
    "plain_number",
    "shown_weights",
    "unit_directions",
]

Place = Literal["system", "first-user"]


def plain_number(value: float) -> str:
    """Return a number as people write it: 8.0 as `8`, 6.5 as `6.5`, at most four places."""
    written = f"{value:.4f}".rstrip("0").rstrip(".")
    return "0" if written == "-0" else written


def goal_words(names: Sequence[str], goals: Sequence[float]) -> str:
    """Return goals as lines: `overall score: 8`."""
    return "\n".join(f"{name}: {plain_number(goal)}" for name, goal in zip(names, goals, strict=True))


def goal_text(names: Sequence[str], goals: Sequence[float], scale: tuple[float, float]) -> str:
    """Return what tells a model which scores to reach, on a scale from worst to best."""
    worst, best = map(plain_number, scale)
    return fill(
        template("condition.goal.v1"), {"worst": worst, "best": best, "goals": goal_words(names, goals)}
    )


def implied_reward(score: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Return -(score - goal)^2: float64, the shape of both."""
    reward: np.ndarray = -((score - goal) ** 2)
    return reward


def unit_directions(degrees: np.ndarray) -> np.ndarray:
    """Return (cos, sin) of angles in degrees: float64 [angles, 2]."""
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def shown_weights(directions: np.ndarray) -> np.ndarray:
    """Return the whole numbers, in hundredths, by which a prompt names directions: int64, the same shape.

    They have no unit norm any more (97 and -26 have 100.4), so the direction itself is kept beside them.
    """
    weights: np.ndarray = np.rint(100 * directions).astype(np.int64)
    return weights


def direction_text(names: Sequence[str], weights: Sequence[int]) -> str:
    """Return what tells a model which weighted rating to maximise."""
    terms = " + ".join(f"{name}*{weight}" for name, weight in zip(names, weights, strict=True))
    return fill(template("condition.direction.v1"), {"rating": terms})


def neighbour_angles(target: float, count: int, within: float) -> np.ndarray:
    """Return `count` angles evenly from `target` - `within` to `target` + `within`, in degrees; one is the target."""
    return target + (np.linspace(-within, within, count) if count > 1 else np.zeros(1))


def placed(prompt: Sequence[Message], text: str, place: Place) -> tuple[Message, ...]:
    """Return a prompt that begins with `text`: before what its system turn says, or before its first user turn.

    A prompt without a system turn gets one; one without a user turn gets the text in a system turn in either case.
    """
    role = "system" if place == "system" else "user"
    at = next((at for at, turn in enumerate(prompt) if turn.role == role), None)
    if at is None:
        return (Message("system", text), *prompt)
    turn = prompt[at]
    return (*prompt[:at], Message(turn.role, f"{text}\n\n{turn.content or ''}".rstrip()), *prompt[at + 1 :])
