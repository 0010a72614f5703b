"""A training run: from pair rows to a trained model, a record of every step, and a report.

    out/model/           weights as safetensors, tokenizer: opens with `from_pretrained`
    out/adapter/         with `lora`, the adapters alone: opens with peft
    out/metrics.jsonl    one line a step
    out/evaluations.jsonl  one line an evaluation on the way, where they are asked for
    out/report.json      every number the run measured; out/report.md, the same to read
    out/checkpoint/      while it runs; a run that was interrupted goes on from it

What a run does is identified by its settings, its pairs and its model: asked for the same again, it returns what
stands in the folder; asked for something else, it refuses to mix.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from prefkit.engines import Engines, Model
from prefkit.engines.weights import Loaded, identity, load
from prefkit.errors import TrainError
from prefkit.identity import canonical, digest, hash_json
from prefkit.train import attention, checkpoint
from prefkit.train.adapters import lend_without, merged, save_adapter, wrap
from prefkit.train.batches import Batch, schedule
from prefkit.train.forward import Task
from prefkit.train.heads import make_heads, merged_heads
from prefkit.train.held_out import HeldOutRows
from prefkit.train.logps import check_model
from prefkit.train.loop import Step, fit, make_optimizer
from prefkit.train.prepare import (
    REFERENCE,
    Lend,
    Prepared,
    check_reference,
    lend,
    prepare,
    reference_sums,
)
from prefkit.train.report import Report, render, thin
from prefkit.train.settings import TrainPlacement, TrainSettings
from prefkit.train.trackers import track

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

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
    import torch

    settings.objective.check(pairs)
    model = Model(id=str(out / "model"))
    key = hash_json(
        {"settings": canonical(settings), "pairs": digest(pairs), "model": identity(settings.model)}
    )
    finished = _finished(out, key)
    if finished is not None:
        return TrainResult(finished, model, out)
    if placement.threads is not None:
        torch.set_num_threads(placement.threads)
    out.mkdir(parents=True, exist_ok=True)
    progress(Event("prepare", 0, 1))
    loaded = _load(settings.model, placement)
    check_reference(settings, pairs, loaded, placement)
    work = _prepare(settings, _split(pairs), loaded, placement, engines)
    progress(Event("evaluate before", 0, 1))
    before = work.held_out.measure(settings.model)
    history = _train(work, out, key, progress)
    _save(work, out / "model")
    progress(Event("evaluate after", 0, 1))
    after = work.held_out.measure(model)
    report = _report(work, key, history).model_copy(
        update={
            "held_out": work.held_out.compare(before, after),
            "samples": work.held_out.compare_samples(before, after),
        }
    )
    _write(out / "report.md", render(report))
    _write(out / "report.json", report.model_dump_json(indent=1) + "\n")
    shutil.rmtree(out / "checkpoint", ignore_errors=True)
    return TrainResult(report, model, out)


class _Work(NamedTuple):
    """What the steps need."""

    loaded: Loaded
    ready: Prepared
    settings: TrainSettings
    held_out: HeldOutRows
    adapters: "PeftModel | None"


def _prepare(
    settings: TrainSettings, parts: "_Parts", loaded: Loaded, placement: TrainPlacement, engines: Engines
) -> _Work:
    """Make rows and network ready. Everything that asks the reference as it is now happens here, before any step."""
    adapters = None if settings.lora is None else wrap(loaded.network, settings.lora, settings.seed)
    heads = make_heads(settings.objective, loaded.network, settings.seed)
    reference = _reference(settings, loaded, placement, adapters)
    task = Task(loaded.network, settings.objective, {}, placement, heads, reference)
    ready = prepare(task, parts.trained, loaded, settings)
    if not ready.told.pairs:
        reasons = ", ".join(f"{name}: {count}" for name, count in ready.told.notes.items())
        what = f"no pair is left to train on ({reasons or 'the table is empty'})"
        raise TrainError(what, hint="look at the pairs with `prefkit show`")
    check_model(loaded.network, ready.told.pairs[0])
    rest = HeldOutRows(prepare(task, parts.held_out, loaded, settings), settings, loaded, engines)
    return _Work(loaded, ready, settings, rest, adapters)


def _reference(
    settings: TrainSettings, loaded: Loaded, placement: TrainPlacement, adapters: "PeftModel | None"
) -> Lend:
    """Return what lends the reference.

    That is another model, the policy without its adapters, a frozen copy, or, where only what stands before the first
    step asks for it, the policy itself.
    """
    live = any(term.reference for term in settings.objective.terms())
    if live and settings.update_reference:
        what = "the objective reads the reference's whole distribution, which phases cannot update"
        raise TrainError(what, hint="leave out `update_reference`, or the pieces that need it")
    if settings.reference is None and adapters is not None:
        return lend_without(adapters, loaded.network)
    if settings.reference is None and not live:
        return lend(loaded.network)

    @cache
    def other() -> "PreTrainedModel":
        return _load(settings.reference or settings.model, placement).network.requires_grad_(False)

    def lent() -> "AbstractContextManager[PreTrainedModel]":
        return lend(other())()

    return lent


def _report(work: _Work, key: str, history: Sequence[Mapping[str, float]]) -> Report:
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
        held_out=None,
        samples=None,
    )


class _Parts(NamedTuple):
    trained: pa.Table
    held_out: pa.Table


def _split(pairs: pa.Table) -> _Parts:
    """Tell the pairs to train on from those that `split` set aside."""
    if "split" not in pairs.column_names:
        return _Parts(pairs, pairs.slice(0, 0))
    aside = pc.fill_null(pc.equal(pairs["split"], "test"), fill_value=False)
    return _Parts(pairs.filter(pc.invert(aside)), pairs.filter(aside))


def _load(model: Model, placement: TrainPlacement) -> Loaded:
    """Load the weights in float32 whatever they are stored in: small steps would vanish in bfloat16."""
    import torch

    name = placement.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = load(model, "language", torch.device(name), "float32")
    attention.register()
    loaded.network.set_attn_implementation(attention.NAME)
    if placement.recompute:
        loaded.network.gradient_checkpointing_enable({"use_reentrant": False})
    return loaded


def _train(work: _Work, out: Path, key: str, progress: Progress) -> list[Mapping[str, float]]:
    """Run the steps that are missing; return the metrics of all of them."""
    task, settings = work.ready.task, work.settings
    optimizer = make_optimizer(task, settings)
    resumed = checkpoint.restore(out / "checkpoint", task, optimizer, key)
    plan = schedule(work.ready.told.pairs, settings, work.ready.table)
    metrics = out / "metrics.jsonl"
    history = [json.loads(line) for line in _lines(metrics)[: resumed.steps]]
    _write(metrics, "".join(json.dumps(line) + "\n" for line in history))
    tracker = track(task.placement.log_to, out, canonical(settings))
    with metrics.open("a", encoding="utf-8") as file, tracker as send:
        for step, now in _steps(work, plan, optimizer, resumed):
            done = step.number + 1
            history.append(step.metrics)
            file.write(json.dumps(step.metrics) + "\n")
            file.flush()
            send(step.metrics)
            progress(Event("train", done, len(plan), step.metrics))
            if done % task.placement.checkpoint_every == 0 or done == len(plan):
                kept = {name: now.columns[name] for name in REFERENCE if settings.update_reference}
                so_far = checkpoint.Progress(done, step.reliability, kept)
                checkpoint.save(out / "checkpoint", now, optimizer, so_far, key)
            every = settings.evaluate.every if settings.evaluate else None
            if every and done % every == 0 and done < len(plan):
                _evaluate(work, out, done, progress)
    return history


def _steps(
    work: _Work, plan: Sequence[Batch], optimizer: "torch.optim.Optimizer", resumed: checkpoint.Progress
) -> Iterator[tuple[Step, Task]]:
    """Yield the steps that are missing, each with the task it was done on: a phase may have its own reference."""
    task, settings, reliability = work.ready.task, work.settings, resumed.reliability
    task = task._replace(columns={**task.columns, **resumed.columns})
    for phase, group in groupby(plan[resumed.steps :], key=lambda batch: batch.phase):
        batches = list(group)
        begins = batches[0].step > 0 and plan[batches[0].step - 1].phase != phase
        if settings.update_reference and begins:
            policy = task._replace(reference=lend(task.model))
            task = task._replace(columns={**task.columns, **reference_sums(policy, work.ready.told.pairs)})
        for step in fit(task, batches, settings, optimizer, len(plan), reliability):
            reliability = step.reliability
            yield step, task


def _evaluate(work: _Work, out: Path, done: int, progress: Progress) -> None:
    """Measure the policy as it is and add a line to `evaluations.jsonl`."""
    progress(Event("evaluate", done, 1))
    folder = out / "evaluated"
    _save(work, folder)
    found = work.held_out.measure(Model(id=str(folder)))
    shutil.rmtree(folder)
    with (out / "evaluations.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": done, **found.summary()}) + "\n")


def _save(work: _Work, folder: Path) -> None:
    loaded = work.loaded
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    task = work.ready.task
    with checkpoint.writing(folder), merged_heads(task.objective, loaded.network, task.heads):
        if work.adapters is None:
            loaded.network.save_pretrained(fresh)
        else:
            loaded.network.save_pretrained(fresh, state_dict=merged(loaded.network))
            save_adapter(work.adapters, folder.with_name("adapter"))
        loaded.tokenizer.save_pretrained(fresh)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def _finished(out: Path, key: str) -> Report | None:
    """Return the report of the same run, if it stands in the folder. Raises TrainError if another one does."""
    path = out / "report.json"
    if not path.is_file():
        return None
    try:
        report = Report.model_validate_json(path.read_bytes())
    except ValidationError:
        return None  # torn or edited: the run is finished anew
    if report.key != key:
        what = "the output folder holds another run: other settings, pairs or model"
        raise TrainError(what, where=str(out), hint="choose another output folder, or delete this one")
    return report


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
