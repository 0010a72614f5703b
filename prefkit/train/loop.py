"""The loop: a generator of optimizer steps, and nothing that calls back.

    for step in fit(task, batches, settings, optimizer, total):
        log(step.metrics)

A step is one batch of pairs, cut into micro-batches that fit into memory. Each row's share of the gradient is fixed
before the first backward pass, so cutting changes nothing but the order of sums. A loss that is not finite stops the
run before it touches the weights, with the ids of the rows that made it.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prefkit.errors import TrainError
from prefkit.objectives import Costs, Rows
from prefkit.train.batches import Batch, units
from prefkit.train.forward import REFERENCE, Forward, Task, columns_of, forward
from prefkit.train.optimizer import learning_rate
from prefkit.train.ranks import whole
from prefkit.train.settings import TrainSettings
from prefkit.train.tokenise import Pair

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Reading", "Step", "fit", "read", "refuse_nonfinite"]


class Step(NamedTuple):
    """One optimizer step, done."""

    number: int
    """From 0."""
    metrics: Mapping[str, float]
    reliability: np.ndarray
    """[annotators] how far each is believed after the step; empty unless the labels keep it."""


class Reading(NamedTuple):
    """What the policy and the objective say of pairs, detached. Every array is float64 [pairs]."""

    chosen_logp: np.ndarray
    rejected_logp: np.ndarray
    chosen_tokens: np.ndarray
    rejected_tokens: np.ndarray
    loss: np.ndarray
    extra: np.ndarray
    weight: np.ndarray
    chosen_reward: np.ndarray
    rejected_reward: np.ndarray
    belief: np.ndarray

    @property
    def accuracy(self) -> np.ndarray:
        """1 where chosen earns more, 0 where less, a half where both earn the same."""
        with np.errstate(invalid="ignore"):  # of a policy that ran away
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
    reliability: np.ndarray | None = None,
) -> Iterator[Step]:
    """Yield one Step per batch. Raises TrainError when a loss or a gradient stops being finite.

    `optimizer` comes from `make_optimizer`; `total` is the number of steps of the whole run, over which the learning
    rate falls; `reliability` is that of the last step, where a run goes on.
    """
    import torch

    labels = task.objective.labels
    if reliability is None or not len(reliability):
        reliability = labels.start(_annotators(task))
    for batch in batches:
        began = time.perf_counter()
        task.model.train()
        torch.manual_seed(settings.seed + batch.step)
        more = _more(task, batch.pairs, reliability)
        done = _backward(task, batch, task.micro(batch.pairs), more)
        rate = learning_rate(batch.step, total, settings)
        norm = _update(optimizer, rate, settings.max_grad_norm, batch)
        if labels.annotators:
            reliability = labels.learn(reliability, _who(task, batch.pairs), done.reading.belief, batch.step)
        seconds = time.perf_counter() - began
        speed = {
            "seconds": seconds,
            "tokens_per_second": done.told["tokens"] / seconds,
            "memory_mib": memory(),
        }
        metrics = {
            **_metrics(done.reading, batch),
            **_distance(task, batch.pairs, done.reading),
            **done.told,
            "grad_norm": norm,
            "learning_rate": rate,
            **speed,
        }
        yield Step(batch.step, metrics, reliability)


def read(task: Task, pairs: Sequence[Pair]) -> Reading:
    """Return what model and objective say of pairs, in their order. No gradient, dropout off."""
    import torch

    task.model.eval()
    reliability = task.objective.labels.start(_annotators(task))
    micro, more = task.micro(pairs), _more(task, pairs, reliability)
    with torch.no_grad():
        found = []
        for part in micro:
            said = _said(task, pairs, part, more)
            found.append(_reading(said, task.objective(said.pairs)))
    return _in_order(found, micro)


class _Done(NamedTuple):
    reading: Reading
    told: Mapping[str, float]


def memory() -> float:
    """Return the most memory that was in use so far, MiB: of the GPU where there is one, else of the process."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def _backward(
    task: Task, batch: Batch, micro: Sequence[Sequence[int]], more: Mapping[str, np.ndarray]
) -> _Done:
    """Add the step's gradient to the weights, micro-batch by micro-batch."""
    count = units(batch.pairs, listwise=task.objective.listwise())
    known = _before(task, batch, micro, more)
    columns = columns_of(task, batch.pairs, more, known.losses.device)
    shares = task.objective.reducer(Rows(known.losses, columns, count))
    ranks, found = task.ranks, []
    for part in micro[ranks.rank :: ranks.size]:
        # A rank without pairs of its own keeps step with the others, to no effect.
        said = _said(task, batch.pairs, part or micro[0], more)
        costs = task.objective(said.pairs)
        mine = [batch.pairs[index] for index in part or micro[0]]
        refuse_nonfinite(costs.weight * costs.loss + costs.extra, mine, f" at step {batch.step}")
        step = (shares[part or micro[0]] * costs.weight * costs.loss).sum() + costs.extra.sum() / count
        if said.embeddings is not None:
            squares = _squares(costs, said, keep=True)
            step = step + task.objective.penalty(squares, known.mean_square).sum() / count
        # FSDP averages over ranks what has to be their sum.
        (step * (ranks.size if part else 0)).backward()  # type: ignore[no-untyped-call]
        if part:
            found.append(
                _Part(
                    part, _reading(said, costs), said.uncertainty.means(), said.tokens, float(step.detach())
                )
            )
    return _joined([part for mine in ranks.gather(found) for part in mine])


class _Part(NamedTuple):
    """What came of a micro-batch."""

    pairs: Sequence[int]
    reading: Reading
    watched: tuple[float, float, int]
    tokens: int
    loss: float


def _joined(parts: Sequence[_Part]) -> _Done:
    entropy, top, seen = (
        np.asarray(column) for column in zip(*(part.watched for part in parts), strict=True)
    )
    told = {
        "loss": sum(part.loss for part in parts),
        "entropy": float(np.average(entropy, weights=seen)),
        "top10_mass": float(np.average(top, weights=seen)),
        "tokens": sum(part.tokens for part in parts),
    }
    return _Done(_in_order([part.reading for part in parts], [part.pairs for part in parts]), told)


class _Before(NamedTuple):
    """What has to be known of the whole step before its first backward pass."""

    losses: Tensor
    """[pairs]; zeros where nothing depends on them."""
    mean_square: float
    """Mean squared norm of the gradient at the embeddings."""


def _before(
    task: Task, batch: Batch, micro: Sequence[Sequence[int]], more: Mapping[str, np.ndarray]
) -> _Before:
    import torch

    losses = torch.zeros(len(batch.pairs), device=task.model.device)
    penalty, squares = task.objective.penalty, 0.0
    if not task.objective.reducer.two_pass and not penalty.active:
        return _Before(losses, 0.0)
    with torch.set_grad_enabled(penalty.active):
        for part in micro[task.ranks.rank :: task.ranks.size]:
            said = _said(task, batch.pairs, part or micro[0], more)
            costs = task.objective(said.pairs)
            losses[part] = costs.loss.detach().float()[: len(part)]
            squares += float(_squares(costs, said, keep=False).sum()) if penalty.active else 0.0
    losses = torch.stack(task.ranks.gather(losses.cpu())).sum(0).to(losses.device)
    return _Before(losses, squares / len(batch.pairs))


def _squares(costs: Costs, said: Forward, *, keep: bool) -> Tensor:
    """Return the squared norm of the gradient of each pair's loss at its input embeddings, [pairs]."""
    import torch

    assert said.embeddings is not None
    (slope,) = torch.autograd.grad(costs.loss.sum(), said.embeddings, create_graph=keep, retain_graph=keep)
    each = slope[0].float().square().sum(-1)
    return each.new_zeros(len(costs.loss)).index_add(0, said.packed.owners, each)


def _said(task: Task, pairs: Sequence[Pair], part: Sequence[int], more: Mapping[str, np.ndarray]) -> Forward:
    mean = float(np.mean([len(pair.chosen) for pair in pairs]))
    return forward(
        task,
        [pairs[index] for index in part],
        {name: values[list(part)] for name, values in more.items()},
        mean,
    )


def _more(task: Task, pairs: Sequence[Pair], reliability: np.ndarray) -> Mapping[str, np.ndarray]:
    if not task.objective.labels.annotators:
        return {}
    return {"reliability": reliability[_who(task, pairs)]}


def _who(task: Task, pairs: Sequence[Pair]) -> np.ndarray:
    """Return each row's annotator; all rows have the same one where they do not say."""
    if "annotator" not in task.columns:
        return np.zeros(len(pairs), dtype=np.int64)
    return task.columns["annotator"][[pair.row for pair in pairs]].astype(np.int64)


def _annotators(task: Task) -> int:
    return int(task.columns["annotator"].max()) + 1 if "annotator" in task.columns else 1


def _reading(said: Forward, costs: Costs) -> Reading:
    chosen, rejected = said.pairs.chosen, said.pairs.rejected
    fields = (chosen.whole_logp, rejected.whole_logp, chosen.whole_tokens, rejected.whole_tokens, *costs)
    return Reading(*(field.detach().double().cpu().numpy() for field in fields))


def _in_order(readings: Sequence[Reading], micro: Sequence[Sequence[int]]) -> Reading:
    """Join the readings of micro-batches, in the order of the step's pairs."""
    back = np.argsort(np.concatenate([np.asarray(part) for part in micro]))
    return Reading(*(np.concatenate(fields)[back] for fields in zip(*readings, strict=True)))


def refuse_nonfinite(loss: Tensor | np.ndarray, pairs: Sequence[Pair], when: str) -> None:
    """Raise TrainError with the ids of the rows whose loss is not finite."""
    good = np.isfinite(loss if isinstance(loss, np.ndarray) else loss.detach().float().cpu().numpy())
    if not good.all():
        names = [pair.id for pair, fine in zip(pairs, good.tolist(), strict=True) if not fine]
        raise _stopped("the loss", when, names)


def _update(optimizer: torch.optim.Optimizer, rate: float, longest: float | None, batch: Batch) -> float:
    import torch

    trained = [weight for group in optimizer.param_groups for weight in group["params"]]
    norm = float(whole(torch.nn.utils.clip_grad_norm_(trained, float("inf") if longest is None else longest)))
    if not np.isfinite(norm):
        raise _stopped("the gradient", f" at step {batch.step}", [pair.id for pair in batch.pairs])
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def _stopped(what: str, when: str, names: Sequence[str]) -> TrainError:
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return TrainError(
        f"{what} is not finite{when}",
        where=f"rows {shown}",
        hint="look at those rows with `prefkit show`, or lower `learning_rate`",
    )


def _metrics(said: Reading, batch: Batch) -> dict[str, float]:
    return {
        "step": batch.step,
        "epoch": batch.epoch,
        "phase": batch.phase,
        "accuracy": float(said.accuracy.mean()),
        "reward_margin": float(np.mean(said.chosen_reward - said.rejected_reward)),
        "belief": float(said.belief.mean()),
        "chosen_logp": float(said.chosen_logp.mean()),
        "rejected_logp": float(said.rejected_logp.mean()),
        "chosen_logp_per_token": float(said.chosen_logp.sum() / said.chosen_tokens.sum()),
        "rejected_logp_per_token": float(said.rejected_logp.sum() / said.rejected_tokens.sum()),
        "pairs": len(batch.pairs),
        "padding": 0.0,
    }


def _distance(task: Task, pairs: Sequence[Pair], said: Reading) -> dict[str, float]:
    """Return how much less likely both responses are than under the reference, nats a response.

    Where they are samples of the reference, that estimates KL(reference || policy). Masked pairs have no such number,
    since the log-probs of their reference are those of a part.
    """
    if not set(REFERENCE) <= task.columns.keys() or pairs[0].masks is not None:
        return {}
    rows = [pair.row for pair in pairs]
    gaps = [
        task.columns[name][rows] - now
        for name, now in zip(REFERENCE, (said.chosen_logp, said.rejected_logp), strict=True)
    ]
    return {"kl": float(np.mean(gaps))}
