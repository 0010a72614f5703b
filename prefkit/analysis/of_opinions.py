"""Findings about opinions: how far those who voted, or rated, say the same."""

from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.analysis.agreement import Scale, cohen, krippendorff, pairs_of_raters
from prefkit.analysis.blocks import blocks_of, jackknifed
from prefkit.analysis.findings import Findings, of_share
from prefkit.analysis.of_pairs import numbered
from prefkit.statistics.figures import Estimate, share
from prefkit.votes import said

__all__ = ["rating_findings", "vote_findings"]

_MOST_JUDGES = 20
"""Judges that are compared two by two; those with most votes."""
_LEAST = 10
"""Pairs that two judges must share to be compared."""


def vote_findings(table: pa.Table) -> Findings:
    """Return how far votes on a pair agree: alpha of all, kappa of the two judges who agree least and most."""
    votes = said(table["votes"])
    block = blocks_of(table["prompt_id"].to_pylist())
    ballots = _slots(votes.pair, votes.verdict.astype(np.float64), table.num_rows)
    told = _alpha(ballots, "nominal", block)
    several = np.isfinite(ballots).sum(axis=1) > 1
    with np.errstate(invalid="ignore"):
        alike = np.nanmax(ballots[several], axis=1) == np.nanmin(ballots[several], axis=1)
    told["unanimous"] = of_share(share(alike, numbered(table["prompt_id"])[several]))
    counts = np.bincount(votes.judge, minlength=len(votes.judges))
    judges = np.sort(np.argsort(-counts, kind="stable")[:_MOST_JUDGES])
    by_judge = np.full((len(judges), table.num_rows), -1, np.int64)
    for at, judge in enumerate(judges):
        own = votes.judge == judge
        by_judge[at, votes.pair[own][::-1]] = votes.verdict[own][::-1]  # of several votes on a pair the first
    kappas = [
        _kappa(by_judge[one], by_judge[other], block) for one, other in combinations(range(len(judges)), 2)
    ]
    known = sorted((each for each in kappas if each.value is not None), key=lambda each: each.value or 0.0)
    if known:
        told |= {"least-alike": known[0], "most-alike": known[-1]}
    return told


def rating_findings(table: pa.Table) -> Findings:
    """Return how far ratings of a response agree, as numbers and as places."""
    lists = table["ratings"]
    array = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], lists.type)
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    item = np.repeat(np.arange(len(array)), lengths)
    scores = pc.fill_null(array.flatten().field("score"), float("nan")).to_numpy(zero_copy_only=False)
    ballots = _slots(item, scores, table.num_rows)
    block = blocks_of(table["prompt_id"].to_pylist())
    ordinal = _alpha(ballots, "ordinal", block)
    return {"alpha-interval": _alpha(ballots, "interval", block)["alpha"], "alpha-ordinal": ordinal["alpha"]}


def _alpha(ballots: np.ndarray, scale: Scale, block: np.ndarray) -> dict[str, Estimate]:
    several = np.isfinite(ballots).sum(axis=1) > 1
    ballots, block = ballots[several], block[several]
    return {"alpha": jackknifed(lambda rows: krippendorff(ballots[rows], scale), block)}


def _kappa(one: np.ndarray, other: np.ndarray, block: np.ndarray) -> Estimate:
    both = (one >= 0) & (other >= 0)
    if int(both.sum()) < _LEAST:
        return Estimate(n=int(both.sum()))
    one, other, block = one[both], other[both], block[both]
    return jackknifed(lambda rows: cohen(one[rows], other[rows]), block)


def _slots(item: np.ndarray, value: np.ndarray, items: int) -> np.ndarray:
    """Return values as a table, whoever gave them: float64 [items, most values of one item], NaN for missing."""
    order = np.argsort(item, kind="stable")
    sizes = np.bincount(item, minlength=items)
    place = np.arange(len(item)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    found = pairs_of_raters(item[order], place, value[order]) if len(item) else np.zeros((0, 1))
    table: np.ndarray = np.full((items, found.shape[1]), np.nan)
    table[: len(found)] = found
    return table
