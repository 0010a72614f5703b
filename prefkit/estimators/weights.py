"""Weights of rows: to mean one, clipped, and what they leave of the sample; weights that guard against the worst case."""

import numpy as np

from prefkit.errors import EstimateError

__all__ = ["certainty", "effective_size", "kl_dro", "largest_remainder", "to_mean_one"]


def to_mean_one(raw: np.ndarray) -> np.ndarray:
    """Scale non-negative weights to mean 1. NaN is missing: it stays, and has no part in the mean.

    Raises: EstimateError if a weight is negative, or if there is none above zero.
    """
    there = raw[~np.isnan(raw)]
    if (there < 0).any():
        raise EstimateError(f"a weight is negative: {there.min():g}", hint="weights are at least 0")
    total = there.sum()
    if len(there) and not 0 < total < np.inf:
        raise EstimateError(f"weights add up to {total:g}, so none can be scaled to mean 1")
    scaled: np.ndarray = raw * (len(there) / total) if len(there) else raw
    return scaled


def effective_size(weight: np.ndarray) -> float:
    """Return how many equally weighted rows would be as noisy: (sum w)^2 / sum w^2, at most the number of rows."""
    there = weight[np.isfinite(weight)]
    squares = float(np.square(there).sum())
    return float(there.sum()) ** 2 / squares if squares else 0.0


def certainty(p: np.ndarray) -> np.ndarray:
    """Return 1 - H(p) / ln 2: 1 where p is 0 or 1, 0 where it is one half. NaN stays."""
    with np.errstate(divide="ignore", invalid="ignore"):
        surprise = np.where(p > 0, -p * np.log2(p), 0.0) + np.where(p < 1, -(1 - p) * np.log2(1 - p), 0.0)
    certain: np.ndarray = np.where(np.isnan(p), np.nan, np.clip(1 - surprise, 0.0, 1.0))
    return certain


def kl_dro(margin: np.ndarray, temperature: float) -> np.ndarray:
    """Return weights of the worst case within a KL ball: proportional to exp(loss / temperature), mean 1.

    The loss is -log logistic(margin), so rows that the margin says are wrong count most: noisy rows too. NaN stays.
    Source: closed form of KL-constrained distributionally robust optimisation, used by SGPO (2025).
    """
    there = np.isfinite(margin)
    if not there.any():
        return np.full(len(margin), np.nan)
    loss = np.where(there, np.logaddexp(0.0, -np.where(there, margin, 0.0)), np.nan)
    raised = (loss - np.nanmax(loss)) / temperature
    return to_mean_one(np.exp(raised))


def largest_remainder(shares: np.ndarray, total: int) -> np.ndarray:
    """Cut a total into whole parts by shares: rounded down, what is left to the largest remainders, first come first.

    Shapes: `shares` [parts], not negative, not all zero. Returns int64 [parts] that adds up to `total`.
    """
    exact = shares / shares.sum() * total
    parts: np.ndarray = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-np.round(exact - parts, 9), kind="stable")
    parts[order[: total - int(parts.sum())]] += 1
    return parts
