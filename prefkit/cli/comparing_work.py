"""Comparing as the command line does it: recipes built first, what it will take said before, progress on stderr."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prefkit.cli.progress import Progress
from prefkit.cli.purse import Purse
from prefkit.cli.work import build_recipe
from prefkit.engines.placement import Placement, open_engines
from prefkit.errors import PrefkitError
from prefkit.events import training as tell_training
from prefkit.executors.local import Local
from prefkit.recipe import Recipe
from prefkit.store import Store
from prefkit.train.settings import TrainPlacement

if TYPE_CHECKING:
    from prefkit.experiment.ablate import Ablation, Variant
    from prefkit.experiment.protocol import Planned
    from prefkit.experiment.ready import Ready
    from prefkit.experiment.run import Done
    from prefkit.train.run import Event

__all__ = ["ablate_recipe", "carry_out", "compare_arms"]

Announce = Callable[["Ready"], None]


def compare_arms(
    arms: Sequence[str],
    sets: Sequence[str],
    store: str,
    answering: Placement,
    place: TrainPlacement,
    purse: Purse,
    announce: Announce,
    *,
    only_plan: bool = False,
) -> "Done | None":
    """Build what are recipes, say what the comparison takes, and run it unless only that was asked for."""
    from prefkit.experiment.run import prepare, recipe_of

    root = Store(store)
    _check_sets(sets)
    for arm in arms:
        if only_plan and _is_recipe(arm):
            _check_built(arm, root)
    refs = [_built(arm, store, answering, purse) if _is_recipe(arm) else arm for arm in arms]
    recipe = Recipe.load(arms[0], sets) if _is_recipe(arms[0]) else recipe_of(root, refs[0], sets)
    ready = prepare(root, refs, recipe)
    announce(ready)
    return None if only_plan else carry_out(ready, recipe, answering, place, purse)


def carry_out(
    ready: "Ready", recipe: Recipe, answering: Placement, place: TrainPlacement, purse: Purse
) -> "Done":
    """Run a comparison that is ready, showing how far it is."""
    from transformers.utils import logging

    from prefkit.experiment.run import run

    logging.disable_progress_bar()
    spend = purse.spend(recipe.models)
    engines = open_engines(recipe.models, answering, ready.store.answers(), spend=spend)
    with Progress(spend) as progress:

        def tell(name: str, event: "Event") -> None:
            note = f"loss {event.metrics['loss']:.4f}" if "loss" in event.metrics else ""
            progress.track(f"{name}: {event.phase}", event.done, event.total, note)
            tell_training(name, event.phase, event.done, event.total, event.metrics)
            if event.phase == "measured":
                progress.line(f"{name:<40} measured")

        return run(ready, place, engines, tell)


def _is_recipe(arm: str) -> bool:
    return arm.endswith((".yaml", ".yml")) and Path(arm).is_file()


def _check_sets(sets: Sequence[str]) -> None:
    """Refuse what would change a dataset: it would be ignored."""
    for text in sets:
        if text.partition("=")[0].partition(".")[0] in ("data", "build"):
            what = "it would change a dataset, and a comparison takes datasets as they are"
            hint = "build it under another name first: prefkit build RECIPE --set name=other --set ..."
            raise PrefkitError(what, where=f"--set {text}", hint=hint)


def _check_built(arm: str, root: Store) -> None:
    from prefkit.plan import plan

    if plan(Recipe.load(arm, ()), root).to_run:
        what = f"'{arm}' is not built, and what a comparison takes depends on its rows"
        raise PrefkitError(what, where="--plan", hint=f"prefkit build {arm}")


def _built(arm: str, store: str, answering: Placement, purse: Purse) -> str:
    """Build a recipe and return the name of its run."""
    done = build_recipe(arm, None, store, answering, Local(), purse)
    return done.recipe.name


def ablate_recipe(
    path: str,
    steps: Sequence[str],
    sets: Sequence[str],
    store: str,
    answering: Placement,
    place: TrainPlacement,
    purse: Purse,
    announce: "Callable[[Sequence[Variant], Planned | None], None]",
    *,
    only_plan: bool = False,
) -> "tuple[Ablation, Path] | None":
    """Build the recipe, say what leaving out each step would take, and do it unless only that was asked for."""
    from prefkit.experiment.ablate import ablation, build_variants, foretold, read_digest, save, variants
    from prefkit.experiment.run import prepare
    from prefkit.plan import plan
    from prefkit.run import Settings

    root, recipe = Store(store), Recipe.load(path, sets)
    found = variants(recipe, root, steps)  # a misspelt step is told before anything is built
    if only_plan and plan(recipe, root).to_run:
        announce(found, None)
        return None
    build_recipe(path, sets, store, answering, Local(), purse)
    found = variants(recipe, root, steps)
    announce(found, foretold(recipe, root, found))
    if only_plan:
        return None
    spend = purse.spend(recipe.models)
    with Progress(spend) as progress:
        settings = Settings(answering, progress=progress, spend=spend)
        built = list(build_variants(found, root, settings))
    whole = read_digest(recipe, root)
    refs = [each.run for each in built if not each.why and each.digest != whole]
    report = None
    if refs:
        ready = prepare(root, [recipe.name, *refs], recipe)
        report = carry_out(ready, recipe, answering, place, purse).report
    told = ablation(recipe, root, found, built, report)
    return told, save(root, told)
