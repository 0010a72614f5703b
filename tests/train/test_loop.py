"""The loop: exact gradients, however a step is cut; and a stop before anything is lost."""

import random
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from prefkit.engines import Model
from prefkit.errors import TrainError
from prefkit.objectives import Objective
from prefkit.train import TrainPlacement, TrainSettings, attention
from prefkit.train.batches import Batch, schedule
from prefkit.train.forward import Task
from prefkit.train.loop import fit, read
from prefkit.train.optimizer import learning_rate, make_optimizer
from prefkit.train.tokenise import Pair

VOCAB = 97
REFERENCED = ("ref_chosen_logp", "ref_rejected_logp")


@dataclass
class World:
    """A tiny model, pairs, and the model's own log-probs of them as the reference."""

    task: Task
    pairs: list[Pair]
    settings: TrainSettings

    def grown(self, micro_tokens: int) -> list[float]:
        """Train one epoch by plain gradient descent, which keeps rounding small; return every weight, flat."""
        task = self.task._replace(placement=TrainPlacement(micro_tokens=micro_tokens))
        optimizer = torch.optim.SGD(task.model.parameters(), lr=1.0)
        steps = schedule(self.pairs, self.settings, table(self.pairs))
        for _ in fit(task, steps, self.settings, optimizer, len(steps)):
            pass
        return torch.cat([weight.detach().flatten() for weight in task.model.parameters()]).tolist()


def table(pairs: list[Pair], **columns: list[float]) -> pa.Table:
    return pa.table({"id": [pair.id for pair in pairs], **columns})


def world(objective: object = "dpo", count: int = 12, **settings: object) -> World:
    attention.register()
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, attn_implementation=attention.NAME, **sizes))
    draw = random.Random(0)

    def ids(most: int) -> tuple[int, ...]:
        return tuple(draw.randrange(VOCAB) for _ in range(draw.randint(2, most)))

    pairs = [Pair(at, f"p{at}", ids(12), ids(10), ids(10)) for at in range(count)]
    plain = Task(model, Objective.model_validate("simpo"), {})
    said = read(plain, pairs)
    columns = {
        "ref_chosen_logp": said.chosen_logp,
        "ref_rejected_logp": said.rejected_logp,
        "weight": np.linspace(0.2, 1.8, count),
    }
    chosen = TrainSettings(
        model=Model(id="here"), objective=objective, **{"batch": 6, "learning_rate": 1e-3, **settings}
    )
    known = {name: columns[name] for name in chosen.objective.reads() if name in columns}
    return World(Task(model, chosen.objective, known), pairs, chosen)


def test_the_first_dpo_loss_is_log_two() -> None:
    here = world()
    optimizer = make_optimizer(here.task, here.settings)
    step = next(
        fit(here.task, schedule(here.pairs, here.settings, table(here.pairs)), here.settings, optimizer, 2)
    )
    assert step.metrics["loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert step.metrics["accuracy"] == 0.5


@pytest.mark.parametrize("objective", ["dpo", "weighted-dpo", "kldpo", "simpo", "rpo"])
def test_micro_batches_train_exactly_as_one_big_batch(objective: str) -> None:
    start = torch.cat([weight.detach().flatten() for weight in world(objective).task.model.parameters()])
    cut, whole = (torch.tensor(world(objective, learning_rate=0.1).grown(size)) for size in (40, 100_000))
    assert (whole - start).abs().max() > 1e-4
    torch.testing.assert_close(cut, whole, atol=1e-6, rtol=1e-4)


def test_swapped_pairs_have_the_mirrored_gradient() -> None:
    def gradient(swap: bool) -> torch.Tensor:
        here = world()
        pairs = [
            pair._replace(chosen=pair.rejected, rejected=pair.chosen) if swap else pair for pair in here.pairs
        ]
        columns = {name: here.task.columns[REFERENCED[at ^ swap]] for at, name in enumerate(REFERENCED)}
        optimizer = torch.optim.SGD(here.task.model.parameters(), lr=1.0)
        settings = here.settings.model_copy(update={"max_grad_norm": None, "batch": 12, "warmup": 0.0})
        before = torch.cat([weight.detach().flatten() for weight in here.task.model.parameters()])
        steps = [Batch(0, 0, 0, pairs)]
        for _ in fit(here.task._replace(columns=columns), steps, settings, optimizer, 1):
            pass
        return before - torch.cat([weight.detach().flatten() for weight in here.task.model.parameters()])

    one, other = gradient(swap=False), gradient(swap=True)
    assert one.abs().max() > 1e-6
    torch.testing.assert_close(one, -other, atol=1e-7, rtol=1e-3)


def test_a_loss_that_is_not_finite_names_its_rows_and_leaves_the_weights_alone() -> None:
    here = world()
    here.task.columns["ref_chosen_logp"][3] = np.nan
    before = torch.cat([weight.detach().flatten() for weight in here.task.model.parameters()])
    settings = here.settings.model_copy(update={"batch": 12})
    optimizer = make_optimizer(here.task, settings)
    run = fit(here.task, schedule(here.pairs, settings, table(here.pairs)), settings, optimizer, 1)
    with pytest.raises(TrainError, match="the loss is not finite at step 0") as raised:
        next(run)
    assert raised.value.where == "rows p3"
    assert torch.equal(
        before, torch.cat([weight.detach().flatten() for weight in here.task.model.parameters()])
    )


def test_reading_keeps_the_order_of_the_pairs() -> None:
    here = world("simpo")
    whole = read(here.task._replace(placement=TrainPlacement(micro_tokens=30)), here.pairs)
    for at, pair in enumerate(here.pairs):
        one = read(here.task, [pair])
        assert whole.chosen_logp[at] == pytest.approx(one.chosen_logp[0], abs=1e-5)


def test_every_epoch_holds_every_pair_once_in_another_order() -> None:
    here = world(epochs=2.0, batch=5)
    steps = schedule(here.pairs, here.settings, table(here.pairs))
    orders = [[pair.id for step in steps if step.epoch == epoch for pair in step.pairs] for epoch in (0, 1)]
    assert [len(step.pairs) for step in steps] == [5, 5, 2, 5, 5, 2]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(pair.id for pair in here.pairs)
    assert orders[0] != orders[1]


def test_phase_comes_before_rank_and_both_before_the_shuffle() -> None:
    here = world(count=4, batch=4)
    rows = table(here.pairs, phase=[1, 0, 0, 1], rank=[0, 3, 2, 1])
    (step,) = schedule(here.pairs, here.settings, rows)
    assert [pair.id for pair in step.pairs] == ["p2", "p1", "p0", "p3"]
    (step,) = schedule(here.pairs, here.settings.model_copy(update={"order": "shuffled"}), rows)
    assert sorted(pair.id for pair in step.pairs) == ["p0", "p1", "p2", "p3"]


def test_steps_override_epochs_and_a_fraction_of_an_epoch_is_one_step_at_least() -> None:
    here = world()
    pairs = [Pair(at, f"p{at}", (1,), (2,), (3,)) for at in range(100)]
    rows = table(pairs)
    assert len(schedule(pairs, here.settings.model_copy(update={"batch": 32, "epochs": 2.0}), rows)) == 8
    assert len(schedule(pairs, here.settings.model_copy(update={"batch": 32, "epochs": 0.01}), rows)) == 1
    assert len(schedule(pairs, here.settings.model_copy(update={"steps": 3}), rows)) == 3


def test_the_learning_rate_rises_then_falls() -> None:
    settings = TrainSettings(model=Model(id="here"), learning_rate=1.0, warmup=0.2)
    rates = [learning_rate(step, 10, settings) for step in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[-1] == pytest.approx(0.125)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    flat = settings.model_copy(update={"schedule": "constant"})
    assert learning_rate(9, 10, flat) == 1.0
