"""Plans: what a build would do, checked and priced before any of it is done.

The columns of the data are followed through every step from the stages' declarations alone, so a column that no step
writes is found in milliseconds and not after hours of sampling. All errors are found in one pass: a column reported as
missing counts as present from there on, so that one mistake is one error. No row is read beyond the head of a file, no
model is loaded, and nothing is written.

A step whose inputs are known has a key, by which the store says whether it stands. Keys hash the content of what is
read, so what comes after a step that has to run is not known: it may turn out to stand already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal, NamedTuple

import pyarrow as pa

from prefkit import sources
from prefkit.columns import COLUMNS, Level
from prefkit.engines.spend import Price
from prefkit.errors import ContractError, PrefkitError, Problem, RecipeError, StoreError
from prefkit.forecast import forecast, head_of, left, measured, spread, try_out
from prefkit.holding import need, usual_widths
from prefkit.keys import models_in, source_key, stage_key
from prefkit.manifest import Manifest
from prefkit.recipe import Recipe
from prefkit.stage import Stage, level_of
from prefkit.standing import standing as stands
from prefkit.store import Store

__all__ = ["Goal", "Plan", "PlannedStep", "State", "plan", "standing"]

State = Literal["cached", "run", "retry", "after"]
"""It stands; it has to run; it ran and some rows failed; it runs or stands once an earlier step has run."""


@dataclass(frozen=True)
class PlannedStep:
    """One step, and what it would take."""

    name: str
    """`05-pair`."""
    stage: str
    kind: str
    """`map`, `group` or `global` under its settings; `source` for the data."""
    level: Level
    """What a row is after it."""
    needs: tuple[str, ...]
    adds: tuple[str, ...]
    """Columns it writes, or that the data has."""
    carries: tuple[str, ...] = ()
    """Further columns that are new by name because it changes what a row is: `chosen_model`."""
    models: tuple[str, ...] = ()
    """Names of the models it asks."""
    state: State = "run"
    key: str | None = None
    """Where the result is filed, if its inputs are known."""
    rows: int | None = None
    """Rows it gives: exact once cached, before that about; None if not known."""
    calls: int | None = 0
    """Requests to models, about: fewer where rows are dropped or answers remembered. None if the rows are not known."""
    tokens: int | None = 0
    """Generated tokens, about: as if every answer were as long as it may be, unless an earlier build measured them."""
    tokens_in: int | None = None
    """Tokens read, about. None if not known."""
    remembered: int | None = None
    """Requests that are free, about, and no part of `calls`. None if not looked up."""
    dollars: Decimal | None = None
    """What the calls cost, about. None where a model has no price, or the tokens are not known."""
    seconds: float | None = None
    """Time the models take, about. None if it was never measured."""
    basis: tuple[str, ...] = ()
    """What these figures rest on."""
    holds: float | None = None
    """Bytes of memory for each row it reads, about, where it sees all rows at once; else None."""


class Goal(NamedTuple):
    """What `train:` wants of the result."""

    objective: str
    """The composition in one line."""
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A recipe that fits together, step by step."""

    name: str
    seed: int
    steps: tuple[PlannedStep, ...]
    columns: pa.Schema
    """What the last step gives."""
    goal: Goal | None = None

    @property
    def to_run(self) -> tuple[PlannedStep, ...]:
        """The steps that do not stand, or may not."""
        return tuple(step for step in self.steps if step.state != "cached")


def plan(recipe: Recipe, store: Store | None = None, prices: Mapping[str, Price] | None = None) -> Plan:
    """Check a recipe and say what a build would do. Raises RecipeError with everything that does not fit.

    With `prices`, by what a model is served as, also what it would cost, and from there on what it would take: that
    tries stages on a few rows.
    """
    problems: list[Problem] = []
    head = _peek(recipe, store, problems)
    if head is None:
        raise RecipeError(problems)
    schema, steps = head.schema, [_source_step(head)]
    for at, stage in enumerate(recipe.build):
        schema, found = _follow(stage, schema, _at(recipe.origin.build, at))
        problems += [*found.problems, *_check_files(recipe, at, stage)]
        if found.lost:
            break
        steps.append(_step(recipe, at, stage, found.before, schema))
    else:
        problems += _check_goal(recipe, schema)
    if problems:
        raise RecipeError(problems)
    asked = recipe.train.objective if recipe.train is not None else None
    goal = None if asked is None else Goal(asked.describe(), tuple(asked.reads()))
    states = _states(recipe, store, steps)
    if prices is not None:
        states = _forecasts(recipe, store, states, prices)
    return Plan(recipe.name, recipe.seed, tuple(states), schema, goal)


def standing(store: Store, key: str) -> Manifest | None:
    """Return the manifest of a step that need not run: finished, no row failed, its rows there or removed on purpose."""
    return found.manifest if (found := stands(store, key)) else None


# columns


class _Head(NamedTuple):
    schema: pa.Schema
    rows: int | None


def _peek(recipe: Recipe, store: Store | None, problems: list[Problem]) -> _Head | None:
    """Return what the data looks like, from its first rows."""
    peeks = []
    for at, source in enumerate(recipe.data):
        try:
            peeks.append(sources.peek(source, recipe.folder, store.columns if store else _no_store))
        except PrefkitError as error:
            problems.append(_problem(error, _at(recipe.origin.data, at)))
    if problems:
        return None
    try:
        schema = sources.unify([peek.schema for peek in peeks])
    except PrefkitError as error:
        problems.append(_problem(error, _at(recipe.origin.data, 0)))
        return None
    counts = [peek.rows for peek in peeks]
    return _Head(schema, None if None in counts else sum(count or 0 for count in counts))


def _no_store(ref: str) -> pa.Schema:
    raise StoreError(f"'{ref}' is in a store, and there is none here", hint="--store FOLDER")


class _Followed(NamedTuple):
    before: pa.Schema
    """The input, with what was found missing taken as present."""
    problems: tuple[Problem, ...] = ()
    lost: bool = False
    """Whether nothing can be said of the steps after this one."""


def _follow(stage: Stage, schema: pa.Schema, where: str) -> tuple[pa.Schema, _Followed]:
    """Return the schema after a stage, and what does not fit before it."""
    problems: list[Problem] = []
    for _ in range(len(stage.reads()) + 1):
        try:
            stage.check_schema(schema)
            return stage.becomes(schema), _Followed(schema, tuple(problems))
        except ContractError as error:
            missing = [name for name in stage.reads() if name not in schema.names]
            problems.append(_problem(_all_of(error, missing), where))
        if level_of(schema) not in stage.level.takes:
            break
        schema = _as_if(schema, stage)
    return schema, _Followed(schema, tuple(problems), lost=True)


def _all_of(error: ContractError, missing: Sequence[str]) -> ContractError:
    """Return the error about the first missing column as one about all of them."""
    first = f"column '{missing[0]}'" if missing else ""
    if len(missing) < 2 or first not in error.what:
        return error
    columns = ", ".join(f"'{name}'" for name in missing)
    return ContractError(error.what.replace(first, f"columns {columns}"), where=error.where, hint=error.hint)


def _as_if(schema: pa.Schema, stage: Stage) -> pa.Schema:
    """Return the schema with what the first error was about as the stage wants it: a type, or all that is missing."""
    reads = stage.reads()
    for name, kind in reads.items():
        at = schema.get_field_index(name)
        if at < 0:
            return pa.schema(
                [*schema, *(pa.field(each, reads[each]) for each in reads if each not in schema.names)]
            )
        if schema.field(at).type != kind:
            return schema.set(at, pa.field(name, kind))
    return schema


def _check_files(recipe: Recipe, at: int, stage: Stage) -> list[Problem]:
    try:
        stage.files(recipe.folder)
    except PrefkitError as error:
        return [_problem(error, _at(recipe.origin.build, at))]
    return []


def _check_goal(recipe: Recipe, schema: pa.Schema) -> list[Problem]:
    """Return what the objective reads and no step writes."""
    if recipe.train is None:
        return []
    where, level = recipe.origin.train, level_of(schema)
    if level != "pair":
        what = f"train: an objective reads pair rows, and the rows after the last step are {level}s"
        return [_problem(ContractError(what, hint="add `pair` to `build:`"), where)]
    missing: dict[str, list[str]] = {}
    for name in recipe.train.objective.reads():
        if name not in schema.names:
            missing.setdefault(_writer(name), []).append(f"'{name}'")
    problems = []
    for writer, names in missing.items():
        columns = f"column {names[0]}" if len(names) == 1 else f"columns {', '.join(names)}"
        what = f"train: the objective reads {columns}, which no step writes"
        problems.append(_problem(ContractError(what, hint=f"add to `build:` {writer}"), where))
    return problems


def _writer(column: str) -> str:
    stages = COLUMNS[column].writer.split(", ") if column in COLUMNS else []
    named = [f"`{stage}`" for stage in stages if stage != "source"]
    return " or ".join(named) or f"a stage that writes '{column}'"


def _problem(error: PrefkitError, where: str) -> Problem:
    at = int(line) if (line := where.rpartition(":")[2]).isdecimal() else 0
    return Problem(error.what, where=where or error.where, hint=error.hint, line=at)


def _at(places: Sequence[str], at: int) -> str:
    return places[at] if at < len(places) else ""


# steps


def _source_step(head: _Head) -> PlannedStep:
    level, names = level_of(head.schema), tuple(head.schema.names)
    return PlannedStep("00-data", "data", "source", level, (), names, rows=head.rows)


def _step(recipe: Recipe, at: int, stage: Stage, before: pa.Schema, after: pa.Schema) -> PlannedStep:
    names = {model: name for name, model in recipe.models.items()}
    new = [name for name in after.names if name not in before.names]
    return PlannedStep(
        recipe.step_names()[at],
        stage.name,
        stage.scope(),
        level_of(after),
        tuple(stage.reads()),
        tuple(name for name in stage.writes() if name in new or stage.level.gives is None),
        tuple(name for name in new if name not in stage.writes()),
        tuple(dict.fromkeys(names.get(model, model.id) for model in models_in(stage))),
        holds=need(stage, 1, before, usual_widths(before)).per_row if stage.scope() == "global" else None,
    )


def _states(recipe: Recipe, store: Store | None, steps: Sequence[PlannedStep]) -> list[PlannedStep]:
    """Say of each step whether it stands, and what it would cost."""
    done: list[PlannedStep] = []
    before: Manifest | None = None
    prompts: float | None = None
    for step, stage in zip(steps, [None, *recipe.build], strict=True):
        known = store is not None and all(earlier.state == "cached" for earlier in done)
        key = _key(recipe, store, stage, before) if store is not None and known else None
        before = standing(store, key) if store is not None and key else None
        if before is not None:
            done.append(replace(step, state="cached", key=key, rows=before.rows.kept))
        else:
            retry = store is not None and key is not None and (old := store.step(key)) and not old.complete
            state: State = "retry" if retry else "after" if any(s.state != "cached" for s in done) else "run"
            priced = step if stage is None else _price(step, stage, done[-1].rows, prompts)
            done.append(replace(priced, state=state, key=key))
        # Rows of a level below prompts say nothing of how many prompts there are.
        prompts = done[-1].rows if step.level == "prompt" else prompts
    return done


def _key(recipe: Recipe, store: Store, stage: Stage | None, before: Manifest | None) -> str | None:
    if stage is None:
        return source_key(recipe.data, recipe.folder, store) if store.runs() else None
    return stage_key(stage, recipe.seed, [before.digest], (), recipe.folder) if before is not None else None


def _price(step: PlannedStep, stage: Stage, rows: int | None, prompts: float | None) -> PlannedStep:
    """Return the step with about how many rows, calls and tokens, for this many rows read."""
    cost = stage.cost()
    if rows is None:
        known = cost.calls == 0
        return replace(step, rows=None, calls=0 if known else None, tokens=0 if known else None)
    # Where prompts are not counted, each row is taken for a prompt of its own, if that cannot give too few.
    groups = prompts or (rows if stage.level.gives in (None, "response") else None)
    made = stage.most_rows(rows / groups) if groups else None
    given = None if made is None or groups is None else round(made * groups)
    return replace(step, rows=given, calls=round(rows * cost.calls), tokens=round(rows * cost.tokens_out))


def _forecasts(
    recipe: Recipe, store: Store | None, steps: Sequence[PlannedStep], prices: Mapping[str, Price]
) -> list[PlannedStep]:
    """Say of each step that asks models what that takes."""
    known = measured(store, recipe.name) if store is not None else {}
    done, before = [steps[0]], steps[0]
    for step, stage in zip(steps[1:], recipe.build, strict=True):
        manifest = (
            store.step(before.key) if store is not None and before.state == "cached" and before.key else None
        )
        before = step
        if not step.calls or step.state == "cached":
            done.append(step)
            continue
        calls, tokens, trial = step.calls, step.tokens or 0, None
        if manifest is not None and store is not None:
            shards = left(stage, recipe.seed, manifest, store, recipe.folder)
            share = sum(shard.rows for shard in shards) / max(manifest.rows.kept, 1)
            calls, tokens = round(calls * share), round(tokens * share)
            tried = spread(store, shards) if shards else None
            trial = try_out(stage, tried, recipe.seed, store, recipe.folder) if tried is not None else None
        elif (head := head_of(recipe)) is not None:
            trial = try_out(stage, head, recipe.seed, None, recipe.folder)
        found = forecast(stage, calls, tokens, prices, known, trial)
        about = found._asdict()
        done.append(replace(step, tokens=about.pop("tokens_out"), **about))
    return done
