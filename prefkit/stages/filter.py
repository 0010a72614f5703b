"""Filter: which rows do not go on, each with the first reason that applies, counted and kept aside.

Flaws of a text are looked for in what the row is about: the prompt of a prompt row, the response of a response row,
either side of a pair. Everything else is said of a column by name. What each flaw is, and what it misses, stands in
docs/quality.md.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from prefkit.columns import COLUMNS, Columns, types
from prefkit.ranking import ranked, share_of
from prefkit.stage import ANY, Context, Flow, Holds, Kind, Stage, level_of
from prefkit.stages import flaws
from prefkit.stages.choice import Agree, Best, Peers, reviewed, several
from prefkit.tables import floats
from prefkit.texts import characters, chunkwise, digests

__all__ = ["Cut", "Filter", "Keep", "Top"]

Flaw = Literal[
    "empty",
    "truncated",
    "repeating",
    "role-leak",
    "identical",
    "personal-data",
    "special-token",
    "cut-off",
    "refusal",
    "other-script",
    "other-language",
]
_LATER = ("agree", "peers", "best")
_ABOUT = {"prompt": ("prompt",), "response": ("response",), "pair": ("chosen", "rejected")}
Share = Annotated[float, Field(ge=0, lt=1)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Keep(_Settings):
    """What a column must be for a row to stay. With nothing but the column: it must be there, and finite."""

    column: str
    min: float | None = None
    """The least value that stays."""
    max: float | None = None
    """The greatest value that stays."""
    any_of: Annotated[tuple[str | bool, ...], BeforeValidator(several)] = ()
    """The words, or true or false, that stay."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.any_of and (self.min is not None or self.max is not None):
            raise ValueError("any_of is for words, min and max are for numbers")
        if len({type(value) for value in self.any_of}) > 1:
            raise ValueError("any_of takes words, or true and false, not both")
        return self

    def type(self) -> pa.DataType:
        """Return the Arrow type that the column must have."""
        if self.column in COLUMNS:
            return COLUMNS[self.column].type
        if self.any_of:
            return pa.bool_() if isinstance(self.any_of[0], bool) else pa.string()
        return pa.float64()


class Cut(_Settings):
    """Which ends of a column go, over the whole dataset. Rows without a value stay."""

    column: str
    lowest: Share = 0.0
    """Share of the rows with a value that goes, from below."""
    highest: Share = 0.0
    """Share of the rows with a value that goes, from above."""


class Top(_Settings):
    """How many rows of each prompt stay, best first."""

    column: str
    """A score; higher is better."""
    k: PositiveInt
    """How many stay."""


class _Check(NamedTuple):
    reason: str
    hit: np.ndarray
    """Which rows it applies to, bool [rows]."""


@final
class Filter(Stage):
    """Drop rows for named reasons; the first that applies is counted."""

    name: ClassVar[str] = "filter"
    kind: ClassVar[Kind] = "global"
    level: ClassVar[Flow] = ANY

    drop: Annotated[tuple[Flaw, ...], BeforeValidator(several)] = ()
    """Flaws: `empty`, `truncated` (response rows: generation hit its limit), `repeating`, `role-leak`, `identical` (pairs),
    `personal-data`, `special-token`, `cut-off` (seems to stop in the middle), `refusal` (English), `other-script` or
    `other-language` than the prompt."""
    min_chars: NonNegativeInt | None = None
    """The least length of a text, in characters."""
    max_chars: PositiveInt | None = None
    """The greatest length of a text, in characters."""
    length_ratio_max: Annotated[float, Field(ge=1)] | None = None
    """Pairs: by what factor the longer text, in characters, may exceed the shorter."""
    repeating_above: Share = 0.5
    """What share of a text, having been there before, makes it `repeating`."""
    keep: Annotated[tuple[Keep, ...], BeforeValidator(several)] = ()
    """What columns must be: `{column: score, min: 0.5}`, `{column: domain, any_of: [law]}`, or a list of such."""
    top: Top | None = None
    """Keep the best few rows of each prompt: `{column: score, k: 4}`."""
    cut: Annotated[tuple[Cut, ...], BeforeValidator(several)] = ()
    """Cut off the ends of columns: `{column: margin, lowest: 0.2}`, or a list of such."""
    agree: Agree | None = None
    """Pairs: keep what scorers agree with: `{scores: [score, other], above: 0.1}`."""
    peers: Peers | None = None
    """Pairs: keep what two scorers would hand to each other: `{scores: [one, other]}`."""
    best: Best | None = None
    """Keep the best of each stratum: `{column: score, share: 0.3, by: domain}`."""

    @model_serializer(mode="wrap")
    def _without_unused(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not asked for, so that the identity of a filter does not know of what it could do besides."""
        plain: dict[str, Any] = dump(self)
        return {name: value for name, value in plain.items() if name not in _LATER or value is not None}

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        limits = (self.min_chars, self.max_chars, self.length_ratio_max, self.top, *self._choices())
        if not (self.drop or self.keep or self.cut or any(limit is not None for limit in limits)):
            raise ValueError("filter has nothing to do: say what to drop, keep or cut")
        return self

    def reads(self) -> Columns:
        needed: dict[str, pa.DataType] = {}
        if "truncated" in self.drop:
            needed |= types("finish")
        if "identical" in self.drop or self.length_ratio_max is not None:
            needed |= types("chosen", "rejected")
        needed |= {rule.column: rule.type() for rule in self.keep}
        needed |= {rule.column: pa.float64() for rule in self.cut}
        for choice in self._choices():
            needed |= choice.reads()
        return needed if self.top is None else {**needed, self.top.column: pa.float64()}

    def writes(self) -> Columns:
        return {}

    def drops(self) -> Collection[str]:
        reasons: list[str] = [*self.drop]
        reasons += ["too-short"] if self.min_chars is not None else []
        reasons += ["too-long"] if self.max_chars is not None else []
        reasons += ["length-ratio"] if self.length_ratio_max is not None else []
        for rule in self.keep:
            reasons += [f"{rule.column}/{word}" for word in ("missing", "too-low", "too-high", "other")]
        reasons += [] if self.top is None else [f"{self.top.column}/not-top"]
        for cut in self.cut:
            reasons += [f"{cut.column}/lowest", f"{cut.column}/highest"]
        reasons += [] if self.agree is None else ["scorers-disagree"]
        reasons += [] if self.peers is None else ["peers-doubt"]
        return [*reasons, *([] if self.best is None else [self.best.reason()])]

    def scope(self) -> Kind:
        if self.cut or self.peers or self.best:
            return "global"
        return "map" if self.top is None else "group"

    def looks(self) -> Collection[str]:
        return ("prompt", "response", "chosen", "rejected") if self._reads_texts() else ()

    def holds(self, width: Mapping[str, float]) -> Holds:
        return Holds(120.0)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        reasons: list[str] = []
        found = np.full(table.num_rows, -1)
        for check in self._checks(table, ctx):
            found[(found < 0) & check.hit] = len(reasons)
            reasons.append(check.reason)
        names = pa.array(reasons, pa.string())
        return ctx.drop(table, names.take(pa.array(found, mask=found < 0)))

    def _checks(self, table: pa.Table, ctx: Context) -> Iterator[_Check]:
        about = [table[name] for name in _ABOUT[level_of(table.schema)]]
        for flaw in self.drop:
            yield _Check(flaw, self._flaw(flaw, table, about))
        yield from self._lengths(about)
        for rule in self.keep:
            yield from _kept(rule, table[rule.column])
        if self.top is not None:
            yield _Check(f"{self.top.column}/not-top", _not_top(self.top, table))
        for cut in self.cut:
            yield from _cut_off(cut, table)
        if self.agree is not None:
            yield _Check("scorers-disagree", self.agree.misses(table))
        if self.peers is not None:
            yield _Check("peers-doubt", _doubted(self.peers, table, ctx))
        if self.best is not None:
            yield _Check(self.best.reason(), self.best.misses(table))

    def _reads_texts(self) -> bool:
        limits = (self.min_chars, self.max_chars, self.length_ratio_max)
        return bool(set(self.drop) - {"truncated"}) or any(limit is not None for limit in limits)

    def _choices(self) -> list[Agree | Peers | Best]:
        return [each for each in (self.agree, self.peers, self.best) if each is not None]

    def _lengths(self, about: list[pa.ChunkedArray]) -> Iterator[_Check]:
        if (self.min_chars, self.max_chars, self.length_ratio_max) == (None, None, None):
            return
        lengths = [characters(column) for column in about]
        shortest, longest = np.minimum.reduce(lengths), np.maximum.reduce(lengths)
        if self.min_chars is not None:
            yield _Check("too-short", shortest < self.min_chars)
        if self.max_chars is not None:
            yield _Check("too-long", longest > self.max_chars)
        if self.length_ratio_max is not None:
            yield _Check("length-ratio", longest > self.length_ratio_max * shortest)

    def _flaw(self, flaw: Flaw, table: pa.Table, about: list[pa.ChunkedArray]) -> np.ndarray:
        if flaw == "truncated":
            hit: np.ndarray = pc.fill_null(pc.equal(table["finish"], "length"), False).to_numpy()
        elif flaw == "identical":
            hit = np.logical_and.reduce(digests(table["chosen"]) == digests(table["rejected"]), axis=1)
        elif flaw == "repeating":
            found = [
                chunkwise(lambda some: flaws.repeating(some, self.repeating_above), each) for each in about
            ]
            hit = np.logical_or.reduce(found)
        elif flaw in flaws.ANSWER:
            sides = about if level_of(table.schema) != "prompt" else []
            found = [chunkwise(flaws.ANSWER[flaw], table["prompt"], column) for column in sides]
            hit = np.logical_or.reduce([np.zeros(table.num_rows, dtype=bool), *found])
        else:
            hit = np.logical_or.reduce([chunkwise(flaws.TEXT[flaw], column) for column in about])
        return hit


def _kept(rule: Keep, column: pa.ChunkedArray) -> Iterator[_Check]:
    if rule.any_of:
        yield _Check(f"{rule.column}/missing", column.is_null().to_numpy())
        wanted = pc.is_in(column, pa.array(rule.any_of, rule.type()))
        yield _Check(f"{rule.column}/other", pc.invert(wanted).to_numpy())
        return
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        yield _Check(f"{rule.column}/missing", column.is_null().to_numpy())
        return
    values = floats(column)
    yield _Check(f"{rule.column}/missing", ~np.isfinite(values))
    if rule.min is not None:
        yield _Check(f"{rule.column}/too-low", values < rule.min)
    if rule.max is not None:
        yield _Check(f"{rule.column}/too-high", values > rule.max)


def _not_top(top: Top, table: pa.Table) -> np.ndarray:
    order = ranked(table, top.column, descending=True)
    prompt = pc.dictionary_encode(table["prompt_id"].combine_chunks()).indices.to_numpy()[order]
    by_prompt = np.argsort(prompt, kind="stable")
    prompt = prompt[by_prompt]
    place = np.arange(len(prompt)) - np.searchsorted(prompt, prompt)
    hit: np.ndarray = np.zeros(len(prompt), dtype=bool)
    hit[order[by_prompt[place >= top.k]]] = True
    return hit


def _doubted(peers: Peers, table: pa.Table, ctx: Context) -> np.ndarray:
    found = reviewed(peers, table)
    for name, chosen, other in (("first", found.by_a, found.by_b), ("second", found.by_b, found.by_a)):
        ctx.notes[f"filter/peers-{name}-alone"] += int((chosen & ~other).sum())
    kept = found.by_a & found.by_b if peers.keep == "both" else found.by_a | found.by_b
    doubted: np.ndarray = ~kept
    return doubted


def _cut_off(cut: Cut, table: pa.Table) -> Iterator[_Check]:
    order = ranked(table, cut.column)
    order = order[np.isfinite(floats(table[cut.column]))[order]]
    for end, share, ordered in (("lowest", cut.lowest, order), ("highest", cut.highest, order[::-1])):
        hit = np.zeros(table.num_rows, dtype=bool)
        hit[ordered[: share_of(len(order), share)]] = True
        yield _Check(f"{cut.column}/{end}", hit)
