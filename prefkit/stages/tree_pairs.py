"""Tree pairs: of the steps that a tree search tried at one point, the best against one that is not.

Both sides have the beginning and one step more; where a step was only ever followed by one other, that one belongs to
it too. So under a loss of summed log-probs the beginning cancels, and `chosen_spans` and `rejected_spans` mark what is
left. `label: [visits]` makes a soft label of how often the search went either way.

The released trainer of the paper means to take the worst step as rejected, and by an option that is always on takes a
random one; both are here by their names.

Source: MCTS-DPO (Xie et al., 2024), arXiv 2405.00451; the gap is iTool's (Zeng et al., 2025), arXiv 2501.09766.
"""

from collections.abc import Collection
from typing import Annotated, ClassVar, Literal, final

import numpy as np
import pyarrow as pa
from pydantic import Field

from prefkit.columns import Columns, types
from prefkit.stage import Context, Flow, Kind, Stage
from prefkit.stages.step_pairs import STEP_PAIR, step_pair_schema, step_pairs
from prefkit.tables import floats, last_content

__all__ = ["TreePairs"]

_NO_STEP, _NO_SIBLING, _TOO_CLOSE, _NOT_PICKED = "no-step", "no-sibling", "too-close", "not-picked"


@final
class TreePairs(Stage):
    """Pair the best step at each point of a tree with the worst, the second best or a random one."""

    name: ClassVar[str] = "tree-pairs"
    kind: ClassVar[Kind] = "group"
    level: ClassVar[Flow] = Flow(("response",), "pair")
    random: ClassVar[bool] = True

    by: str = "q_value"
    """What a step is worth."""
    rejected: Literal["worst", "second", "random"] = "worst"
    """Which of the other steps is rejected."""
    min_gap: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """The least gap of a pair; equal steps are never one."""

    def reads(self) -> Columns:
        needed = types("id", "prompt_id", "prompt", "response", "parent_id", "prefix_end", "step_index")
        return {**needed, self.by: pa.float64()}

    def writes(self) -> Columns:
        return STEP_PAIR

    def drops(self) -> Collection[str]:
        return (_NO_STEP, _NO_SIBLING, _TOO_CLOSE, _NOT_PICKED)

    def draws(self) -> bool:
        return self.rejected == "random"

    def becomes(self, schema: pa.Schema) -> pa.Schema:
        return step_pair_schema(schema)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        worth = floats(table[self.by])
        texts = [text or "" for text in last_content(table["response"]).to_pylist()]
        begins = table["prefix_end"].to_pylist()
        says = np.array(
            [bool(text[begin or 0 :].strip()) for text, begin in zip(texts, begins, strict=True)], dtype=bool
        )
        usable = says & np.isfinite(worth)
        parents = _families(table)
        # Best first within each family; a family is a run.
        rows = np.flatnonzero(usable)
        rows = rows[np.lexsort((rows, -worth[rows], parents[rows]))]
        starts = np.flatnonzero(np.diff(parents[rows], prepend=-1))
        sizes = np.diff(starts, append=len(rows))
        chosen, rejected = rows[starts], rows[starts + self._picks(table, rows, starts, sizes, ctx)]
        gap = worth[chosen] - worth[rejected]
        paired = (sizes > 1) & (gap > 0) & (gap >= self.min_gap)
        why = np.full(table.num_rows, _NOT_PICKED, dtype=object)
        why[~usable] = _NO_STEP
        why[rows[np.repeat(~paired, sizes)]] = _TOO_CLOSE
        why[rows[np.repeat(sizes == 1, sizes)]] = _NO_SIBLING
        why[chosen[paired]] = why[rejected[paired]] = None
        ctx.drop(table, why.tolist())
        longer = [texts[row] for row in _without_forks(table, usable).tolist()]
        return step_pairs(table, longer, chosen[paired], rejected[paired])

    def _picks(
        self, table: pa.Table, rows: np.ndarray, starts: np.ndarray, sizes: np.ndarray, ctx: Context
    ) -> np.ndarray:
        """Return which member of each family is rejected, 0 being the best; 0 for those of one."""
        others: np.ndarray = sizes - 1
        if self.rejected == "random":
            draws = ctx.uniform(self, table["id"].take(rows[starts]).to_pylist())
            others = np.where(sizes > 1, 1 + np.floor(draws * others).astype(np.int64), 0)
        elif self.rejected == "second":
            others = np.minimum(others, 1)
        return others


def _families(table: pa.Table) -> np.ndarray:
    """Return the number of the point at which each step was tried: prompt and parent, int64 [rows]."""
    prompts = table["prompt_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    parents = table["parent_id"].combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()
    both = np.stack([prompts, parents], axis=1).astype(np.int64)
    found: np.ndarray = np.unique(both, axis=0, return_inverse=True)[1].reshape(-1)
    return found


def _without_forks(table: pa.Table, usable: np.ndarray) -> np.ndarray:
    """Return for each step the last of those that follow it with nothing beside them; itself where there are none."""
    places = {name: row for row, name in enumerate(table["id"].to_pylist())}
    parents = np.array([places.get(name, -1) for name in table["parent_id"].to_pylist()], dtype=np.int64)
    children = np.flatnonzero(usable & (parents >= 0))
    counts = np.bincount(parents[children], minlength=table.num_rows)
    onward = np.arange(table.num_rows)
    alone = children[counts[parents[children]] == 1]
    onward[parents[alone]] = alone
    while not np.array_equal(onward[onward], onward):
        onward = onward[onward]
    return onward
