"""Goals and directions as numbers and as words."""

import numpy as np
import pytest

from prefkit.conditioning.goals import (
    direction_text,
    goal_text,
    implied_reward,
    neighbour_angles,
    placed,
    plain_number,
    shown_weights,
    unit_directions,
)
from prefkit.conditioning.shots import Shot, examples_text, windows
from prefkit.engines import Message


def test_numbers_are_written_as_people_do():
    # golden data.json V11: 8.0 is "8" and 6.5 is "6.5"
    assert [plain_number(n) for n in (8.0, 6.5, 10.0, 100.0, -0.00001, 1 / 3)] == [
        "8", "6.5", "10", "100", "0", "0.3333",
    ]  # fmt: skip
    text = goal_text(["overall score"], [8.0], (1, 10))
    assert "overall score: 8" in text
    assert "from 1, the worst, to 10, the best" in text


def test_the_reward_a_goal_implies_is_highest_at_the_goal():
    # golden data.json V11: scores 8 and 6.5 under both goals
    reward = implied_reward(np.array([8.0, 6.5, 6.5, 8.0]), np.array([8.0, 8.0, 6.5, 6.5]))
    assert reward.tolist() == [0.0, -2.25, 0.0, -2.25]


def test_a_direction_its_weights_and_its_choice():
    # golden data.json V20: -15 degrees
    (direction,) = unit_directions(np.array([-15.0]))
    assert direction == pytest.approx([0.965926, -0.258819], abs=1e-6)
    assert shown_weights(direction).tolist() == [97, -26]
    ratings = np.array([[70.0, 80.0], [60.0, 20.0]])
    assert ratings @ direction == pytest.approx([46.909284, 52.779169], abs=1e-6)
    assert "helpfulness*97 + verbosity*-26" in direction_text(["helpfulness", "verbosity"], [97, -26])


def test_neighbours_of_a_direction():
    # golden data.json V20: five within 30 degrees, and those of 20 degrees
    assert neighbour_angles(0.0, 5, 30.0).tolist() == [-30.0, -15.0, 0.0, 15.0, 30.0]
    expected = [
        [0.984808, -0.173648], [0.996195, 0.087156], [0.939693, 0.34202], [0.819152, 0.573576], [0.642788, 0.766044],
    ]  # fmt: skip
    np.testing.assert_allclose(unit_directions(neighbour_angles(20.0, 5, 30.0)), expected, atol=1e-6)
    assert neighbour_angles(20.0, 1, 30.0).tolist() == [20.0]


def test_a_text_goes_before_what_is_there():
    user, system = Message("user", "hi"), Message("system", "be brief")
    assert placed([user], "goal", "system") == (Message("system", "goal"), user)
    assert placed([system, user], "goal", "system") == (Message("system", "goal\n\nbe brief"), user)
    assert placed([system, user], "goal", "first-user") == (system, Message("user", "goal\n\nhi"))
    assert placed([], "goal", "first-user") == (Message("system", "goal"),)


def test_windows_take_every_row_once():
    # golden data.json V21: of 23 rows with 4 shots, 3 windows at the released stride and 4 at k + 1
    assert len(windows(23, 4, 6)) == 3
    assert len(windows(23, 4)) == 4
    assert windows(23, 4).tolist()[0] == [0, 1, 2, 3, 4]
    assert windows(4, 4).shape == (0, 5)
    assert len(windows(6, 4, 1)) == 2


def test_examples_are_numbered_and_preferred_answers_come_first():
    text = examples_text([Shot("q1", "good", "bad"), Shot("q2", "fine", "poor")])
    assert text.index("# Example 1") < text.index("good") < text.index("bad") < text.index("# Example 2")
    assert text.endswith("# Task")
