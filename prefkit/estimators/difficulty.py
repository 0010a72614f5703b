"""Difficulty: how hard a pair is to get right, from what the reference thinks of both answers.

With c = log ref(rejected) - log ref(chosen), a policy trained by DPO at `beta` ranks the pair right exactly if the
pair's loss is at most -log sigmoid(beta c); and the optimum of that training does so exactly if the share of people who
prefer chosen is above sigmoid(beta c).

Source: Preference Learning Algorithms Do Not Learn Preference Rankings (Chen et al., 2024), arXiv 2405.19534.
"""

import numpy as np

__all__ = ["agreement_needed", "ideally_right", "log_gap", "loss_needed", "spread_of_scores"]

_FIRM = 0.001
"""A share of votes is kept this far from 0 and 1."""


def log_gap(ref_chosen: np.ndarray, ref_rejected: np.ndarray) -> np.ndarray:
    """Return c: how much likelier the reference finds rejected than chosen, in nats; above 0 it ranks them wrongly."""
    gap: np.ndarray = ref_rejected - ref_chosen
    return gap


def loss_needed(gap: np.ndarray, beta: float) -> np.ndarray:
    """Return the DPO loss, in nats, below which the policy ranks a pair right."""
    loss: np.ndarray = np.logaddexp(0.0, -beta * gap)
    return loss


def agreement_needed(gap: np.ndarray, beta: float) -> np.ndarray:
    """Return the share of people who must prefer chosen for the optimum to rank a pair right, in (0, 1)."""
    share: np.ndarray = np.exp(-np.logaddexp(0.0, -beta * gap))
    return share


def ideally_right(gap: np.ndarray, p_chosen: np.ndarray, beta: float) -> np.ndarray:
    """Say whether the optimum for votes of this share ranks each pair right: bool."""
    share = np.clip(p_chosen, _FIRM, 1 - _FIRM)
    right: np.ndarray = -gap + np.log(share / (1 - share)) / beta > 0
    return right


def spread_of_scores(chosen_std: np.ndarray, rejected_std: np.ndarray) -> np.ndarray:
    """Return the standard deviation of a score difference whose sides have these, as independent ones."""
    spread: np.ndarray = np.hypot(chosen_std, rejected_std)
    return spread
