"""Finishing a comparison: gather what its runs left, compute the report, and write it beside the tables."""

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import ipc

from prefkit import __version__
from prefkit.engines.weights import identity
from prefkit.experiment import table
from prefkit.experiment.analyse import Rules, analyse
from prefkit.experiment.arm import Facts, Run
from prefkit.experiment.arms import Arm
from prefkit.experiment.markdown import render
from prefkit.experiment.page import write_page
from prefkit.experiment.ready import Ready, collected, read_answers, run_folder
from prefkit.experiment.report import ArmReport, Comparison, Looks, Plan, RunReport, Versus
from prefkit.identity import canonical
from prefkit.train.folder import lines, write
from prefkit.train.report import Report

__all__ = ["finish"]

_CURVES = (
    "loss",
    "accuracy",
    "reward_margin",
    "chosen_logp",
    "rejected_logp",
    "entropy",
    "top10_mass",
    "learning_rate",
    "grad_norm",
)
_POINTS = 60
_STRETCHES = 12
"""Into how many a run is cut to look for alarms: single steps are too noisy."""


def finish(ready: Ready, seeds: Sequence[int], looks: Looks, rules: Rules) -> Comparison:
    """Write `measured.arrow`, `answers.arrow`, `report.json`, and the same to read; return the report."""
    frame = collected(ready, seeds)
    table.write(frame, ready.out / "measured.arrow")
    _gather_answers(ready, seeds)
    facts = [_facts(ready, arm, seeds) for arm in ready.arms]
    arms, versus = analyse(frame, facts, seeds, rules)
    told = ready.told
    with table.reading(ready.out / "plan.json"):
        plan = Plan.model_validate_json((ready.out / "plan.json").read_bytes())
    report = Comparison(
        name=ready.out.name,
        id=ready.out.name.rpartition("-")[2],
        protocol=told.id,
        model=told.train.model.id,
        model_identity=identity(told.train.model),
        objective=told.train.objective.describe(),
        batch=told.train.batch,
        train=canonical(told.train),
        settings=canonical(told.settings),
        primary=told.primary,
        prompts=ready.test.prompts.num_rows,
        removed=ready.test.removed,
        plan=plan,
        looks=looks,
        arms=arms,
        versus=versus,
        notes=[*_notes(ready, arms, looks, plan), *_silent(facts, versus)],
        software=_software(),
    )
    write(ready.out / "report.md", render(report))
    write_page(report, ready.out)
    write(ready.out / "report.json", report.model_dump_json(indent=1) + "\n")
    return report


def _facts(ready: Ready, arm: Arm, seeds: Sequence[int]) -> Facts:
    runs = [_run(run_folder(ready, arm, seed), arm.seed(seed)) for seed in seeds]
    return Facts(
        name=arm.name,
        ref=arm.ref,
        digest=arm.digest,
        control=arm.control,
        other_seeds=arm.other_seeds,
        pairs=arm.train.num_rows,
        prompts=len(arm.train["prompt_id"].unique()),
        runs=runs,
    )


def _run(folder: Path, seed: int) -> Run:
    with table.reading(folder / "report.json"):
        report = Report.model_validate_json((folder / "report.json").read_bytes())
    metrics = lines(folder / "metrics.jsonl")
    made = RunReport(
        seed=seed,
        steps=report.steps,
        pairs=report.pairs,
        tokens=report.tokens,
        seconds=report.seconds,
        first_loss=report.first_loss,
        last_loss=report.last_loss,
        curves={name: _thin(metrics, name, _POINTS) for name in _CURVES if metrics and name in metrics[0]},
        warnings=report.warnings,
    )
    told = [_stretches(metrics, name) for name in ("entropy", "top10_mass", "chosen_logp_per_token")]
    with table.reading(folder / "changed.npy"):
        changed = np.unpackbits(np.load(folder / "changed.npy", allow_pickle=False)).astype(bool)
    return Run(made, changed, *told)


def _thin(metrics: Sequence[Mapping[str, Any]], name: str, points: int) -> list[tuple[int, float]]:
    values = np.asarray([line.get(name, np.nan) for line in metrics], dtype=np.float64)
    parts = np.array_split(values, min(points, len(values)))
    starts = np.cumsum([0, *(len(part) for part in parts[:-1])])
    return [(int(at), round(float(part.mean()), 6)) for at, part in zip(starts, parts, strict=True)]


def _stretches(metrics: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.asarray([value for _, value in _thin(metrics, name, _STRETCHES)], dtype=np.float64)


def _gather_answers(ready: Ready, seeds: Sequence[int]) -> None:
    """Write the answers of all models, one table."""
    folders = [ready.out / "runs" / "reference" / str(seed) for seed in seeds]
    folders += [run_folder(ready, arm, seed) for arm in ready.arms for seed in seeds]
    found = pa.concat_tables(
        [read_answers(folder / "answers.arrow") for folder in folders], promote_options="default"
    )
    fresh = ready.out / "answers.arrow.new"
    with ipc.new_file(str(fresh), found.schema) as file:
        file.write_table(found)
    fresh.replace(ready.out / "answers.arrow")


def _notes(ready: Ready, arms: Sequence[ArmReport], looks: Looks, plan: Plan) -> Iterator[str]:
    """Yield what a reader should know."""
    settings = ready.told.settings
    if all(arm.trained_alike and len(arm.runs) > 1 for arm in arms):
        yield "Prompts and drawn answers are samples: the intervals say what other prompts and other draws would give, for these trained models and these scorers."
    else:
        yield "Prompts and seeds are samples: the intervals say what other prompts and other runs would give, for this model and these scorers."
    for arm in ready.arms[1:]:
        if arm.other_seeds and not arm.control:
            yield f"'{arm.name}' has the rows of '{ready.arms[0].name}', so it is trained with other seeds."
    if alike := [f"'{arm.name}'" for arm in arms if arm.trained_alike and len(arm.runs) > 1]:
        yield f"One training run each: seeds changed nothing in how {', '.join(alike)} {'was' if len(alike) == 1 else 'were'} trained, since the rows come in an order of their own; they only changed how answers were drawn. So this does not show what another run would give. `compare: subsample: 0.9` lets each seed see its own nine tenths of the prompts; `train: order: shuffled` draws an order for each."
    for what, rater in (("scorer", settings.score), ("judge", settings.judge)):
        used = [] if rater is None or rater.model is None else _rated_by(ready, rater.model.id)
        if used:
            yield f"The {what} also made or chose rows of {', '.join(used)}: it may favour what it chose. Another scorer (`compare: second`) would tell."
    if plan.variance_from == "typical":
        yield "What could be found was foretold from what such differences vary by as a rule, since no earlier comparison of this model stands in the store."
    if looks.planned > 1:
        yield f"{looks.taken} of {looks.planned} planned looks were taken; they used {looks.spent:.3f} of an error of 0.05."
    if not settings.controls and not any(arm.control for arm in ready.arms):
        yield "No control was run: whether the protocol finds what is there, and nothing else, is not shown."


def _silent(facts: Sequence[Facts], versus: Sequence[Versus]) -> Iterator[str]:
    """Yield which datasets nothing can be said of: too little of what decides was measured."""
    told = {each.arm for each in versus}
    for one in facts[1:]:
        if one.name not in told:
            yield f"Nothing can be said of '{one.name}': too few prompts have what decides. More prompts, or another `compare: primary`, would tell."


def _rated_by(ready: Ready, model: str) -> list[str]:
    """Return the arms whose steps name the model that rates answers."""
    found = []
    for arm in ready.arms:
        if arm.ref:
            told = ready.store.recipe(arm.ref.partition("/")[0])
            models = {name for name, each in (told.get("models") or {}).items() if each.get("id") == model}
            if any(json.dumps(name) in json.dumps(told.get("build", [])) for name in models):
                found.append(f"'{arm.name}'")
    return found


def _software() -> dict[str, str]:
    names = ("torch", "transformers", "numpy", "polars", "pyarrow", "scikit-learn")
    return {
        "prefkit": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }
