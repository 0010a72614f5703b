"""Rules about turns: who speaks when, where the two conversations part, what is said twice, and the tools."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from prefkit.engines import Conversation, Message
from prefkit.lint.patterns import quoted
from prefkit.lint.subject import Hits, Subject, each, where

_MAY_FOLLOW = {
    ("system", "user"),
    ("user", "assistant"),
    ("assistant", "user"),
    ("assistant", "tool"),
    ("tool", "assistant"),
    ("tool", "tool"),
}
_SHORTEST = 12
"""Characters of a prompt whose repetition at the start of both responses is no chance."""

Turns = Sequence[Message]


def role_order(subject: Subject) -> Hits:
    """The turns come in an order that no chat has: the template would write it, or refuse it."""
    return each(
        subject,
        lambda one, other: order_fault(one.prompt, one.response) or order_fault(other.prompt, other.response),
    )


def order_fault(prompt: Turns, response: Turns) -> str | None:
    """Return what is wrong with the order of roles, if anything is. A prompt may end with a turn to go on with."""
    if not prompt or not response:
        return None  # another rule's business
    first, goes_on = prompt[0].role, prompt[-1].role == response[0].role == "assistant"
    if first not in {"system", "user"}:
        return f"the prompt begins with a turn of {first}"
    for before, after in pairwise([*(prompt[:-1] if goes_on else prompt), *response]):
        if (before.role, after.role) not in _MAY_FOLLOW:
            return f"{after.role} after {before.role}"
    ends = {"begins": response[0].role, "ends": response[-1].role}
    wrong = (f"a response {verb} with a turn of {role}" for verb, role in ends.items() if role != "assistant")
    return next(wrong, None)


def prefilled_prompt(subject: Subject) -> Hits:
    """The prompt ends with an assistant turn, which the responses go on with."""
    return each(
        subject,
        lambda one, _: (
            quoted(one.prompt[-1].content or "") if _role(one.prompt[-1:]) == "assistant" else None
        ),
    )


def differs_earlier(subject: Subject) -> Hits:
    """The responses have several turns and part before the last: many trainers use the last turn alone."""

    def found(one: Conversation, other: Conversation) -> str | None:
        if one.response[:-1] == other.response[:-1] or _own_prompts(one, other):
            return None
        same = (mine == theirs for mine, theirs in zip(one.response, other.response, strict=False))
        at = next((at for at, alike in enumerate(same) if not alike), 0)
        return f"at turn {at + 1} of {len(one.response)} and {len(other.response)}"

    return each(subject, found)


def prompts_differ(subject: Subject) -> Hits:
    """Chosen and rejected answer different prompts, or the template writes the prompt differently for each."""
    own = "each response brings its own conversation"
    written = where(subject.because("prompts-differ"), lambda _: "as the template writes it")
    return written | each(subject, lambda one, other: own if _own_prompts(one, other) else None)


def prompt_repeated(subject: Subject) -> Hits:
    """The prompt stands once more at the start of the responses."""

    def found(one: Conversation, other: Conversation) -> str | None:
        sides = {"chosen": one.response, "rejected": other.response}
        turns = [side for side, response in sides.items() if repeats_turns(one.prompt, response)]
        if turns:
            return f"as turns of {' and '.join(turns)}"
        text = repeats_text(one.prompt, one.response, other.response)
        return None if text is None else quoted(text)

    return each(subject, found)


def repeats_turns(prompt: Turns, response: Turns) -> bool:
    """Say whether a response opens with the turns of its prompt."""
    return 0 < len(prompt) < len(response) and tuple(response[: len(prompt)]) == tuple(prompt)


def repeats_text(prompt: Turns, chosen: Turns, rejected: Turns) -> str | None:
    """Return the text of the prompt's last turn if both responses open with it."""
    asked = (prompt[-1].content or "").strip() if prompt else ""
    opens = [
        bool(turns) and (turns[0].content or "").lstrip().startswith(asked) for turns in (chosen, rejected)
    ]
    return asked if len(asked) >= _SHORTEST and all(opens) else None


def tools_invalid(subject: Subject) -> Hits:
    """The tools are no JSON list of functions."""
    faults = {tools: _tools_fault(tools) for tools in {one.tools for one in subject.said["chosen"]}}
    return each(subject, lambda one, _: faults[one.tools])


def _tools_fault(tools: str | None) -> str | None:
    if not tools:
        return None
    try:
        value = json.loads(tools)
    except (ValueError, RecursionError) as error:
        return f"{quoted(tools)}: {error}"
    if not isinstance(value, list):
        return f"{quoted(tools)} is no list"
    return next(
        (f"{quoted(json.dumps(tool))} is no function" for tool in value if not _is_function(tool)), None
    )


def _is_function(tool: Any) -> bool:
    inner = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        return False
    return isinstance(inner.get("parameters", {}), dict)


def _own_prompts(one: Conversation, other: Conversation) -> bool:
    sides = one.response, other.response
    return all(_role(turns) in {"system", "user"} for turns in sides) and sides[0][:-1] != sides[1][:-1]


def _role(turns: Turns) -> str | None:
    return turns[0].role if turns else None
