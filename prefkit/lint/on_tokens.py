"""Rules about tokens: what is the same, what is cut, what begins and ends it, and what the template made of it."""

from collections.abc import Callable

import numpy as np

from prefkit.engines import Conversation
from prefkit.lint.on_texts import null_content, same_text
from prefkit.lint.patterns import end_of, has, on_sides, quoted
from prefkit.lint.subject import Hits, Subject, each, where

_LITTLE = 0.1
"""Share of the longest input below which a prompt leaves little room."""
_REFUSED = ("the chat template refuses", "the conversation is empty")
_FEW = 8
"""Tokens at the boundary that are decoded to see whether `<think>` stands there."""


def same_tokens(subject: Subject) -> Hits:
    """Both responses are the same tokens, though not the same text."""
    found, texts = where(subject.because("same-tokens"), _openings(subject)), same_text(subject)
    return {row: detail for row, detail in found.items() if row not in texts}


def same_after_cut(subject: Subject) -> Hits:
    """Both responses are the same tokens once they are cut: loss log 2 and no gradient."""
    first, left = subject.first_difference(), subject.left[:, 1]
    return where(
        subject.because("same-tokens-after-cut"),
        lambda row: f"they differ from token {first[row]} on and are cut at {left[row]}",
    )


def no_room(subject: Subject) -> Hits:
    """The prompt leaves no room for a response, or the responses none for the prompt."""
    found = subject.because("no-room-for-response", "no-room-for-prompt")
    if subject.limit is not None and subject.truncate == "drop":
        found |= subject.tokens["prompt"].lengths >= subject.limit
    return where(found, _sizes(subject))


def little_room(subject: Subject) -> Hits:
    """The prompt leaves less than a tenth of the tokens to responses that need more."""
    limit = 0 if subject.limit is None or subject.truncate == "prompt" else subject.limit
    prompt, chosen, rejected = (tokens.lengths for tokens in subject.tokens.values())
    room = limit - prompt
    return where(
        (room > 0) & (room < _LITTLE * limit) & (room < np.maximum(chosen, rejected)), _sizes(subject)
    )


def too_long(subject: Subject) -> Hits:
    """The pair is longer than the model or the setting allows, though its prompt is not, and is dropped."""
    fits = subject.tokens["prompt"].lengths < (subject.limit or 0)
    return where(subject.because("too-long") & fits, _sizes(subject))


def truncated(subject: Subject) -> Hits:
    """The pair is cut to length."""
    lost, parts = subject.lost, tuple(subject.tokens)
    return where(
        lost.any(axis=1) & subject.because(None),
        lambda row: ", ".join(
            f"{part} loses {count} tokens" for part, count in zip(parts, lost[row], strict=True) if count
        ),
    )


def end_lost_on_one_side(subject: Subject) -> Hits:
    """Cutting takes the end token from one response alone: only the other is taught to stop."""
    chosen, rejected = (subject.lost[:, 1:] > 0).T
    return where(
        (chosen != rejected) & subject.because(None),
        lambda row: f"{'chosen' if chosen[row] else 'rejected'} has no end",
    )


def template_refuses(subject: Subject) -> Hits:
    """The chat template refuses the conversation or its tools, and the pair is dropped."""
    empty = where(subject.because("empty"), lambda _: "it writes nothing for the prompt")
    refused = {row: what for row, what in subject.failures.items() if what.startswith(_REFUSED)}
    return empty | {row: what.partition(": ")[2] or what for row, what in refused.items()}


def prompt_rewritten(subject: Subject) -> Hits:
    """The chat template writes the prompt otherwise once a response follows, and the pair is dropped."""
    others = null_content(subject)  # nothing follows the prompt there
    return {
        row: what
        for row, what in subject.failures.items()
        if row not in others and not what.startswith(_REFUSED)
    }


def doubled_bos(subject: Subject) -> Hits:
    """The token that begins a text comes twice: a text brings its own, or the template writes two."""
    bos, begin, prompt = subject.template.bos, subject.template.begin, subject.tokens["prompt"]
    if bos is None:
        return {}
    ids, starts = np.append(prompt.ids, [-1, -1]), prompt.offsets[:-1]
    twice = (prompt.lengths > 1) & (ids[starts] == bos) & (ids[starts + 1] == bos)

    def typed(one: Conversation, other: Conversation) -> str | None:
        firsts = [turns[0].content or "" for turns in (one.prompt, one.response, other.response) if turns]
        return (
            f"a text begins with {quoted(begin)}"
            if any(t.lstrip().startswith(begin) for t in firsts)
            else None
        )

    return where(twice, lambda _: f"the prompt begins with {quoted(begin * 2)}") | each(subject, typed)


def end_token_in_response(subject: Subject) -> Hits:
    """A response carries an end token in its text: it would end twice, or in another model's way."""
    pattern = end_of(subject.template)
    return {
        row: f"{sides} with {quoted(''.join(pattern.findall(subject.last[sides.split()[0]][row].as_py())))}"
        for row, sides in on_sides(subject, lambda texts: has(texts, pattern.pattern)).items()
    }


def template_never_ends(subject: Subject) -> Hits:
    """The chat template writes no end token after a response: the trainer adds it, a reward model never sees it."""
    return where(~subject.because("no-template") & (not subject.template.closes), lambda _: "as every row")


def prefilled_think(subject: Subject) -> Hits:
    """The prompt's tokens end with `<think>` and the response opens with it again."""

    def doubles(prompt: list[int], response: list[int]) -> bool:
        before, after = (str(subject.tokenizer.decode(ids)) for ids in (prompt[-_FEW:], response[:_FEW]))
        return before.rstrip().endswith(("<think>", "</think>")) and after.lstrip().startswith("<think>")

    return _as_tokens(subject, r"^\s*<think>", doubles)


def thinking_lost(subject: Subject) -> Hits:
    """The chat template takes the thinking out of a response: it is not trained on."""
    return _as_tokens(
        subject, "</think>", lambda _, response: "</think>" not in subject.tokenizer.decode(response)
    )


def _as_tokens(subject: Subject, pattern: str, wrong: Callable[[list[int], list[int]], bool]) -> Hits:
    """Return the rows with a response whose text matches, and whose prompt's and own tokens are wrong."""
    known, prompts = ~subject.because("no-template"), subject.tokens["prompt"]
    found: Hits = {}
    for side, texts in subject.last.items():
        for row in np.flatnonzero(has(texts, pattern) & known).tolist():
            if wrong(prompts.row(row), subject.tokens[side].row(row)):
                found[row] = f"{found[row]} and {side}" if row in found else side
    return found


def first_token_differs(subject: Subject) -> Hits:
    """The responses differ from their first token on."""
    return where((subject.first_difference() == 0) & subject.because(None), _openings(subject))


def _sizes(subject: Subject) -> Callable[[int], str]:
    prompt, chosen, rejected = (tokens.lengths for tokens in subject.tokens.values())
    return lambda row: (
        f"prompt {prompt[row]} + {max(chosen[row], rejected[row])} tokens, at most {subject.limit}"
    )


def _openings(subject: Subject) -> Callable[[int], str]:
    return lambda row: " / ".join(quoted(texts[row].as_py()[:24]) for texts in subject.last.values())
