"""Rules: each has a name, says how bad it is, and what to do about it. What it means is its function's first sentence.

An *error* is a pair that training on is wrong, or that would silently not be trained on as it stands; a *warning* is
worth a look; *info* is a fact about the data.
"""

import inspect
from collections.abc import Callable
from typing import Literal, NamedTuple

from prefkit.lint import on_texts, on_tokens, on_turns
from prefkit.lint.subject import Hits, Subject

__all__ = ["RULES", "Rule", "Severity"]

Severity = Literal["error", "warning", "info"]


class Rule(NamedTuple):
    """One thing to look for."""

    find: Callable[[Subject], Hits]
    severity: Severity
    hint: str
    """What to do about it."""

    @property
    def name(self) -> str:
        """Return what the rule is called."""
        return self.find.__name__.replace("_", "-")

    @property
    def told(self) -> tuple[str, str]:
        """Return what the rule says of a pair, lower case and without a full stop, and what to do."""
        sentence = (inspect.getdoc(self.find) or "").splitlines()[0].rstrip(".")
        return sentence[:1].lower() + sentence[1:], self.hint


_DROP, _MEND = "--fix drops it", "--fix mends it"
_LENGTH = "raise --max-length, or choose --truncate"

RULES: tuple[Rule, ...] = (
    Rule(on_turns.role_order, "error", _DROP),
    Rule(on_turns.prompts_differ, "error", "pair responses to one prompt"),
    Rule(on_turns.prompt_repeated, "error", _MEND),
    Rule(on_texts.null_content, "error", "give the turn a text; tool calls go into it"),
    Rule(on_texts.empty_prompt, "error", "leave the row out"),
    Rule(on_texts.empty_response, "error", "leave the row out: filter with `flaws: [empty]`"),
    Rule(on_texts.same_text, "error", _DROP),
    Rule(on_tokens.same_tokens, "error", _DROP),
    Rule(on_tokens.same_after_cut, "error", f"{_LENGTH}; {_DROP}"),
    Rule(on_tokens.no_room, "error", _LENGTH),
    Rule(on_tokens.template_refuses, "error", "mend the turns or tools, or take another template"),
    Rule(on_tokens.prompt_rewritten, "error", "write responses as the template does, its `<think>` included"),
    Rule(on_tokens.doubled_bos, "error", "--fix takes it off a text; else mend the template"),
    Rule(on_tokens.end_token_in_response, "error", _MEND),
    Rule(on_tokens.prefilled_think, "error", "take `<think>` off the responses: the template writes it"),
    Rule(on_tokens.thinking_lost, "error", "take another template, or leave the thinking out"),
    Rule(on_texts.empty_think_on_one_side, "error", _MEND),
    Rule(on_turns.tools_invalid, "error", "write a JSON list of functions, each with a name"),
    Rule(on_texts.tool_call_broken, "error", "swap the pair, or leave it out"),
    Rule(on_tokens.too_long, "warning", _LENGTH),
    Rule(on_tokens.truncated, "warning", "raise --max-length"),
    Rule(on_tokens.end_lost_on_one_side, "warning", "raise --max-length, or drop what is longer"),
    Rule(on_tokens.little_room, "warning", "raise --max-length, or shorten prompts"),
    Rule(on_tokens.template_never_ends, "warning", "put the end token into chat_template.jinja"),
    Rule(on_turns.differs_earlier, "warning", "move the shared turns into the prompt"),
    Rule(on_texts.think_on_one_side, "warning", "fine if thinking is what is compared"),
    Rule(on_texts.formatting_on_one_side, "warning", _MEND),
    Rule(on_texts.whitespace_only_difference, "warning", "leave the row out if layout is not what is taught"),
    Rule(on_texts.special_token_in_text, "warning", "take it out, or spell it otherwise"),
    Rule(on_texts.other_models_token, "warning", "take it out if it is a leftover"),
    Rule(on_turns.prefilled_prompt, "info", "fine if the responses go on with that turn"),
    Rule(on_tokens.first_token_differs, "info", "nothing; a high share is usual"),
)
"""The errors first."""
