"""Label ops: the steps that a `label` stage takes in order, each a small frozen config."""

from prefkit.labels.anchor import Anchor
from prefkit.labels.direction import Flip, Orient
from prefkit.labels.ensemble import FromEnsemble, PeerReview, Uncertainty
from prefkit.labels.judges import FromJudges
from prefkit.labels.op import Op
from prefkit.labels.probability import Consistency, Denoise, FromScores, FromVotes, Smooth, Visits
from prefkit.labels.ties import Tie

__all__ = [
    "BUILTIN",
    "Anchor",
    "Consistency",
    "Denoise",
    "Flip",
    "FromEnsemble",
    "FromJudges",
    "FromScores",
    "FromVotes",
    "Op",
    "Orient",
    "PeerReview",
    "Smooth",
    "Tie",
    "Uncertainty",
    "Visits",
]

BUILTIN: tuple[type[Op], ...] = (
    FromScores,
    FromVotes,
    FromJudges,
    FromEnsemble,
    Visits,
    Consistency,
    Smooth,
    Denoise,
    Uncertainty,
    Tie,
    Anchor,
    PeerReview,
    Flip,
    Orient,
)
