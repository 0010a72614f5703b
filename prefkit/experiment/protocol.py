"""The protocol: what is the same for every arm, written down and hashed before anything is run.

Figures of two protocols are never compared. What a comparison can find is said beforehand too, from what earlier ones of the
same model varied by, or from what such differences vary by as a rule.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from prefkit.comparing.differences import Variance
from prefkit.comparing.planning import TYPICAL, Detectable, detectable
from prefkit.engines.chat import encode_all
from prefkit.engines.weights import identity, load_tokenizer
from prefkit.errors import TrainError
from prefkit.experiment.arms import Arm, HeldOut
from prefkit.experiment.report import Comparison, Plan
from prefkit.experiment.settings import CompareSettings, Primary
from prefkit.identity import canonical, digest, hash_json
from prefkit.train.settings import TrainSettings
from prefkit.train.tokenise import conversations

__all__ = ["FOLDER", "Planned", "Protocol", "plan", "primary_of", "protocol", "steps_of"]

FOLDER = "compared"
"""Where comparisons stand in a store."""
_SAMPLED_PAIRS = 2_000


class Protocol(NamedTuple):
    """What all arms share."""

    train: TrainSettings
    settings: CompareSettings
    primary: Primary
    id: str


class Planned(NamedTuple):
    """What a comparison will take and what it can find, said before it is run."""

    runs: int
    steps: int
    """Optimizer steps of all runs."""
    pairs: int
    """Pairs seen, every pass counted."""
    answers: int
    """Answers drawn and rated."""
    verdicts: int
    """Pairs of answers the judge is shown."""
    seconds: float | None
    """At the speed of an earlier run of this model on this store; None if there is none."""
    detectable: Detectable
    variance: Variance
    variance_from: str
    """Where the variance comes from: an earlier comparison, or "typical"."""

    def written(self) -> Plan:
        """Return it as the report has it."""
        told = self._asdict() | {"effect": self.detectable.effect, "floor": self.detectable.floor}
        told["variance"] = {
            name: value if np.isfinite(value) else None for name, value in self.variance._asdict().items()
        }
        return Plan.model_validate({name: told[name] for name in Plan.model_fields})


def primary_of(settings: CompareSettings) -> Primary:
    """Return what decides. Raises TrainError if it cannot be measured."""
    if settings.primary == "auto":
        if settings.judge is not None:
            return "judge"
        return "win_rate" if settings.score is not None else "accuracy"
    if settings.primary in ("win_rate", "length_controlled") and settings.score is None:
        what = f"`primary: {settings.primary}` needs a scorer"
        hint = "compare: { score: { model: reward } }, or `train: evaluate: score`"
        raise TrainError(what, where="compare", hint=hint)
    return settings.primary


def protocol(train: TrainSettings, settings: CompareSettings, test: HeldOut) -> Protocol:
    """Return the protocol. A scorer that the comparison does not name is that of `train: evaluate`."""
    if settings.score is None and train.evaluate is not None:
        settings = settings.model_copy(update={"score": train.evaluate.score})
    train = train.model_copy(update={"evaluate": None})
    asked = {
        "train": canonical(train),
        "compare": canonical(settings),
        "model": identity(train.model),
        "prompts": digest(test.prompts),
    }
    return Protocol(train, settings, primary_of(settings), hash_json(asked))


def steps_of(arms: Sequence[Arm], told: Protocol) -> Mapping[str, int]:
    """Return how many optimizer steps each arm is trained for. Raises TrainError where the budget does not fit."""
    train, budget = told.train, told.settings.budget
    own = {arm.name: _own(arm, train) for arm in arms}
    if budget == "epochs":
        return own
    if train.phase_epochs is not None:
        what = f"`phase_epochs` says how long each arm is trained, and `budget: {budget}` that all are trained as long"
        raise TrainError(what, where="compare", hint="compare: { budget: epochs }")
    first = own[arms[0].name]
    if budget == "steps":
        return dict.fromkeys(own, first)
    mean = {arm.name: _tokens(arm, train) for arm in arms}
    return {name: max(1, round(first * mean[arms[0].name] / mean[name])) for name in own}


def _own(arm: Arm, train: TrainSettings) -> int:
    """Return the steps of an arm by its own count of pairs."""
    if train.steps is not None:
        return train.steps
    per_epoch = -(-arm.train.num_rows // train.batch)
    if train.phase_epochs is None:
        return max(1, int(train.epochs * per_epoch + 0.5))
    sizes = [entry["counts"] for entry in sorted(pc.value_counts(arm.train["phase"]).to_pylist(), key=_value)]
    each = zip(train.phase_epochs, sizes, strict=False)
    return sum(max(1, int(epochs * -(-size // train.batch) + 0.5)) for epochs, size in each)


def _value(entry: Mapping[str, float]) -> float:
    return entry["values"]


def _tokens(arm: Arm, train: TrainSettings) -> float:
    """Return the mean tokens of a pair, of the first rows: each prompt once."""
    tokenizer, _ = load_tokenizer(train.model)
    rows = arm.train.slice(0, _SAMPLED_PAIRS)
    sides = [encode_all(tokenizer, conversations(rows, side)) for side in ("chosen", "rejected")]
    from prefkit.engines import Failure

    found = [
        len(one.prompt_ids) + len(one.response_ids) + len(other.response_ids)
        for one, other in zip(*sides, strict=True)
        if not isinstance(one, Failure) and not isinstance(other, Failure)
    ]
    if not found:
        raise TrainError(f"no pair of '{arm.name}' fits the chat template", hint="`prefkit lint`")
    return sum(found) / len(found)


def plan(root: Path, told: Protocol, steps: Mapping[str, int], test: HeldOut, others: int) -> Planned:
    """Say what the comparison will take and find. `others` are the arms that the first is compared with."""
    settings = told.settings
    runs, prompts = settings.seeds * len(steps), test.prompts.num_rows
    variance, source = _known(root, told)
    measured = runs * settings.points + settings.seeds
    total = settings.seeds * sum(steps.values())
    return Planned(
        runs=runs,
        steps=total,
        pairs=total * told.train.batch,
        answers=measured * prompts * settings.samples,
        verdicts=0 if settings.judge is None else others * settings.seeds * prompts * settings.samples,
        seconds=_seconds(root, told, total),
        detectable=detectable(variance, settings.seeds, prompts),
        variance=variance,
        variance_from=source,
    )


def _known(root: Path, told: Protocol) -> tuple[Variance, str]:
    """Return the variance that the latest comparison of this model by this metric showed, or the typical one."""
    for report in _earlier(root):
        if report.model != told.train.model.id or report.primary != told.primary:
            continue
        found = [one.primary.variance for one in report.versus if one.primary.variance]
        found = [each for each in found if any(each.values())]  # none at all is a copy that was the same run
        if found:
            mean = {
                name: sum(each.get(name) or 0.0 for each in found) / len(found) for name in Variance._fields
            }
            return Variance(**mean), report.name
    return TYPICAL, "typical"


def _seconds(root: Path, told: Protocol, steps: int) -> float | None:
    """Return how long as many steps took in an earlier comparison of this model with as large batches."""
    for report in _earlier(root):
        runs = [run for arm in report.arms for run in arm.runs]
        done, took = sum(run.steps for run in runs), sum(run.seconds for run in runs)
        if report.model == told.train.model.id and done and report.batch == told.train.batch:
            return float(steps * took / done)
    return None


def _earlier(root: Path) -> Iterator[Comparison]:
    """Yield the reports of earlier comparisons, the latest first; what cannot be read tells nothing."""
    paths = sorted((root / FOLDER).glob("*/report.json"), key=lambda path: -path.stat().st_mtime)
    for path in paths:
        try:
            yield Comparison.model_validate_json(path.read_bytes())
        except (OSError, ValueError):
            continue
