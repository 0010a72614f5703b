"""Dedup: rows that say the same as another row, or nearly the same.

    exact       the same text, after case and whitespace are made alike
    minhash     the same words for the most part: the runs of words that two texts share, as a share of those that
                either has (their Jaccard similarity), reach the threshold
    embedding   the same direction: the cosine of a model's embeddings reaches the threshold

What is nearly the same need not be so through and through: a first text may be like a second and that like a third.
Such a chain is one cluster, and one row of it stays. Candidates that MinHash suggests are compared by what they
really share, so nothing goes that is not like another row.

Memory is about 60 bytes a row for `exact`, 120 for `minhash` with 384 on disk, and for `embedding` 4 bytes for each
number of each vector; `embedding` compares all with all, so its time grows with the square of the rows.
"""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import (
    ConfigDict,
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from prefkit.columns import MESSAGES, Columns
from prefkit.engines import Engines, Failure, Model
from prefkit.near.alike import Lying, Runs, alike
from prefkit.near.minhash import Banding, tuned
from prefkit.near.vectors import alike_vectors, unit_vectors
from prefkit.near.words import Unit
from prefkit.ranking import ranked
from prefkit.scorers.embedded import VECTOR
from prefkit.stage import ANY, Context, Cost, Flow, Holds, Kind, Stage
from prefkit.tables import numbered, rows_of
from prefkit.texts import contents, digests, same_codes

__all__ = ["Dedup"]

_THRESHOLD = {"minhash": 0.7, "embedding": 0.95}
_ASKED = 4096
"""Texts that are embedded at once."""


@final
class Dedup(Stage):
    """Drop rows whose text is that of another row, or nearly so."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: ClassVar[str] = "dedup"
    kind: ClassVar[Kind] = "global"
    level: ClassVar[Flow] = ANY

    by: Literal["prompt", "response", "chosen", "pair"] = "prompt"
    """What must not come twice. By `prompt`, one prompt of several that read the same keeps all its rows."""
    within: Literal["prompt", "dataset"] = "prompt"
    """Where it must not come twice; by `prompt` always in the dataset."""
    keep: Literal["first", "best"] = "first"
    """Which of the rows stays: the first, or the one with the highest score; ties go by id."""
    score: str = "score"
    """With `best`: the column that says how good a row is."""
    match: Literal["exact", "minhash", "embedding"] = Field("exact", alias="kind")
    """What counts as the same: the same text, much the same words, or much the same meaning."""
    threshold: Annotated[float, Field(gt=0, le=1)] | None = None
    """From where on two texts are nearly the same: a Jaccard similarity, 0.7 by default, or a cosine, 0.95 by default."""
    n: PositiveInt = 5
    """With `minhash`: how many words, or characters, make one of the runs that are compared."""
    unit: Unit = "words"
    """With `minhash`: what the runs are made of. Characters suit short texts, with n around 5."""
    bands: PositiveInt | None = None
    """With `minhash`: how many bands of hashes; by default as many as find 99 in 100 pairs at the threshold."""
    rows: PositiveInt | None = None
    """With `minhash`: how many hashes a band; together with `bands`."""
    model: Model | None = None
    """With `embedding`: which model embeds."""

    @model_validator(mode="after")
    def _best_has_a_score(self) -> Self:
        if self.by == "prompt" and self.keep == "best":
            raise ValueError("by prompt, the first is kept: a prompt has no score")
        return self

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Self:
        changed = {
            name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default
        }
        wrong = sorted(changed & set(self._of_others()))
        if wrong:
            raise ValueError(f"kind '{self.match}' has no {' and no '.join(wrong)}")
        if self.match == "embedding" and self.model is None:
            raise ValueError("kind 'embedding' needs a model")
        if (self.bands is None) != (self.rows is None):
            raise ValueError("set both bands and rows, or neither")
        return self

    @model_serializer(mode="wrap")
    def _without_others(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what the kind does not have, so that the identity of one kind does not know of the others."""
        plain: dict[str, Any] = dump(self)
        left_out = {*self._of_others(), *(["kind"] if self.match == "exact" else [])}
        return {name: value for name, value in plain.items() if name not in left_out}

    def reads(self) -> Columns:
        needed = dict.fromkeys(self._texts(), MESSAGES)
        return {**needed, self.score: pa.float64()} if self.keep == "best" else needed

    def writes(self) -> Columns:
        return {}

    def touches(self) -> Collection[str]:
        return ("tools",) if self.by == "prompt" else ()

    def drops(self) -> Collection[str]:
        return ("duplicate",) if self.match == "exact" else ("near-duplicate",)

    def scope(self) -> Kind:
        return "global" if self.by == "prompt" or self.within == "dataset" else "group"

    def holds(self, width: Mapping[str, float]) -> Holds:
        if self.match == "exact":
            return Holds(100.0 + 16 * len(self._texts()))
        if self.match == "minhash":
            return Holds(180.0, "`kind: exact` holds 50 bytes a row less")
        texts = sum(width.get(name, 0.0) for name in self._texts())
        return Holds(2 * texts + VECTOR / 2 * len(self._texts()), "`kind: minhash` holds no text")

    def cost(self) -> Cost:
        return Cost(calls=float(len(self._texts()))) if self.match == "embedding" else Cost()

    def looks(self) -> Collection[str]:
        return self._texts()

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        if self.by != "prompt":
            count = table.num_rows
            within = numbered(table["prompt_id"]) if self.within == "prompt" else np.zeros(count, np.int64)
            found = self._found([table[name] for name in self._texts()], None, within, ctx)
            order = np.arange(count)
            if self.keep == "best":
                order = ranked(table, self.score, descending=True)
            stays = _first(found.codes, order) == np.arange(count)
            return self._kept(table, stays, found.errors, ctx)
        _, rows, prompt = np.unique(numbered(table["prompt_id"]), return_index=True, return_inverse=True)
        tools = numbered(table["tools"])[rows] if "tools" in table.column_names else np.zeros_like(rows)
        found = self._found([table["prompt"]], rows, tools, ctx)
        # prompts are numbered as they come first, so the first row of a cluster is of the prompt that stays
        stays = (_first(found.codes, np.argsort(rows)) == np.arange(len(rows)))[prompt]
        errors = None if found.errors is None else found.errors.take(pa.array(prompt))
        return self._kept(table, stays, errors, ctx)

    def _found(
        self, columns: list[pa.ChunkedArray], rows: np.ndarray | None, within: np.ndarray, ctx: Context
    ) -> "_Found":
        """Return which rows of the columns are the same, all or these."""
        if self.match == "exact":
            keys = [digests(column, rows, fold_case=True, with_roles=True) for column in columns]
            return _Found(same_codes(*keys, within))
        threshold = self.threshold or _THRESHOLD[self.match]
        if self.match == "minhash":
            banding = tuned(threshold)
            if self.bands is not None and self.rows is not None:
                banding = Banding(self.bands, self.rows)
            runs = Runs(self.n, self.unit)
            return _Found(
                alike(
                    columns,
                    runs,
                    threshold,
                    banding,
                    within,
                    rows=rows,
                    work=ctx.work,
                    threads=ctx.threads,
                    lying=Lying(ctx.apart, ctx.files, self._texts()) if ctx.apart and ctx.files else None,
                )
            )
        assert self.model is not None
        errors = pa.nulls(len(within), pa.string())
        some = columns if rows is None else [rows_of(column, rows) for column in columns]
        embedded = [_embedded(column, self.model, ctx.engines) for column in some]
        for each in embedded:
            errors = pc.coalesce(errors, each.errors)
        together = unit_vectors(np.concatenate([each.vectors for each in embedded], axis=1))
        together[errors.is_valid().to_numpy(zero_copy_only=False)] = 0.0  # like nothing: nothing goes for it
        return _Found(alike_vectors(together, threshold, within), errors)

    def _kept(self, table: pa.Table, stays: np.ndarray, errors: pa.Array | None, ctx: Context) -> pa.Table:
        (reason,) = self.drops()
        reasons = pc.if_else(pa.array(stays), None, pa.scalar(reason))
        if errors is None:
            return ctx.drop(table, reasons)
        return ctx.drop(ctx.fail(table, errors), reasons.filter(errors.is_null()))

    def _texts(self) -> tuple[str, ...]:
        return ("chosen", "rejected") if self.by == "pair" else (self.by,)

    def _of_others(self) -> tuple[str, ...]:
        """Return the settings that the kind does not have."""
        return {
            "exact": ("threshold", "n", "unit", "bands", "rows", "model"),
            "minhash": ("model",),
            "embedding": ("n", "unit", "bands", "rows"),
        }[self.match]


class _Found(NamedTuple):
    codes: np.ndarray
    """Equal where texts are the same, int64 [rows]."""
    errors: pa.Array | None = None
    """Why a text could not be looked at, string [rows]; null where it was, None if all were."""


class _Embedded(NamedTuple):
    vectors: np.ndarray
    """Of length 1, float32 [rows, size]."""
    errors: pa.Array


def _embedded(column: pa.ChunkedArray, model: Model, engines: Engines) -> _Embedded:
    """Return an embedding of each conversation's text, asking once for texts that are equal."""
    texts = pc.fill_null(contents(column), "")
    asked = pc.unique(texts)
    errors: list[str | None] = []
    blocks: list[np.ndarray] = []
    for start in range(0, len(asked), _ASKED):  # answers are lists of Python numbers, ten times as large
        answers = engines.embed(model, asked.slice(start, _ASKED).to_pylist())
        errors += [answer.error if isinstance(answer, Failure) else None for answer in answers]
        given = [answer for answer in answers if not isinstance(answer, Failure)]
        blocks += [np.array(given, np.float32)] if given else []
    vectors = np.zeros((len(asked), blocks[0].shape[1] if blocks else 1), np.float32)
    if blocks:
        vectors[[error is None for error in errors]] = np.concatenate(blocks)
    places = pc.index_in(texts, asked).combine_chunks()
    return _Embedded(unit_vectors(vectors)[places.to_numpy()], pa.array(errors, pa.string()).take(places))


def _first(codes: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return, for each row, which row of its code comes first in this order: int64 [rows]."""
    first: np.ndarray = np.zeros(int(codes.max()) + 1 if len(codes) else 0, np.int64)
    first[codes[order[::-1]]] = order[::-1]  # reversed, so that the first is written last
    found: np.ndarray = first[codes]
    return found
