"""Run a comparison: train every arm with every seed, measure each model, and report what the datasets are worth.

    compared/a-vs-b-1f3c…/
        measured.arrow   every number, one a row: `table` has the columns
        answers.arrow    what the trained models said, as response rows
        plan.json        what was said before the first run
        report.json      computed from the two and from what stands in `runs/`; report.md, report.html the same to read
        runs/1-a/0/      one run: its report, the metrics of its steps, and what was measured; models go once they are measured

A run whose measurements stand is not made again, and a training that was interrupted goes on: kill it and call it once more.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.comparing.sequential import look, shares
from prefkit.engines import Engines, Model
from prefkit.engines.chat import reference_fingerprint
from prefkit.engines.weights import identity
from prefkit.errors import DataError, TrainError
from prefkit.experiment import measure, table
from prefkit.experiment.analyse import Rules, primary_gap
from prefkit.experiment.arms import Arm, controls, held_out, open_arms, subsampled, with_reference
from prefkit.experiment.finish import finish
from prefkit.experiment.judged import judged
from prefkit.experiment.protocol import FOLDER, plan, protocol, steps_of
from prefkit.experiment.ready import Ready, collected, read_answers, run_folder, slug, write_answers
from prefkit.experiment.report import Comparison, Looks
from prefkit.experiment.settings import CompareSettings
from prefkit.identity import hash_json
from prefkit.objectives.rewards import LogRatio
from prefkit.recipe import Recipe
from prefkit.store import Store
from prefkit.train import train
from prefkit.train.folder import write
from prefkit.train.ranks import Ranks
from prefkit.train.run import Event
from prefkit.train.settings import TrainPlacement, TrainSettings
from prefkit.train.work import open_model
from prefkit.yaml_text import yaml_text

__all__ = ["Done", "compare", "prepare", "run"]

Progress = Callable[[str, Event], None]


class Done(NamedTuple):
    """A finished comparison."""

    report: Comparison
    out: Path


def _silent(name: str, event: Event) -> None:
    """Show nothing."""


def compare(
    store: Store,
    refs: Sequence[str],
    recipe: Recipe | None = None,
    *,
    placement: TrainPlacement | None = None,
    engines: Engines | None = None,
    progress: Progress = _silent,
) -> Done:
    """Compare datasets of a store: `refs` are runs or steps of runs, the first being what the others are compared with.

    What is trained and measured is said by `train:` and `compare:` of the recipe; left out, of that which the first was built by.
    Raises TrainError, DataError or StoreError.
    """
    return run(prepare(store, refs, recipe), placement, engines, progress)


def prepare(store: Store, refs: Sequence[str], recipe: Recipe | None = None) -> Ready:
    """Check what a comparison needs and say what it will take, before anything is run."""
    if len(refs) < 2:
        what = f"one dataset, '{refs[0]}', is compared with nothing"
        raise DataError(what, hint=f"name another: prefkit compare {refs[0]} other-run")
    recipe = recipe or recipe_of(store, refs[0])
    training = train_of(recipe)
    settings: CompareSettings = recipe.compare or CompareSettings()
    arms = open_arms(store, refs)
    arms += controls(arms[0], settings, recipe.seed)
    test = held_out([arm for arm in arms if not arm.control], settings, recipe.folder, store)
    told = protocol(training, settings, test)
    if told.primary == "accuracy" and not any(table.num_rows for table in test.pairs.values()):
        what = "`primary: accuracy` needs held-out pairs whose prompts no dataset trains on"
        hint = "hold some out (`split`), or name a scorer: compare: { score: { model: reward } }"
        raise TrainError(what, where="compare", hint=hint)
    steps = steps_of(arms, told)
    sides = [[arm.digest, arm.seed(0)] for arm in arms]
    asked = hash_json({"protocol": told.id, "seed": recipe.seed, "arms": sides})
    name = "-vs-".join(slug(ref) for ref in refs)[:80]
    others = len(arms) - 1
    store.files(f"{FOLDER}/*/report.json")  # earlier comparisons tell how much runs vary
    return Ready(
        store,
        told,
        arms,
        test,
        steps,
        plan(store.root, told, steps, test, others),
        store.root / FOLDER / f"{name}-{asked[:8]}",
        recipe.seed,
        recipe.folder,
    )


def train_of(recipe: Recipe) -> TrainSettings:
    """Return what a recipe says of training. Raises TrainError if it says nothing."""
    if recipe.train is None:
        what = f"recipe '{recipe.name}' has no `train:`, so nothing says how datasets are compared"
        raise TrainError(
            what, hint="add train: { model: policy, objective: dpo }, or --set train.model=policy"
        )
    settings: TrainSettings = recipe.train
    return settings


def recipe_of(store: Store, ref: str, sets: Sequence[str] = ()) -> Recipe:
    """Return the recipe that a run was built by, `--set` applied."""
    described = {key: value for key, value in store.recipe(ref.partition("/")[0]).items() if key != "sets"}
    return Recipe.parse(yaml_text(described), sets=sets)


def run(
    ready: Ready,
    placement: TrainPlacement | None = None,
    engines: Engines | None = None,
    progress: Progress = _silent,
) -> Done:
    """Do what is missing and report."""
    with ready.store.synced(ready.out):
        return _run(ready, placement, engines, progress)


def _run(ready: Ready, placement: TrainPlacement | None, engines: Engines | None, progress: Progress) -> Done:
    placement, engines = placement or TrainPlacement(), engines or Engines()
    ready.out.mkdir(parents=True, exist_ok=True)
    if not (ready.out / "plan.json").is_file():  # what was foretold stays, whatever is known later
        write(ready.out / "plan.json", ready.planned.written().model_dump_json(indent=1) + "\n")
    bench = _bench(ready, placement, engines)
    arms = [_readable(arm, ready.told.train, bench) for arm in ready.arms]
    settings = ready.told.settings
    groups = np.array_split(np.arange(settings.seeds), settings.looks)
    spending = shares(np.cumsum([len(group) for group in groups]) / settings.seeds)
    seeds: list[int] = []
    for taken, (group, share) in enumerate(zip(groups, spending, strict=True), start=1):
        for seed in group.tolist():
            bench = _untrained(ready, bench, seed)
            for arm in arms:
                _one(ready, bench, arm, seed, progress)
            judged(ready, engines, seed)
        seeds += group.tolist()
        if taken < settings.looks and _settled(ready, seeds, share):
            break
    spent = float(spending[:taken].sum())
    looks = Looks(
        planned=settings.looks,
        taken=taken,
        seeds=len(seeds),
        spent=spent,
        stopped=len(seeds) < settings.seeds,
    )
    return Done(finish(ready, seeds, looks, rules(ready, 1 - float(spending[taken - 1]))), ready.out)


def rules(ready: Ready, level: float = 0.95) -> Rules:
    """Return how the result is read."""
    settings, reward = ready.told.settings, ready.told.train.objective.reward
    return Rules(
        primary=ready.told.primary,
        smallest=settings.smallest,
        margin=settings.margin,
        band=settings.tie_band,
        beta=reward.beta if isinstance(reward, LogRatio) else None,
        level=level,
    )


def _bench(ready: Ready, placement: TrainPlacement, engines: Engines) -> measure.Bench:
    """Load the reference and read the held-out pairs with it."""
    settings = ready.told.train
    reference = open_model(settings.reference or settings.model, placement, Ranks())
    reference.network.requires_grad_(requires_grad=False)
    pairs = {
        name: measure.ready_pairs(rows, settings, reference, placement)
        for name, rows in ready.test.pairs.items()
    }
    pairs = {name: each for name, each in pairs.items() if each.pairs}
    bench = measure.Bench(
        ready.told.settings, settings, placement, engines, reference, ready.test.prompts, pairs
    )
    folder = ready.out / "runs" / "reference"
    folder.mkdir(parents=True, exist_ok=True)
    facts = list(measure.of_reference(bench))
    if facts and not (folder / "pairs.arrow").is_file():
        table.write(_labelled(facts, "", 0, 0), folder / "pairs.arrow")
    return bench


def _untrained(ready: Ready, bench: measure.Bench, seed: int) -> measure.Bench:
    """Draw the untrained model's answers with this seed; those of the first seed also tell where likelihood goes."""
    folder = ready.out / "runs" / "reference" / str(seed)
    if not (folder / "measured.arrow").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        drawn = measure.answers(bench, ready.told.train.model, seed)
        write_answers(drawn, "", seed, folder / "answers.arrow")
        table.write(_labelled(list(measure.of_answers(drawn)), "", seed, 0), folder / "measured.arrow")
    if bench.answers is None:
        first = ready.out / "runs" / "reference" / "0" / "answers.arrow"
        bench = bench._replace(answers=read_answers(first))
    return bench


def _readable(arm: Arm, settings: TrainSettings, bench: measure.Bench) -> Arm:
    """Return the arm with reference log-probs of the reference that is meant."""
    meant = settings.reference or settings.model
    fingerprint = reference_fingerprint(bench.reference.tokenizer, identity(meant), "torch.float32")
    return with_reference(arm, settings, bench.engines, fingerprint)


def _one(ready: Ready, bench: measure.Bench, arm: Arm, seed: int, progress: Progress) -> None:
    """Train an arm with one seed and measure it, unless that stands."""
    folder = run_folder(ready, arm, seed)
    training, steps = folder / "training", ready.steps[arm.name]
    if (folder / "measured.arrow").is_file():
        shutil.rmtree(training, ignore_errors=True)
        return
    settings = ready.told.train.model_copy(
        update={"seed": ready.told.train.seed + arm.seed(seed), **_length(ready, steps)}
    )
    keep = steps // bench.settings.points if bench.settings.points > 1 else None
    place = bench.placement.model_copy(update={"keep_every": keep or None})
    name = f"{arm.name}, seed {seed}"
    share = bench.settings.subsample
    done = train(
        settings,
        arm.train if share == 1 else subsampled(arm.train, share, arm.seed(seed)),
        out=training,
        placement=place,
        engines=bench.engines,
        progress=lambda event: progress(name, event),
    )
    kept = sorted((training / "models").glob("*"))[: bench.settings.points - 1]
    frames, changed, drawn = [], np.zeros(0, dtype=bool), None
    for at, path in enumerate([*kept, Path(done.model.id)]):
        progress(name, Event("measure", at, len(kept) + 1))
        step = int(path.name) if path in kept else done.report.steps
        found, changed, drawn = _measured(bench, Model(id=str(path)), arm.seed(seed))
        frames.append(_labelled(found, arm.name, seed, step))
    assert drawn is not None
    np.save(folder / "changed.npy", np.packbits(changed))
    write_answers(drawn, arm.name, seed, folder / "answers.arrow")
    for part in ("report.json", "metrics.jsonl"):
        shutil.copyfile(training / part, folder / part)
    table.write(pl.concat(frames), folder / "measured.arrow")  # last: from here on the run stands
    shutil.rmtree(training)
    progress(name, Event("measured", 1, 1))


def _length(ready: Ready, steps: int) -> Mapping[str, object]:
    if ready.told.settings.budget == "epochs":
        return {}
    return {"steps": steps, "epochs": 1.0}


def _measured(
    bench: measure.Bench, model: Model, seed: int
) -> tuple[list[pl.DataFrame], np.ndarray, pa.Table]:
    loaded = open_model(model, bench.placement, Ranks())
    drawn = measure.answers(bench, model, seed)
    moved, changed = measure.of_model(bench, loaded, drawn)
    return [*measure.of_answers(drawn), *measure.of_pairs(bench, loaded.network), *moved], changed, drawn


def _labelled(frames: Sequence[pl.DataFrame], arm: str, seed: int, step: int) -> pl.DataFrame:
    names = (
        pl.lit(arm).alias("arm"),
        pl.lit(seed, pl.Int64).alias("seed"),
        pl.lit(step, pl.Int64).alias("step"),
    )
    return pl.concat(frames).with_columns(*names).select(*table.COLUMNS)


def _settled(ready: Ready, seeds: Sequence[int], share: float) -> bool:
    """Say whether every dataset is told from the first at the share of the error that is this look's."""
    frame, first = collected(ready, seeds), ready.arms[0].name
    for arm in ready.arms[1:]:
        gap = None if arm.control else primary_gap(frame, arm.name, first, seeds, rules(ready))
        if not arm.control and (gap is None or not look(gap, share).stop):
            return False
    return True
