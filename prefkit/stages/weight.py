"""Weight: how much each pair counts in training, from what is believed of it. Formulas are in `prefkit.weighting`."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal, Self, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import (
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    PositiveFloat,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from prefkit.columns import COLUMNS, Columns, types
from prefkit.engines import Model
from prefkit.estimators.weights import certainty, effective_size, kl_dro, to_mean_one
from prefkit.scorers.embedded import EMBEDDED, VECTOR, embedded
from prefkit.stage import PAIRS, Context, Cost, Flow, Holds, Kind, Stage
from prefkit.tables import floats, last_content, nullable, put
from prefkit.weighting import beliefs
from prefkit.weighting.expression import Expression, parse
from prefkit.weighting.worst_case import wasserstein

__all__ = ["Weight"]

Strategy = Literal[
    "certainty",
    "trust",
    "kl-dro",
    "column",
    "expression",
    "uncertainty",
    "wasserstein-dro",
    "novelty",
    "inverse-propensity",
    "annotator",
]
_READS: Mapping[str, tuple[str, ...]] = {
    "certainty": ("p_chosen",),
    "trust": ("flip_prob",),
    "kl-dro": ("margin",),
    "wasserstein-dro": ("margin",),
    "annotator": ("annotator", "flip_prob"),
}
_BY: Mapping[str, str] = {"uncertainty": "score", "inverse-propensity": "acq_prob"}
"""What `by` is where it is left out."""
_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "expression": ("formula",),
    "uncertainty": ("sharpness",),
    "wasserstein-dro": ("radius", "low", "knots"),
    "novelty": ("model", "ceiling"),
    "annotator": ("pseudo",),
}
"""Settings that one kind alone has."""


@final
class Weight(Stage):
    """Write `weight`, of mean 1; null where what it is made from is missing. Notes the effective number of rows."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: ClassVar[str] = "weight"
    kind: ClassVar[Kind] = "global"
    level: ClassVar[Flow] = PAIRS

    strategy: Strategy = Field("certainty", alias="kind")
    """`certainty` of `p_chosen`, `trust` in the label (1 - `flip_prob`), `kl-dro` or `wasserstein-dro` against the worst
    case of `margin`, a `column`, or a `formula` of columns (`expression`). `uncertainty`: what several scorers or dropout
    are sure of. `novelty`: chosen responses unlike what the policy wrote. `inverse-propensity` of having been picked.
    `annotator`: how reliable who labelled it is elsewhere."""
    by: str = ""
    """For `column`: a column that the weight is proportional to, at least 0. For `uncertainty`: the score of which there
    are `<by>_p` and `<by>_bald`, by default `score`. For `novelty` without a model: a similarity. For
    `inverse-propensity`: the probability, by default `acq_prob`."""
    temperature: PositiveFloat = 1.0
    """For `kl-dro`: the lower, the more the pairs with the lowest margins count."""
    clip: PositiveFloat | None = None
    """The greatest weight, after scaling to mean 1."""
    formula: str = ""
    """For `expression`: arithmetic over columns, `(1 - flip_prob) * max(margin, 0)`, with + - * / **, parentheses, abs, exp,
    log, sqrt, logistic, min and max. At least 0 everywhere."""
    sharpness: NonNegativeFloat = 1.0
    """For `uncertainty`: how much disagreement of the members takes away; at 0 only their mean counts."""
    radius: NonNegativeFloat = 0.1
    """For `wasserstein-dro`: how far off margins are believed to be on the mean, in units of the margin."""
    low: FiniteFloat = -2.0
    """For `wasserstein-dro`: the lowest margin that is thought possible."""
    knots: tuple[FiniteFloat, ...] = ()
    """For `wasserstein-dro`: margins at which tangents stand in for the loss; left out, the loss itself."""
    model: Model | None = None
    """For `novelty`: an embedding model, to compare chosen with every rejected response of its prompt."""
    ceiling: PositiveFloat = 2.0
    """For `novelty`: what the similarity is taken from."""
    pseudo: PositiveFloat = 10.0
    """For `annotator`: with how many labels the mean of all annotators enters each one's reliability."""

    @model_validator(mode="after")
    def _has_its_column(self) -> Self:
        if self.strategy in (*_BY, "novelty"):
            if self.strategy == "novelty" and bool(self.by) == (self.model is not None):
                raise ValueError("novelty takes either by, a similarity, or model, to embed")
            return self
        if bool(self.by) != (self.strategy == "column"):
            raise ValueError("by and kind 'column' go together")
        return self

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Self:
        fields = type(self).model_fields
        for kind, names in _SETTINGS.items():
            changed = [name for name in names if getattr(self, name) != fields[name].default]
            if changed and kind != self.strategy:
                raise ValueError(f"{', '.join(changed)}: for kind '{kind}' only")
        if self.strategy == "expression":
            if not self.formula:
                raise ValueError("kind 'expression' needs a formula")
            self._check_numbers(parse(self.formula))
        return self

    @model_serializer(mode="wrap")
    def _without_others(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what the kind does not have, so that the identity of one kind does not know of the others."""
        plain: dict[str, Any] = dump(self)
        others = {name for kind, names in _SETTINGS.items() if kind != self.strategy for name in names}
        return {name: value for name, value in plain.items() if name not in others}

    def reads(self) -> Columns:
        if self.strategy == "expression":
            names = parse(self.formula).columns()
            return {name: COLUMNS[name].type if name in COLUMNS else pa.float64() for name in names}
        if self.strategy == "uncertainty":
            return {f"{self._by()}_p": pa.float64(), f"{self._by()}_bald": pa.float64()}
        if self.model is not None:
            return types("prompt_id", "chosen", "rejected")
        return {self._by(): pa.float64()} if self._by() else types(*_READS[self.strategy])

    def writes(self) -> Columns:
        return types("weight")

    def holds(self, width: Mapping[str, float]) -> Holds:
        if self.model is None:
            return Holds(100.0)
        return Holds(
            EMBEDDED * (width["chosen"] + width["rejected"]) + 2 * VECTOR, "`by`, a similarity, holds 100"
        )

    def cost(self) -> Cost:
        return Cost(calls=2.0) if self.model is not None else Cost()

    def looks(self) -> Collection[str]:
        return () if self.model is None else ("chosen", "rejected")

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        raw = self._raw(table, ctx) if self.model is None else None
        if raw is None:
            table, raw = self._unlike(table, ctx)
        weight = to_mean_one(np.where(np.isfinite(raw), raw, np.nan))
        if self.clip is not None:
            ctx.notes["weight/clipped"] += int((weight > self.clip).sum())
            weight = np.minimum(weight, self.clip)
        ctx.notes["weight/effective-rows"] += round(effective_size(weight))
        return put(table, "weight", nullable(weight))

    def _by(self) -> str:
        return self.by or _BY.get(self.strategy, "")

    def _raw(self, table: pa.Table, ctx: Context) -> np.ndarray:
        """Return weights before they are scaled: float64 [rows]; NaN or infinite where there is none."""
        if self.strategy == "expression":
            return self._calculated(parse(self.formula), table, ctx)
        if self.strategy == "annotator":
            return self._by_annotator(table)
        if self.strategy == "uncertainty":
            p, information = (floats(table[name]) for name in self.reads())
            return beliefs.sureness(p, information, self.sharpness)
        values = floats(table[next(iter(self.reads()))])
        values = np.where(np.isfinite(values), values, np.nan)
        if self.strategy == "kl-dro":
            return kl_dro(values, self.temperature)
        if self.strategy == "wasserstein-dro":
            return wasserstein(values, self.radius, self.low, self.knots).weight
        if self.strategy == "novelty":
            return beliefs.novelty(values, self.ceiling)
        if self.strategy == "inverse-propensity":
            return beliefs.propensity(values)
        if self.strategy == "certainty":
            return certainty(values)
        return 1 - values if self.strategy == "trust" else values

    def _calculated(self, formula: Expression, table: pa.Table, ctx: Context) -> np.ndarray:
        columns = {name: floats(table[name]) for name in formula.columns()}
        told = formula(columns, table.num_rows)
        known = np.all([np.isfinite(values) for values in columns.values()], axis=0) & np.ones(
            len(told), bool
        )
        if odd := int((known & ~np.isfinite(told)).sum()):
            ctx.notes["weight/not-finite"] += odd
        return np.where(known, told, np.nan)

    def _by_annotator(self, table: pa.Table) -> np.ndarray:
        """Return 1 - 2 (how often the annotator is wrong), at least 0: what is left of a label's pull under that noise."""
        names = table["annotator"].unique().drop_null()
        names = names.take(pc.array_sort_indices(names))
        code = pc.fill_null(pc.index_in(table["annotator"], names), -1).to_numpy().astype(np.int64)
        rate = np.append(beliefs.reliability(code, 1 - floats(table["flip_prob"]), self.pseudo), np.nan)
        left: np.ndarray = np.maximum(2 * rate[code] - 1, 0.0)
        return left

    def _unlike(self, table: pa.Table, ctx: Context) -> tuple[pa.Table, np.ndarray]:
        """Return the rows whose texts could be embedded, and their weights."""
        assert self.model is not None
        texts = [last_content(table[side]) for side in ("chosen", "rejected")]
        chosen, rejected = embedded(texts, self.model, ctx.engines)
        errors = [one or other for one, other in zip(chosen.errors, rejected.errors, strict=True)]
        fine = np.array([error is None for error in errors], dtype=bool)
        prompt = pc.index_in(table["prompt_id"], table["prompt_id"].unique()).to_numpy()[fine]
        told = beliefs.nearest(chosen.vectors[fine], rejected.vectors[fine], prompt)
        return ctx.fail(table, pa.array(errors, pa.string())), beliefs.novelty(told, self.ceiling)

    def _check_numbers(self, formula: Expression) -> None:
        for name in formula.columns():
            kind = COLUMNS[name].type if name in COLUMNS else pa.float64()
            if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
                raise ValueError(f"column '{name}' holds no numbers")
        if not formula.columns():
            raise ValueError("the formula names no column, so every pair would count alike")
