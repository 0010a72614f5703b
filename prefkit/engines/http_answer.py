"""What a chat server's reply means: a completion, or why there is none. Everything in it is checked, nothing trusted."""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

from pydantic_core import from_json

from prefkit.engines import Completion, Failure

__all__ = ["is_flagged", "is_too_long", "is_unpaid", "read_completion", "read_json", "retry_after", "told"]

_LONGEST_ASKED_SECONDS = 300.0
_MOST_TOKENS = 2**31 - 1
_MOST_TOLD_BYTES = 64 << 10
_ENDS = {"stop", "length", "eos", "eos_token", "stop_sequence"}
"""Reasons of an answer that is whole, or as long as was asked for. Not all servers say one."""
_TOO_LONG = re.compile(
    r"context[ _-]?(length|size|window)|context (is )?too long|max(imum)? model len|inputs. tokens"
    r"|(prompt|input|request)( is)? too (long|large)|too many tokens",
    re.IGNORECASE,
)
_UNPAID = re.compile(r"insufficient_quota|billing|exceeded your current quota", re.IGNORECASE)
_FLAGGED = re.compile(r"moderat|flagged|content[ _](policy|filter)|safety", re.IGNORECASE)


def read_json(body: bytes) -> Any:
    """Read JSON; raises ValueError where it is none, is nested beyond reason, or has text that is none."""
    return from_json(body)


def read_completion(body: Any) -> Completion | Failure | None:
    """Read a chat completion with one choice; None if it has not that shape.

    A Failure is a well-formed answer that has no text to keep.
    """
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return None
    message = choices[0].get("message")
    return _read_choice(message, choices[0], body) if isinstance(message, dict) else None


def _read_choice(
    message: Mapping[str, Any], choice: Mapping[str, Any], body: Mapping[str, Any]
) -> Completion | Failure | None:
    text, reason = _text(message.get("content")), choice.get("finish_reason")
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    if not text and message.get("tool_calls"):
        return Failure("the answer is a tool call and has no text")
    if not text and message.get("refusal"):
        return Failure("the answer is a refusal and has no text")
    if not text and thoughts:
        return Failure(
            "the answer is all reasoning and has no text: allow more tokens, or turn reasoning off"
        )
    if text is None or not (reason is None or isinstance(reason, str)):
        return None
    if reason is not None and reason not in _ENDS:
        return Failure(f"the server ended the answer for the reason '{reason}'")
    usage = body.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    written, read = _count(counts.get("completion_tokens")), _count(counts.get("prompt_tokens"))
    places = _places(choice.get("logprobs"))
    return Completion(
        text, written, "length" if reason == "length" else "stop", read, _sum(places), _tops(places)
    )


def _text(content: Any) -> str | None:
    """Return the text of a message, which some servers give in parts."""
    if isinstance(content, list):
        texts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
        parts = [part["text"] for part in texts if isinstance(part.get("text"), str)]
        return "".join(parts) if parts and len(parts) == len(texts) else None
    return content if isinstance(content, str) else None


def _count(value: Any) -> int:
    """Return a number of tokens; 0, which is unknown, for what cannot be one."""
    is_count = isinstance(value, int) and not isinstance(value, bool)
    return value if is_count and 0 <= value <= _MOST_TOKENS else 0


def _places(logprobs: Any) -> Sequence[Mapping[str, Any]] | None:
    """Return what is said of each token of the answer; None unless it is said of all."""
    places = logprobs.get("content") if isinstance(logprobs, dict) else None
    is_said = isinstance(places, list) and places and all(isinstance(place, dict) for place in places)
    return cast("Sequence[Mapping[str, Any]]", places) if is_said else None


def _sum(places: Sequence[Mapping[str, Any]] | None) -> float | None:
    logps = [_logp(place.get("logprob")) for place in places or ()]
    known = [logp for logp in logps if logp is not None]
    return math.fsum(known) if known and len(known) == len(logps) else None


def _tops(places: Sequence[Mapping[str, Any]] | None) -> tuple[tuple[tuple[str, float], ...], ...] | None:
    if places is None or not all(isinstance(place.get("top_logprobs"), list) for place in places):
        return None
    return tuple(_top(place["top_logprobs"]) for place in places)


def _top(entries: Sequence[object]) -> tuple[tuple[str, float], ...]:
    """Return the tokens of one place that have a log-prob; some servers list others too."""
    return tuple(
        (token, logp)
        for entry in entries
        if isinstance(entry, dict)
        and isinstance(token := entry.get("token"), str)
        and (logp := _logp(entry.get("logprob"))) is not None
    )


def _logp(value: object) -> float | None:
    """Return a log-prob in nats; None for what cannot be one. Rounding may bring it a little above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return min(float(value), 0.0) if value < 1e-3 else None


def retry_after(value: str | None, now: datetime) -> float | None:
    """Read a Retry-After header, seconds or a date, as seconds from `now`; None if there is none."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - now).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), _LONGEST_ASKED_SECONDS)


def told(body: bytes) -> str:
    """Return what a server says about an error: its message and code where it has the usual shape, else all of it."""
    text = body[:_MOST_TOLD_BYTES].decode("utf-8", "replace")
    try:
        found = read_json(body[:_MOST_TOLD_BYTES])
    except ValueError:
        return text
    match found:
        case {"error": {"message": str(message), **rest}} | {"message": str(message), **rest}:
            code = rest.get("code")
            return f"{message} ({code})" if isinstance(code, str) else message
        case {"error": str(message)} | {"detail": str(message)}:
            return message
    return text


def is_too_long(status: int, message: str) -> bool:
    """Whether a request was refused because the model does not read that much."""
    return status == 413 or (status in {400, 422} and _TOO_LONG.search(message) is not None)


def is_unpaid(status: int, message: str) -> bool:
    """Whether nothing will be answered before someone pays."""
    return status == 402 or (status == 429 and _UNPAID.search(message) is not None)


def is_flagged(message: str) -> bool:
    """Whether a refusal is about what this request says, not about who asks."""
    return _FLAGGED.search(message) is not None
