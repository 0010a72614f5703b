"""HelpSteer 1 to 3: responses with five attributes, and pairs with the strength of each annotator's preference."""

import re
from collections.abc import Iterator

from prefkit.sources.chunks import BadRowError, Cell, Row
from prefkit.sources.conversations import Turn, split_marks
from prefkit.sources.layouts.layout import Head, Layout, optional_list, required

__all__ = ["HELPSTEER", "HELPSTEER2_PREFERENCE", "HELPSTEER3", "HELPSTEER_DISAGREEMENTS"]

_ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n?")
_STRONGEST = 3


def _prompt(row: Row) -> str | list[Turn]:
    """Return the prompt; several turns stand in one text, each marked by `<extra_id_1>` and the speaker."""
    text = required(row, "prompt")
    if not isinstance(text, str):
        raise BadRowError("prompt is not text")
    return split_marks(text, _TURN) if _TURN.search(text) else text


def _unfold_scored(row: Row) -> Iterator[Row]:
    yield {**row, "prompt": _prompt(row), "score": row.get("helpfulness")}


def _unfold_rated(row: Row) -> Iterator[Row]:
    yield {"prompt": _prompt(row), "response": row.get("response"), "ratings": row.get("helpfulness")}


def _verdict(strength: Cell) -> Cell:
    """Return a strength; beyond the scale (upstream writes -100) it is no verdict."""
    return strength if isinstance(strength, int | float) and abs(strength) <= _STRONGEST else None


def _reason(vote: Row) -> str | None:
    said = [vote.get("statement"), vote.get("elaboration")]
    return " ".join(text for text in said if isinstance(text, str) and text) or None


def _unfold_preference(row: Row) -> Iterator[Row]:
    given = optional_list(row, "three_most_similar_preferences")
    votes = [{"verdict": _verdict(vote.get("strength")), "rationale": _reason(vote)} for vote in given]
    yield {
        "prompt": _prompt(row),
        "first": row.get("response_1"),
        "second": row.get("response_2"),
        "preference": _verdict(row.get("preference_strength")),
        "votes": votes or [{"verdict": _verdict(row.get("preference_strength"))}],
    }


def _unfold_third(row: Row) -> Iterator[Row]:
    given = optional_list(row, "individual_preference")
    votes = [{"verdict": _verdict(vote.get("score")), "rationale": vote.get("reasoning")} for vote in given]
    yield {
        "prompt": required(row, "context"),
        "first": row.get("response1"),
        "second": row.get("response2"),
        "domain": row.get("domain"),
        "preference": _verdict(row.get("overall_preference")),
        "votes": votes or [{"verdict": _verdict(row.get("overall_preference"))}],
    }


def _lists(head: Head) -> bool:
    return head.has("helpfulness", lambda value: isinstance(value, list))


_NEEDS = (("prompt",), ("response",), *((attribute,) for attribute in _ATTRIBUTES))

HELPSTEER = Layout(
    name="helpsteer",
    level="response",
    needs=_NEEDS,
    matches=lambda head: not _lists(head),
    unfold=_unfold_scored,
    gives=("prompt", "response", "score"),
    scores=_ATTRIBUTES,
    hubs=("nvidia/HelpSteer", "nvidia/HelpSteer2"),
)
"""The score is helpfulness; complexity and verbosity are kept as scores too, and are not better when higher."""
HELPSTEER_DISAGREEMENTS = Layout(
    name="helpsteer2-disagreements",
    level="response",
    needs=_NEEDS,
    matches=_lists,
    unfold=_unfold_rated,
    gives=("prompt", "response", "ratings"),
    hubs=("nvidia/HelpSteer2/disagreements",),
)
"""Ratings are each annotator's helpfulness."""
HELPSTEER2_PREFERENCE = Layout(
    name="helpsteer2-preference",
    level="pair",
    needs=(("prompt",), ("response_1",), ("response_2",), ("preference_strength",)),
    unfold=_unfold_preference,
    gives=("prompt", "first", "second", "preference", "votes"),
    coding="signed",
    hubs=("nvidia/HelpSteer2/preference",),
)
HELPSTEER3 = Layout(
    name="helpsteer3-preference",
    level="pair",
    needs=(("context",), ("response1",), ("response2",), ("overall_preference",)),
    unfold=_unfold_third,
    gives=("prompt", "first", "second", "domain", "preference", "votes"),
    coding="signed",
    hubs=("nvidia/HelpSteer3",),
)
