"""Acquisition: which unlabelled rows a label would teach most about, from what scorers already believe.

Uncertain is not the same as informative: of a pair that people themselves disagree on, more labels tell little. `bald`
separates the two where there are several scorers: how far they differ from each other (which labels settle) and not how
undecided each is (which they do not). Batches chosen by value alone are full of near-twins; `diverse` and `d_optimal` count
what was already chosen.

Sources: BALD, Houlsby et al. (2011), arXiv 1112.5745; k-center, Sener and Savarese (2018), ICLR; D-optimal design for
preferences, Fedorov (1972) with the weight of a logistic model; largest implicit-reward gap, Muldrew et al. (2024).
"""

import numpy as np

__all__ = [
    "bald",
    "d_optimal",
    "diverse",
    "entropy",
    "inclusion",
    "least_confidence",
    "logit_variance",
]


def entropy(p: np.ndarray) -> np.ndarray:
    """Return -p ln p - (1 - p) ln (1 - p) in nats, elementwise; NaN stays."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(each > 0, -each * np.log(each), 0.0) for each in (p, 1 - p)]
    found: np.ndarray = np.where(np.isnan(p), np.nan, terms[0] + terms[1])
    return found


def least_confidence(p: np.ndarray) -> np.ndarray:
    """Return 1 - max(p, 1 - p): one half where both sides are as likely."""
    found: np.ndarray = np.minimum(p, 1 - p)
    return found


def bald(members: np.ndarray) -> np.ndarray:
    """Return H(mean p) - mean H(p): float64 [rows], 0 where all members agree, at most H(mean p).

    Shapes: `members` float64 [rows, members], each a probability; NaN where any is.
    """
    found: np.ndarray = np.maximum(entropy(members.mean(axis=1)) - entropy(members).mean(axis=1), 0.0)
    return found


def logit_variance(members: np.ndarray) -> np.ndarray:
    """Return the variance of ln p / (1 - p) over the members: float64 [rows]. Probabilities are kept off 0 and 1 by 1e-12."""
    p = np.clip(members, 1e-12, 1 - 1e-12)
    found: np.ndarray = np.log(p / (1 - p)).var(axis=1)
    return found


def diverse(value: np.ndarray, vectors: np.ndarray, count: int) -> np.ndarray:
    """Return rows chosen one after the other by value times the distance to the nearest one chosen: int64 [count].

    The first is the one of most value; ties go to the row that comes first. Rows with a NaN are never chosen, so there may be
    fewer. The choice of `count` is the beginning of that of `count + 1`.
    Shapes: `value` float64 [rows], not negative; `vectors` [rows, size]. Time: rows times count.
    """
    open_ = np.isfinite(value) & np.isfinite(vectors).all(axis=1)
    near = np.ones(len(value))
    chosen: list[int] = []
    for turn in range(min(count, int(open_.sum()))):
        worth = np.where(open_, value * near, -1.0)
        at = int(worth.argmax())
        if worth[at] == 0 and turn:  # nothing new is left: by value again
            at = int(np.where(open_, value, -1.0).argmax())
        chosen.append(at)
        open_[at] = False
        away = np.linalg.norm(vectors - vectors[at], axis=1)
        near = away if turn == 0 else np.minimum(near, away)
    return np.array(chosen, np.int64)


def d_optimal(vectors: np.ndarray, p: np.ndarray, count: int, ridge: float = 0.01) -> np.ndarray:
    """Return rows chosen one after the other by how much each adds to ln det of the information matrix: int64 [count].

    A pair adds p (1 - p) v v^T, v being the difference of its sides' vectors: what a logistic model learns from its label.
    The matrix starts as `ridge` times the identity. Ties, NaN and prefixes as in `diverse`.
    Shapes: `vectors` [rows, size], `p` [rows]. Time: rows times size times count.
    """
    known = np.isfinite(vectors).all(axis=1) & np.isfinite(p)
    scaled = np.where(known[:, None], vectors * np.sqrt(np.where(known, p * (1 - p), 0.0))[:, None], 0.0)
    inverse = np.eye(vectors.shape[1]) / ridge
    gain = np.einsum("ij,jk,ik->i", scaled, inverse, scaled)
    chosen: list[int] = []
    for _ in range(min(count, int(known.sum()))):
        at = int(np.where(known, gain, -1.0).argmax())
        chosen.append(at)
        known[at] = False
        turned = inverse @ scaled[at]
        room = 1 + float(scaled[at] @ turned)
        inverse -= np.outer(turned, turned) / room  # Sherman and Morrison
        gain = np.maximum(gain - (scaled @ turned) ** 2 / room, 0.0)
    return np.array(chosen, np.int64)


def inclusion(count: int, greedy: int, explored: int) -> tuple[float, float]:
    """Return how likely a row is to be chosen that is among the best, and one that is not.

    `greedy` of `count` rows are chosen by value and `explored` of the others at random, so weighting each chosen row by one over its
    chance makes a mean over them that of the whole pool. Source: Horvitz and Thompson (1952), JASA 47.
    """
    rest = count - greedy
    return 1.0, explored / rest if rest else 1.0
