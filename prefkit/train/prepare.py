"""Preparing: from pair rows to what a step needs of them: tokens, columns as numbers, and log-probs of the reference.

Reference log-probs are read from the columns that the `reference` stage wrote, after a check that the same reference
is meant. What those columns cannot tell is computed here, once, by the path that training takes: sums over masked
tokens, and the log-probs of pairs that were cut to length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.columns import COLUMNS
from prefkit.engines.chat import reference_fingerprint, vocabulary_fingerprint
from prefkit.engines.weights import Loaded, identity
from prefkit.errors import TrainError
from prefkit.objectives import Objective
from prefkit.train.batches import split_by_tokens
from prefkit.train.forward import REFERENCE, Task, forward
from prefkit.train.settings import TrainPlacement, TrainSettings
from prefkit.train.tokenise import Pair, Tokenised, tokenise

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "Lend",
    "Prepared",
    "check_reference",
    "check_teacher",
    "coded",
    "lend",
    "prepare",
    "reference_sums",
]

Lend = Callable[[], "AbstractContextManager[PreTrainedModel]"]
"""Lends the reference for as long as the context lasts: in evaluation mode, its gradients of no interest."""


class Prepared(NamedTuple):
    """Rows, ready for a step."""

    table: pa.Table
    told: Tokenised
    task: Task


def prepare(task: Task, table: pa.Table, loaded: Loaded, settings: TrainSettings) -> Prepared:
    """Tokenise the rows of a table and give the task their columns. `task.reference` is asked where columns cannot tell."""
    told = tokenise(table, loaded.tokenizer, settings, loaded.context)
    objective = settings.objective
    columns = coded(table, objective.reads())
    task = task._replace(columns=columns, lists=_per_token(table, objective.reads()))
    if objective.needs_reference():
        unknown = [pair for pair in told.pairs if pair.cut or pair.masks is not None]
        columns.update(reference_sums(task, unknown))
    return Prepared(table, told, task)


def reference_sums(task: Task, pairs: Sequence[Pair]) -> Mapping[str, np.ndarray]:
    """Return the task's columns of reference log-probs, with those of `pairs` computed anew."""
    import torch

    found = {name: task.columns[name].copy() for name in REFERENCE}
    if not pairs:
        return found
    if task.reference is None:
        raise TrainError("the log-probs of masked or cut pairs need the reference", hint="give the task one")
    bare = Objective(mask=task.objective.mask)
    with torch.no_grad(), task.reference() as network:
        asked = task._replace(model=network, objective=bare, heads={}, lists={})
        for part in split_by_tokens(pairs, task.placement.room(task.model.device.type)):
            mine = [pairs[index] for index in part]
            said = forward(asked, mine, {}).pairs
            rows = [pair.row for pair in mine]
            for name, side in zip(REFERENCE, (said.chosen, said.rejected), strict=True):
                found[name][rows] = side.logp.double().cpu().numpy()
    return found


def coded(table: pa.Table, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return columns as numbers, float64 [rows, ...], in the form that `Pairs.columns` promises; null as NaN."""
    found = {}
    for name in names:
        kind = table[name].type
        if pa.types.is_string(kind):
            _, codes = np.unique(np.asarray(table[name].to_pylist()), return_inverse=True)
            found[name] = codes.astype(np.float64)
        elif not pa.types.is_nested(kind):
            found[name] = np.asarray(table[name].cast(pa.float64()).to_numpy(), dtype=np.float64)
        elif name == "ref_history":
            found[name] = _history(table)
    return found


def _history(table: pa.Table) -> np.ndarray:
    """Return the log-probs under earlier policies, [rows, policies, 2]."""
    models = {tuple(entry["model"] for entry in row) for row in table["ref_history"].to_pylist()}
    if len(models) != 1:
        what = f"column 'ref_history' names {len(models)} different sequences of policies"
        raise TrainError(what, hint="write it for every row by the same `reference` stages")
    flat = table["ref_history"].combine_chunks().flatten()
    sides = [flat.field(name).to_numpy(zero_copy_only=False) for name in ("chosen_logp", "rejected_logp")]
    return np.stack(sides, axis=-1).reshape(table.num_rows, -1, 2)


def _per_token(table: pa.Table, names: Iterable[str]) -> Mapping[str, pa.ChunkedArray]:
    return {
        name: table[name]
        for name in names
        if pa.types.is_list(table[name].type) and pa.types.is_list(table[name].type.value_type)
    }


def lend(network: PreTrainedModel) -> Lend:
    """Return what lends this network as the reference."""

    @contextmanager
    def lent() -> Iterator[PreTrainedModel]:
        training = network.training
        network.eval()
        try:
            yield network
        finally:
            network.train(training)

    return lent


def check_reference(
    settings: TrainSettings, pairs: pa.Table, loaded: Loaded, placement: TrainPlacement
) -> None:
    """Raise TrainError unless the stored reference log-probs are those of the reference that the settings name."""
    if not settings.objective.needs_reference():
        return
    dtypes = ["torch.float32", *(["torch.bfloat16"] if placement.half(loaded.network.device.type) else [])]
    meant = settings.reference or settings.model
    wanted = {reference_fingerprint(loaded.tokenizer, identity(meant), dtype) for dtype in dtypes}
    found = pc.unique(pairs["ref_fingerprint"]).to_pylist()
    if len(found) == 1 and found[0] in wanted:
        return
    kinds = f"{len(found)} different makers" if len(found) > 1 else f"'{found[0]}'"
    raise TrainError(
        f"the reference log-probs come from {kinds}, not from model '{meant.id}' as it is used here",
        where="column 'ref_fingerprint'",
        hint=f"let {COLUMNS['ref_fingerprint'].writer} name the model that `train` starts from, or name its model "
        "in `train: reference`; device and dtype must be the same",
    )


def check_teacher(settings: TrainSettings, pairs: pa.Table, loaded: Loaded) -> None:
    """Raise TrainError unless a teacher that the objective reads counts tokens as the model that is trained."""
    if not any(name.endswith(("_teacher", "_advantage")) for name in settings.objective.reads()):
        return
    wanted = vocabulary_fingerprint(loaded.tokenizer)
    there = "teacher_fingerprint" in pairs.column_names
    for found in pc.unique(pairs["teacher_fingerprint"]).to_pylist() if there else (None,):
        if found is None or "/".join(found.split("/")[:2]) != wanted:
            raise TrainError(
                f"the teacher's tokens are not those of model '{settings.model.id}'",
                where="column 'teacher_fingerprint'",
                hint="let stage `teacher` ask a model with the same tokenizer and chat template",
            )
