"""Work: what the steps of a run need, made once, before the first of them."""

import warnings
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from prefkit.engines import Engines, Model
from prefkit.engines.weights import Loaded, load
from prefkit.errors import TrainError
from prefkit.train import attention, checkpoint
from prefkit.train.adapters import lend_without, wrap
from prefkit.train.forward import Task
from prefkit.train.heads import make_heads
from prefkit.train.held_out import HeldOutRows
from prefkit.train.logps import check_model
from prefkit.train.prepare import Lend, Prepared, lend, prepare
from prefkit.train.ranks import Ranks
from prefkit.train.settings import TrainPlacement, TrainSettings

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

__all__ = ["Parts", "Work", "check_rows", "make_work", "open_model", "split", "unsharded"]


class Work(NamedTuple):
    """What the steps need."""

    loaded: Loaded
    ready: Prepared
    settings: TrainSettings
    held_out: HeldOutRows
    adapters: "PeftModel | None"


class Parts(NamedTuple):
    """Pair rows to train on, and those set aside."""

    trained: pa.Table
    held_out: pa.Table


def make_work(
    settings: TrainSettings,
    parts: Parts,
    loaded: Loaded,
    placement: TrainPlacement,
    engines: Engines,
    ranks: Ranks,
) -> Work:
    """Make rows and network ready. Everything that asks the reference as it is now happens here, before any step."""
    adapters = None if settings.lora is None else wrap(loaded.network, settings.lora, settings.seed)
    heads = make_heads(settings.objective, loaded.network, settings.seed)
    reference = _reference(settings, loaded, placement, adapters)
    task = Task(loaded.network, settings.objective, {}, placement, heads, reference)
    told = prepare(task, parts.trained, loaded, settings)
    if not told.told.pairs:
        reasons = ", ".join(f"{name}: {count}" for name, count in told.told.notes.items())
        what = f"no pair is left to train on ({reasons or 'the table is empty'})"
        raise TrainError(what, hint="look at the pairs with `prefkit show`")
    check_model(loaded.network, told.told.pairs[0])
    rest = HeldOutRows(prepare(task, parts.held_out, loaded, settings), settings, loaded, engines)
    return Work(loaded, told._replace(task=told.task._replace(ranks=ranks)), settings, rest, adapters)


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
        return open_model(settings.reference or settings.model, placement, Ranks()).network.requires_grad_(
            False
        )

    def lent() -> "AbstractContextManager[PreTrainedModel]":
        return lend(other())()

    return lent


def unsharded(work: Work) -> Work:
    """Return the work with a network that is whole, on rank 0, where its weights are spread. Every rank must ask."""
    task, settings = work.ready.task, work.settings
    weights = checkpoint.weights_of(task) if task.ranks.size > 1 else {}
    if not weights:
        return work
    import torch

    loaded = open_model(settings.model, task.placement, task.ranks)
    adapters = None if settings.lora is None else wrap(loaded.network, settings.lora, settings.seed)
    with torch.no_grad():
        for name, weight in loaded.network.named_parameters():
            if name in weights:
                weight.copy_(weights[name])
    reference = _reference(settings, loaded, task.placement, adapters)
    task = task._replace(model=loaded.network, reference=reference, ranks=Ranks())
    rest = work.held_out.of(loaded, reference)
    return work._replace(
        loaded=loaded, ready=work.ready._replace(task=task), held_out=rest, adapters=adapters
    )


def split(pairs: pa.Table) -> Parts:
    """Tell the pairs to train on from those that `split` set aside, less what is no pair but a corrupted copy."""
    if "split" not in pairs.column_names:
        return Parts(pairs, pairs.slice(0, 0))
    aside = pc.fill_null(pc.equal(pairs["split"], "test"), fill_value=False)
    held_out = pairs.filter(aside)
    if "degree" in pairs.column_names:
        held_out = held_out.filter(pc.equal(held_out["degree"], 0))
    return Parts(pairs.filter(pc.invert(aside)), held_out)


def check_rows(pairs: pa.Table) -> None:
    """Raise TrainError if rows are meant for something else than learning which of two answers is better."""
    if not pairs.num_rows:
        raise TrainError(
            "the dataset has no rows", where="train", hint="`prefkit show` says which step dropped them"
        )
    for column, meant in (("route", ("dpo",)), ("pair_kind", ("response", "margin"))):
        if column not in pairs.column_names:
            continue
        others = pairs[column].filter(
            pc.invert(pc.is_in(pairs[column], pa.array([*meant, None], pa.string())))
        )
        if len(others):
            what = f"{len(others)} of {pairs.num_rows} rows have {column} '{others[0]}', which is not for this training"
            hint = (
                f"keep the others: filter: {{ keep: {{ column: {column}, any_of: [{', '.join(meant)}] }} }}"
            )
            raise TrainError(what, where="train", hint=hint)


def open_model(model: Model, placement: TrainPlacement, ranks: Ranks) -> Loaded:
    """Load the weights in float32 whatever they are stored in: small steps would vanish in bfloat16."""
    import torch

    name = placement.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and ranks.size > 1:
        name = f"cuda:{ranks.local}"
    loaded = load(model, "language", torch.device(name), "float32")
    attention.register()
    loaded.network.set_attn_implementation(attention.NAME)
    if placement.recompute:
        with warnings.catch_warnings():  # transformers 5.23 has another name for it, which earlier ones lack
            warnings.simplefilter("ignore", FutureWarning)
            loaded.network.gradient_checkpointing_enable({"use_reentrant": False})
    if placement.compile:
        _compile(loaded.network)
    return loaded


def _compile(network: "PreTrainedModel") -> None:
    """Compile what has the same graph for every batch: norms and feed-forward layers, which are many small kernels."""
    for name, module in network.named_modules():
        if name.endswith(("mlp", "norm")):
            module.compile(dynamic=True)
