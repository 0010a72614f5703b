"""Findings about responses: how far they are a policy's own, and whether it likes best what scores best."""

import numpy as np
import pyarrow as pa

from prefkit.analysis.blocks import blocks_of, jackknifed
from prefkit.analysis.coverage import best_rank, coverage
from prefkit.analysis.factors import gap
from prefkit.analysis.findings import Findings, of_share
from prefkit.analysis.of_pairs import numbered
from prefkit.statistics.figures import Estimate, share
from prefkit.tables import floats

__all__ = ["coverage_findings", "preferred_findings"]

_THIRDS = ("short", "middling", "long")


def coverage_findings(
    policy: np.ndarray, sampler: np.ndarray, tokens: np.ndarray, table: pa.Table
) -> Findings:
    """Return how well responses cover a policy, from summed log-probs in nats and tokens, all float64 [responses].

    Per token beside whole responses, and by thirds of length, as the ratio of a long response says little of its tokens.
    """
    block = blocks_of(table["prompt_id"].to_pylist())
    groups = numbered(table["prompt_id"])
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, apart = policy / tokens, (policy - sampler) / tokens
    zero = np.zeros(len(mean))
    told = {
        "mean-logp": gap(mean, zero, groups),
        "k1": gap(-apart, zero, groups),
        "per-token": _share(apart, block),
        "whole": _share(policy - sampler, block),
    }
    found = coverage(policy - sampler)
    if found is not None:
        n = int(np.isfinite(policy - sampler).sum())
        told["within-2"] = Estimate(value=found.within, n=n)
        told["largest-log-ratio"] = Estimate(value=found.largest, n=n)
    known = np.isfinite(policy - sampler) & np.isfinite(tokens)
    order = np.flatnonzero(known)[np.argsort(tokens[known], kind="stable")]
    for name, rows in zip(_THIRDS, np.array_split(order, 3), strict=True):
        told[name] = _share((policy - sampler)[rows], block[rows])
    return told


def preferred_findings(table: pa.Table, score: str, logp: np.ndarray) -> Findings:
    """Return how often a prompt's best response is the likeliest, and its mean place from 0, over prompts with several."""
    prompt = numbered(table["prompt_id"])
    value = floats(table[score])
    known = np.isfinite(value) & np.isfinite(logp)
    several = np.bincount(prompt[known], minlength=int(prompt.max(initial=-1)) + 1) > 1
    places = best_rank(value, logp, prompt)[several].astype(np.float64)
    each = np.arange(len(places))
    return {
        "best-is-likeliest": of_share(share(places == 0, each)),
        "place-of-best": gap(places, np.zeros(len(places)), each),
    }


def _share(log_ratio: np.ndarray, block: np.ndarray) -> Estimate:
    """Return the effective sample size over the number of responses."""
    known = np.isfinite(log_ratio)
    log_ratio, block = log_ratio[known], block[known]

    def figure(rows: np.ndarray) -> float:
        found = coverage(log_ratio[rows])
        return float("nan") if found is None else found.share

    return jackknifed(figure, block)
