"""Held-out rows: what the policy makes of pairs and prompts it was not trained on, before and after.

Pairs of the split `test` are read for what the objective says of them; their prompts are answered afresh, and the
answers rated, once by the model that training starts from and once by the one it ends with.
"""

from typing import NamedTuple

import numpy as np

from prefkit.engines import Engines, Model
from prefkit.engines.weights import Loaded, load
from prefkit.train import attention, fresh
from prefkit.train.loop import Reading, read, refuse_nonfinite
from prefkit.train.prepare import Lend, Prepared
from prefkit.train.report import Change, HeldOut, Measured, Samples, change, interval
from prefkit.train.settings import TrainSettings

__all__ = ["HeldOutRows", "Measurement"]


class Measurement(NamedTuple):
    """What was measured at one moment; None where nothing is held out or no samples are wanted."""

    reading: Reading | None
    drawn: fresh.Drawn | None

    def summary(self) -> dict[str, float]:
        """Return its means, for a line of a log."""
        found = {}
        if self.reading is not None:
            found["accuracy"] = float(self.reading.accuracy.mean())
            found["loss"] = float(self.reading.loss.mean())
            found["reward_margin"] = float((self.reading.chosen_reward - self.reading.rejected_reward).mean())
        if self.drawn is not None and self.drawn.scores is not None:
            found["score"] = float(self.drawn.scores.values.mean())
        return found


class HeldOutRows:
    """The rows set aside, ready to be measured."""

    def __init__(self, ready: Prepared, settings: TrainSettings, loaded: Loaded, engines: Engines) -> None:
        self._ready, self._settings, self._loaded, self._engines = ready, settings, loaded, engines

    def of(self, loaded: Loaded, reference: Lend | None) -> "HeldOutRows":
        """Return the same rows for another copy of the network."""
        task = self._ready.task._replace(model=loaded.network, reference=reference)
        return HeldOutRows(self._ready._replace(task=task), self._settings, loaded, self._engines)

    def measure_first(self, model: Model) -> "Measurement":
        """Measure as it is before the first step. Raises TrainError where the loss of a pair is not finite.

        Later a policy that ran away may say anything, and is reported.
        """
        found = self.measure(model)
        if found.reading is not None:
            loss = found.reading.weight * found.reading.loss + found.reading.extra
            refuse_nonfinite(loss, self._ready.told.pairs, " on held-out pairs")
        return found

    def measure(self, model: Model) -> Measurement:
        """Read the pairs with the network as it is now, and sample `model`, which is where it is saved."""
        pairs = self._ready.told.pairs
        reading = read(self._ready.task, pairs) if pairs else None
        wanted = self._settings.evaluate
        if wanted is None or not self._ready.table.num_rows:
            return Measurement(reading, None)
        prompts = fresh.prompts_of(self._ready.table, wanted.prompts)
        device = str(self._loaded.network.device)
        return Measurement(
            reading, fresh.draw(model, prompts, wanted, self._engines, device, self._settings.seed)
        )

    def compare(self, before: Measurement, after: Measurement) -> HeldOut | None:
        """Return what changed on the pairs."""
        one, other = before.reading, after.reading
        if one is None or other is None:
            return None
        rows = [pair.row for pair in self._ready.told.pairs]
        prompts = self._ready.table["prompt_id"].take(rows).to_pylist()

        def both(first: np.ndarray, second: np.ndarray) -> Change:
            return change(Measured(first, prompts), Measured(second, prompts))

        return HeldOut(
            pairs=len(rows),
            accuracy=both(one.accuracy, other.accuracy),
            loss=both(one.loss, other.loss),
            reward_margin=both(
                one.chosen_reward - one.rejected_reward, other.chosen_reward - other.rejected_reward
            ),
            chosen_logp=both(one.chosen_logp, other.chosen_logp),
            rejected_logp=both(one.rejected_logp, other.rejected_logp),
        )

    def compare_samples(self, before: Measurement, after: Measurement) -> Samples | None:
        """Return what changed in what the policy says, and how far it moved. The network must be the trained one."""
        wanted, one, other = self._settings.evaluate, before.drawn, after.drawn
        if wanted is None or one is None or other is None:
            return None
        reference = load(self._settings.model, "language", self._loaded.network.device, "float32").network
        reference.set_attn_implementation(attention.NAME)
        self._loaded.network.eval()
        found = fresh.divergence(
            self._loaded.network, reference, self._loaded.tokenizer, other.table, self._ready.task.placement
        )
        return Samples(
            prompts=len(other.table["prompt_id"].unique()),
            samples=wanted.samples,
            temperature=wanted.temperature,
            score=change(one.scores, other.scores) if one.scores and other.scores else None,
            chars=change(fresh.characters(one), fresh.characters(other)),
            kl=interval(found.k1),
            kl_k3=interval(found.k3),
            failed={"before": one.failed, "after": other.failed},
        )
