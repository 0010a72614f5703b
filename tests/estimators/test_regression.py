"""The small convex fits: their optimum, and a descent that says when it did not arrive."""

import numpy as np
import pytest

from prefkit.errors import EstimateError
from prefkit.estimators.preference import logistic
from prefkit.estimators.regression import descend, log_logistic, log_softmax, logistic_step, softmax_step


def test_logs_do_not_overflow():
    assert log_logistic(np.array([-1000.0, 0.0, 1000.0])) == pytest.approx([-1000, -np.log(2), 0])
    assert np.exp(log_softmax(np.array([[1000.0, 1000.0], [0.0, -5000.0]]))).tolist() == [
        [0.5, 0.5],
        [1.0, 0.0],
    ]


def test_newton_steps_end_where_the_gradient_is_0():
    rng = np.random.default_rng(0)
    features, weight, head = rng.normal(size=(50, 3)), rng.random(50), np.zeros(3)
    for _ in range(20):
        head = logistic_step(features, weight, head, 0.5)
    gradient = features.T @ (weight * (1 - logistic(features @ head))) - 0.5 * head
    assert np.abs(gradient).max() < 1e-10


def test_softmax_steps_end_where_the_gradient_is_0():
    rng = np.random.default_rng(1)
    context, target = rng.normal(size=(60, 2)), rng.dirichlet(np.ones(3), 60)
    router = softmax_step(context, target, np.zeros((2, 3)), 0.5, most_steps=200)
    gradient = context.T @ (target - np.exp(log_softmax(context @ router))) - 0.5 * router
    assert np.abs(gradient).max() < 1e-6


def valley(at: np.ndarray) -> tuple[float, np.ndarray]:
    """Rosenbrock's function, lowest at (1, 1)."""
    x, y = at
    gradient = np.array([-400 * x * (y - x**2) - 2 * (1 - x), 200 * (y - x**2)])
    return float(100 * (y - x**2) ** 2 + (1 - x) ** 2), gradient


def test_a_descent_follows_a_curved_valley():
    assert descend(valley, np.array([-1.2, 1.0]), 1e-8) == pytest.approx([1, 1], abs=1e-6)


def test_a_descent_that_does_not_arrive_says_so():
    with pytest.raises(EstimateError, match="did not converge in 3 steps"):
        descend(valley, np.array([-1.2, 1.0]), 1e-8, most_steps=3)
