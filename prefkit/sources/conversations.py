"""Conversations: from the many ways in which turns are written down to prefkit's messages, and which order is sound.

A prompt begins with an optional system turn and ends with the user's (or a tool's) turn; a response begins
and ends with the assistant's. In between the speakers alternate, as chat templates demand. What does not fit
is a bad row with a reason, never a guess: the exception is a transcript in one string, where one speaker's
turns in a row are joined, since there the turn's mark may as well be part of the text.
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.sources.chunks import BadRowError, Cell

__all__ = [
    "ROLES",
    "Halves",
    "Turn",
    "has_turns",
    "order_problems",
    "speaker",
    "split_ends",
    "split_marks",
    "split_transcript",
    "turns_of",
]

Turn = dict[str, str]
"""`role` and `content`."""

ROLES = ("system", "user", "assistant", "tool")
_SPOKEN = {
    **{role: role for role in ROLES},
    **dict.fromkeys(("human", "prompter", "Human"), "user"),
    **dict.fromkeys(
        ("gpt", "chatgpt", "bot", "model", "bard", "bing", "function_call", "Assistant"), "assistant"
    ),
    **dict.fromkeys(("observation", "function", "ipython"), "tool"),
    "developer": "system",
}
_MARK = re.compile(r"\n\n(Human|Assistant):")

_SYSTEM, _USER, _ASSISTANT, _TOOL = range(4)
_MAY_FOLLOW = np.zeros((4, 4), dtype=bool)
for _before, _after in (
    (_SYSTEM, _USER),
    (_USER, _ASSISTANT),
    (_ASSISTANT, _USER),
    (_ASSISTANT, _TOOL),
    (_TOOL, _ASSISTANT),
    (_TOOL, _TOOL),
):
    _MAY_FOLLOW[_before, _after] = True


class Halves(NamedTuple):
    """A pair of conversations, cut where they part."""

    prompt: list[Turn]
    chosen: list[Turn]
    rejected: list[Turn]


def has_turns(value: Cell) -> TypeGuard[list[dict[str, Cell]]]:
    """Say whether a value is a list of messages."""
    return isinstance(value, list) and bool(value) and all(isinstance(turn, dict) for turn in value)


def speaker(turn: dict[str, Cell]) -> str | None:
    """Return the role of a message, by prefkit's name; None if it has none that is known."""
    role = turn.get("role", turn.get("from"))
    return _SPOKEN.get(role) if isinstance(role, str) else None


def turns_of(value: Cell, what: str) -> list[Turn]:
    """Read a list of messages, or one message. Raises BadRowError naming `what`."""
    turns = [value] if isinstance(value, dict) else value
    if not isinstance(turns, list):
        raise BadRowError(f"{what} is neither text nor messages")
    if not turns:
        raise BadRowError(f"no {what}")
    return [_turn(turn, what) for turn in turns]


def _turn(turn: Cell, what: str) -> Turn:
    if not isinstance(turn, dict):
        raise BadRowError(f"{what} is neither text nor messages")
    role = speaker(turn)
    if role is None:
        raise BadRowError(f"unknown role in {what}")
    return {"role": role, "content": _content(turn.get("content", turn.get("value")), what)}


def _content(value: Cell, what: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(
        isinstance(part, dict) and part.get("type") == "text" for part in value
    ):
        texts = [part.get("text") for part in value]
        if texts and all(isinstance(text, str) for text in texts):
            return "".join(texts)
    raise BadRowError(f"message without text in {what}")


def split_transcript(text: str) -> tuple[list[Turn], int]:
    """Read a transcript with `Human:` and `Assistant:` turns; say also how many turns were joined to the one before.

    Raises BadRowError if it does not begin with a turn.
    """
    parts = _MARK.split("\n\n" + text.lstrip("\n"))
    if parts[0].strip() or len(parts) < 3:
        raise BadRowError("transcript without turns")
    turns: list[Turn] = []
    joined = 0
    for speaker, said in zip(parts[1::2], parts[2::2], strict=True):
        role, content = _SPOKEN[speaker], said.strip()
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] = f"{turns[-1]['content']}\n\n{content}".strip()
            joined += 1
        else:
            turns.append({"role": role, "content": content})
    return turns, joined


def split_marks(text: str, mark: re.Pattern[str]) -> list[Turn]:
    """Read text that begins with the user's turn and marks each further one: group 1 of `mark` is the speaker."""
    parts = mark.split(text)
    said = zip(["user", *(speaker.lower() for speaker in parts[1::2])], parts[::2], strict=True)
    return [{"role": role, "content": content.strip()} for role, content in said]


def split_ends(chosen: Sequence[Turn], rejected: Sequence[Turn]) -> Halves:
    """Cut two conversations before their last turn. Raises BadRowError if they differ before it."""
    if len(chosen) < 2 or len(rejected) < 2:
        raise BadRowError("no prompt before the response")
    if list(chosen[:-1]) != list(rejected[:-1]):
        raise BadRowError("chosen and rejected differ before the last turn")
    return Halves(list(chosen[:-1]), [chosen[-1]], [rejected[-1]])


def order_problems(messages: pa.Array, side: Literal["prompt", "response"]) -> np.ndarray:
    """Return bool [rows]: whether the turns are out of order for a prompt, or for a response. Null rows are in order."""
    lengths = np.nan_to_num(messages.value_lengths().to_numpy(zero_copy_only=False)).astype(np.int64)
    roles = messages.flatten().field("role")
    codes = np.full(len(roles), -1, dtype=np.int64)
    for code, role in enumerate(ROLES):
        codes[np.asarray(pc.equal(roles, role))] = code
    row = np.repeat(np.arange(len(messages)), lengths)
    wrong = np.zeros(len(messages), dtype=bool)
    same = row[1:] == row[:-1]
    wrong[row[1:][same & ~_MAY_FOLLOW[codes[:-1], codes[1:]]]] = True
    filled = lengths > 0
    ends = np.cumsum(lengths)[filled] - 1
    starts = ends - lengths[filled] + 1
    first = (_SYSTEM, _USER) if side == "prompt" else (_ASSISTANT,)
    last = (_USER, _TOOL) if side == "prompt" else (_ASSISTANT,)
    wrong[filled] |= ~np.isin(codes[starts], first) | ~np.isin(codes[ends], last)
    return wrong
