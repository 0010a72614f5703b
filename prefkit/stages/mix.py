"""Mix: how much of each source or domain goes on, counted in whole prompts so that no prompt is cut."""

from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Self, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from prefkit.columns import Columns, types
from prefkit.errors import ContractError
from prefkit.estimators.weights import largest_remainder
from prefkit.ranking import ranked
from prefkit.stage import ANY, Context, Flow, Holds, Kind, Stage
from prefkit.tables import numbered, rows_of

__all__ = ["Mix"]

Share = Annotated[float, Field(ge=0)]


@final
class Mix(Stage):
    """Keep a share of each stratum; which of its prompts stay is drawn. A prompt stays or goes with all its rows."""

    name: ClassVar[str] = "mix"
    kind: ClassVar[Kind] = "global"
    level: ClassVar[Flow] = ANY
    random: ClassVar[bool] = True

    by: str = "source"
    """The column of strata. It must not vary within a prompt."""
    shares: Mapping[str, Share] = Field(default_factory=dict)
    """Share of each stratum, relative to each other; a stratum that is not named goes. Left out: by temperature."""
    temperature: PositiveFloat = 1.0
    """Without shares: strata count by their size to the power 1 / temperature, so a high one makes them even."""
    total: PositiveInt | None = None
    """How many prompts; left out, as many as the shares allow."""

    @model_validator(mode="after")
    def _some_share(self) -> Self:
        if self.shares and not any(self.shares.values()):
            raise ValueError("all shares are 0")
        return self

    def reads(self) -> Columns:
        return {self.by: pa.string(), **types("prompt_id")}

    def writes(self) -> Columns:
        return {}

    def drops(self) -> Collection[str]:
        return ("no-share", "over-share")

    def looks(self) -> Collection[str]:
        return ()

    def holds(self, width: Mapping[str, float]) -> Holds:
        return Holds(120.0)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        prompt = numbered(table["prompt_id"])
        first = np.flatnonzero(
            np.append(True, prompt[1:] > np.maximum.accumulate(prompt)[:-1])[: len(prompt)]
        )
        names, strata = _strata(table[self.by])
        stratum = strata[first]
        if (stratum[prompt] != strata).any():
            what = f"column '{self.by}' varies within a prompt, so prompts have no share of it"
            raise ContractError(what, hint="mix by a column of the prompt: source or domain")
        sizes = np.bincount(stratum, minlength=len(names))
        quota = self._quotas(names, sizes)
        for name, short in zip(names, quota - sizes, strict=True):
            if short > 0:
                ctx.notes[f"mix/short-of-{name}"] += int(short)
        ids = rows_of(table["prompt_id"], first)
        order = ranked(pa.table({"id": ids, "draw": ctx.uniform(self, ids)}), "draw")
        order = order[np.argsort(stratum[order], kind="stable")]
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        reasons = pa.array(np.where(quota[stratum] > 0, "over-share", "no-share"), pa.string())
        why = pc.if_else(pa.array(place < quota[stratum]), None, reasons)
        return ctx.drop(table, why.take(pa.array(prompt)))

    def _quotas(self, names: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Return how many prompts of each stratum stay: int64 [strata]."""
        if not len(names):
            return np.zeros(0, np.int64)
        shares = np.array([self.shares.get(str(name), 0.0) for name in names])
        if not self.shares:
            shares = sizes ** (1 / self.temperature)
        if not shares.any():
            what = f"column '{self.by}' has none of the strata {sorted(self.shares)}"
            raise ContractError(what, hint=f"it has: {', '.join(map(str, names[:10]))}")
        wanted = shares > 0
        most = int((sizes[wanted] / shares[wanted]).min() * shares.sum() + 1e-9)
        return largest_remainder(shares, most if self.total is None else self.total)


def _strata(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the names of strata, sorted, and the place of each row's among them, int64 [rows]. Null is the empty name."""
    codes = pc.dictionary_encode(pc.fill_null(column, "")).combine_chunks()
    names, places = np.unique(np.array(codes.dictionary.to_pylist(), object), return_inverse=True)
    return names, places[codes.indices.to_numpy(zero_copy_only=False)] if len(codes) else np.zeros(
        0, np.int64
    )
