"""Ablation: what each stage of a recipe earned, by leaving it out, building the rest, and training on both.

A stage that cannot be left out, since a later one reads what it writes, is named with the reason; so is one whose absence changes
nothing that training reads, which needs no training to be known to earn nothing. Everything that a shorter recipe has in common with the whole one
stands in the store already.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from prefkit.card.markdown import code, count, table
from prefkit.catalog import suggest
from prefkit.comparing.several import holm
from prefkit.errors import ContractError, DataError, EstimateError, GateError, PrefkitError, RecipeError
from prefkit.experiment.arms import held_out, open_arms
from prefkit.experiment.markdown import interval
from prefkit.experiment.protocol import FOLDER as COMPARED
from prefkit.experiment.protocol import Planned, protocol, steps_of
from prefkit.experiment.protocol import plan as foretell
from prefkit.experiment.report import METRICS, Comparison, Figure
from prefkit.experiment.run import train_of
from prefkit.experiment.settings import CompareSettings
from prefkit.identity import digest
from prefkit.plan import Plan, plan
from prefkit.recipe import Recipe
from prefkit.run import Settings, build
from prefkit.store import Store
from prefkit.train.folder import write

__all__ = [
    "Ablation",
    "Earned",
    "Variant",
    "ablation",
    "build_variants",
    "foretold",
    "read_digest",
    "save",
    "variants",
]

FOLDER = "ablated"
"""Where ablations stand in a store."""

_KEPT = {
    "split": "it says what is held out, on which every arm is measured",
    "reference": "it changes no pair: training computes what it lacks",
}
"""Stages that are left in unless they are named."""


class Variant(NamedTuple):
    """A recipe without one of its steps."""

    step: str
    """`05-label`."""
    recipe: Recipe | None
    plan: Plan | None
    why: str = ""
    """Why it is not tried, where it is not."""


def variants(recipe: Recipe, store: Store, steps: Sequence[str] = ()) -> list[Variant]:
    """Return the recipe without each step in turn, or without the named ones. Raises PrefkitError for a name it has not."""
    names = recipe.step_names()
    for step in steps:
        if not _named(step, names):
            hint = (
                suggest(step, [*names, *(name.partition("-")[2] for name in names)])
                or f"steps: {', '.join(names)}"
            )
            raise PrefkitError(f"the recipe has no step '{step}'", hint=hint)
    wanted = {name for step in steps for name in _named(step, names)} or set(names)
    return [_without(recipe, store, name, bool(steps)) for name in names if name in wanted]


def _named(step: str, names: Sequence[str]) -> list[str]:
    return [name for name in names if step in (name, name.partition("-")[2])]


def _without(recipe: Recipe, store: Store, step: str, asked_for: bool) -> Variant:
    at = recipe.step_names().index(step)
    stage = recipe.build[at]
    if stage.name in _KEPT and not asked_for:
        return Variant(step, None, None, _KEPT[stage.name])
    rest = recipe.model_copy(
        update={
            "name": f"{recipe.name}.without-{step}"[:128],
            "build": (*recipe.build[:at], *recipe.build[at + 1 :]),
            "origin": type(recipe.origin)(),
        }
    )
    try:
        told = plan(rest, store)
    except RecipeError as error:
        return Variant(step, None, None, f"the rest does not fit without it: {error.problems[0].what}")
    if told.steps[-1].level != "pair":
        return Variant(step, None, None, f"without it rows end as {told.steps[-1].level}s, and not as pairs")
    return Variant(step, rest, told)


def foretold(recipe: Recipe, store: Store, found: Sequence[Variant]) -> Planned:
    """Say what training on the recipe and on every variant would take, if each changed the rows. The recipe must be built."""
    settings: CompareSettings = recipe.compare or CompareSettings()
    arms = open_arms(store, [recipe.name])
    test = held_out(arms, settings, recipe.folder, store)
    told = protocol(train_of(recipe), settings, test)
    steps = steps_of(arms, told)[recipe.name]
    names = [recipe.name, *settings.controls, *(each.step for each in found if each.recipe is not None)]
    store.files(f"{COMPARED}/*/report.json")  # earlier comparisons tell how much runs vary
    return foretell(store.root, told, dict.fromkeys(names, steps), test, len(names) - 1)


class Built(NamedTuple):
    """A variant whose rows stand in the store."""

    variant: Variant
    run: str
    digest: str
    """Of what training reads of them: `read_digest`."""
    gates: str = ""
    """Which gates its rows fail, in words: a stage may be what keeps them."""
    why: str = ""
    """Why nothing can be trained on its rows, where nothing can."""


def build_variants(found: Sequence[Variant], store: Store, settings: Settings) -> Iterator[Built]:
    """Build what is missing of every variant. What stops one of them does not stop an ablation: it is told."""
    for each in found:
        if each.recipe is None:
            continue
        gates, name = "", each.recipe.name
        try:
            build(each.recipe, store, settings)
        except GateError as error:
            gates = "; ".join(problem.what for problem in error.problems)
        except (ContractError, DataError, EstimateError) as error:
            yield Built(each, name, "", why=f"it cannot be built without it: {error.what}")
            continue
        try:
            open_arms(store, [name])
        except DataError as error:
            yield Built(each, name, "", gates, error.what)
            continue
        yield Built(each, name, read_digest(each.recipe, store), gates)


_ROW = ("id", "prompt_id", "prompt", "chosen", "rejected", "tools", "split", "degree", "route", "pair_kind")
_ORDER = ("phase", "rank")


def read_digest(recipe: Recipe, store: Store) -> str:
    """Return the digest of what training reads of a recipe's rows: where that is the same, so is the model."""
    train, table = train_of(recipe), store.table(store.resolve(recipe.name))
    wanted = {*_ROW, *train.objective.reads(), *(_ORDER if train.order == "auto" else ())}
    return digest(table.select([name for name in table.column_names if name in wanted]))


# the report


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Earned(_Record):
    """What one stage was worth."""

    step: str
    verdict: str
    """`helps`, `hurts`, `not distinguishable`, `changes nothing`, `not tried`, or what else its comparison decided."""
    words: str
    earned: Figure | None = None
    """Whole recipe less the one without the stage, of the primary metric."""
    adjusted: float | None = None
    """p-value after Holm, among the stages."""
    pairs: int | None = None
    """Pairs to train on without it."""
    calls: int = 0
    """Requests to models that the stage took."""
    tokens: int = 0
    seconds: float = 0.0
    gates: str = ""


class Ablation(_Record):
    """What each stage of a recipe earned."""

    format: int = 1
    recipe: str
    primary: str
    pairs: int | None
    comparison: str
    """Name of the comparison it rests on; "" where nothing had to be trained."""
    stages: Sequence[Earned]
    notes: Sequence[str] = ()


_TURNED = {"better": "hurts", "worse": "helps"}
"""Of the recipe without the stage against the whole one."""


def ablation(
    recipe: Recipe, store: Store, found: Sequence[Variant], built: Sequence[Built], report: Comparison | None
) -> Ablation:
    """Return what each stage earned, from the comparison of the recipe with its variants."""
    whole = read_digest(recipe, store)
    by_step = {each.variant.step: each for each in built}
    earned = [_earned(recipe, store, each, by_step.get(each.step), whole, report) for each in found]
    adjusted = iter(holm(_p([each for each in earned if each.earned is not None])))
    earned = [
        each.model_copy(update={"adjusted": float(next(adjusted))}) if each.earned is not None else each
        for each in earned
    ]
    return Ablation(
        recipe=recipe.name,
        primary=report.primary if report else "",
        pairs=report.arms[0].pairs if report else None,
        comparison=report.name if report else "",
        stages=earned,
        notes=report.notes if report else (),
    )


def _p(found: Sequence[Earned]) -> np.ndarray:
    return np.asarray(
        [each.earned.p if each.earned and each.earned.p is not None else np.nan for each in found]
    )


def _earned(
    recipe: Recipe, store: Store, variant: Variant, built: Built | None, whole: str, report: Comparison | None
) -> Earned:
    made = store.resolve(f"{recipe.name}/{variant.step}").made
    cost = {
        "calls": made.calls + made.remembered,
        "tokens": made.tokens_in + made.tokens_out,
        "seconds": made.seconds,
    }
    if built is None:
        return Earned(step=variant.step, verdict="not tried", words=variant.why, **cost)
    if built.why:
        return Earned(step=variant.step, verdict="not tried", words=built.why, gates=built.gates, **cost)
    if built.digest == whole:
        words = "without it training reads the same rows, so it earned nothing from this training"
        return Earned(step=variant.step, verdict="changes nothing", words=words, gates=built.gates, **cost)
    versus = next((each for each in report.versus if each.arm == built.run), None) if report else None
    if versus is None:
        return Earned(
            step=variant.step, verdict="not tried", words="nothing was measured", gates=built.gates, **cost
        )
    verdict = _TURNED.get(versus.verdict, versus.verdict)
    arm = next(arm for arm in report.arms if arm.name == built.run) if report else None
    return Earned(
        step=variant.step,
        verdict=verdict,
        words=versus.words,
        earned=_turned(versus.primary),
        pairs=arm.pairs if arm else None,
        gates=built.gates,
        **cost,
    )


def _turned(figure: Figure) -> Figure:
    """Return the difference the other way round."""
    ends = [None if end is None else -end for end in (figure.estimate, figure.high, figure.low)]
    return figure.model_copy(update=dict(zip(("estimate", "low", "high"), ends, strict=True)))


def save(store: Store, found: Ablation) -> Path:
    """Write the ablation as `ablated/<recipe>.json` in the store, and the same to read beside it; return the former."""
    folder = store.root / FOLDER
    with store.synced(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / f"{found.recipe}.md", render(found))
        write(folder / f"{found.recipe}.json", found.model_dump_json(indent=1) + "\n")
    return folder / f"{found.recipe}.json"


def render(found: Ablation) -> str:
    """Return the ablation as Markdown: what each stage earned, most first."""
    rows = [
        (
            code(each.step),
            each.verdict,
            "" if each.earned is None else interval(each.earned, "+"),
            "" if each.adjusted is None else f"{each.adjusted:.3f}",
            "" if each.pairs is None else count(each.pairs),
            count(each.calls),
        )
        for each in in_order(found)
    ]
    decides = METRICS[found.primary].title if found.primary else ""
    parts = [
        f"# What each stage of {code(found.recipe)} earned",
        f"The whole recipe ({count(found.pairs)} pairs) less the recipe without the stage: {decides}."
        if found.pairs is not None
        else "Nothing had to be trained.",
        table(
            ("left out", "", "earned (95 %)", "p after Holm:", "pairs without it:", "model calls it takes:"),
            rows,
        ),
        *(
            f"{code(each.step)}: {each.words}{f' Gates: {each.gates}' if each.gates else ''}"
            for each in found.stages
        ),
        *(f"- {note}" for note in found.notes),
    ]
    return "\n\n".join(parts) + "\n"


def in_order(found: Ablation) -> list[Earned]:
    """Return the stages, those that earned most first, then those that were not measured."""

    def key(each: Earned) -> tuple[bool, float]:
        return each.earned is None, -(each.earned.estimate or 0.0) if each.earned else 0.0

    return sorted(found.stages, key=key)
