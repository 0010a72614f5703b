"""Tally: from one verdict a row to scores and to counts of those that cannot be told."""

from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa

from prefkit.rules.rule import Judged

__all__ = ["tally"]


def tally(verdicts: Sequence[str], scores: Mapping[str, float]) -> Judged:
    """Return the score of each verdict; null and a note under its own name for one that has none."""
    notes = Counter(verdict for verdict in verdicts if verdict not in scores)
    return Judged(pa.array([scores.get(verdict) for verdict in verdicts], pa.float64()), dict(notes))
