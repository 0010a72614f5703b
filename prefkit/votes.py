"""Votes: one verdict a judge and order on a pair, made from ratings, counted, and mirrored with their pair.

Every verdict is kept as its own vote, by name, since pooling loses what tells a strict rater from a careless one.
`winner` is chosen, rejected or tie; any other word, and null, is a vote that says nothing.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.columns import VOTES

__all__ = ["Said", "Tally", "mirror_votes", "said", "tally", "votes_of"]

_WINNERS = ("rejected", "tie", "chosen")
_ORDERS = ("chosen-first", "rejected-first")
_OTHER_SIDE = {"chosen": "rejected", "rejected": "chosen", "chosen-first": "rejected-first"}
_OTHER_SIDE["rejected-first"] = "chosen-first"


class Tally(NamedTuple):
    """What the votes on each pair add up to. Every array is float64 [pairs]."""

    wins: np.ndarray
    """Votes for chosen."""
    ties: np.ndarray
    losses: np.ndarray
    mean_p: np.ndarray
    """Mean of the votes' `p`; NaN where none has one."""
    mean_strength: np.ndarray
    """Mean of the votes' `strength`; NaN where none has one."""


class Said(NamedTuple):
    """Every vote that says something, one an entry. Every array but the last is int64 [votes]."""

    pair: np.ndarray
    """The row it is about."""
    judge: np.ndarray
    """Into `judges`."""
    order: np.ndarray
    """0 chosen first, 1 rejected first, 2 not known."""
    verdict: np.ndarray
    """0 chosen, 1 tie, 2 rejected."""
    judges: pa.Array
    """Names, sorted; the last is null where a vote has no name."""


class _Rated(NamedTuple):
    """One entry per response and annotator, sorted by both."""

    key: np.ndarray
    """Row of the response times the number of annotators plus the annotator, int64, rising."""
    score: np.ndarray
    names: pa.Array
    """Annotators by number, sorted, so that numbers do not depend on the shard's other rows."""


def tally(votes: pa.ChunkedArray) -> Tally:
    """Count the votes of each pair."""
    array, rows = _entries(votes)
    count = len(array)
    entries = array.flatten()
    winner = pc.fill_null(pc.index_in(entries.field("winner"), pa.array(_WINNERS)), -1).to_numpy(
        zero_copy_only=False
    )
    losses, ties, wins = (
        np.bincount(rows[winner == code], minlength=count).astype(np.float64) for code in range(3)
    )
    return Tally(
        wins, ties, losses, _means(entries, "p", rows, count), _means(entries, "strength", rows, count)
    )


def said(votes: pa.ChunkedArray) -> Said:
    """Return who said what of which pair; votes without a verdict are left out."""
    array, rows = _entries(votes)
    entries = array.flatten()
    verdict = pc.index_in(entries.field("winner"), pa.array(_WINNERS[::-1]))
    there = pc.is_valid(verdict).to_numpy(zero_copy_only=False)
    judges = entries.field("judge").filter(pa.array(there))
    names = judges.unique()
    names = names.take(pc.array_sort_indices(names))
    order = pc.fill_null(pc.index_in(entries.field("order"), pa.array(_ORDERS)), 2)
    judge, seen, told = (
        codes.to_numpy(zero_copy_only=False).astype(np.int64)
        for codes in (pc.index_in(judges, names), order, pc.fill_null(verdict, 0))
    )
    return Said(rows[there], judge, seen[there], told[there], names)


def mirror_votes(votes: pa.ChunkedArray, rows: np.ndarray) -> pa.ChunkedArray:
    """Say of the votes in these rows (bool [pairs]) the same with chosen and rejected exchanged."""
    array, parents = _entries(votes)
    entries = array.flatten()
    there = pa.array(rows[parents])
    fields = {field.name: entries.field(field.name) for field in VOTES.value_type}
    for name in ("winner", "order"):
        known = pc.index_in(fields[name], pa.array(list(_OTHER_SIDE)))
        other = pa.array(list(_OTHER_SIDE.values())).take(known)
        fields[name] = pc.if_else(there, pc.coalesce(other, fields[name]), fields[name])
    fields["p"] = pc.if_else(there, pc.subtract(1.0, fields["p"]), fields["p"])
    fields["strength"] = pc.if_else(there, pc.negate(fields["strength"]), fields["strength"])
    mirrored = pa.StructArray.from_arrays(list(fields.values()), fields=list(VOTES.value_type))
    lengths = np.bincount(parents, minlength=len(array))
    return pa.chunked_array([_lists(mirrored, lengths, array.is_null().to_numpy(zero_copy_only=False))])


def votes_of(ratings: pa.ChunkedArray, chosen: np.ndarray, rejected: np.ndarray) -> pa.Array:
    """Return the votes on each pair of rows of `ratings`: VOTES [pairs], in the order of the annotators' names.

    `chosen` and `rejected` are row numbers, int64 [pairs]. Who rated both responses votes: the strength of a vote is
    the difference of its two scores, and its `p` is 1, 0 or one half. Several ratings of a response by one annotator
    count as their mean. A rating without an annotator or without a finite score says nothing; a pair that no
    annotator rated whole has null.
    """
    rated = _rated(ratings)
    people = max(len(rated.names), 1)
    starts = np.searchsorted(rated.key, chosen * people)
    counts = np.searchsorted(rated.key, (chosen + 1) * people) - starts
    pair = np.repeat(np.arange(len(chosen)), counts)
    entry = np.arange(len(pair)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(starts, counts)
    wanted = rejected[pair] * people + rated.key[entry] % people
    other = np.minimum(np.searchsorted(rated.key, wanted), max(len(rated.key) - 1, 0))
    both = rated.key[other] == wanted
    judges = rated.names.take(pa.array((rated.key[entry] % people)[both]))
    votes = _votes(judges, (rated.score[entry] - rated.score[other])[both])
    counts = np.bincount(pair[both], minlength=len(chosen))
    return _lists(votes, counts, counts == 0)


def _rated(ratings: pa.ChunkedArray) -> _Rated:
    array, rows = _entries(ratings)
    entries = array.flatten()
    codes = entries.field("annotator").dictionary_encode()
    order = pc.array_sort_indices(codes.dictionary)
    number = np.empty(len(order), np.int64)
    number[order.to_numpy()] = np.arange(len(order))
    annotator = pc.fill_null(codes.indices, -1).to_numpy(zero_copy_only=False)
    scores = entries.field("score").to_numpy(zero_copy_only=False)
    says = (annotator >= 0) & np.isfinite(scores)
    found = rows[says] * max(len(order), 1) + number[annotator[says]]
    keys, entry = np.unique(found, return_inverse=True)
    totals = np.bincount(entry, scores[says], minlength=len(keys))
    means = totals / np.maximum(np.bincount(entry, minlength=len(keys)), 1)
    return _Rated(keys, means, codes.dictionary.take(order))


def _votes(judges: pa.Array, strengths: np.ndarray) -> pa.StructArray:
    sign = np.sign(strengths).astype(np.int64)
    nothing = pa.nulls(len(judges), pa.string())
    fields = {
        "judge": judges.cast(pa.string()),
        "order": nothing,
        "winner": pa.array(_WINNERS).take(pa.array(sign + 1)),
        "p": pa.array((sign + 1) / 2),
        "strength": pa.array(strengths),
        "rationale": nothing,
    }
    return pa.StructArray.from_arrays(list(fields.values()), fields=list(VOTES.value_type))


def _entries(lists: pa.ChunkedArray) -> tuple[pa.ListArray, np.ndarray]:
    """Return a list column as one array, and the row of each of its entries: int64 [entries]."""
    array = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], lists.type)
    # not list_parent_indices: it counts the entries that a null list may hide, and flatten does not
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    return array, np.repeat(np.arange(len(array)), lengths)


def _lists(entries: pa.StructArray, lengths: np.ndarray, missing: np.ndarray) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets, mask=np.append(missing, False)), entries)
    return lists.cast(VOTES)


def _means(entries: pa.StructArray, name: str, rows: np.ndarray, count: int) -> np.ndarray:
    values = entries.field(name).to_numpy(zero_copy_only=False)
    there = np.isfinite(values)
    totals = np.bincount(rows[there], values[there], minlength=count)
    counts = np.bincount(rows[there], minlength=count)
    with np.errstate(invalid="ignore"):
        means: np.ndarray = totals / counts
    return means
