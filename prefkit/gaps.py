"""Gaps: by how much the chosen response of each pair scores higher than the rejected one."""

import numpy as np
import pyarrow as pa

from prefkit.columns import Columns
from prefkit.tables import floats

__all__ = ["reads_scores", "score_gaps"]


def reads_scores(by: str) -> Columns:
    """Return the columns that hold a score of both sides."""
    return {f"chosen_{by}": pa.float64(), f"rejected_{by}": pa.float64()}


def score_gaps(table: pa.Table, by: str) -> np.ndarray:
    """Return chosen score - rejected score: float64 [pairs], NaN where one is missing or not finite."""
    chosen, rejected = floats(table[f"chosen_{by}"]), floats(table[f"rejected_{by}"])
    there = np.isfinite(chosen) & np.isfinite(rejected)
    with np.errstate(
        over="ignore"
    ):  # of two scores near the largest number, which is infinite and becomes null
        return np.where(there, chosen, np.nan) - np.where(there, rejected, np.nan)
