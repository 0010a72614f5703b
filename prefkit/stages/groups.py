"""Groups: people who prefer alike, found from what each of them chose, and the label that a group would give.

    soft, hard   annotators fall into groups, each with a reward of its own that is linear in scores or embeddings
    prototypes   each annotator prefers what lies near a point of their own, between a few that all share
    routed       no annotators: which of several rewards holds is read off the prompt

One row is one opinion (`annotators` makes them), chosen being what its annotator prefers. Groups are found on rows outside
the test split, so `split: {by: annotator}` before it holds out people, whom `place` assigns by a few of their labels.
Whether there are groups at all is a question of its own: `permutations` answers it, and a dataset whose people differ by
chance alone has groups too, which mean nothing.

Sources: MaxMin-RLHF (2024), arXiv 2402.08925; PAL (2024), arXiv 2406.08469; MiCRo (2025), arXiv 2505.24846.
"""

from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Literal, NamedTuple, Self, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveFloat, model_validator

from prefkit.columns import Columns, types
from prefkit.engines import Model
from prefkit.errors import ContractError
from prefkit.estimators.mixture import annotator_log_likelihood, assign, fit_groups, heterogeneity
from prefkit.estimators.preference import logistic, spread
from prefkit.estimators.prototypes import fit_prototypes, ideal_margin, ideal_points, place
from prefkit.estimators.regression import log_softmax
from prefkit.estimators.routed import fit_routed, mixture_probability, route
from prefkit.labels.op import may_fit
from prefkit.scorers.embedded import EMBEDDED, VECTOR, embedded
from prefkit.stage import PAIRS, Context, Cost, Flow, Holds, Kind, Stage
from prefkit.stages.choice import several
from prefkit.tables import floats, nullable, put, word_where
from prefkit.texts import contents

__all__ = ["Groups"]

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_PLACED = "placed-by"
_HELD_OUT = 0.25
_DECIMALS = 12
"""Of shares and probabilities: beyond them, what a fit gives depends on the processor, and rows should not."""


class _Rows(NamedTuple):
    """What groups are found in."""

    chosen: np.ndarray
    """Features, float64 [rows, dims]; NaN where there are none."""
    rejected: np.ndarray
    who: np.ndarray
    """Annotator, int64 [rows]; -1 where there is none."""
    context: np.ndarray
    """For `routed`: features of the prompt, float64 [rows, context dims]; else [rows, 0]."""
    fits: np.ndarray
    """Which rows groups may be found in, bool [rows]."""
    places: np.ndarray
    """Which rows say where somebody new belongs, bool [rows]."""


class _Found(NamedTuple):
    share: np.ndarray
    """P(group), or share of each prototype, float64 [rows, groups]."""
    group: np.ndarray
    """int64 [rows]; -1 where it cannot be told."""
    p: np.ndarray
    """P(chosen is better), float64 [rows]."""


@final
class Groups(Stage):
    """Write `group` (`a` is the largest), `group_shares`, and `p_chosen` by the group's reward or the mixture's.

    Null where a feature or the annotator is missing; `group` also where an annotator fits two groups nearly alike.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    name: ClassVar[str] = "groups"
    version: ClassVar[int] = 2
    kind: ClassVar[Kind] = "global"
    level: ClassVar[Flow] = PAIRS
    random: ClassVar[bool] = True

    strategy: Literal["soft", "hard", "prototypes", "routed"] = Field("soft", alias="kind")
    """How groups are found: `soft` keeps the doubt who belongs where, `hard` settles it at every step. `prototypes` and
    `routed`: see above."""
    groups: Annotated[int, Field(ge=1, le=len(_LETTERS))] = 2
    """How many."""
    of: Annotated[tuple[str, ...], BeforeValidator(several)] = ()
    """Scores that are the features: reads `chosen_<score>` and `rejected_<score>`, each divided by the spread of its gap."""
    model: Model | None = None
    """Instead of scores: a model whose embeddings of both sides are the features."""
    context: str = ""
    """For `routed`: a column of words, such as `domain`, that the router reads; with `model` and without it, the embedded prompt."""
    ridge: PositiveFloat | None = None
    """Penalty on rewards; left out, 1 for scores and 0.1 for embeddings, and 0.01 for prototypes."""
    place: NonNegativeInt = 0
    """How many labels of an annotator who has no row outside the test split say where they belong. Those rows are dropped,
    so that nobody is measured on them; rows of others with no such label have the mean shares and no group."""
    permutations: NonNegativeInt = 0
    """For `soft` and `hard`: how often annotators' names are exchanged to tell groups from chance; 19 allow p = 0.05."""

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Self:
        if bool(self.of) == (self.model is not None):
            raise ValueError("groups takes either of, scores, or model, to embed")
        if self.strategy == "routed" and not (self.context or self.model):
            raise ValueError("kind 'routed' needs a context, or a model to embed prompts with")
        if self.context and self.strategy != "routed":
            raise ValueError("context is for kind 'routed'")
        if self.permutations and self.strategy not in ("soft", "hard"):
            raise ValueError("permutations is for kinds 'soft' and 'hard'")
        return self

    def reads(self) -> Columns:
        scores = {f"{side}_{name}": pa.float64() for name in self.of for side in ("chosen", "rejected")}
        people = types("annotator") if self.strategy != "routed" or self.place else {}
        words = {self.context: pa.string()} if self.context else {}
        return {**types("id", "prompt", "chosen", "rejected"), **scores, **people, **words}

    def writes(self) -> Columns:
        return types("group", "group_shares", "p_chosen")

    def touches(self) -> Collection[str]:
        return ("split",)

    def drops(self) -> Collection[str]:
        return (_PLACED,) if self.place else ()

    def holds(self, width: Mapping[str, float]) -> Holds:
        if self.model is None:
            return Holds(150.0 + 60.0 * (len(self.of) + self.groups))
        sides = ("chosen", "rejected", *(["prompt"] if self._embeds_prompts() else []))
        texts = EMBEDDED * sum(width[side] for side in sides)
        return Holds(texts + VECTOR * 2 * len(sides), "`of`, scores, holds a few hundred bytes a row")

    def cost(self) -> Cost:
        return Cost() if self.model is None else Cost(calls=3.0 if self._embeds_prompts() else 2.0)

    def looks(self) -> Collection[str]:
        return () if self.model is None else ("prompt", "chosen", "rejected")

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        table, rows = self._features(table, ctx)
        if table.num_rows and not rows.fits.any():
            raise ContractError("no row outside the test split has an annotator and all features")
        count = table.num_rows
        found = _Found(np.full((count, self.groups), np.nan), np.full(count, -1), np.full(count, np.nan))
        if count:
            fit = {"prototypes": self._prototypes, "routed": self._routed}.get(self.strategy, self._mixture)
            found = _by_size(fit(rows, ctx), rows.fits)
            self._tell(found, rows, ctx)
        there = np.isfinite(found.p)
        names = pa.array(list(_LETTERS[: self.groups])).take(pa.array(found.group, mask=found.group < 0))
        lists = pa.FixedSizeListArray.from_arrays(pa.array(found.share.ravel().round(_DECIMALS)), self.groups)
        shares = pc.if_else(pa.array(there), lists.cast(pa.list_(pa.float64())), None)
        table = put(put(table, "group", pc.if_else(pa.array(there), names, None)), "group_shares", shares)
        table = put(table, "p_chosen", nullable(found.p.round(_DECIMALS)))
        return ctx.drop(table, word_where(rows.places, _PLACED))

    def _features(self, table: pa.Table, ctx: Context) -> tuple[pa.Table, _Rows]:
        prompt = None
        if self.model is not None:
            sides = ["chosen", "rejected", *(["prompt"] if self._embeds_prompts() else [])]
            told = embedded([contents(table[side]) for side in sides], self.model, ctx.engines)
            errors = [
                next(filter(None, each), None) for each in zip(*(one.errors for one in told), strict=True)
            ]
            fine = np.array([error is None for error in errors], dtype=bool)
            table = ctx.fail(table, pa.array(errors, pa.string()))
            chosen, rejected, *prompts = (one.vectors[fine] for one in told)
            prompt = prompts[0] if prompts else None
        else:
            chosen, rejected = (
                np.stack([floats(table[f"{side}_{name}"]) for name in self.of], axis=1)
                for side in ("chosen", "rejected")
            )
        who = (
            _codes(table["annotator"]) if "annotator" in self.reads() else np.zeros(table.num_rows, np.int64)
        )
        context = self._context(table, prompt)
        there = np.isfinite(chosen + rejected).all(axis=1) & np.isfinite(context).all(axis=1) & (who >= 0)
        fits = there & may_fit(table)
        gap = chosen[fits] - rejected[fits]
        lengths = np.full(gap.shape[1], np.sqrt(np.square(gap).sum(axis=1).mean()) if len(gap) else 1.0)
        unit = lengths if self.model is not None else np.array([spread(each) for each in gap.T])
        unit = np.where(unit > 0, unit, 1.0)
        nothing = np.full(chosen.shape, np.nan)
        chosen, rejected = (np.where(there[:, None], side / unit, nothing) for side in (chosen, rejected))
        places = self._placing(table, who, there, fits, ctx)
        return table, _Rows(chosen, rejected, who, context, fits, places)

    def _context(self, table: pa.Table, prompt: np.ndarray | None) -> np.ndarray:
        if self.strategy != "routed":
            return np.zeros((table.num_rows, 0))
        if self.context:
            codes = _codes(table[self.context])
            prompt = (codes[:, None] == np.arange(codes.max(initial=-1) + 1)).astype(np.float64)
        assert prompt is not None
        return np.concatenate([np.ones((table.num_rows, 1)), prompt], axis=1)

    def _placing(
        self, table: pa.Table, who: np.ndarray, there: np.ndarray, fits: np.ndarray, ctx: Context
    ) -> np.ndarray:
        """Return the first rows, by a draw, of each annotator whom nothing else places."""
        places = np.zeros(table.num_rows, dtype=bool)
        if not self.place:
            return places
        rows = np.flatnonzero(there & ~np.isin(who, who[fits]))
        draw = ctx.uniform(self, table["id"])
        order = rows[np.lexsort((draw[rows], who[rows]))]
        first = np.searchsorted(who[order], who[order])
        places[order[np.arange(len(order)) - first < self.place]] = True
        return places

    def _embeds_prompts(self) -> bool:
        return self.strategy == "routed" and not self.context

    def _ridge(self) -> float:
        usual = 0.01 if self.strategy == "prototypes" else 1.0 if self.model is None else 0.1
        return usual if self.ridge is None else self.ridge

    def _mixture(self, rows: _Rows, ctx: Context) -> _Found:
        gap = rows.chosen - rows.rejected
        known, own = np.unique(rows.who[rows.fits], return_inverse=True)
        rule: Literal["soft", "hard"] = "hard" if self.strategy == "hard" else "soft"
        found = fit_groups(gap[rows.fits], own, self.groups, rule=rule, ridge=self._ridge(), seed=ctx.seed)
        if self.permutations:
            self._test(gap[rows.fits], own, ctx)
        share, group = np.tile(found.prior, (len(gap), 1)), np.full(len(gap), -1)
        mine = np.isin(rows.who, known)
        place = np.searchsorted(known, rows.who[mine])
        share[mine] = found.responsibility[place]
        group[mine] = np.where(found.assignment.is_unassigned, -1, found.assignment.group)[place]
        if rows.places.any():
            new, label = np.unique(rows.who[rows.places], return_inverse=True)
            told = annotator_log_likelihood(gap[rows.places] @ found.heads.T, label)
            with np.errstate(divide="ignore"):
                told = told + np.log(found.prior)
            placed = assign(told)
            theirs = np.isin(rows.who, new)
            place = np.searchsorted(new, rows.who[theirs])
            share[theirs] = (
                np.eye(self.groups)[placed.group] if rule == "hard" else np.exp(log_softmax(told))
            )[place]
            group[theirs] = np.where(placed.is_unassigned, -1, placed.group)[place]
        return _Found(share, group, mixture_probability(share, logistic(gap @ found.heads.T)))

    def _prototypes(self, rows: _Rows, ctx: Context) -> _Found:
        known, own = np.unique(rows.who[rows.fits], return_inverse=True)
        sides = rows.chosen[rows.fits], rows.rejected[rows.fits]
        found = fit_prototypes(*sides, own, self.groups, ridge=self._ridge(), seed=ctx.seed)
        share = np.tile(found.share.mean(axis=0), (len(rows.who), 1))
        mine = np.isin(rows.who, known)
        share[mine] = found.share[np.searchsorted(known, rows.who[mine])]
        for person in np.unique(rows.who[rows.places]):  # a Python loop: each is a fit of its own
            given = rows.places & (rows.who == person)
            own_share = place(rows.chosen[given], rows.rejected[given], found.points, found.scale)
            share[rows.who == person] = own_share
        told = mine | np.isin(rows.who, rows.who[rows.places])
        margin = found.scale * ideal_margin(rows.chosen, rows.rejected, ideal_points(share, found.points))
        return _Found(share, np.where(told, share.argmax(axis=1), -1), logistic(margin))

    def _routed(self, rows: _Rows, ctx: Context) -> _Found:
        gap = rows.chosen - rows.rejected
        found = fit_routed(
            gap[rows.fits], rows.context[rows.fits], self.groups, ridge=self._ridge(), seed=ctx.seed
        )
        told = np.log(np.maximum(route(found.router, rows.context), 1e-300))
        if rows.places.any():
            new, label = np.unique(rows.who[rows.places], return_inverse=True)
            seen = annotator_log_likelihood(gap[rows.places] @ found.heads.T, label)
            theirs = np.isin(rows.who, new)
            told[theirs] += seen[np.searchsorted(new, rows.who[theirs])]
        share = np.exp(log_softmax(told))
        return _Found(share, share.argmax(axis=1), mixture_probability(share, logistic(gap @ found.heads.T)))

    def _test(self, gap: np.ndarray, own: np.ndarray, ctx: Context) -> None:
        held = np.random.default_rng(ctx.seed).random(len(own)) < _HELD_OUT
        held &= np.isin(own, own[~held])
        more = {"groups": self.groups, "permutations": self.permutations}
        found = heterogeneity(gap, own, held, ridge=self._ridge(), seed=ctx.seed, **more)
        ctx.notes[f"groups/p-value: {found.p_value:.3g}"] += 1
        ctx.notes[f"groups/held-out nats a label gained: {found.gain:.4f}"] += 1

    def _tell(self, found: _Found, rows: _Rows, ctx: Context) -> None:
        fits = rows.fits
        for at, letter in enumerate(_LETTERS[: self.groups]):
            mine = fits & (found.group == at)
            if self.strategy != "routed":
                ctx.notes[f"groups/annotators of {letter}"] += len(np.unique(rows.who[mine]))
            right = f"{(found.p[mine] > 0.5).mean():.3f}" if mine.any() else "none"
            ctx.notes[f"groups/labels of {letter} told right: {right}"] += 1
        ctx.notes["groups/annotators of no group"] += len(
            np.unique(rows.who[(rows.who >= 0) & (found.group < 0)])
        )


def _by_size(found: _Found, fits: np.ndarray) -> _Found:
    """Number groups by their size, largest first."""
    order = np.argsort(-found.share[fits].mean(axis=0), kind="stable")
    rank = np.append(np.argsort(order), -1)
    return found._replace(share=found.share[:, order], group=rank[found.group])


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """Return the place of each word among all in order, -1 for null: int64 [rows]."""
    names = pc.unique(column).drop_null()
    codes = pc.index_in(column, names.take(pc.array_sort_indices(names)))
    # `index_in` finds null in nothing, so null stays null here.
    return np.asarray(pc.fill_null(codes, -1).to_numpy(), np.int64)
