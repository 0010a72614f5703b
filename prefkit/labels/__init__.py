"""Label ops: the steps that a `label` stage takes in order, each a small frozen config."""

from prefkit.labels.direction import Flip, Orient
from prefkit.labels.judges import FromJudges
from prefkit.labels.op import Op
from prefkit.labels.probability import Denoise, FromScores, FromVotes, Smooth
from prefkit.labels.ties import Tie

__all__ = [
    "BUILTIN",
    "Denoise",
    "Flip",
    "FromJudges",
    "FromScores",
    "FromVotes",
    "Op",
    "Orient",
    "Smooth",
    "Tie",
]

BUILTIN: tuple[type[Op], ...] = (FromScores, FromVotes, FromJudges, Smooth, Denoise, Tie, Flip, Orient)
