"""Pair: from scored responses to pairs, the one place where a response meets another.

Who meets whom is a pure function of arrays (`prefkit.pairing`); this is its Arrow coat. It says which responses may
take part, which proposals stand, what became of every prompt that gave no pair, and what a pair row is made of: what
belongs to the prompt once, everything else of a response twice, with `chosen_` and `rejected_` before its name.
"""

from collections.abc import Collection
from typing import Annotated, ClassVar, Literal, Self, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveInt,
    model_validator,
)

from prefkit import pairing
from prefkit.columns import MESSAGES, Columns, types
from prefkit.pairing import Matches, Pool
from prefkit.stage import Context, Flow, Kind, Stage
from prefkit.stages import pair_rows
from prefkit.tables import Runs, floats, prompt_offsets
from prefkit.texts import characters, digests

__all__ = ["Hardness", "Pair"]

Strategy = Literal[
    "best-worst",
    "best-rest",
    "best-random",
    "best-second",
    "all",
    "adjacent",
    "fold",
    "tiers",
    "first-round",
    "tournament",
    "semi-online",
    "by-model-rank",
    "list",
]
_Names = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)
]

STANDS = ""
REFUSED = ("identical-texts", "equal-scores", "small-margin", "large-margin", "length-ratio", "not-hard")
"""Why a proposed pair is not made, in the order in which they are looked at."""
WITHOUT = ("too-few-responses", "no-score", "no-candidate", "no-match")
"""Why a prompt has no proposal at all."""

_ONLY_FOR = {"tiers": "tiers", "models": "by-model-rank", "hardness": "semi-online"}
_ROUNDING = 1e-9  # .3 - .2 must count as .1


class Hardness(BaseModel):
    """How bad the rejected response of a semi-online pair must be. Source: SoPo (2025), eq. for tau."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tau: float | None = None
    """Its score must be below this."""
    quantile: Annotated[float, Field(ge=0, le=1)] | None = None
    """Its score must be below this quantile of its prompt's scores."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.tau is None) == (self.quantile is None):
            raise ValueError("hardness takes either tau or quantile")
        return self


@final
class Pair(Stage):
    """Pair the scored responses of each prompt: chosen is the better one."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: ClassVar[str] = "pair"
    kind: ClassVar[Kind] = "group"
    level: ClassVar[Flow] = Flow(("response",), "pair")
    random: ClassVar[bool] = True

    strategy: Strategy = Field("best-worst", alias="kind")
    """Who meets whom. The best with the worst, the rest, a random other or the second; `all`; neighbours in the ranking
    (`adjacent`); best with worst, second with second worst and so on (`fold`); two `tiers`; in the order of the
    responses a `first-round` or a whole `tournament`; a trusted response with the worst of the policy's
    (`semi-online`); `by-model-rank`, without scores; `list`: `all`, with the places in the ranking kept."""
    by: str = "score"
    """Which score decides; higher is better. Responses without a finite one take no part."""
    strict: bool = True
    """Whether equal scores make no pair."""
    min_margin: NonNegativeFloat = 0.0
    """The least score difference of a pair."""
    max_margin: NonNegativeFloat | None = None
    """The greatest score difference of a pair."""
    max_pairs: PositiveInt | None = None
    """How many pairs of a prompt are kept, in the order of the kind: widest gap first for `best-rest` and `all`."""
    length_ratio_max: Annotated[float, Field(ge=1)] | None = None
    """By what factor the longer text, in characters, may exceed the shorter."""
    chosen_from: _Names | None = None
    """Origins or models that the chosen response may come from."""
    rejected_from: _Names | None = None
    """Origins or models that the rejected response may come from."""
    tiers: Annotated[str, Field(pattern=r"^(best|high|medium|low)/(high|medium|low|worst)$")] | None = None
    """For `tiers`: the tier of chosen and of rejected, `best/worst` unless said otherwise."""
    models: tuple[str, ...] = ()
    """For `by-model-rank`: models from best to worst. Scores are not read."""
    hardness: Hardness | None = None
    """For `semi-online`: how bad the rejected response must be."""

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Self:
        is_set = {"tiers": self.tiers, "models": self.models or None, "hardness": self.hardness}
        for setting, strategy in _ONLY_FOR.items():
            if is_set[setting] is not None and self.strategy != strategy:
                raise ValueError(f"{setting} is for kind '{strategy}', not for '{self.strategy}'")
        if self.strategy == "by-model-rank" and len(set(self.models)) < 2:
            raise ValueError("kind 'by-model-rank' needs models, best first: at least two")
        if self.strategy == "by-model-rank" and (self.min_margin or self.max_margin is not None):
            raise ValueError("kind 'by-model-rank' reads no scores, so a margin has no meaning")
        if self.strategy == "semi-online" and None in (self.hardness, self.chosen_from, self.rejected_from):
            raise ValueError("kind 'semi-online' needs hardness, chosen_from and rejected_from")
        if self.max_margin is not None and self.max_margin < self.min_margin:
            raise ValueError("max_margin is below min_margin")
        return self

    def reads(self) -> Columns:
        scores = types("model") if self.models else {self.by: pa.float64()}
        roles = types("model", "origin") if self.chosen_from or self.rejected_from else {}
        return {"response": MESSAGES, **scores, **roles}

    def writes(self) -> Columns:
        made = types("id", "chosen", "rejected", "chosen_id", "rejected_id")
        return {**made, **types("chosen_place", "rejected_place")} if self.strategy == "list" else made

    def drops(self) -> Collection[str]:
        return REFUSED + WITHOUT

    def draws(self) -> bool:
        return self.strategy == "best-random"

    def most_rows(self, per_prompt: float) -> float:
        chained, halved = per_prompt - 1, per_prompt / 2
        most = dict.fromkeys(("best-worst", "best-random", "best-second", "tiers"), 1.0)
        most |= dict.fromkeys(("best-rest", "adjacent", "tournament"), chained)
        most |= dict.fromkeys(("fold", "first-round"), halved)
        pairs = max(0.0, most.get(self.strategy, halved * chained))
        return pairs if self.max_pairs is None else min(pairs, self.max_pairs)

    def becomes(self, schema: pa.Schema) -> pa.Schema:
        return pair_rows.pair_schema(schema, ranked=self.strategy == "list")

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        runs = prompt_offsets(table)
        pair_rows.check_prompts(table, runs)
        score = self._score(table)
        rows = np.flatnonzero(np.isfinite(score) & table["response"].is_valid().to_numpy())
        _count(ctx, "pair/responses-no-score", table.num_rows - len(rows))
        pool = self._pool(table, runs, score, rows)
        with np.errstate(over="ignore"):  # the gap of two scores near the largest number is infinite
            proposed = self._propose(pool, table, rows, ctx)
            verdicts = self._judge(pool, proposed, table["response"], rows)
        kept = self._keep(pool, proposed, verdicts, ctx)
        self._explain(table, runs, pool, proposed, verdicts, ctx)
        ranks = pairing.places(pool) if self.strategy == "list" else None
        made = Matches(proposed.chosen[kept], proposed.rejected[kept])
        return pair_rows.pair_table(table, rows[made.chosen], rows[made.rejected], ranks, made)

    def _score(self, table: pa.Table) -> np.ndarray:
        if not self.models:
            return floats(table[self.by])
        places = pc.index_in(table["model"], pa.array(self.models))
        return -floats(places)

    def _pool(self, table: pa.Table, runs: Runs, score: np.ndarray, rows: np.ndarray) -> Pool:
        prompt = np.repeat(np.arange(len(runs.starts)), runs.lengths)
        wins, loses = _from(table, self.chosen_from), _from(table, self.rejected_from)
        return Pool(prompt[rows], score[rows], wins[rows], loses[rows])

    def _propose(self, pool: Pool, table: pa.Table, rows: np.ndarray, ctx: Context) -> Matches:
        if self.strategy == "best-random":
            responses = table.select(["id", "response"]).take(pa.array(rows))
            draw = ctx.uniform(self, responses["id"].to_pylist())
            texts = digests(responses["response"])
            return pairing.best_random(pool, draw, texts, strict=self.strict)
        if self.strategy == "tiers":
            chosen, rejected = (self.tiers or "best/worst").split("/")
            return pairing.tiers(pool, chosen, rejected)
        return _PROPOSERS[self.strategy](pool)

    def _judge(
        self, pool: Pool, proposed: Matches, responses: pa.ChunkedArray, rows: np.ndarray
    ) -> np.ndarray:
        """Return the position in REFUSED of the first thing wrong with each proposal, or -1: int64 [proposals]."""
        chosen, rejected = proposed
        first, second = rows[chosen], rows[rejected]
        gap = pool.score[chosen] - pool.score[rejected]
        wrong = [
            pair_rows.identical(responses, first, second),
            (gap == 0) & self.strict,
            gap < self.min_margin - _ROUNDING,
            gap > (np.inf if self.max_margin is None else self.max_margin + _ROUNDING),
            self._too_long(responses, first, second),
            pool.score[rejected] >= self._hard_below(pool)[rejected],
        ]
        return np.select(wrong, range(len(wrong)), -1)

    def _too_long(self, responses: pa.ChunkedArray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        if self.length_ratio_max is None:
            return np.zeros(len(first), dtype=bool)
        lengths = characters(responses)
        one, other = lengths[first], lengths[second]
        too_long: np.ndarray = np.maximum(one, other) > self.length_ratio_max * np.minimum(one, other)
        return too_long

    def _hard_below(self, pool: Pool) -> np.ndarray:
        if self.hardness is None:
            return np.full(len(pool.score), np.inf)
        if self.hardness.quantile is not None:
            return pairing.quantile(pool, self.hardness.quantile)
        return np.full(len(pool.score), self.hardness.tau)

    def _keep(self, pool: Pool, proposed: Matches, verdicts: np.ndarray, ctx: Context) -> np.ndarray:
        for at, reason in enumerate(REFUSED):
            _count(ctx, f"pair/pairs-{reason}", int((verdicts == at).sum()))
        kept: np.ndarray = np.flatnonzero(verdicts < 0)
        if self.max_pairs is None:
            return kept
        prompt = pool.prompt[proposed.chosen[kept]]
        first = np.searchsorted(prompt, prompt)
        within = np.arange(len(kept)) - first < self.max_pairs
        _count(ctx, "pair/pairs-over-limit", int((~within).sum()))
        first_ones: np.ndarray = kept[within]
        return first_ones

    def _explain(
        self, table: pa.Table, runs: Runs, pool: Pool, proposed: Matches, verdicts: np.ndarray, ctx: Context
    ) -> None:
        """Count every prompt without a pair by its reason, and set its responses aside."""
        prompts = len(runs.starts)
        usable = np.bincount(pool.prompt, minlength=prompts)
        winners = np.bincount(pool.prompt, pool.can_win, prompts) > 0
        losers = np.bincount(pool.prompt, pool.can_lose, prompts) > 0
        lacking = [runs.lengths < 2, usable < 2, ~(winners & losers)]
        why = np.array(WITHOUT, object)[np.select(lacking, range(3), 3)]
        of, told = pool.prompt[proposed.chosen], np.array([*REFUSED, STANDS], object)[verdicts]
        why[of[::-1]] = told[::-1]  # reversed, so that the first proposal is written last
        why[of[verdicts < 0]] = STANDS
        lost = why != STANDS
        for reason, count in zip(*np.unique(why[lost].astype(str), return_counts=True), strict=True):
            _count(ctx, f"pair/{reason}", int(count))
        gone = np.repeat(lost, runs.lengths)
        reasons = pa.array(np.repeat(why, runs.lengths)[gone], pa.string())
        ctx.drop(table.filter(pa.array(gone)), reasons)


_PROPOSERS = {
    "best-worst": pairing.best_worst,
    "best-rest": pairing.best_rest,
    "best-second": pairing.best_second,
    "all": pairing.all_ranked,
    "list": pairing.all_ranked,
    "by-model-rank": pairing.all_ranked,
    "adjacent": pairing.adjacent,
    "fold": pairing.fold,
    "first-round": pairing.first_round,
    "tournament": pairing.tournament,
    "semi-online": pairing.best_worst,
}


def _from(table: pa.Table, names: tuple[str, ...] | None) -> np.ndarray:
    if names is None:
        return np.ones(table.num_rows, dtype=bool)
    wanted = pa.array(names)
    found: np.ndarray = pc.or_(pc.is_in(table["origin"], wanted), pc.is_in(table["model"], wanted)).to_numpy()
    return found


def _count(ctx: Context, note: str, count: int) -> None:
    if count:
        ctx.notes[note] += count
