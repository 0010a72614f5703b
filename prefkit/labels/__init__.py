"""Label ops: the steps that a `label` stage takes in order, each a small frozen config."""

from prefkit.labels.anchor import Anchor
from prefkit.labels.direction import Flip, Orient
from prefkit.labels.ensemble import FromEnsemble, PeerReview, Uncertainty
from prefkit.labels.judges import FromJudges
from prefkit.labels.noise import Noise
from prefkit.labels.op import Op
from prefkit.labels.people import FromPeople
from prefkit.labels.probability import Consistency, Denoise, FromScores, FromVotes, Smooth, Visits
from prefkit.labels.strengths import FromStrengths
from prefkit.labels.ties import Tie

__all__ = [
    "BUILTIN",
    "Anchor",
    "Consistency",
    "Denoise",
    "Flip",
    "FromEnsemble",
    "FromJudges",
    "FromPeople",
    "FromScores",
    "FromStrengths",
    "FromVotes",
    "Noise",
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
    FromPeople,
    FromStrengths,
    FromEnsemble,
    Visits,
    Consistency,
    Smooth,
    Denoise,
    Uncertainty,
    Noise,
    Tie,
    Anchor,
    PeerReview,
    Flip,
    Orient,
)
