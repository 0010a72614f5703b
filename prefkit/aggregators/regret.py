"""Regret: how much a stretch of steps lost against the best that could have been done from where it began.

People who compare stretches of behaviour seem to judge regret and not the rewards that were collected: two stretches
may collect as much, and one of them end where more is to come. Where values are columns, minus the regret is a linear
`combine`: {return: 1, end_value: 1, start_value: -1}, up to the values' errors, which may turn its sign.
Source: Models of Human Preference for Learning Reward Functions (Knox et al., TMLR 2024), deterministic and stochastic
forms.
"""

import numpy as np

from prefkit.estimators.preference import logistic

__all__ = ["preference_by_regret", "preference_by_return", "regret", "regret_of_steps"]


def regret(collected: np.ndarray, start_value: np.ndarray, end_value: np.ndarray) -> np.ndarray:
    """Return V(start) - (rewards collected + V(end)): elementwise, at least 0 under exact values, 0 if nothing was lost."""
    told: np.ndarray = start_value - (collected + end_value)
    return told


def regret_of_steps(values: np.ndarray, action_values: np.ndarray) -> np.ndarray:
    """Return the sum over steps of V(s) - Q(s, a), where the world is not deterministic: [..., steps] both; [...]."""
    told: np.ndarray = (values - action_values).sum(axis=-1)
    return told


def preference_by_regret(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the probability that the first stretch is preferred, from the regrets of both."""
    return logistic(other - one)


def preference_by_return(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the probability that the first stretch is preferred, if people went by what was collected alone."""
    return logistic(one - other)
