"""The statistics of a step, as records: what `prefkit.statistics.summarise` computes and cards, reports and diffs read.

A field is null, or empty, where the rows have nothing to say of it: no such column, or no value in it.
"""

from pydantic import BaseModel, ConfigDict

from prefkit.columns import Level
from prefkit.statistics.figures import Estimate, Share, Spread

__all__ = [
    "TOP",
    "Counted",
    "Counts",
    "Couple",
    "Labels",
    "Lengths",
    "Order",
    "PairSummary",
    "Phase",
    "Reference",
    "ResponseSummary",
    "Scores",
    "Split",
    "Summary",
    "Votes",
]

TOP = 20
"""Names listed of a column; the rest is one number."""


class _Record(BaseModel):
    # A manifest may come from a version that counted more: what is not known here is passed over.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Counted(_Record):
    """Rows of one name."""

    name: str
    rows: int


class Counts(_Record):
    """Rows by name, most frequent first."""

    top: tuple[Counted, ...] = ()
    others: int = 0
    """Rows of names beyond the top."""
    distinct: int = 0
    missing: int = 0
    """Rows without a name."""


class Couple(_Record):
    """Pairs by who wrote either side."""

    chosen: str | None
    rejected: str | None
    rows: int


class Split(_Record):
    """One split: null is no split."""

    name: str | None
    rows: int
    prompts: int


class ResponseSummary(_Record):
    """Rows that are responses."""

    chars: Spread
    tokens: Spread | None = None
    scores: dict[str, Spread] = {}
    models: Counts | None = None
    origins: Counts | None = None
    finish: Counts | None = None


class Scores(_Record):
    """One score, of both sides of the pairs."""

    chosen: Spread
    rejected: Spread
    gap: Spread
    """Chosen less rejected."""
    higher: Share
    """Pairs whose chosen side has the higher score."""
    equal: Share


class Lengths(_Record):
    """How long the sides are, in characters of all their turns, and whether length gives the label away."""

    chosen: Spread
    rejected: Spread
    gap: Spread
    """Chosen less rejected."""
    longer: Share
    """Pairs whose chosen side is the longer one."""
    equal: Share
    auc: Estimate
    """How well the length difference alone tells chosen from rejected; 0.5 is not at all."""
    with_worth: Estimate | None = None
    """Spearman correlation of margin (of score gap where there is no margin) and length difference."""
    chosen_tokens: Spread | None = None
    rejected_tokens: Spread | None = None


class Labels(_Record):
    """What is believed of the labels."""

    margin: Spread | None = None
    tie: Share | None = None
    flipped: Share | None = None
    p_chosen: Spread | None = None
    graded: Share | None = None
    """Pairs whose `p_chosen` is not 1."""
    reversed: Share | None = None
    """Pairs that are no tie and have `p_chosen` below one half."""
    flip_prob: Spread | None = None
    doubted: Share | None = None
    """Pairs with a `flip_prob` above 0."""
    weight: Spread | None = None
    weighted: Share | None = None
    """Pairs whose weight is not 1."""


class Votes(_Record):
    """What judges or annotators said."""

    pairs: int
    """Pairs with at least one vote that could be read."""
    chosen: int
    rejected: int
    tie: int
    unread: int
    """Votes for none of these."""
    judges: Counts
    agreement: Estimate | None = None
    """Share of pairs of votes on one pair that agree, mean over the pairs with at least two votes."""
    chance: float | None = None
    """Agreement by chance, both directions taken as equally likely and ties as frequent as they are."""
    kappa: float | None = None
    """Fleiss' kappa: how far agreement goes beyond chance."""


class Phase(_Record):
    """One phase of a curriculum."""

    phase: int
    rows: int
    worth: Spread | None
    """Margin, or score gap where there is no margin."""
    chars: Spread
    """Characters of the chosen side."""


class Order(_Record):
    """The curriculum."""

    phases: tuple[Phase, ...] = ()
    ranked: int = 0
    whole: bool | None = None
    """Whether ranks are 0 to rows - 1, each once; null without ranks."""


class Reference(_Record):
    """Log-probs of both sides under the reference model, in nats."""

    chosen: Spread
    rejected: Spread
    prefers: Share
    """Pairs whose chosen side the reference already finds more likely."""


class PairSummary(_Record):
    """Rows that are pairs."""

    lengths: Lengths
    identical: Share
    """Pairs whose sides are the same messages."""
    scores: dict[str, Scores] = {}
    labels: Labels
    votes: Votes | None = None
    order: Order | None = None
    reference: Reference | None = None
    models: tuple[Couple, ...] = ()
    origins: tuple[Couple, ...] = ()


class Summary(_Record):
    """The rows of a step."""

    level: Level
    rows: int
    prompts: int | None = None
    per_prompt: Spread | None = None
    """Rows of one prompt."""
    prompt_chars: Spread | None = None
    turns: Spread | None = None
    """Messages of the prompt."""
    tools: Share | None = None
    splits: tuple[Split, ...] = ()
    straddling: int = 0
    """Prompts with rows in more than one split; must be 0."""
    sources: Counts | None = None
    domains: Counts | None = None
    responses: ResponseSummary | None = None
    pairs: PairSummary | None = None
