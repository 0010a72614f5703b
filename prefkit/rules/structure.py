"""Structure: whether a response is built as it was asked to be: Markdown, code blocks, sections, thoughts apart."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar, final

import pyarrow as pa
from pydantic import model_validator

from prefkit.columns import Columns, types
from prefkit.rules.markdown import Element, Outline, outline
from prefkit.rules.rule import Explained, Judged
from prefkit.tables import last_content

__all__ = ["Structure"]

_LONGEST = 200_000
"""Characters. Longer texts are not judged: reading Markdown that was made to be hard takes time with their square."""


@final
class Structure(Explained):
    """Score the share of requirements on a response's build that it meets."""

    name: ClassVar[str] = "structure"

    has: tuple[Element, ...] = ()
    """Elements of Markdown that must occur: heading, list, numbered-list, table, quote, code-block, code, bold, italics, link."""
    lacks: tuple[Element, ...] = ()
    """Elements that must not occur."""
    sections: tuple[str, ...] = ()
    """Headings that must occur in this order, case and Markdown's `#` aside; others may stand between. One requirement."""
    code: str | None = None
    """A closed fenced block must be in this language: `python`; with "" in any."""
    tags: tuple[str, ...] = ()
    """`[think]`: the response begins with <think>...</think>, its only one, neither it nor what follows is empty. With
    several, they stand one after another, each once and not empty, and what follows may be empty. One requirement."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> "Structure":
        if not any(True for _ in self._wanted()):
            raise ValueError("set at least one of has, lacks, sections, code, tags")
        if wrong := [tag for tag in self.tags if not re.fullmatch(r"\w[\w-]*", tag)]:
            raise ValueError(f"tags are plain words, without < and >, got '{wrong[0]}'")
        return self

    def reads(self) -> Columns:
        return types("response")

    def judge(self, table: pa.Table) -> Judged:
        # A Python loop: each text is parsed on its own.
        texts = last_content(table["response"]).to_pylist()
        long = sum(text is not None and len(text) > _LONGEST for text in texts)
        scores = [None if text is None or len(text) > _LONGEST else self._share(text) for text in texts]
        counts = {"no-response": texts.count(None), "too-long": long}
        return Judged(pa.array(scores, pa.float64()), {name: n for name, n in counts.items() if n})

    def _share(self, text: str) -> float:
        found = outline(_without_tags(text, self.tags))
        met = [is_met(text, found) for is_met in self._wanted()]
        return sum(met) / len(met)

    def _wanted(self) -> Iterator[Callable[[str, Outline], bool]]:
        for element in self.has:
            yield partial(_has, element)
        for element in self.lacks:
            yield partial(_lacks, element)
        if self.sections:
            yield lambda _, found: _in_order(self.sections, found.headings)
        if self.code is not None:
            yield partial(_has_code, self.code)
        if self.tags:
            yield lambda text, _: _is_tagged(text, self.tags)


def _has(element: Element, _: str, found: Outline) -> bool:
    return element in found.elements


def _lacks(element: Element, _: str, found: Outline) -> bool:
    return element not in found.elements


def _has_code(language: str, _: str, found: Outline) -> bool:
    return any(
        block.closed and language in ("", block.language) and block.text.strip() for block in found.code
    )


def _in_order(wanted: tuple[str, ...], found: tuple[str, ...]) -> bool:
    rest = iter([_plain(heading) for heading in found])
    return all(_plain(heading) in rest for heading in wanted)


def _plain(heading: str) -> str:
    return " ".join(heading.split()).strip("*_`: ").casefold()


def _is_tagged(text: str, tags: tuple[str, ...]) -> bool:
    rest = text.lstrip()
    for tag in tags:
        before, opens, rest = rest.partition(f"<{tag}>")
        inside, closes, rest = rest.partition(f"</{tag}>")
        if before.strip() or not opens or not closes or not inside.strip() or f"<{tag}>" in inside:
            return False
    once = all(text.count(f"<{tag}>") == 1 and text.count(f"</{tag}>") == 1 for tag in tags)
    return once and (len(tags) > 1 or bool(rest.strip()))


def _without_tags(text: str, tags: tuple[str, ...]) -> str:
    """Take the tags out, and thoughts with them: what is built is what the reader sees."""
    if "think" in tags:
        before, opens, rest = text.partition("<think>")
        _, closes, after = rest.partition("</think>")
        text = before + after if opens and closes else text
    for tag in tags:
        text = text.replace(f"<{tag}>", "\n").replace(f"</{tag}>", "\n")
    return text
