"""Choice: which rows are among the best of their stratum, and which pairs two scorers believe in.

Both look at the whole dataset, as a share of a shard is no share of the data. What has no score cannot be among the best, and
no scorer believes in it.
"""

from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, model_validator

from prefkit.columns import Columns
from prefkit.gaps import reads_scores, score_gaps
from prefkit.ranking import ranked, share_of
from prefkit.tables import floats, put

__all__ = [
    "Agree",
    "Best",
    "Peers",
    "Reviewed",
    "agreeing",
    "peer_review",
    "reviewed",
    "several",
    "top_share",
]


def several(value: Any) -> Any:
    """Take one thing for a list of one."""
    return value if isinstance(value, list | tuple) else (value,)


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Best(_Settings):
    """Which rows are the best of the dataset, or of each of its strata. A row without a value goes.

    The hardest three in ten of each domain are `{column: ppl, share: 0.3, by: domain}`.
    Sources: top by stratum with offsets, Skywork-Reward (2024); the hardest by perplexity, iTool (EMNLP 2025).
    """

    column: Annotated[tuple[str, ...], BeforeValidator(several), Field(min_length=1)]
    """A number; of several, their mean: `[chosen_score, rejected_score]`."""
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the rows with a value that stays in each stratum, rounded down."""
    k: PositiveInt | None = None
    """How many rows stay in each stratum."""
    order: Literal["highest", "lowest"] = "highest"
    """Which end stays."""
    by: str | None = None
    """The column of strata, a word; rows without one are a stratum too."""
    offsets: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(default_factory=dict)
    """Added to the value of rows from a source, by its name: a scorer may favour one."""
    offsets_by: str = "source"
    """The column that `offsets` names values of."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.share is None) == (self.k is None):
            raise ValueError("best takes either share or k")
        return self

    def reads(self) -> Columns:
        """Return the columns it looks at."""
        words = [self.by] if self.by else []
        words += [self.offsets_by] if self.offsets else []
        return {**dict.fromkeys(self.column, pa.float64()), **dict.fromkeys(words, pa.string())}

    def reason(self) -> str:
        """Return what a row that goes is told."""
        return f"{'+'.join(self.column)}/not-best"

    def misses(self, table: pa.Table) -> np.ndarray:
        """Return which rows are not among the best: bool [rows]."""
        value = np.mean([floats(table[name]) for name in self.column], axis=0)
        if self.offsets:
            codes = pc.index_in(table[self.offsets_by], pa.array(list(self.offsets), pa.string()))
            shift = np.array([*self.offsets.values(), 0.0])
            value = value + shift[pc.fill_null(codes, len(self.offsets)).to_numpy()]
        strata = np.zeros(table.num_rows, np.int64) if self.by is None else _codes(table[self.by])
        order = ranked(
            put(table.select(["id"]), "value", pa.array(value)), "value", descending=self.order == "highest"
        )
        return ~top_share(order, strata, np.isfinite(value), self.share, self.k)


class Agree(_Settings):
    """Which scorers must find chosen better."""

    scores: Annotated[tuple[str, ...], BeforeValidator(several), Field(min_length=1)]
    """Scores of either side: `score` reads `chosen_score` and `rejected_score`."""
    above: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """The gap of each that a pair must exceed."""
    where: dict[str, Annotated[tuple[str, ...], BeforeValidator(several)]] = Field(default_factory=dict)
    """Only rows with these words are asked, `{domain: [safety]}`; the others stay."""

    def reads(self) -> Columns:
        """Return the columns it looks at."""
        needed = {name: kind for score in self.scores for name, kind in reads_scores(score).items()}
        return {**needed, **dict.fromkeys(self.where, pa.string())}

    def misses(self, table: pa.Table) -> np.ndarray:
        """Return which rows a scorer contradicts, or has no score of: bool [rows]."""
        asked: np.ndarray = np.ones(table.num_rows, dtype=bool)
        for name, words in self.where.items():
            asked &= pc.is_in(table[name], pa.array(words, pa.string())).to_numpy()
        found: np.ndarray = asked & ~agreeing([score_gaps(table, score) for score in self.scores], self.above)
        return found


class Peers(_Settings):
    """Which pairs each of two scorers would hand to the other: those with the largest gaps.

    A scorer that was trained on a pair believes in it, so each score must be of a model that did not see the pair.
    Source: Collaborative Reward Modeling (2025), over the dataset and not a batch, whose choice depends on the order of rows.
    """

    scores: tuple[str, str]
    """Two scores of either side."""
    keep: Literal["both", "either"] = "both"
    """Whether both scorers must believe in a pair, or one will do."""
    noise: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of pairs that are mislabelled, which goes. Left out: the share that the scorers contradict, a low guess."""

    def reads(self) -> Columns:
        """Return the columns it looks at."""
        return {name: kind for score in self.scores for name, kind in reads_scores(score).items()}


class Reviewed(NamedTuple):
    """What two scorers make of pairs."""

    by_a: np.ndarray
    """Whom the first believes in: what the second is to train on, bool [pairs]."""
    by_b: np.ndarray
    """Whom the second believes in: what the first is to train on, bool [pairs]."""
    noise: float


def reviewed(peers: Peers, table: pa.Table) -> Reviewed:
    """Let two scorers choose pairs for each other."""
    gaps = [score_gaps(table, score) for score in peers.scores]
    there = np.isfinite(gaps[0]) & np.isfinite(gaps[1])
    noise = peers.noise
    if noise is None:
        noise = float(np.mean([(gap[there] < 0).mean() for gap in gaps])) if there.any() else 0.0
    keep = share_of(int(there.sum()), 1 - noise)
    gaps = [np.where(there, gap, np.nan) for gap in gaps]
    return Reviewed(*peer_review(gaps[0], gaps[1], keep, table["id"]), noise)


def peer_review(
    a: np.ndarray, b: np.ndarray, keep: int, ids: pa.ChunkedArray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the `keep` pairs with the largest gap of each scorer: two of bool [pairs]. Ties go by id, NaN never counts."""
    chosen: list[np.ndarray] = []
    for gap in (a, b):
        order = ranked(pa.table({"id": ids, "gap": pa.array(gap)}), "gap", descending=True)
        chosen.append(top_share(order, np.zeros(len(gap), np.int64), np.isfinite(gap), None, keep))
    return chosen[0], chosen[1]


def agreeing(gaps: list[np.ndarray], above: float) -> np.ndarray:
    """Return where every gap is known and exceeds this: bool [pairs]."""
    found: np.ndarray = np.logical_and.reduce([np.isfinite(gap) & (gap > above) for gap in gaps])
    return found


def top_share(
    order: np.ndarray, strata: np.ndarray, there: np.ndarray, share: float | None, k: int | None
) -> np.ndarray:
    """Return which rows are the first of their stratum: bool [rows].

    Shapes: `order` int64 [rows], best first; `strata` int64 [rows]; `there` bool [rows], who can be chosen at all.
    `share` of those, rounded down, or `k` of them.
    """
    order = order[there[order]]
    of = strata[order]
    sizes = np.bincount(of, minlength=int(strata.max(initial=-1)) + 1)
    room = np.array([k if share is None else share_of(int(size), share) for size in sizes], np.int64)
    grouped = np.argsort(of, kind="stable")
    place = np.arange(len(of)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    found: np.ndarray = np.zeros(len(strata), dtype=bool)
    found[order[grouped[place < room[of[grouped]]]]] = True
    return found


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """Return one number a word, null having its own: int64 [rows]."""
    codes = pc.dictionary_encode(pc.fill_null(column, "")).combine_chunks()
    found: np.ndarray = codes.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return found
