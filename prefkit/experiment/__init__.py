"""Experiments: which of several datasets should be trained on, and what each stage of a recipe earned.

Every arm is a dataset. Each is trained on from the same model, for as long, with the same seeds, and measured on the same
held-out prompts; a copy of the first arm and a copy with flipped labels show whether the protocol finds what is there and
nothing else. What was measured goes into one table (`table`), every figure of the report is computed from it (`analyse`), and
every page is written from the report.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefkit.experiment.run import Done

__all__ = ["compare"]


def compare(*arguments: Any, **options: Any) -> "Done":
    """Compare datasets: `prefkit.experiment.run.compare`, imported when it is asked for."""
    from prefkit.experiment.run import compare as run

    return run(*arguments, **options)
