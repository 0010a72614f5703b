"""What label ops, margins and weights do on real ratings: WMT MQM, three professionals a text, ten systems.

    python benchmarks/label_ops.py FOLDER     FOLDER holds wmt_mqm_3raters/ratings.parquet

Each rater of a text in turn is the one to be predicted, from the other two. Half of the texts calibrate, the other half
measure. Planted flips exchange labels of a fifth of the pairs.
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

from prefkit.estimators.log_odds import log_odds_slope
from prefkit.estimators.members import strengths
from prefkit.estimators.peers import noise_seen, peer_review
from prefkit.estimators.preference import logistic, spread
from prefkit.estimators.tie_threshold import fit_tie_parameter, threshold_at_agreement, threshold_at_rate
from prefkit.estimators.ties import davidson


def gaps(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return how much better the first of each two translations is to each rater [pairs, 3], and the text of each pair."""
    ratings = pl.read_parquet(folder / "wmt_mqm_3raters" / "ratings.parquet")
    order = ratings.sort("prompt_id", "system", "rater")
    rows, texts = [], []
    for (prompt,), group in order.group_by("prompt_id", maintain_order=True):
        scores = -group["mqm"].to_numpy().reshape(-1, 3)
        first, second = np.triu_indices(len(scores), 1)
        rows.append(scores[first] - scores[second])
        texts += [prompt] * len(first)
    _, code = np.unique(texts, return_inverse=True)
    return np.concatenate(rows), code


def rotations(gap: np.ndarray, text: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return two raters' gaps, the third's, and which rows calibrate, each rater being the third in turn."""
    draw = np.random.default_rng(0)
    half = draw.random(text.max() + 1) < 0.5
    seen = np.concatenate([gap[:, [at - 2, at - 1]] for at in range(3)])
    return seen[:, 0], seen[:, 1], np.concatenate(gap.T), np.tile(half[text], 3)


def log_loss(p: np.ndarray, right: np.ndarray) -> float:
    """Return the mean log-loss of probabilities of verdicts, nats."""
    return float(-np.log(np.clip(np.where(right, p, 1 - p), 1e-9, 1)).mean())


def main() -> None:
    """Print the figures."""
    one, other, third, fits = rotations(*gaps(Path(sys.argv[1])))
    held = ~fits
    tie, decided = third == 0, third != 0
    mean = (one + other) / 2
    print(f"pairs {len(third)}, held out {held.sum()}, third rater ties {tie[held].mean():.3f}")

    delta = threshold_at_rate(np.abs(mean[fits]), tie[fits])
    nu = fit_tie_parameter(mean[fits], tie[fits], "davidson")
    slope = log_odds_slope(mean[fits & decided], (third[fits & decided] > 0).astype(float))
    nu_calibrated = fit_tie_parameter(mean[fits] * slope, tie[fits], "davidson")
    ties = np.abs(mean) < delta
    print(
        f"ties by delta {delta:.3f}: {ties[held].mean():.3f} of pairs; no calibration {(mean == 0)[held].mean():.3f}"
    )
    expected = davidson(mean[held] * slope, nu_calibrated).tie.mean()
    print(f"davidson: nu {nu:.2f} raw, {nu_calibrated:.2f} on log-odds, expected ties {expected:.3f}")
    for target in (0.75, 0.8):
        ask = fits & decided
        at = threshold_at_agreement(np.abs(mean[ask]), np.sign(mean[ask]) == np.sign(third[ask]), target)
        sure = held & decided & (np.abs(mean) >= at) & (mean != 0)
        agree = (np.sign(mean[sure]) == np.sign(third[sure])).mean()
        print(
            f"agreement {target}: delta {at:.3f}, held out {agree:.3f} on {sure.sum() / (held & decided).sum():.3f}"
        )

    rows = held & decided
    right = third[rows] > 0
    print(f"log-loss of logistic(margin): raw {log_loss(logistic(mean[rows]), right):.3f}, ", end="")
    print(f"log-odds {log_loss(logistic(slope * mean[rows]), right):.3f}, a coin {np.log(2):.3f}")
    scaled = np.stack([each / spread(each[fits]) for each in (one, other)], axis=1)[rows]
    for how in ("mean-sigmoid", "sigmoid-mean"):
        print(f"from-ensemble {how}: {log_loss(strengths(scaled, p=how).p, right):.3f}")

    flips = np.random.default_rng(1).random(len(third)) < 0.2
    label = np.where(flips, -np.sign(third), np.sign(third))[rows]
    first, second, bad = one[rows] * label, other[rows] * label, flips[rows]
    ids = np.arange(len(first))
    print(f"labels wrong: all {bad.mean():.3f}, noise by negative margins {noise_seen(first, second):.3f}")
    for noise in (0.2, 0.4, 0.6):
        kept = peer_review(first, second, 1 - noise, ids)
        both = kept.by_first & kept.by_second
        print(
            f"peer review, noise {noise}: both keep {both.mean():.3f}, wrong {bad[both].mean():.3f}; ", end=""
        )
        print(f"one keeps, wrong {bad[kept.by_first].mean():.3f}")
    low = np.argsort(first + second, kind="stable")[: int(0.2 * len(first))]
    after = bad.copy()
    after[low] = ~after[low]
    negative = low[(first + second)[low] < 0]
    spared = bad.copy()
    spared[negative] = ~spared[negative]
    print(f"flip the bottom fifth: wrong {after.mean():.3f}, only negative {spared.mean():.3f}")


if __name__ == "__main__":
    main()
