"""Training: from pair rows to a trained model and a report that says what the pairs are worth.

`TrainSettings` says what is trained and needs no torch; `train` does it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from prefkit.engines import Engines
from prefkit.train.settings import Evaluate, TrainPlacement, TrainSettings

if TYPE_CHECKING:
    from prefkit.train.run import Event, TrainResult

__all__ = ["Evaluate", "TrainPlacement", "TrainSettings", "train"]


def _silent(event: "Event") -> None:
    """Show nothing."""


def train(
    settings: TrainSettings,
    pairs: pa.Table,
    *,
    out: Path,
    placement: TrainPlacement | None = None,
    engines: Engines | None = None,
    progress: "Callable[[Event], None]" = _silent,
) -> "TrainResult":
    """Train on pair rows and leave model, metrics and report in `out`.

    Rows whose `split` is `test` are held out. `engines` serve the scorer of `settings.evaluate`, where it is a model.
    `progress` is told after every step. Raises TrainError where settings and pairs do not fit, or a step fails.
    """
    from prefkit.train.run import run

    return run(settings, pairs, out, placement or TrainPlacement(), engines or Engines(), progress)
