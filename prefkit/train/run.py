"""A training run: from pair rows to a trained model, a record of every step, and a report.

    out/model/           weights as safetensors, tokenizer: opens with `from_pretrained`
    out/adapter/         with `lora`, the adapters alone: opens with peft
    out/metrics.jsonl    one line a step
    out/evaluations.jsonl  one line an evaluation on the way, where they are asked for
    out/report.json      every number the run measured; out/report.md, the same to read
    out/models/000100/   the policy after that many steps, with `keep_every`
    out/checkpoint/      while it runs; a run that was interrupted goes on from it

What a run does is identified by its settings, its pairs and its model: asked for the same again, it returns what
stands in the folder; asked for something else, it refuses to mix.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from prefkit.engines import Engines, Model
from prefkit.engines.weights import identity
from prefkit.errors import TrainError
from prefkit.identity import canonical, digest, hash_json
from prefkit.train import checkpoint
from prefkit.train.batches import Batch, schedule
from prefkit.train.folder import add_line, finished, lines, save_model, write, write_lines
from prefkit.train.forward import REFERENCE, Task
from prefkit.train.heads import merged_heads
from prefkit.train.held_out import Measurement
from prefkit.train.loop import Step, fit
from prefkit.train.optimizer import make_optimizer
from prefkit.train.prepare import check_reference, check_teacher, lend, reference_sums
from prefkit.train.ranks import Ranks, joined, shard
from prefkit.train.report import Report, doubts, render, thin
from prefkit.train.settings import TrainPlacement, TrainSettings
from prefkit.train.trackers import track
from prefkit.train.work import Work, check_rows, make_work, open_model, split, unsharded

if TYPE_CHECKING:
    import torch

__all__ = ["Event", "TrainResult", "run"]


class Event(NamedTuple):
    """How far a run is, for whoever shows it."""

    phase: str
    """`prepare`, `evaluate before`, `train`, `evaluate after`."""
    done: int
    total: int
    metrics: Mapping[str, float] = {}


class TrainResult(NamedTuple):
    """What a run left behind."""

    report: Report
    model: Model
    """The trained folder; opens as any other model."""
    out: Path


Progress = Callable[[Event], None]


def run(
    settings: TrainSettings,
    pairs: pa.Table,
    out: Path,
    placement: TrainPlacement,
    engines: Engines,
    progress: Progress,
) -> TrainResult:
    """Train and report. Raises TrainError, or EngineError if a model cannot be loaded."""
    settings.objective.check(pairs)
    check_rows(pairs)
    asked = {"settings": canonical(settings), "pairs": digest(pairs), "model": identity(settings.model)}
    if settings.reference is not None:
        asked["reference"] = identity(settings.reference)
    key = hash_json(asked)
    with joined(placement.device) as ranks:
        report = finished(out, key)
        ranks.wait()
        if report is None:
            told: Progress = (lambda _: None) if ranks.rank else progress
            report = _run(settings, pairs, out, placement, engines, told, key, ranks)
        checkpoint.forget(out / "checkpoint")
    return TrainResult(report, Model(id=str(out / "model")), out)


def _run(
    settings: TrainSettings,
    pairs: pa.Table,
    out: Path,
    placement: TrainPlacement,
    engines: Engines,
    progress: Progress,
    key: str,
    ranks: Ranks,
) -> Report:
    import torch

    if placement.threads is not None:
        torch.set_num_threads(placement.threads)
    with checkpoint.writing(out):
        out.mkdir(parents=True, exist_ok=True)
    progress(Event("prepare", 0, 1))
    loaded = open_model(settings.model, placement, ranks)
    check_reference(settings, pairs, loaded, placement)
    check_teacher(settings, pairs, loaded)
    work = make_work(settings, split(pairs), loaded, placement, engines, ranks)
    before = None
    if ranks.rank == 0:
        progress(Event("evaluate before", 0, 1))
        before = work.held_out.measure_first(settings.model)
    ranks.wait()
    history, work = _train(work, out, key, progress)
    if before is not None:
        _finish(work, out, key, before, history, progress)
    ranks.wait()
    report = finished(out, key)
    assert report is not None
    return report


def _finish(
    work: Work,
    out: Path,
    key: str,
    before: Measurement,
    history: Sequence[Mapping[str, float]],
    progress: Progress,
) -> None:
    """Save the model and report."""
    folder = out / "model"
    save_model(work.loaded, work.ready.task, work.adapters, folder)
    progress(Event("evaluate after", 0, 1))
    after = work.held_out.measure(Model(id=str(folder)))
    report = _report(work, key, history).model_copy(
        update={
            "held_out": work.held_out.compare(before, after),
            "samples": work.held_out.compare_samples(before, after),
        }
    )
    write(out / "report.md", render(report))
    write(out / "report.json", report.model_dump_json(indent=1) + "\n")


def _report(work: Work, key: str, history: Sequence[Mapping[str, float]]) -> Report:
    """Return what the steps alone tell."""
    import torch

    losses = [metrics["loss"] for metrics in history]
    task = work.ready.task
    return Report(
        key=key,
        model=work.settings.model.id,
        objective=work.settings.objective.describe(),
        settings=canonical(work.settings),
        placement={
            "device": str(task.model.device),
            "dtype": task.placement.dtype,
            "torch": torch.__version__,
        },
        pairs=len(work.ready.told.pairs),
        notes=work.ready.told.notes,
        steps=len(history),
        seconds=sum(metrics["seconds"] for metrics in history),
        tokens=int(sum(metrics["tokens"] for metrics in history)),
        first_loss=losses[0],
        last_loss=float(np.mean(losses[-max(1, len(losses) // 10) :])),
        curve=thin(losses),
        warnings=doubts(history),
        held_out=None,
        samples=None,
    )


def _train(work: Work, out: Path, key: str, progress: Progress) -> tuple[list[Mapping[str, float]], Work]:
    """Run the steps that are missing; return the metrics of all of them, and the work with all its weights."""
    task, settings = work.ready.task, work.settings
    task = task._replace(ranks=shard(task.model, task.objective, task.ranks))
    work = work._replace(ready=work.ready._replace(task=task))
    optimizer = make_optimizer(task, settings)
    resumed = checkpoint.restore(out / "checkpoint", task, optimizer, key)
    plan = schedule(work.ready.told.pairs, settings, work.ready.table)
    every = (settings.evaluate.every if settings.evaluate else None) or len(plan)
    with _recorded(work, out, resumed.steps) as (history, record):
        missed = 0 < resumed.steps < len(plan) and resumed.steps % every == 0
        known = resumed.steps in (line["step"] for line in lines(out / "evaluations.jsonl"))
        if missed and not task.ranks.gather(known)[0]:
            _evaluate(work, out, resumed.steps, progress)
        for step, now in _steps(work, plan, optimizer, resumed):
            done = step.number + 1
            record(step.metrics)
            progress(Event("train", done, len(plan), step.metrics))
            if done % task.placement.checkpoint_every == 0 or done == len(plan):
                kept = {name: now.columns[name] for name in REFERENCE if settings.update_reference}
                so_far = checkpoint.Progress(done, step.reliability, kept)
                checkpoint.save(out / "checkpoint", now, optimizer, so_far, key)
            if done % every == 0 and done < len(plan):
                _evaluate(work, out, done, progress)
            if task.placement.keep_every and done % task.placement.keep_every == 0 and done < len(plan):
                _keep(work, out / "models" / f"{done:06d}")
    return history, unsharded(work)


@contextmanager
def _recorded(
    work: Work, out: Path, steps: int
) -> Iterator[tuple[list[Mapping[str, float]], Callable[[Mapping[str, float]], None]]]:
    """Give the metrics of the steps that are done, and what adds those of one more. Only rank 0 writes them down."""
    history: list[Mapping[str, float]] = list(lines(out / "metrics.jsonl")[:steps])
    if len(history) < steps:
        what = f"the checkpoint is of step {steps}, and the metrics beside it are of {len(history)} steps"
        hint = "bring the file back, or delete the output folder to begin from the start"
        raise TrainError(what, where=str(out / "metrics.jsonl"), hint=hint)
    if work.ready.task.ranks.rank:
        yield history, history.append
        return
    write_lines(out / "metrics.jsonl", history)
    if (out / "evaluations.jsonl").is_file():
        earlier = [line for line in lines(out / "evaluations.jsonl") if line["step"] <= steps]
        write_lines(out / "evaluations.jsonl", earlier)
    with track(work.ready.task.placement.log_to, out, canonical(work.settings)) as send:

        def record(metrics: Mapping[str, float]) -> None:
            history.append(metrics)
            add_line(out / "metrics.jsonl", metrics)
            send(metrics)

        yield history, record


def _steps(
    work: Work, plan: Sequence[Batch], optimizer: "torch.optim.Optimizer", resumed: checkpoint.Progress
) -> Iterator[tuple[Step, Task]]:
    """Yield the steps that are missing, each with the task it was done on: a phase may have its own reference."""
    task, settings, reliability = work.ready.task, work.settings, resumed.reliability
    task = task._replace(columns={**task.columns, **resumed.columns})
    for phase, group in groupby(plan[resumed.steps :], key=lambda batch: batch.phase):
        batches = list(group)
        begins = batches[0].step > 0 and plan[batches[0].step - 1].phase != phase
        if settings.update_reference and begins:
            policy = task._replace(reference=lend(task.model))
            with merged_heads(task.objective, task.model, task.heads):
                sums = reference_sums(policy, work.ready.told.pairs)
            task = task._replace(columns={**task.columns, **sums})
        for step in fit(task, batches, settings, optimizer, len(plan), reliability):
            reliability = step.reliability
            yield step, task


def _keep(work: Work, folder: Path) -> None:
    """Save the policy as it is now."""
    now = unsharded(work)
    if work.ready.task.ranks.rank == 0:
        save_model(now.loaded, now.ready.task, now.adapters, folder)
    work.ready.task.ranks.wait()


def _evaluate(work: Work, out: Path, done: int, progress: Progress) -> None:
    """Measure the policy as it is and add a line to `evaluations.jsonl`."""
    now = unsharded(work)
    if work.ready.task.ranks.rank == 0:
        progress(Event("evaluate", done, 1))
        folder = out / "evaluated"
        save_model(now.loaded, now.ready.task, now.adapters, folder)
        found = now.held_out.measure(Model(id=str(folder)))
        shutil.rmtree(folder)
        add_line(out / "evaluations.jsonl", {"step": done, **found.summary()})
    work.ready.task.ranks.wait()
