"""Rules about texts: what is missing, what is on one side only, and what a chat template should have written."""

import json
import re
from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc

from prefkit.engines import Conversation
from prefkit.lint.patterns import EMPTY_THINK, OTHERS, SPACE, any_of, has, on_one_side, on_sides, quoted
from prefkit.lint.subject import Hits, Subject, each

_CALL = re.compile(r"<tool_call>\s*(\{.*?)\s*(</tool_call>|$)", re.DOTALL)
_FORMS = {
    "has Windows line breaks": "\r\n",
    "begins with white space": f"^[{SPACE}]",
    "ends with white space": f"[{SPACE}]$",
}


def same_text(subject: Subject) -> Hits:
    """Both responses are the same text."""

    def fault(one: Conversation, other: Conversation) -> str | None:
        return (
            quoted(one.response[-1].content or "")
            if one.response and one.response == other.response
            else None
        )

    return each(subject, fault)


def empty_prompt(subject: Subject) -> Hits:
    """The prompt's last turn says nothing, or there is no prompt."""
    said = [bool(one.prompt and (one.prompt[-1].content or "").strip()) for one in subject.said["chosen"]]
    return dict.fromkeys(np.flatnonzero(~np.array(said, dtype=bool)).tolist(), "nothing is asked")


def empty_response(subject: Subject) -> Hits:
    """A response ends with a turn that says nothing."""
    return on_sides(subject, lambda texts: has(texts, r"^\s*$"))


def null_content(subject: Subject) -> Hits:
    """A turn has no text, or a response no turn: the template would write an empty one."""

    def fault(one: Conversation, other: Conversation) -> str | None:
        parts = {"prompt": one.prompt, "chosen": one.response, "rejected": other.response}
        return (
            ", ".join(part for part, turns in parts.items() if not turns or None in dict(turns).values())
            or None
        )

    return each(subject, fault)


def think_on_one_side(subject: Subject) -> Hits:
    """One response alone thinks before it answers: the pair teaches to think or not to."""
    return on_one_side(subject, lambda texts: has(texts, "<think>") & ~has(texts, EMPTY_THINK))


def empty_think_on_one_side(subject: Subject) -> Hits:
    """One response alone has an empty `<think></think>`."""
    return on_one_side(subject, lambda texts: has(texts, EMPTY_THINK))


def formatting_on_one_side(subject: Subject) -> Hits:
    """White space at an end, or Windows line breaks, are on one side only."""
    found: Hits = {}
    for form, mark in list(_FORMS.items())[: 1 if subject.template.trims else 3]:
        for row, side in on_one_side(subject, lambda texts, mark=mark: has(texts, mark)).items():  # type: ignore[misc]
            found[row] = f"{found[row]}, {side} {form}" if row in found else f"{side} {form}"
    return found


def whitespace_only_difference(subject: Subject) -> Hits:
    """The responses differ in white space alone."""
    alike = pc.equal(*(pc.replace_substring_regex(texts, r"\s+", "") for texts in subject.last.values()))
    pairs = list(zip(*subject.said.values(), strict=True))
    found = {}
    for row in np.flatnonzero(alike.to_numpy(zero_copy_only=False)).tolist():
        one, other = (side.response for side in pairs[row])
        if one != other and one[:-1] == other[:-1]:
            found[row] = quoted(subject.last["chosen"][row].as_py())
    return found


def special_token_in_text(subject: Subject) -> Hits:
    """A text spells a special token or a role mark: the model reads it as one."""
    return _in_texts(subject, any_of(subject.template.marks))


def other_models_token(subject: Subject) -> Hits:
    """A text holds a mark of another model's chat template: it is learned as text."""
    return _in_texts(subject, OTHERS, but=subject.template.marks)


def _in_texts(subject: Subject, pattern: str, but: Sequence[str] = ()) -> Hits:
    texts, rows = subject.texts
    found: dict[int, dict[str, None]] = {}
    for at in np.flatnonzero(has(texts, pattern)).tolist():
        marks = [mark for mark in re.findall(pattern, texts[at].as_py()) if mark not in but]
        if marks:
            found.setdefault(int(rows[at]), {}).update(dict.fromkeys(marks))
    return {row: ", ".join(map(quoted, marks)) for row, marks in found.items()}


def tool_call_broken(subject: Subject) -> Hits:
    """A tool call of the chosen response is no JSON object with a name."""
    found = {}
    for row in np.flatnonzero(has(subject.last["chosen"], "<tool_call>")).tolist():
        faults = (_call_fault(*call.groups()) for call in _CALL.finditer(subject.last["chosen"][row].as_py()))
        if fault := next(filter(None, faults), None):
            found[row] = fault
    return found


def _call_fault(call: str, end: str) -> str | None:
    if not end:
        return f"{quoted(call)} is not closed"
    try:
        name = json.loads(call).get("name")
    except (ValueError, RecursionError) as error:
        return f"{quoted(call)}: {error}"
    return None if isinstance(name, str) else f"{quoted(call)} names no function"
