"""A training run: from pair rows to a trained model, a record of every step, and a report.

    out/model/           weights as safetensors, tokenizer: opens with `from_pretrained`
    out/metrics.jsonl    one line a step
    out/report.json      every number the run measured; out/report.md, the same to read
    out/checkpoint/      while it runs; a run that was interrupted goes on from it

What a run does is identified by its settings, its pairs and its model: asked for the same again, it returns what
stands in the folder; asked for something else, it refuses to mix.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from prefkit.engines import Engines, Model
from prefkit.engines.chat import reference_fingerprint
from prefkit.engines.weights import Loaded, identity, load
from prefkit.errors import TrainError
from prefkit.identity import canonical, digest, hash_json
from prefkit.train import attention, checkpoint
from prefkit.train.batches import batches, numeric, total_steps
from prefkit.train.held_out import HeldOutRows
from prefkit.train.logps import check_model
from prefkit.train.loop import Task, fit, make_optimizer
from prefkit.train.report import Report, render, thin
from prefkit.train.settings import TrainPlacement, TrainSettings
from prefkit.train.tokenise import Pair, Tokenised, tokenise

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
    _check_reference(settings, pairs, loaded, placement)
    parts = _split(pairs)
    told = _tokenised(parts.trained, loaded, settings)
    task = _task(settings, parts.trained, loaded, placement)
    check_model(loaded.network, told.pairs[0])
    rest = HeldOutRows(settings, parts.held_out, loaded, placement, engines)
    progress(Event("evaluate before", 0, 1))
    before = rest.measure(settings.model)
    work = _Work(task, told.pairs, parts.trained, settings, key)
    history = _train(work, out, progress)
    _save(loaded, out / "model")
    progress(Event("evaluate after", 0, 1))
    after = rest.measure(model)
    report = _report(work, told, history).model_copy(
        update={
            "held_out": rest.compare(before, after),
            "samples": rest.compare_samples(before, after),
        }
    )
    _write(out / "report.md", render(report))
    _write(out / "report.json", report.model_dump_json(indent=1) + "\n")
    shutil.rmtree(out / "checkpoint", ignore_errors=True)
    return TrainResult(report, model, out)


class _Work(NamedTuple):
    """What the steps need."""

    task: Task
    pairs: Sequence[Pair]
    table: pa.Table
    settings: TrainSettings
    key: str


def _report(work: _Work, told: Tokenised, history: Sequence[Mapping[str, float]]) -> Report:
    """Return what the steps alone tell."""
    import torch

    losses = [metrics["loss"] for metrics in history]
    placement = work.task.placement
    return Report(
        key=work.key,
        model=work.settings.model.id,
        objective=work.settings.objective.describe(),
        settings=canonical(work.settings),
        placement={
            "device": str(work.task.model.device),
            "dtype": placement.dtype,
            "torch": torch.__version__,
        },
        pairs=len(told.pairs),
        notes=told.notes,
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


def _task(settings: TrainSettings, table: pa.Table, loaded: Loaded, placement: TrainPlacement) -> Task:
    return Task(loaded.network, settings.objective, numeric(table, settings.objective.reads()), placement)


def _tokenised(table: pa.Table, loaded: Loaded, settings: TrainSettings) -> Tokenised:
    told = tokenise(table, loaded.tokenizer, settings, loaded.context)
    cut = sum(count for name, count in told.notes.items() if name.startswith("truncated/"))
    if cut and settings.objective.needs_reference():
        what = (
            f"{cut} pairs were cut to `max_length`, and their reference log-probs are of the whole responses"
        )
        raise TrainError(what, hint="set `truncate: drop`, or raise `max_length`")
    if not told.pairs:
        reasons = ", ".join(f"{name}: {count}" for name, count in told.notes.items()) or "the table is empty"
        raise TrainError(
            f"no pair is left to train on ({reasons})", hint="look at the pairs with `prefkit show`"
        )
    return told


def _check_reference(
    settings: TrainSettings, pairs: pa.Table, loaded: Loaded, placement: TrainPlacement
) -> None:
    """Raise TrainError unless the stored reference log-probs are those of the model that training starts from."""
    if not settings.objective.needs_reference():
        return
    half = placement.dtype == "bfloat16" or (
        placement.dtype == "auto" and loaded.network.device.type == "cuda"
    )
    dtypes = ("torch.bfloat16", "torch.float32") if half else ("torch.float32",)
    wanted = {reference_fingerprint(loaded.tokenizer, identity(settings.model), dtype) for dtype in dtypes}
    found = pc.unique(pairs["ref_fingerprint"]).to_pylist()
    if len(found) == 1 and found[0] in wanted:
        return
    kinds = f"{len(found)} different makers" if len(found) > 1 else f"'{found[0]}'"
    raise TrainError(
        f"the reference log-probs come from {kinds}, not from model '{settings.model.id}' as it is trained",
        where="column 'ref_fingerprint'",
        hint="let the `reference` stage name the model that `train` starts from, on the same device and dtype",
    )


def _train(work: _Work, out: Path, progress: Progress) -> list[Mapping[str, float]]:
    """Run the steps that are missing; return the metrics of all of them."""
    model, settings = work.task.model, work.settings
    optimizer = make_optimizer(model, settings)
    resumed = checkpoint.restore(out / "checkpoint", model, optimizer, work.key)
    done = resumed.steps if resumed else 0
    total = total_steps(len(work.pairs), settings)
    metrics = out / "metrics.jsonl"
    history = [json.loads(line) for line in _lines(metrics)[:done]]
    _write(metrics, "".join(json.dumps(line) + "\n" for line in history))
    steps = fit(work.task, batches(work.pairs, settings, work.table, done), settings, optimizer, total)
    with metrics.open("a", encoding="utf-8") as file:
        for step in steps:
            history.append(step.metrics)
            file.write(json.dumps(step.metrics) + "\n")
            file.flush()
            progress(Event("train", step.number + 1, total, step.metrics))
            if (step.number + 1) % work.task.placement.checkpoint_every == 0 or step.number + 1 == total:
                checkpoint.save(out / "checkpoint", model, optimizer, step.number + 1, work.key)
    return history


def _save(loaded: Loaded, folder: Path) -> None:
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    with checkpoint.writing(folder):
        loaded.network.save_pretrained(fresh)
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
