"""The loop: a generator of optimizer steps, and nothing that calls back.

    for step in fit(task, batches, settings, optimizer, total):
        log(step.metrics)

A step is one batch of pairs, cut into micro-batches that fit into memory. Each row's share of the gradient is fixed
before the first backward pass, so cutting changes nothing but the order of sums. A loss that is not finite stops the
run before it touches the weights, with the ids of the rows that made it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from math import cos, pi
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prefkit.errors import TrainError
from prefkit.objectives import Costs, Objective, Pairs, Response
from prefkit.train.batches import Batch, Packed, pack, split_by_tokens
from prefkit.train.logps import log_probs
from prefkit.train.settings import TrainPlacement, TrainSettings
from prefkit.train.tokenise import Pair

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

__all__ = ["Reading", "Step", "Task", "fit", "learning_rate", "make_optimizer", "precision", "read"]


class Task(NamedTuple):
    """What is trained on what: all that a step needs to know of the world."""

    model: PreTrainedModel
    objective: Objective
    columns: Mapping[str, np.ndarray]
    """Numeric columns of the whole table, [rows] each, addressed by `Pair.row`."""
    placement: TrainPlacement = TrainPlacement()


class Step(NamedTuple):
    """One optimizer step, done."""

    number: int
    """From 0."""
    metrics: Mapping[str, float]


class Reading(NamedTuple):
    """What the policy and the objective say of pairs, without gradient. Every array is float64 [pairs]."""

    chosen_logp: np.ndarray
    rejected_logp: np.ndarray
    chosen_tokens: np.ndarray
    rejected_tokens: np.ndarray
    loss: np.ndarray
    weight: np.ndarray
    chosen_reward: np.ndarray
    rejected_reward: np.ndarray

    @property
    def accuracy(self) -> np.ndarray:
        """1 where chosen earns more, 0 where less, a half where both earn the same."""
        gap = self.chosen_reward - self.rejected_reward
        # Another kernel computed the reference: below 1e-4 a gap is rounding, and an untrained policy must read 0.5.
        won: np.ndarray = (np.sign(np.where(np.abs(gap) < 1e-4, 0.0, gap)) + 1) / 2
        return won


def fit(
    task: Task,
    batches: Iterable[Batch],
    settings: TrainSettings,
    optimizer: torch.optim.Optimizer,
    total: int,
) -> Iterator[Step]:
    """Yield one Step per batch. Raises TrainError when a loss or a gradient stops being finite.

    `optimizer` comes from `make_optimizer`; `total` is the number of steps of the whole run, over which the learning
    rate falls.
    """
    import torch

    model = task.model
    for batch in batches:
        began = time.perf_counter()
        model.train()
        torch.manual_seed(settings.seed + batch.step)
        micro = split_by_tokens(batch.pairs, task.placement.micro_tokens)
        known = _whole_step(task, batch.pairs, micro) if task.objective.reducer.two_pass else None
        readings, tokens = [], 0
        for part in micro:
            pairs = [batch.pairs[index] for index in part]
            packed = pack(pairs, model.device)
            costs, said = _costs(task, pairs, packed)
            _refuse_nonfinite(costs.loss, pairs, batch.step)
            if known is None:
                shares = task.objective.reducer(
                    torch.zeros_like(costs.weight), costs.weight, len(batch.pairs)
                )
            else:
                shares = known[part]
            (costs.loss * shares).sum().backward()  # type: ignore[no-untyped-call]
            readings.append(_reading(said, costs))
            tokens += packed.tokens.shape[1]
        rate = learning_rate(batch.step, total, settings)
        norm = _update(task, optimizer, rate, settings.max_grad_norm, batch)
        yield Step(
            batch.step, _metrics(_joined(readings), batch, rate, norm, tokens, time.perf_counter() - began)
        )


def read(task: Task, pairs: Sequence[Pair]) -> Reading:
    """Return what model and objective say of pairs, in their order. No gradient, dropout off."""
    import torch

    task.model.eval()
    micro = split_by_tokens(pairs, task.placement.micro_tokens)
    with torch.no_grad():
        parts = [[pairs[index] for index in part] for part in micro]
        found = [_costs(task, part, pack(part, task.model.device)) for part in parts]
    joined = _joined([_reading(said, costs) for costs, said in found])
    back = np.argsort(np.concatenate([np.asarray(part) for part in micro]))
    return Reading(*(field[back] for field in joined))


def precision(model: PreTrainedModel, placement: TrainPlacement) -> AbstractContextManager[None]:
    """Return the context to compute in: autocast to bfloat16, or plain float32."""
    import torch

    kind = model.device.type
    half = placement.dtype == "bfloat16" or (placement.dtype == "auto" and kind == "cuda")
    return torch.autocast(kind, torch.bfloat16, enabled=half)


def make_optimizer(model: PreTrainedModel, settings: TrainSettings) -> torch.optim.AdamW:
    """Return AdamW with weight decay on matrices only."""
    import torch

    trained = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in trained if weight.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [weight for weight in trained if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)


def learning_rate(step: int, total: int, settings: TrainSettings) -> float:
    """Return the rate of a step: up over the warm-up, then constant or down towards zero."""
    rising = round(settings.warmup * total)
    if step < rising:
        return settings.learning_rate * (step + 1) / rising
    done = (step - rising) / max(1, total - rising)
    factor = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + cos(pi * done)) / 2}[settings.schedule]
    return settings.learning_rate * factor


def _whole_step(task: Task, pairs: Sequence[Pair], micro: Sequence[Sequence[int]]) -> Tensor:
    """Return the coefficient of each row where it depends on the losses of all of them: one pass more."""
    import torch

    losses, weights = (
        torch.zeros(len(pairs), device=task.model.device),
        torch.zeros(len(pairs), device=task.model.device),
    )
    with torch.no_grad():
        for part in micro:
            mine = [pairs[index] for index in part]
            costs, _ = _costs(task, mine, pack(mine, task.model.device))
            losses[part], weights[part] = costs.loss.float(), costs.weight.float()
    return task.objective.reducer(losses, weights, len(pairs))


def _costs(task: Task, pairs: Sequence[Pair], packed: Packed) -> tuple[Costs, Pairs]:
    import torch

    with precision(task.model, task.placement):
        sums = log_probs(task.model, packed).responses
    rows = [pair.row for pair in pairs]
    known = {
        name: torch.from_numpy(values[rows]).float().to(sums.device) for name, values in task.columns.items()
    }
    said = Pairs(
        Response(sums[packed.chosen], packed.sizes[packed.chosen], known.get("ref_chosen_logp")),
        Response(sums[packed.rejected], packed.sizes[packed.rejected], known.get("ref_rejected_logp")),
        known,
    )
    return task.objective(said), said


def _reading(said: Pairs, costs: Costs) -> Reading:
    fields = (said.chosen.logp, said.rejected.logp, said.chosen.tokens, said.rejected.tokens, *costs)
    return Reading(*(field.detach().double().cpu().numpy() for field in fields))


def _joined(readings: Sequence[Reading]) -> Reading:
    return Reading(*(np.concatenate(fields) for fields in zip(*readings, strict=True)))


def _refuse_nonfinite(loss: Tensor, pairs: Sequence[Pair], step: int) -> None:
    import torch

    good = torch.isfinite(loss.detach()).cpu()
    if not bool(good.all()):
        names = [pair.id for pair, fine in zip(pairs, good.tolist(), strict=True) if not fine]
        raise _stopped("the loss", step, names)


def _update(
    task: Task, optimizer: torch.optim.Optimizer, rate: float, longest: float | None, batch: Batch
) -> float:
    import torch

    norm = float(
        torch.nn.utils.clip_grad_norm_(task.model.parameters(), float("inf") if longest is None else longest)
    )
    if not np.isfinite(norm):
        raise _stopped("the gradient", batch.step, [pair.id for pair in batch.pairs])
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def _stopped(what: str, step: int, names: Sequence[str]) -> TrainError:
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return TrainError(
        f"{what} is not finite at step {step}",
        where=f"rows {shown}",
        hint="look at those rows with `prefkit show`, or lower `learning_rate`",
    )


def _metrics(
    said: Reading, batch: Batch, rate: float, norm: float, tokens: int, seconds: float
) -> Mapping[str, float]:
    return {
        "step": batch.step,
        "epoch": batch.epoch,
        "loss": float(np.mean(said.weight * said.loss)),
        "accuracy": float(said.accuracy.mean()),
        "reward_margin": float(np.mean(said.chosen_reward - said.rejected_reward)),
        "chosen_logp": float(said.chosen_logp.mean()),
        "rejected_logp": float(said.rejected_logp.mean()),
        "chosen_logp_per_token": float(said.chosen_logp.sum() / said.chosen_tokens.sum()),
        "rejected_logp_per_token": float(said.rejected_logp.sum() / said.rejected_tokens.sum()),
        "grad_norm": norm,
        "learning_rate": rate,
        "pairs": len(batch.pairs),
        "tokens": tokens,
        "seconds": seconds,
    }
