"""Statistics of pairs: worth and length of both sides, and what is believed of the labels."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.statistics.figures import Share, Spread, describe, fleiss, length_auc, rank_correlation, share
from prefkit.statistics.measure import chars, count_values, couples, flags, numbers, reals
from prefkit.statistics.records import Labels, Lengths, Order, PairSummary, Phase, Reference, Scores, Votes

__all__ = ["summarise_pairs"]


def summarise_pairs(table: pa.Table, prompts: np.ndarray) -> PairSummary:
    """Return the statistics of a table of pairs. Shape: `prompts` [pairs], the number of each pair's prompt."""
    sides = _sides(table)
    margin = reals(table["margin"]) if "margin" in table.column_names else None
    worth = margin if margin is not None and np.isfinite(margin).any() else _score_gap(table)
    return PairSummary(
        lengths=_lengths(table, sides, worth, prompts),
        identical=share(sides.identical, prompts),
        scores=_scores(table, prompts),
        labels=_labels(table, margin, prompts),
        votes=_votes(table["votes"], prompts) if "votes" in table.column_names else None,
        order=_order(table, worth, sides.chosen, prompts),
        reference=_reference(table, prompts),
        models=couples(table, "model"),
        origins=couples(table, "origin"),
    )


class _Sides(NamedTuple):
    """Characters of either side, NaN where there is none, and whether the sides are the same. Shapes: [pairs]."""

    chosen: np.ndarray
    rejected: np.ndarray
    identical: np.ndarray


def _sides(table: pa.Table) -> _Sides:
    return _Sides(chars(table["chosen"]), chars(table["rejected"]), flags(table["identical"]))


def _lengths(table: pa.Table, sides: _Sides, worth: np.ndarray | None, prompts: np.ndarray) -> Lengths:
    gaps = sides.chosen - sides.rejected
    known = np.isfinite(gaps)
    return Lengths(
        chosen=describe(sides.chosen, prompts),
        rejected=describe(sides.rejected, prompts),
        gap=describe(gaps, prompts),
        longer=share(gaps[known] > 0, prompts[known]),
        equal=share(gaps[known] == 0, prompts[known]),
        auc=length_auc(gaps, prompts),
        with_worth=None if worth is None else rank_correlation(worth, gaps, prompts),
        chosen_tokens=_described(table, "chosen_n_tokens", prompts),
        rejected_tokens=_described(table, "rejected_n_tokens", prompts),
    )


def _scores(table: pa.Table, prompts: np.ndarray) -> dict[str, Scores]:
    either = [
        n for n in table.column_names if n.startswith(("chosen_", "rejected_")) and not n.endswith("_logp")
    ]
    found = numbers(table.select(sorted(either, key=lambda name: (not name.endswith("_score"), name))))
    names = [name.removeprefix("chosen_") for name in found if name.startswith("chosen_")]
    return {
        name: _score(found[f"chosen_{name}"], found[f"rejected_{name}"], prompts)
        for name in names
        if f"rejected_{name}" in found
    }


def _score(chosen: np.ndarray, rejected: np.ndarray, prompts: np.ndarray) -> Scores:
    gap = _less(chosen, rejected)
    known = np.isfinite(gap)
    return Scores(
        chosen=describe(chosen, prompts),
        rejected=describe(rejected, prompts),
        gap=describe(gap, prompts),
        higher=share(gap[known] > 0, prompts[known]),
        equal=share(gap[known] == 0, prompts[known]),
    )


def _score_gap(table: pa.Table) -> np.ndarray | None:
    if not {"chosen_score", "rejected_score"} <= set(table.column_names):
        return None
    return _less(reals(table["chosen_score"]), reals(table["rejected_score"]))


def _less(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        gap: np.ndarray = one - other
    return gap


def _labels(table: pa.Table, margin: np.ndarray | None, prompts: np.ndarray) -> Labels:
    names = set(table.column_names)
    fields: dict[str, Any] = {
        name: _flagged(table[name], prompts) for name in ("tie", "flipped") if name in names
    }
    if margin is not None:
        fields["margin"] = describe(margin, prompts)
    if "p_chosen" in names:
        values = reals(table["p_chosen"])
        known = np.isfinite(values)
        certain = known & ~flags(table["tie"]) if "tie" in names else known
        fields["p_chosen"] = describe(values, prompts, low=0.0, high=1.0)
        fields["graded"] = share(values[known] != 1, prompts[known])
        fields["reversed"] = share(values[certain] < 0.5, prompts[certain])
    if "flip_prob" in names:
        values = reals(table["flip_prob"])
        known = np.isfinite(values)
        fields["flip_prob"] = describe(values, prompts, low=0.0, high=1.0)
        fields["doubted"] = share(values[known] > 0, prompts[known])
    if "weight" in names:
        values = reals(table["weight"])
        known = np.isfinite(values)
        fields["weight"] = describe(values, prompts)
        fields["weighted"] = share(values[known] != 1, prompts[known])
    return Labels(**fields)


def _flagged(column: pa.ChunkedArray, prompts: np.ndarray) -> Share:
    known = np.asarray(column.is_valid())
    return share(flags(column)[known], prompts[known])


def _described(table: pa.Table, name: str, prompts: np.ndarray) -> Spread | None:
    return describe(reals(table[name]), prompts) if name in table.column_names else None


_WINNERS = ("chosen", "rejected", "tie")


def _votes(column: pa.ChunkedArray, prompts: np.ndarray) -> Votes:
    tallies, unread, judges = [np.zeros((0, 3), np.int64)], 0, list[pa.Array]()
    for chunk in column.chunks:
        flat = chunk.flatten()
        said = flat.field("winner")
        row = np.repeat(
            np.arange(len(chunk)), np.nan_to_num(reals(pc.list_value_length(chunk))).astype(np.int64)
        )
        masks = [flags(pc.equal(said, winner)) for winner in _WINNERS]
        tallies.append(np.stack([np.bincount(row[mask], minlength=len(chunk)) for mask in masks], axis=1))
        unread += int((~np.logical_or.reduce(masks)).sum())
        judges.append(flat.field("judge"))
    tally = np.concatenate(tallies)
    chosen, rejected, tie = (int(count) for count in tally.sum(axis=0))
    return Votes(
        pairs=int((tally.sum(axis=1) > 0).sum()),
        chosen=chosen,
        rejected=rejected,
        tie=tie,
        unread=unread,
        judges=count_values(pa.chunked_array(judges, pa.string())),
        **_agreement(tally, prompts),
    )


def _agreement(tally: np.ndarray, prompts: np.ndarray) -> dict[str, Any]:
    """Return how far votes agree, blind to which side is stored as chosen.

    Chosen is whoever won, so its share of the votes says nothing of chance. Counting each pair once either way round
    makes both directions as frequent: by chance two votes then agree on a tie, or on one of two equal directions.
    """
    found = fleiss(tally, prompts)
    if found is None:
        return {}
    shared = tally[tally.sum(axis=1) > 1]
    ties = float(shared[:, 2].sum() / shared.sum())
    chance = ties**2 + (1 - ties) ** 2 / 2
    observed = found.observed.value or 0.0
    kappa = (observed - chance) / (1 - chance) if chance < 1 else None
    return {"agreement": found.observed, "chance": chance, "kappa": kappa}


def _order(
    table: pa.Table, worth: np.ndarray | None, lengths: np.ndarray, prompts: np.ndarray
) -> Order | None:
    names = set(table.column_names)
    if not names & {"phase", "rank"}:
        return None
    phases = list[Phase]()
    if "phase" in names:
        column = reals(table["phase"])
        for phase in sorted(table["phase"].unique().drop_null().to_pylist()):
            inside = column == phase
            phases.append(
                Phase(
                    phase=phase,
                    rows=int(inside.sum()),
                    worth=None if worth is None else describe(worth[inside], prompts[inside]),
                    chars=describe(lengths[inside], prompts[inside]),
                )
            )
    if "rank" not in names:
        return Order(phases=tuple(phases))
    ranks = np.sort(reals(table["rank"]))
    whole = bool(np.array_equal(ranks, np.arange(len(ranks))))
    return Order(phases=tuple(phases), ranked=int(np.isfinite(ranks).sum()), whole=whole)


def _reference(table: pa.Table, prompts: np.ndarray) -> Reference | None:
    if not {"ref_chosen_logp", "ref_rejected_logp"} <= set(table.column_names):
        return None
    chosen, rejected = reals(table["ref_chosen_logp"]), reals(table["ref_rejected_logp"])
    known = np.isfinite(chosen) & np.isfinite(rejected)
    return Reference(
        chosen=describe(chosen, prompts),
        rejected=describe(rejected, prompts),
        prefers=share(chosen[known] > rejected[known], prompts[known]),
    )
