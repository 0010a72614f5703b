"""Recipes: one YAML file that says what a dataset is, read into frozen configs.

A recipe holds the identity of a result, all of it and nothing else: no host, device or path of a store. Its grammar is
whole here: `data` lists sources; `build` lists steps, each a stage's name or one name with its settings; `train` says
what to train on the result; `fail_if` what the result must pass; a model in a setting is a name from `models`, and is
replaced by the model itself. There is no inheritance, no interpolation, no condition: to vary a recipe, copy it, or `--set`.

Everything that is wrong with a file is found in one pass and shown together, sorted by line, each with its hint.
Paths in a recipe are relative to the folder of the recipe, so that a recipe moves together with its data.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar, final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    SerializeAsAny,
)

from prefkit.catalog import suggest
from prefkit.edits import edit, step_word
from prefkit.engines import Model
from prefkit.errors import PrefkitError, Problem, RecipeError
from prefkit.gates.said import AnyLimit, limits_in, plain_limits, read_limits
from prefkit.keys import models_in
from prefkit.parts import STAGES
from prefkit.sources import Source
from prefkit.stage import Stage
from prefkit.validation import Owner, fill, problem, shown
from prefkit.yaml_strict import Document, Node, parse, read
from prefkit.yaml_text import yaml_text

__all__ = ["KEYS", "Origin", "Recipe"]

if TYPE_CHECKING:
    from prefkit.experiment.settings import CompareSettings
    from prefkit.train.settings import TrainSettings

C = TypeVar("C", bound=BaseModel)
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)]
Share = Annotated[float, Field(ge=0, le=1)]


def _train_settings() -> "type[TrainSettings]":
    """Return their class, imported where a recipe has the section: that takes longer than reading many a recipe."""
    from prefkit.train.settings import TrainSettings

    return TrainSettings


def _compare_settings() -> "type[CompareSettings]":
    from prefkit.experiment.settings import CompareSettings

    return CompareSettings


def _read_train(value: Any) -> Any:
    return _train_settings().model_validate(value) if isinstance(value, Mapping) else value


def _read_compare(value: Any) -> Any:
    return _compare_settings().model_validate(value) if isinstance(value, Mapping) else value


if not TYPE_CHECKING:
    TrainSettings = Annotated[SerializeAsAny[BaseModel], BeforeValidator(_read_train)]
    CompareSettings = Annotated[SerializeAsAny[BaseModel], BeforeValidator(_read_compare)]


@dataclass(frozen=True)
class Origin:
    """Which line of which file each part of a recipe came from, for errors. Two recipes may differ in it and be equal."""

    file: str = field(default="", compare=False)
    data: tuple[str, ...] = field(default=(), compare=False)
    build: tuple[str, ...] = field(default=(), compare=False)
    train: str = field(default="", compare=False)


@final
class Recipe(BaseModel):
    """What a dataset is made from, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    """What the run is called in the store: letters, digits, `.`, `_` and `-`."""
    seed: NonNegativeInt = 0
    """Of every random draw. Stages that do not draw do not depend on it."""
    models: dict[str, Model] = {}
    """The models that settings name."""
    data: Annotated[tuple[Source, ...], Field(min_length=1)]
    """Where rows come from, read one after another."""
    build: tuple[SerializeAsAny[Stage], ...] = ()
    """The steps, in order."""
    train: TrainSettings | None = None
    """What to train on the result."""
    compare: CompareSettings | None = None
    """How the result is compared with other datasets, as far as that differs from the defaults."""
    fail_if: Annotated[dict[str, AnyLimit], AfterValidator(limits_in)] = {}
    """What the finished dataset must pass: gates by name, each with a limit, what happens, or both. No part of any key."""
    max_failures: Share = 0.01
    """Largest share of a step's rows whose model calls may fail before the build stops."""
    license: str | None = None
    """Licence of the dataset as the hub spells it, for the card. No part of any key."""
    language: tuple[str, ...] = ()
    """Languages of the dataset by their codes, for the card. No part of any key."""
    sets: tuple[str, ...] = ()
    """What `--set` changed, as it was typed."""
    folder: Annotated[Path, Field(exclude=True)] = Path()
    """What paths in the recipe are relative to."""
    origin: Annotated[Origin, Field(exclude=True, repr=False)] = Origin()

    @classmethod
    def load(cls, path: Path | str, sets: Sequence[str] = ()) -> Self:
        """Read a recipe. `sets` are edits as `--set` takes them. Raises RecipeError with everything that is wrong."""
        path = Path(path)
        return cls._assemble(read(path), path.parent, str(path), sets)

    @classmethod
    def parse(cls, text: str, folder: Path | str = ".", sets: Sequence[str] = ()) -> Self:
        """Read a recipe from text. Raises RecipeError with everything that is wrong."""
        data = text.encode("utf-8", "surrogatepass")
        return cls._assemble(parse(data, "recipe"), Path(folder), "recipe", sets)

    @classmethod
    def _assemble(cls, document: Document, folder: Path, file: str, sets: Sequence[str]) -> Self:
        root, problems = edit(document.root, sets, Path.cwd())
        reader = _Reader(file, [*document.problems, *problems])
        parts = reader.recipe(root)
        if reader.problems:
            raise RecipeError(reader.problems)
        return cls(**parts, sets=tuple(sets), folder=folder)

    def step_names(self) -> list[str]:
        """Return what the steps are called in the store, in order: `01-sample`. Step `00-data` reads the data."""
        return [f"{at:02d}-{stage.name}" for at, stage in enumerate(self.build, start=1)]

    def described(self) -> dict[str, Any]:
        """Return the recipe as plain data, `--set` applied: what was said, and defaults where nothing was said."""
        names = {model: name for name, model in self.models.items()}
        plain: dict[str, Any] = {"name": self.name, "seed": self.seed}
        plain["models"] = {name: model.model_dump(mode="json") for name, model in self.models.items()}
        plain["data"] = [source.model_dump(mode="json", exclude_unset=True) for source in self.data]
        plain["build"] = [_spell_step(stage, names) for stage in self.build]
        if self.train is not None:
            plain["train"] = _spell(self.train, self.train.model_dump(mode="json", exclude_unset=True), names)
        if self.compare is not None:
            said_of = self.compare.model_dump(mode="json", exclude_unset=True)
            plain["compare"] = _spell(self.compare, said_of, names)
        if self.fail_if:
            plain["fail_if"] = plain_limits(self.fail_if)
        plain["max_failures"] = self.max_failures
        said = {"license": self.license, "language": list(self.language), "sets": list(self.sets)}
        return plain | {key: value for key, value in said.items() if value}

    def text(self) -> str:
        """Return the recipe as YAML that loads as the same recipe."""
        return yaml_text({key: value for key, value in self.described().items() if key != "sets"})


def _spell_step(stage: Stage, names: Mapping[Model, str]) -> object:
    settings = _spell(stage, stage.model_dump(mode="json", exclude_unset=True), names)
    return {stage.name: settings} if settings else stage.name


def _spell(value: object, plain: Any, names: Mapping[Model, str]) -> Any:
    """Return plain data with each model replaced by its name; `value` is what the data was dumped from."""
    if isinstance(value, Model):
        return names.get(value, plain)
    if isinstance(value, BaseModel) and isinstance(plain, dict):
        value = dict(value)
    if isinstance(value, Mapping) and isinstance(plain, dict):
        return {key: _spell(value.get(key), item, names) for key, item in plain.items()}
    if isinstance(value, list | tuple) and isinstance(plain, list):
        return [_spell(item, part, names) for item, part in zip(value, plain, strict=True)]
    return plain


class _Head(BaseModel):
    """The single values at the top of a recipe."""

    model_config = ConfigDict(extra="forbid")

    name: Name = "checked apart"
    seed: NonNegativeInt = 0
    max_failures: Share = 0.01
    license: str | None = None
    language: tuple[str, ...] = ()


KEYS = (
    "name",
    "seed",
    "models",
    "data",
    "build",
    "train",
    "compare",
    "fail_if",
    "max_failures",
    "license",
    "language",
)
"""What a recipe may say, in the order in which it is read."""


class _Reader:
    """Read a tree section by section, and keep every problem."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = list(problems)

    def recipe(self, root: Node) -> dict[str, Any]:
        """Return the recipe's fields; they are only worth something while `problems` is empty."""
        if not isinstance(root.value, Mapping):
            self._wrong(
                "a recipe is a mapping of keys to values", root, "`prefkit new quickstart` writes one"
            )
            return {}
        given = root.value
        for key in given:
            if key not in KEYS:
                self._wrong(
                    f"no key is called '{key}'",
                    given[key],
                    suggest(key, KEYS) or f"keys: {', '.join(KEYS)}",
                )
        head_keys = {key: node for key, node in given.items() if key in _Head.model_fields}
        head = fill(_Head, Node(head_keys, root.line), Owner(self.file))
        self.problems += head.problems
        for key, example in (("name", "name: my-dataset"), ("data", "data: [{ file: rows.jsonl }]")):
            if key not in given:
                self._wrong(f"'{key}' is missing", root, example)
        fields: dict[str, Any] = dict(head.config) if head.config else {}
        gates = read_limits(given.get("fail_if"), self.file)
        self.problems += gates.problems
        fields["fail_if"] = gates.limits
        fields["models"] = models = self._models(given.get("models"))
        data, build, train = (self._items(given, "data"), self._items(given, "build"), given.get("train"))
        fields["data"] = tuple(self._sources(data))
        fields["build"] = tuple(stage for node in build if (stage := self._step(node, models)) is not None)
        fields["train"] = (
            self._config(_train_settings(), train, Owner(self.file, "train", "prefkit stages train", models))
            if train
            else None
        )
        versus = given.get("compare")
        fields["compare"] = (
            self._config(
                _compare_settings(), versus, Owner(self.file, "compare", "prefkit stages compare", models)
            )
            if versus
            else None
        )
        fields["origin"] = Origin(
            self.file,
            tuple(self._where(node) for node in data),
            tuple(self._where(node) for node in build),
            self._where(train) if train else "",
        )
        return fields

    def _models(self, node: Node | None) -> dict[str, Model]:
        if node is None:
            return {}
        if not isinstance(node.value, Mapping):
            self._wrong(
                f"models: input should be a mapping, got {shown(node)}", node, "policy: { id: org/model }"
            )
            return {}
        found = {}
        for name, item in node.value.items():
            model = self._config(
                Model, item, Owner(self.file, f"model '{name}'", f"{name}: {{ id: org/model }}")
            )
            # A model with an error of its own still is a name, so that its users are not errors as well.
            found[name] = model or Model(id=name)
        return found

    def _items(self, given: Mapping[str, Node], key: str) -> Sequence[Node]:
        node = given.get(key, Node((), 0))
        if not isinstance(node.value, tuple):
            self._wrong(
                f"{key}: input should be a list, got {shown(node)}", node, "begin each item with `- `"
            )
            return ()
        if key == "data" and key in given and not node.value:
            self._wrong("'data' has no items", node, "data: [{ file: rows.jsonl }]")
        return node.value

    def _sources(self, items: Sequence[Node]) -> Iterator[Source]:
        for at, node in enumerate(items):
            source = self._config(Source, node, Owner(self.file, f"source {at}", "prefkit stages data"))
            if source is not None:
                yield source

    def _step(self, node: Node, models: Mapping[str, Model]) -> Stage | None:
        word = step_word(node)
        if not word:
            hint = "write `- margin`, or `- margin: { scale: 2.0 }`"
            self._wrong(
                f"a step is a stage's name, or one name with its settings; got {_keys(node)}", node, hint
            )
            return None
        try:
            kind = STAGES.get(word)
        except PrefkitError as error:
            self._wrong(error.what, node, error.hint)
            return None
        settings = (
            node.value[word] if isinstance(node.value, Mapping) else Node({}, node.line, origin=node.origin)
        )
        return self._config(
            kind, settings, Owner(self.file, f"stage '{word}'", f"prefkit stages {word}", models)
        )

    def _config(self, kind: type[C], node: Node, owner: Owner) -> C | None:
        filled = fill(kind, node, owner)
        self.problems += filled.problems
        if filled.config is None or owner.models is None:
            return filled.config
        for model in models_in(filled.config):
            if model not in owner.models.values():
                self._wrong(
                    f"{owner.title}: model '{model.id}' is not in `models:`",
                    node,
                    "name it there, and here by name",
                )
        return filled.config

    def _where(self, node: Node) -> str:
        return node.origin or f"{self.file}:{node.line}"

    def _wrong(self, what: str, node: Node, hint: str) -> None:
        self.problems.append(problem(what, node, Owner(self.file), hint))


def _keys(node: Node) -> str:
    return f"keys {', '.join(node.value)}" if isinstance(node.value, Mapping) and node.value else shown(node)
