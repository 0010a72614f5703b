"""Condition: pairs whose prompt says more than the request, so that a model learns to go by it.

    reward-goal   the score to reach. Each pair comes twice: under the score of chosen, and turned round under the score
                  of rejected, since whoever has the score that was asked for is the better answer
    few-shot      other choices of the same person; the model learns to read a taste off examples
    persona       who is answered, in words

What is added stands before the system turn or before the first user turn. Both sides of a row have one prompt, so the
same is said to both. `prompt_id` stays that of the bare request: whatever is made of a prompt is on one side of a
`split`. Log-probs that were taken under the bare prompt are null, and so is the order of training; under a goal so is
all that was said of the two answers against each other.

Sources: Reward-Augmented Data (Zhang et al., 2024), arXiv 2410.08067; Few-Shot Preference Optimization (Singh et al.,
2025), arXiv 2502.19312.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, final

import numpy as np
import pyarrow as pa
from pydantic import BeforeValidator, ConfigDict, Field, PositiveInt, model_validator

from prefkit.columns import Columns, types
from prefkit.conditioning.goals import Place, goal_text, plain_number
from prefkit.conditioning.shots import Shot, examples_text, windows
from prefkit.labels.direction import exchange_sides
from prefkit.prompts import fill, spoken, template
from prefkit.rng import child_ids
from prefkit.shards import SHARD_ROWS
from prefkit.stage import Context, Cost, Flow, Holds, Kind, Stage
from prefkit.stages.conditioned import AGAINST_EACH_OTHER, prompts_with, unsaid, with_conditions
from prefkit.tables import floats, message_tuples, put
from prefkit.texts import same_codes

__all__ = ["Condition"]

_EQUAL, _NO_SCORE, _NO_PERSONA = "equal-scores", "no-score", "no-persona"
_NO_ANNOTATOR, _FEW = "no-annotator", "too-few-pairs"
_ONLY_FOR = {
    **dict.fromkeys(("by", "names", "scale", "goals"), "reward-goal"),
    **dict.fromkeys(("k", "stride", "passes"), "few-shot"),
}
_Names = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)
]


@final
class Condition(Stage):
    """Make pairs whose prompt names a goal, shows examples of a person's taste, or describes the person."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: ClassVar[str] = "condition"
    kind: ClassVar[Kind] = "global"
    level: ClassVar[Flow] = Flow(("pair",), "pair")
    random: ClassVar[bool] = True

    strategy: Literal["reward-goal", "few-shot", "persona"] = Field(alias="kind")
    """What is added: a `reward-goal`, `few-shot` examples or a `persona`."""
    place: Place = "system"
    """Where: in the `system` turn, or before the `first-user` turn, for models that know no system."""
    by: Annotated[_Names, Field(min_length=1)] = ("score",)
    """For `reward-goal`: the scores that are goals; reads `chosen_<by>` and `rejected_<by>`."""
    names: tuple[str, ...] = ()
    """For `reward-goal`: what the prompt calls each of them; left out, the score's name with spaces."""
    scale: tuple[float, float] = (1.0, 10.0)
    """For `reward-goal`: the worst and the best score there is."""
    goals: Literal["both", "chosen"] = "both"
    """For `reward-goal`: whether each pair comes under both scores or under that of chosen only."""
    k: PositiveInt = 4
    """For `few-shot`: how many examples a row has."""
    stride: PositiveInt | None = None
    """For `few-shot`: how far apart windows of examples and request begin; k + 1 unless said otherwise."""
    passes: PositiveInt = 1
    """For `few-shot`: how often a person's pairs are shuffled and dealt; rows of split `test` are dealt once."""

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Self:
        plain = Condition.model_fields
        said = {name for name, value in self if name in _ONLY_FOR and value != plain[name].default}
        wrong = sorted(name for name in said if _ONLY_FOR[name] != self.strategy)
        if wrong:
            what = f"{', '.join(wrong)}: for kind '{_ONLY_FOR[wrong[0]]}', not for '{self.strategy}'"
            raise ValueError(what)
        if self.names and len(self.names) != len(self.by):
            raise ValueError("names and by go together, one name a score")
        return self

    def reads(self) -> Columns:
        needed = types("id", "prompt_id", "prompt", "chosen", "rejected", "chosen_id", "rejected_id")
        if self.strategy == "reward-goal":
            sided = [f"{side}_{name}" for name in self.by for side in ("chosen", "rejected")]
            return {**needed, **dict.fromkeys(sided, pa.float64())}
        return {**needed, **types("annotator" if self.strategy == "few-shot" else "persona")}

    def writes(self) -> Columns:
        written = types("id", "prompt", "conditions", "pair_group")
        return {**written, **types("conditioned_on")} if self.strategy == "reward-goal" else written

    def touches(self) -> Collection[str]:
        return ("split",) if self.strategy == "few-shot" else ()

    def drops(self) -> Collection[str]:
        reasons = {
            "reward-goal": (_EQUAL, _NO_SCORE),
            "few-shot": (_NO_ANNOTATOR, _FEW),
            "persona": (_NO_PERSONA,),
        }
        return reasons[self.strategy]

    def scope(self) -> Kind:
        return "global" if self.strategy == "few-shot" else "map"

    def draws(self) -> bool:
        return self.strategy == "few-shot"

    def holds(self, width: Mapping[str, float]) -> Holds:
        texts = sum(width[name] for name in ("prompt", "chosen", "rejected"))
        return Holds((4 + 2 * self.k) * texts * self.passes, "fewer `k` or `passes` hold less")

    def cost(self) -> Cost:
        both = self.strategy == "reward-goal" and self.goals == "both"
        return Cost(rows=self.passes if self.strategy == "few-shot" else 2 if both else 1)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        if self.strategy == "reward-goal":
            return self._with_goals(table, ctx)
        return self._with_shots(table, ctx) if self.strategy == "few-shot" else self._with_persona(table, ctx)

    def _with_goals(self, table: pa.Table, ctx: Context) -> pa.Table:
        sides = [self._scores(table, side) for side in ("chosen", "rejected")]
        told = np.isfinite(sides[0]).all(axis=1) & np.isfinite(sides[1]).all(axis=1)
        equal = told & (sides[0] == sides[1]).all(axis=1)
        why = np.where(~told, _NO_SCORE, np.where(equal, _EQUAL, ""))
        table = ctx.drop(table, pa.array(why, pa.string(), mask=why == ""))
        times = 2 if self.goals == "both" else 1
        turned = np.tile(np.arange(times) == 1, table.num_rows)
        rows = table.take(np.repeat(np.arange(table.num_rows), times))
        rows = put(rows, "pair_group", rows["id"])
        rows = exchange_sides(rows, turned)
        if "flipped" not in table.column_names:
            rows = rows.drop_columns("flipped")
        names = np.where(turned, "rejected", "chosen").tolist()
        rows = put(rows, "conditioned_on", pa.array(names, pa.string()))
        goals = self._scores(rows, "chosen").tolist()
        said = [goal_text(self._called(), each, self.scale) for each in goals]
        entries = [[_entry("goal", name, goal) for name, goal in zip(self.by, g, strict=True)] for g in goals]
        return self._made(unsaid(rows, AGAINST_EACH_OTHER), said, entries, names)

    def _with_persona(self, table: pa.Table, ctx: Context) -> pa.Table:
        told = table["persona"].to_pylist()
        table = ctx.drop(table, [None if text and text.strip() else _NO_PERSONA for text in told])
        personas = table["persona"].to_pylist()
        said = [fill(template("condition.persona.v1"), {"persona": text}) for text in personas]
        entries = [[{"kind": "persona", "name": text, "value": None, "shown": None}] for text in personas]
        return self._made(put(table, "pair_group", table["id"]), said, entries, personas)

    def _with_shots(self, table: pa.Table, ctx: Context) -> pa.Table:
        dealt = self._dealt(table, ctx)
        sides = zip(*(message_tuples(table[name]) for name in ("prompt", "chosen", "rejected")), strict=True)
        shots = [Shot(spoken(prompt), spoken(one), spoken(other)) for prompt, one, other in sides]
        ids = table["id"].to_pylist()
        rows = table.take(pa.array(dealt.rows[:, -1]))
        before = dealt.rows[:, :-1].tolist()
        said = [examples_text([shots[at] for at in each]) for each in before]
        entries = [
            [{"kind": "shot", "name": ids[at], "value": None, "shown": None} for at in each]
            for each in before
        ]
        return self._made(put(rows, "pair_group", rows["id"]), said, entries, map(str, dealt.turns.tolist()))

    def _dealt(self, table: pa.Table, ctx: Context) -> "_Dealt":
        """Return which rows stand together: those of one person, of one split, of different prompts."""
        people = _codes(table, "annotator")
        if "split" in table.column_names:
            people = same_codes(people, _codes(table, "split"))
        prompts, ids = _codes(table, "prompt_id"), table["id"].to_pylist()
        there = table["annotator"].is_valid().to_numpy()
        once = _is_test(table)
        found, turns = [np.zeros((0, self.k + 1), np.int64)], [np.zeros(0, np.int64)]
        for turn in range(self.passes):
            rows = np.flatnonzero(there & ~(once & (turn > 0)))
            order = rows[np.lexsort((ctx.uniform(self, ids, turn)[rows], people[rows]))]
            _, first = np.unique(same_codes(people[order], prompts[order]), return_index=True)
            order = order[np.sort(first)]  # of a person's pairs with one prompt, one a pass
            starts = np.flatnonzero(np.append(True, np.diff(people[order]) != 0)[: len(order)])
            owned = np.split(order, starts[1:])
            found += [own[windows(len(own), self.k, self.stride)] for own in owned]
            turns.append(np.full(sum(map(len, found)) - sum(map(len, turns)), turn))
        dealt = _by_prompt(_Dealt(np.concatenate(found), np.concatenate(turns)), prompts)
        self._explain(table, dealt, people, there, ctx)
        return dealt

    def _explain(
        self, table: pa.Table, dealt: "_Dealt", people: np.ndarray, there: np.ndarray, ctx: Context
    ) -> None:
        """Set aside the pairs of nobody and of people with too few, and count those that are asked for nowhere."""
        known = np.isin(people, people[dealt.rows[:, -1]])
        why = np.where(~there, _NO_ANNOTATOR, np.where(known, "", _FEW))
        ctx.drop(table, pa.array(why, pa.string(), mask=why == ""))
        unasked = int((why == "").sum()) - len(np.unique(dealt.rows[:, -1]))
        if unasked:
            ctx.notes["condition/never-asked"] += unasked

    def _made(
        self, rows: pa.Table, said: Sequence[str], entries: Sequence[Any], marks: Iterable[str]
    ) -> pa.Table:
        rows = put(rows, "prompt", prompts_with(rows["prompt"], said, self.place))
        ids = child_ids(self.strategy, rows["id"].to_pylist(), marks)
        return with_conditions(put(rows, "id", pa.array(ids, pa.string())), entries)

    def _scores(self, table: pa.Table, side: str) -> np.ndarray:
        """Return the scores that are goals: float64 [rows, goals]."""
        return np.stack([floats(table[f"{side}_{name}"]) for name in self.by], axis=1)

    def _called(self) -> Sequence[str]:
        plain = ["overall score" if name == "score" else name.replace("_", " ") for name in self.by]
        return self.names or plain


class _Dealt(NamedTuple):
    rows: np.ndarray
    """Rows of each window, the one that is asked last: int64 [windows, k + 1]."""
    turns: np.ndarray
    """The pass of each window: int64 [windows]."""


def _by_prompt(dealt: _Dealt, prompts: np.ndarray) -> _Dealt:
    """Return many windows with those that ask about one prompt side by side, where the first of them stood.

    A few stay in the order in which they were dealt: they fit into one shard, and so they have always been.
    """
    asked = prompts[dealt.rows[:, -1]]
    if len(asked) <= SHARD_ROWS:
        return dealt
    _, first, which = np.unique(asked, return_index=True, return_inverse=True)
    order = np.argsort(first[which], kind="stable")
    return _Dealt(dealt.rows[order], dealt.turns[order])


def _entry(kind: str, name: str, value: float) -> dict[str, Any]:
    return {"kind": kind, "name": name, "value": value, "shown": plain_number(value)}


def _codes(table: pa.Table, name: str) -> np.ndarray:
    """Return one number a value, null included: int64 [rows]."""
    codes = table[name].combine_chunks().dictionary_encode("encode")
    numbers = codes.combine_chunks().indices if isinstance(codes, pa.ChunkedArray) else codes.indices
    return np.asarray(numbers.to_numpy(zero_copy_only=False)).astype(np.int64)


def _is_test(table: pa.Table) -> np.ndarray:
    if "split" not in table.column_names:
        return np.zeros(table.num_rows, dtype=bool)
    return np.asarray([side == "test" for side in table["split"].to_pylist()], dtype=bool)
