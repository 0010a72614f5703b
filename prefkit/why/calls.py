"""Calls: what was asked and answered as plain values, whose it was, and what a judge's answer was read as.

Which row a call was for follows from the replay where a stage takes each row on its own. Where it takes a prompt's rows
together, a call is for those rows whose text it shows. A judge's verdict is found by the answer, word for word, and by
the texts of the two responses in the order in which it was shown them.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from prefkit.engines import Completion, Conversation, Failure, LogProb, Request
from prefkit.engines.spend import Price
from prefkit.engines.thinned import Thinned
from prefkit.manifest import Manifest
from prefkit.why.life import Call, Verdict
from prefkit.why.replay import Asked

__all__ = ["Row", "last_text", "shown_in", "told", "with_verdicts"]

Row = Mapping[str, Any]
_SIDES = ("response", "chosen", "rejected")


class _Took(NamedTuple):
    tokens_in: int | None
    tokens_out: int | None


def told(asked: Asked, manifest: Manifest, prices: Mapping[str, Price], about: Sequence[str]) -> Call:
    """Return a request and its answer as plain values, for the rows of these ids."""
    name = asked.model.served_as
    answer = None if isinstance(asked.answer, Failure) else asked.answer
    took = _took(answer)
    return Call(
        name,
        manifest.made.engines.get(name, ""),
        asked.method,
        _request(asked.request),
        None if answer is None else _answer(answer),
        tuple(about),
        took.tokens_in,
        took.tokens_out,
        _cost(took, prices.get(name)),
        _remembered(manifest, name),
    )


def last_text(row: Row, side: str) -> str | None:
    """Return the text of a conversation's last turn, None where there is none."""
    turns = row.get(side)
    return turns[-1]["content"] if turns else None


def shown_in(asked: Asked, rows: Sequence[Row]) -> list[str]:
    """Return the ids of the rows of which a request shows a text."""
    words = "\n".join(_texts(asked.request))
    texts = ((row, last_text(row, side)) for row in rows for side in _SIDES)
    return list(dict.fromkeys(str(row["id"]) for row, text in texts if text and text in words))


def with_verdicts(calls: Sequence[Call], judgements: Sequence[Row], texts: Mapping[str, str]) -> list[Call]:
    """Return calls with what was read of their answers.

    `judgements` are entries of that column which the step wrote, each once; `texts` those of responses by id.
    """
    tasks = list(dict.fromkeys(entry["task"] for entry in judgements))
    open_ = sorted(
        (entry for entry in judgements if entry.get("raw") is not None),
        key=lambda entry: (tasks.index(entry["task"]), entry.get("attempt") or 0),
    )
    found = []
    for call in calls:
        raw = None if call.answer is None else call.answer.get("text")
        same = [entry for entry in open_ if entry["raw"] == raw and entry["judge"] in call.model]
        best = next((entry for entry in same if _is_shown(entry, call, texts)), same[0] if same else None)
        if best is not None:
            open_ = [entry for entry in open_ if entry is not best]
            call = call._replace(verdict=_verdict(best))  # noqa: PLW2901 - the call, with what it became
        found.append(call)
    return found


def _verdict(entry: Row) -> Verdict:
    values: list[Any] = [entry.get(name) for name in Verdict._fields]
    return Verdict._make(values)._replace(counts=bool(entry["counts"]))


def _is_shown(entry: Row, call: Call, texts: Mapping[str, str]) -> bool:
    """Say whether a request shows the responses of a judgement, in its order."""
    words = "\n".join(str(turn["content"]) for turn in call.asked.get("messages", ()))
    first, second = (texts.get(str(entry[side])) if entry[side] else None for side in ("first", "second"))
    if first is None or first not in words:
        return False
    return second is None or words.find(second, words.find(first) + len(first)) >= 0


def _texts(request: Any) -> list[str]:
    if isinstance(request, Thinned):
        return _texts(request.conversation)
    if isinstance(request, Conversation):
        return [turn.content or "" for turn in (*request.prompt, *request.response)]
    return (
        [turn.content or "" for turn in request.messages] if isinstance(request, Request) else [str(request)]
    )


def _request(request: Any) -> dict[str, Any]:
    if isinstance(request, Thinned):
        return {**_request(request.conversation), "seed": request.seed, "head": request.head}
    if isinstance(request, Conversation):
        tools = {} if request.tools is None else {"tools": request.tools}
        return {"prompt": _turns(request.prompt), "response": _turns(request.response), **tools}
    if not isinstance(request, Request):
        return {"text": str(request)}
    silent = Request._field_defaults
    plain = request._asdict()
    said = {name: value for name, value in plain.items() if name not in silent or value != silent[name]}
    lists = {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}
    return {**lists, "messages": _turns(request.messages)}


def _turns(turns: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _answer(answer: Any) -> dict[str, Any]:
    if isinstance(answer, Completion):
        plain = answer._asdict()
        if answer.tops is not None:
            plain["tops"] = [[list(token) for token in place] for place in answer.tops]
        return {name: value for name, value in plain.items() if value is not None}
    if isinstance(answer, LogProb):
        return answer._asdict()
    return {"numbers": list(answer)}


def _took(answer: Any) -> _Took:
    if isinstance(answer, Completion):
        return _Took(answer.prompt_tokens or None, answer.tokens or None)
    if isinstance(answer, LogProb):
        return _Took(answer.tokens + answer.prompt_tokens, 0)
    return _Took(None, None)


def _cost(took: _Took, price: Price | None) -> Decimal | None:
    if price is None or took.tokens_in is None or took.tokens_out is None:
        return None
    return price.of(took.tokens_in, took.tokens_out)


def _remembered(manifest: Manifest, name: str) -> bool | None:
    """Say whether the step had the answers of a model from the memo: all, none, or (None) some of them."""
    used = manifest.made.models.get(name)
    if used is None or (used.calls and used.remembered):
        return None
    return used.calls == 0
