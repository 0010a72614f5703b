"""Transcripts in one string, with `Human:` and `Assistant:` turns: HH-RLHF pairs and Nectar's ranked answers."""

from collections.abc import Iterator

from prefkit.sources.chunks import BadRowError, Cell, Row
from prefkit.sources.conversations import Turn, has_turns, split_ends, split_transcript
from prefkit.sources.layouts.layout import Head, Layout, listed, required

__all__ = ["HH", "JOINED", "NECTAR"]

JOINED = "turns of one speaker joined"
"""Key under which `unfold` gives the number of joined turns, for the notes."""


def _is_transcript(value: Cell) -> bool:
    return (
        isinstance(value, str) and "\n\nHuman:" in "\n\n" + value.lstrip("\n") and "\n\nAssistant:" in value
    )


def _read(row: Row, name: str) -> tuple[list[Turn], int]:
    text = required(row, name)
    if not isinstance(text, str):
        raise BadRowError(f"{name} is not text")
    return split_transcript(text)


def _unfold_pair(row: Row) -> Iterator[Row]:
    (chosen, in_chosen), (rejected, in_rejected) = _read(row, "chosen"), _read(row, "rejected")
    prompt, better, worse = split_ends(chosen, rejected)
    yield {"prompt": prompt, "chosen": better, "rejected": worse, JOINED: in_chosen + in_rejected}


def _unfold_ranked(row: Row) -> Iterator[Row]:
    prompt, joined = _read(row, "prompt")
    if prompt[-1] == {"role": "assistant", "content": ""}:
        prompt = prompt[:-1]
    for answer in listed(row, "answers"):
        rank = required(answer, "rank")
        if not isinstance(rank, int | float):
            raise BadRowError("rank is not a number")
        yield {
            "prompt": prompt,
            "response": answer.get("answer"),
            "model": answer.get("model"),
            "score": -rank,
            "domain": None if row.get("source") is None else str(row["source"]),
            JOINED: joined,
        }
        joined = 0


def _is_ranked(head: Head) -> bool:
    return head.has("answers", lambda value: has_turns(value) and "rank" in value[0])


HH = Layout(
    name="hh-rlhf",
    level="pair",
    needs=(("chosen",), ("rejected",)),
    matches=lambda head: head.has("chosen", _is_transcript) and head.has("rejected", _is_transcript),
    unfold=_unfold_pair,
    gives=("prompt", "chosen", "rejected"),
    hubs=("Anthropic/hh-rlhf",),
)
NECTAR = Layout(
    name="nectar",
    level="response",
    needs=(("prompt",), ("answers",)),
    matches=_is_ranked,
    unfold=_unfold_ranked,
    gives=("prompt", "response", "model", "score", "domain"),
    hubs=("berkeley-nest/Nectar",),
)
"""A score is minus the rank, so that higher is better."""
