"""A source: where rows come from, and what their columns mean.

A source is one item of a recipe's `data`. Most need one line, since the public layouts are recognised from
their columns and first rows; anything else is described by a map from prefkit's words to the file's columns.
Everything here is identity: it decides which rows come out. Where a hub is reached, or how fast a file is
read, is not.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self, final, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, model_validator

from prefkit.columns import COLUMNS, Level

__all__ = ["Coding", "Join", "Source", "Target"]

Target = Literal[
    "prompt",
    "system",
    "input",
    "tools",
    "reference_answer",
    "domain",
    "response",
    "model",
    "origin",
    "score",
    "ratings",
    "comments",
    "chosen",
    "rejected",
    "chosen_model",
    "rejected_model",
    "chosen_score",
    "rejected_score",
    "margin",
    "first",
    "second",
    "first_model",
    "second_model",
    "first_score",
    "second_score",
    "preference",
    "judge",
    "votes",
    "rationale",
    "win_rate",
    "chosen_win_rate",
    "rejected_win_rate",
    "chosen_spans",
    "rejected_spans",
    "annotator",
    "dimension",
    "pair_group",
    "trace_mode",
    "degree",
    "ref_history",
    "chosen_teacher",
    "rejected_teacher",
    "rejected_advantage",
    "teacher_fingerprint",
]
"""What a file's column may mean.

prompt      text, or a list of messages            system    system text put before the prompt
input       text added below the prompt            tools, reference_answer, domain   of the prompt
response    text, or messages                      model, origin, score              of the response
ratings     several scores of one response         comments  a text for each of them
chosen, rejected   the two sides of a pair with a known direction, and `chosen_model`, `chosen_score`, ...
first, second      the two sides of a pair in no order; `preference` (one verdict) or `votes` (one column a judge)
                   says which is better, spelled as `coding` says; `judge` names who gave `preference`
margin, rationale  of the pair
win_rate           of the response; `chosen_win_rate` and the following are of a pair, and are what the column of that
                   name is: `prefkit.columns` says of which type; those of one side need `chosen` and `rejected`
"""

Coding = Literal["one-two", "zero-one", "signed"]
"""How a verdict is spelled. Texts such as `tie`, `a` and `model_b` are understood in each; null is no verdict.

one-two     1: the first is better, 2: the second, 1.5 or 0: a tie; between 1 and 2: 1 + P(second is better)
zero-one    0: the first is better, 1: the second, 0.5 or 2: a tie; between 0 and 1: P(second is better)
signed      below 0: the first is better, above 0: the second, 0: a tie; the size is the strength
"""

Plain = str | int | float | bool


def _renames(value: Any) -> Any:
    """Read a list of names as a map from each name to itself."""
    return {name: name for name in value} if isinstance(value, list | tuple) else value


def _names(value: Any) -> Any:
    """Read one name as a list of one."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Renames = Annotated[
    dict[str, str],
    BeforeValidator(_renames, json_schema_input_type=dict[str, str] | list[str]),
]


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def changed(self) -> set[str]:
        """Return the settings that are not at their defaults: writing a default out says nothing new."""
        return {
            name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default
        }


@final
class Join(_Config):
    """A second file with several judgements a row: they become `ratings` of a response or `votes` on a pair."""

    file: str
    """Path, relative to the folder of the file it joins. Read whole into memory."""
    on: Renames
    """Columns that name the same row in both files; a map where they differ: {here: there}."""
    annotator: Annotated[
        tuple[str, ...], BeforeValidator(_names, json_schema_input_type=str | list[str])
    ] = ()
    """Column or columns that name who judged; several are joined by `/`."""
    score: str = ""
    """Column with a score of the response."""
    verdict: str = ""
    """Column with a verdict on the pair, spelled as `coding` says."""
    swapped: str = ""
    """Column that is true where the second side was shown first."""
    tied: Annotated[tuple[str, ...], Field(max_length=2)] = ()
    """Two columns with a score of each side: where they are equal the verdict is a tie, whatever `verdict` says."""
    comment: str = ""
    """Column with the reason given."""
    where: dict[str, Plain] = {}
    """Read only judgements whose columns have these values."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.on:
            raise ValueError("'on' names no column")
        if len(self.tied) == 1:
            raise ValueError("'tied' names two columns, one for each side")
        return self


@final
class Source(_Config):
    """Where rows come from: a file, a hub dataset, or a step of an earlier build."""

    file: str | tuple[str, ...] | None = None
    """Path or glob pattern, or several, relative to the recipe: JSON Lines, JSON, CSV, TSV, Parquet or Arrow."""
    hub: str | None = None
    """Dataset on the Hugging Face hub by name, or a dataset folder by path."""
    ref: str | None = None
    """Step of an earlier build in the same store: `run/05-pair`."""
    name: str = ""
    """What the `source` column says; by default the end of the path or the dataset's name."""
    format: str = "auto"
    """Layout of the rows; `auto` recognises it."""
    columns: dict[Target, str | tuple[str, ...]] = {}
    """What the file's columns mean: {prompt: question, response: solution}."""
    scores: Renames = {}
    """Further scores of a response: a list of columns, or {name: column}."""
    keep: Renames = {}
    """Columns to carry along as they are: a list, or {name: column}."""
    prompt_template: str = ""
    """Text of the prompt, with `{column}` where a column's value goes: `Translate into German: {source}`."""
    system: str = ""
    """System text put before every prompt that has none."""
    where: dict[str, Plain] = {}
    """Read only rows whose columns have these values."""
    explode: str = ""
    """Column that holds a list: each of its items becomes a row, with its fields as columns."""
    join: Join | None = None
    """A second file with judgements of these rows."""
    negate: tuple[str, ...] = ()
    """Numbers for which lower is better: `score`, `ratings` or a name in `scores`."""
    coding: Coding = "one-two"
    """How verdicts are spelled, where `columns` or `join` has some."""
    config: str | None = None
    """Configuration of a hub dataset."""
    data_dir: str | None = None
    """Folder within a hub dataset, for those that keep several sets in folders."""
    split: str | None = None
    """Split of a hub dataset; `train` if not given."""
    revision: str | None = None
    """Branch, tag or commit of a hub dataset. Pin a commit before publishing."""
    take: PositiveInt | None = None
    """Read only so many rows."""
    max_bad: Annotated[float, Field(ge=0, lt=1)] = 0.001
    """Largest share of rows that may be unreadable. A share: in a small file one bad row is too many by default."""

    @property
    def label(self) -> str:
        """Return what the `source` column says."""
        if self.name:
            return self.name
        place = self.ref or self.hub or (self.file if isinstance(self.file, str) else (self.file or ("",))[0])
        if self.ref or (self.hub and not self.hub.startswith((".", "/"))):
            return place
        last = place.rstrip("/").rsplit("/", 1)[-1]
        for suffix in (".gz", ".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow"):
            last = last.removesuffix(suffix)
        return last or "data"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(place is not None for place in (self.file, self.hub, self.ref)) != 1:
            raise ValueError("a source has exactly one of 'file', 'hub' and 'ref'")
        if self.file is not None and not self.file:
            raise ValueError("'file' is empty")
        self._check_only("hub", ("config", "data_dir", "split", "revision"))
        if self.ref is not None:
            free = {"ref", "name", "take", "max_bad"}
            wrong = sorted(self.changed - free)
            if wrong:
                raise ValueError(f"a ref is read as it is: {_listed(wrong)} cannot be set with 'ref'")
        self._check_names()
        self._check_level()
        return self

    def _check_only(self, place: str, settings: tuple[str, ...]) -> None:
        wrong = sorted(self.changed.intersection(settings)) if self.hub is None else []
        if wrong:
            raise ValueError(f"{_listed(wrong)} can only be set with '{place}'")

    def _check_names(self) -> None:
        several = sorted(
            t for t, column in self.columns.items() if t != "votes" and not isinstance(column, str)
        )
        if several:
            raise ValueError(f"only 'votes' may have several columns, and {_listed(several)} has")
        taken = {*COLUMNS, *get_args(Target)}
        clash = sorted(taken.intersection([*self.keep, *self.scores]))
        if clash:
            raise ValueError(
                f"{_listed(clash)} has a meaning of its own; give another name: keep: {{my_{clash[0]}: ...}}"
            )
        twice = sorted(set(self.keep).intersection(self.scores))
        if twice:
            raise ValueError(f"{_listed(twice)} is both in 'keep' and in 'scores'")
        known = {"score", "ratings", *self.scores}
        unknown = sorted(set(self.negate) - known)
        if unknown:
            raise ValueError(f"'negate' knows {_listed(sorted(known))}, not {_listed(unknown)}")

    def _check_level(self) -> None:
        if not self.columns:
            return
        level = mapped_level(self.columns)
        ends = {"chosen", "rejected"} if {"chosen", "rejected"} & self.columns.keys() else {"first", "second"}
        if level == "pair" and not ends <= self.columns.keys():
            raise ValueError("a pair needs both 'chosen' and 'rejected', or both 'first' and 'second'")
        if level == "pair" and {"chosen", "first"} <= self.columns.keys():
            raise ValueError("a pair has either 'chosen' and 'rejected', or 'first' and 'second'")
        sided = {one for one in self.columns if one in COLUMNS and one.startswith(("chosen_", "rejected_"))}
        lost = sorted(one for one in {*sided, "ref_history"} & self.columns.keys() if "first" in self.columns)
        if lost:
            raise ValueError(f"{_listed(lost)} is for pairs with 'chosen' and 'rejected'")
        if level != "response" and (self.scores or "score" in self.negate):
            raise ValueError("'scores' and 'negate: [score]' are for rows with one response")


def portable(source: Source) -> dict[str, Any]:
    """Return a source as plain values with the folders of its paths left out: what it is, not where this machine has it."""
    plain = source.model_dump(mode="json")
    if isinstance(plain["file"], str):
        plain["file"] = _last(plain["file"])
    elif plain["file"]:
        plain["file"] = [_last(path) for path in plain["file"]]
    if source.hub and source.hub.startswith((".", "/", "~")):
        plain["hub"] = _last(source.hub)
    if source.join is not None:
        plain["join"]["file"] = _last(source.join.file)
    return plain


def _last(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def mapped_level(columns: "dict[Target, str | tuple[str, ...]]") -> Level:
    """Return what a row is, from the targets that its columns are mapped to."""
    if {"chosen", "rejected", "first", "second"} & columns.keys():
        return "pair"
    return "response" if "response" in columns else "prompt"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
