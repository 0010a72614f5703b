"""Prompts: the questions put to models, as versioned files, and the checks of their answers.

A template is a plain text with `{{name}}` where a value goes. Values are put in once and never looked at again, so what
a user or a model wrote cannot become part of a template. A template that is changed gets a new version and a new file;
the stage that uses it then bumps its own version.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from prefkit.engines import Message
from prefkit.errors import ContractError

__all__ = ["RationaleKind", "fill", "names_in", "rationale_flaw", "spoken", "template"]

RationaleKind = Literal["general", "specific"]
_PLACE = re.compile(r"\{\{(\w+)\}\}")
_LABEL_WORDS = re.compile(r"\b(chosen|rejected)\b", re.IGNORECASE)
_QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|«([^»]+)»|`([^`]+)`|‘([^’]+)’")
_COPIED_WORDS = 9
_QUOTED_WORDS = 3
"""Words from which on what stands in quotation marks is a quote, and not a term."""
_NOUN = r"(?:response|answer|assistant|option|candidate|completion|output|reply|text)"
_NAMED = (
    rf"{_NOUN}"
    r"\s*[\[(#*]*(?:1|2|one|two|(?-i:A|B))\b[\])*]*"
)
_SIDE = rf"(?:{_NAMED}|[\[(#*]*(?:1|2|(?-i:A|B))[\])*]*(?=\s*(?:$|[.,;:!])))"
_BEST = r"(?:better|best|preferred|preferable|superior|stronger|favou?red|picked|selected|(?:the )?winner|right choice)"
_WORSE = r"(?:worse|worst|inferior|weaker|dispreferred|(?:the )?loser)"
_VERDICT = re.compile(
    rf"\b{_NAMED}\s+(?:(?:is|was|seems|looks|as)\s+)?(?:\w+\s+){{0,2}}(?:{_BEST}|{_WORSE})\b"
    rf"|\b{_NAMED}\s+(?:wins|loses|won|lost)\b"
    rf"|\b(?:prefer(?:s|red|ring)?|pick(?:s|ed)?|choos(?:e|es|ing)|chose|favou?r(?:s|ed)?)\s+{_NAMED}"
    rf"|\b(?:{_BEST}|verdict|winner|preference|decision)\s*(?:one|{_NOUN})?\s*(?:is|:|=)\s*\**{_SIDE}"
    r"|\[\[\s*(?:1|2|a|b|c|tie)\s*\]\]",
    re.IGNORECASE,
)
_TOLD = re.compile(
    r"\b(?:dispreferred|annotators?|annotations?|ground[- ]truth|gold label|label(?:l?ed)? (?:as|says|is)|the label"
    r"|i was (?:told|given)|was (?:already )?decided|given (?:decision|verdict|label|preference)|according to the label)\b",
    re.IGNORECASE,
)


@lru_cache
def template(name: str) -> str:
    """Return a shipped template: `rationale.general.v1`. Raises ContractError for one that does not exist."""
    path = files("prefkit").joinpath("templates", f"{name}.txt")
    if not path.is_file():
        raise ContractError(f"no template is called '{name}'", hint="see prefkit/templates")
    return path.read_text(encoding="utf-8").removesuffix("\n")


def names_in(text: str) -> frozenset[str]:
    """Return the names of the values a template needs."""
    return frozenset(_PLACE.findall(text))


def fill(text: str, values: Mapping[str, str]) -> str:
    """Put values into a template, each exactly as it is. Raises ContractError if one is missing or too many."""
    if names_in(text) != set(values):
        needs, got = sorted(names_in(text)), sorted(values)
        raise ContractError(f"a template needs the values {needs}, got {got}")
    return _PLACE.sub(lambda place: values[place[1]], text)


def spoken(messages: Sequence[Message]) -> str:
    """Return a conversation as text: one turn as it is, several with who speaks before each."""
    if len(messages) == 1:
        return messages[0].content or ""
    return "\n\n".join(f"{message.role}: {message.content or ''}" for message in messages)


def rationale_flaw(
    kind: RationaleKind, text: str, answers: Sequence[str], *, strict: bool = False
) -> str | None:
    """Return what makes a rationale useless or leaks the label's name, or None.

    `answers` are the responses it was shown. A general rationale may not copy more than eight words in a row from
    one; a specific one must quote at least one place that is really there, and may not copy a whole response of that
    length. If `strict`, neither may it name the verdict (`Response 1 is better`), speak of a label or of having been
    told, or put words into a response's mouth, however the letters are disguised.
    """
    flaw = _plain_flaw(kind, text, answers)
    return flaw or (_subtle_flaw(text, answers) if strict else None)


def _plain_flaw(kind: RationaleKind, text: str, answers: Sequence[str]) -> str | None:
    bare, answers = _squeeze(text), [_squeeze(answer) for answer in answers]
    if not bare:
        return "empty"
    if _LABEL_WORDS.search(bare):
        return "names-label"
    if bare in answers:
        return "is-an-answer"
    if any(len(_words(answer)) >= _COPIED_WORDS and answer in bare for answer in answers):
        return "copies-answer"
    if kind == "general":
        runs = {run for answer in answers for run in _runs(answer)}
        return "copies-answer" if any(run in runs for run in _runs(bare)) else None
    quotes = [part.strip() for found in _QUOTED.findall(bare) for part in found if part.strip()]
    return None if any(quote in answer for quote in quotes for answer in answers) else "quotes-nothing"


def _subtle_flaw(text: str, answers: Sequence[str]) -> str | None:
    bare = _undisguised(text)
    if _LABEL_WORDS.search(bare) or _VERDICT.search(bare):
        return "names-label"
    if _TOLD.search(bare):
        return "tells-of-label"
    real = [_undisguised(answer).casefold() for answer in answers]
    quotes = [part.strip(" .,;:!?…") for found in _QUOTED.findall(bare) for part in found]
    made_up = [
        quote
        for quote in quotes
        if len(_words(quote)) >= _QUOTED_WORDS and not any(quote.casefold() in answer for answer in real)
    ]
    return "quotes-wrongly" if made_up else None


def _undisguised(text: str) -> str:
    """Return a text with each character as the plain one it looks like (NFKC), and without those nobody sees."""
    plain = unicodedata.normalize("NFKC", text)
    return _squeeze("".join(sign for sign in plain if unicodedata.category(sign) != "Cf"))


def _squeeze(text: str) -> str:
    return " ".join(text.split())


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    words = _words(text)
    return (tuple(words[at : at + _COPIED_WORDS]) for at in range(len(words) - _COPIED_WORDS + 1))
