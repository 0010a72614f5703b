"""Findings about pairs: what style tells of the label, what differs between the sides, what no ranking explains."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.analysis.blocks import blocks_of, estimate_of
from prefkit.analysis.cells import CELLS, cells
from prefkit.analysis.cycles import on_cycle
from prefkit.analysis.factors import effects, gap, tau
from prefkit.analysis.findings import Findings, of_share
from prefkit.analysis.shortcut import FOLDS, shortcut
from prefkit.analysis.strength import profile, strength
from prefkit.gaps import score_gaps
from prefkit.quality.style import FEATURES, counted
from prefkit.statistics.figures import Estimate, length_auc, share
from prefkit.tables import floats

__all__ = [
    "Looks",
    "cell_findings",
    "cycle_findings",
    "factor_findings",
    "gap_findings",
    "length_findings",
    "looks_of",
    "numbered",
    "shortcut_findings",
    "strength_findings",
]

_Z = 1.959963984540054
_LEAST = 20
"""Pairs that must differ in a feature for its effect to be shown: with fewer, the error is a guess."""
_LENGTH = FEATURES.index("length")
_REFUSAL = FEATURES.index("refusal")


class Looks(NamedTuple):
    """The style of both sides, looked at once for all who ask."""

    chosen: np.ndarray
    """Plain counts, float64 [pairs, features]."""
    rejected: np.ndarray
    groups: np.ndarray
    """The number of each pair's prompt, int64 [pairs]."""
    fold: np.ndarray
    """int64 [pairs], one for all pairs of a prompt."""

    def difference(self) -> np.ndarray:
        """Return chosen less rejected, counts as ln(1 + x): float64 [pairs, features]."""
        sides = [np.log1p(each) for each in (self.chosen, self.rejected)]
        found: np.ndarray = sides[0] - sides[1]
        found[:, _REFUSAL] = self.chosen[:, _REFUSAL] - self.rejected[:, _REFUSAL]
        return found


def looks_of(table: pa.Table) -> Looks:
    """Return the style of the sides of pairs."""
    prompts = table["prompt_id"].to_pylist()
    sides = (counted(table["chosen"]), counted(table["rejected"]))
    return Looks(*sides, numbered(table["prompt_id"]), blocks_of(prompts, FOLDS))


def numbered(column: pa.ChunkedArray) -> np.ndarray:
    """Return the number of each value, in the order of coming: int64 [rows]; null has its own."""
    codes = pc.dictionary_encode(column, null_encoding="encode").combine_chunks().indices
    found: np.ndarray = codes.to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def shortcut_findings(looks: Looks) -> Findings:
    """Return how well style tells chosen from rejected, on prompts that the model did not see."""
    found = shortcut(looks.difference(), looks.fold, looks.groups)
    return {"auc": found.auc, "right": of_share(found.right)}


def length_findings(looks: Looks) -> Findings:
    """Return how far chosen is the longer side, and what twice the length does to the odds of being chosen."""
    plain = looks.chosen[:, _LENGTH] - looks.rejected[:, _LENGTH]
    ratio = looks.difference()[:, [_LENGTH]]
    found = effects(ratio, looks.groups)
    double = np.log(2) / found.scale[0]
    return {
        "longer": of_share(share(plain[plain != 0] > 0, looks.groups[plain != 0])),
        "auc": length_auc(plain, looks.groups),
        "ratio": gap(ratio[:, 0], np.zeros(len(ratio)), looks.groups),
        "doubling": estimate_of(double * found.head[0], _Z * double * found.error[0], len(ratio)),
    }


def factor_findings(looks: Looks) -> Findings:
    """Return how far the label follows each feature, alone (tau) and beside the others (effect)."""
    difference = looks.difference()
    ahead = np.ones(len(difference))
    fit = effects(difference, looks.groups)
    found: dict[str, Estimate] = {}
    for at, name in enumerate(FEATURES):
        found[f"{name}/tau"] = tau(difference[:, at], ahead, looks.groups)
        differs = int(np.count_nonzero(difference[:, at]))
        effect = estimate_of(float(fit.head[at]), _Z * float(fit.error[at]), differs)
        found[f"{name}/effect"] = effect if differs >= _LEAST else Estimate(n=differs)
    return found


def gap_findings(looks: Looks, table: pa.Table, scores: Sequence[str]) -> Findings:
    """Return by how much more of each feature, and of each score, chosen has than rejected."""
    found = {
        name: gap(looks.chosen[:, at], looks.rejected[:, at], looks.groups)
        for at, name in enumerate(FEATURES)
    }
    for score in scores:
        found[score] = gap(floats(table[f"chosen_{score}"]), floats(table[f"rejected_{score}"]), looks.groups)
    return found


def cycle_findings(table: pa.Table) -> Findings:
    """Return how many pairs, and how many prompts with more than one pair, have preferences that no ranking explains."""
    groups = numbered(table["prompt_id"])
    names = pc.unique(
        pa.chunked_array([*table["chosen_id"].chunks, *table["rejected_id"].chunks], pa.string())
    )
    sides = [pc.index_in(table[name], names).to_numpy() for name in ("chosen_id", "rejected_id")]
    cyclic = on_cycle(*(side.astype(np.int64) for side in sides))
    several = np.bincount(groups) > 1
    hit = np.bincount(groups, cyclic) > 0
    prompts = share(hit[several], np.arange(int(several.sum())))
    return {"pairs": of_share(share(cyclic, groups)), "prompts": of_share(prompts)}


def strength_findings(table: pa.Table, scores: Sequence[str], bands: int = 10) -> Findings:
    """Return what an ensemble makes of the pairs: how many it contradicts, and the profile from weak to strong."""
    margins = np.stack([score_gaps(table, score) for score in scores], axis=1)
    found = strength(margins)
    known = np.isfinite(found.mean)
    told = {"contradicted": of_share(share(found.mean[known] < 0, numbered(table["prompt_id"])[known]))}
    for at, band in enumerate(profile(found, bands), start=1):
        for name, value in (("mean", band.mean), ("std", band.std), ("agree", band.agree)):
            told[f"band-{at:02}/{name}"] = Estimate(value=value, n=band.n)
    return told


def cell_findings(table: pa.Table, score: str) -> Findings:
    """Return where pairs lie by what chosen is worth and how wide the gap is."""
    found = cells(floats(table[f"chosen_{score}"]), floats(table[f"rejected_{score}"]))
    known = found.cell >= 0
    groups = numbered(table["prompt_id"])[known]
    told = {name: of_share(share(found.cell[known] == at, groups)) for at, name in enumerate(CELLS)}
    n = int(known.sum())
    told["median-chosen"] = estimate_of(found.median_chosen, float("nan"), n)
    told["median-gap"] = estimate_of(found.median_gap, float("nan"), n)
    return told
