"""Markdown, as `markdown-it` reads it by the CommonMark rules: which blocks a text has, and which code."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

__all__ = ["Code", "Element", "Outline", "last_code", "outline"]

Element = Literal[
    "heading", "list", "numbered-list", "table", "quote", "code-block", "code", "bold", "italics", "link"
]
_OPENS: dict[str, Element] = {
    "heading_open": "heading",
    "bullet_list_open": "list",
    "ordered_list_open": "numbered-list",
    "table_open": "table",
    "blockquote_open": "quote",
    "fence": "code-block",
    "code_inline": "code",
    "strong_open": "bold",
    "em_open": "italics",
    "link_open": "link",
}


class Code(NamedTuple):
    """One fenced block."""

    language: str
    """The first word after the fence, in small letters."""
    text: str
    closed: bool


class Outline(NamedTuple):
    """What a text is made of."""

    elements: frozenset[Element]
    headings: tuple[str, ...]
    code: tuple[Code, ...]


def outline(text: str) -> Outline:
    """Return what a Markdown text is made of."""
    lines = text.splitlines()
    tokens = _reader().parse(text)
    inner = [child for token in tokens for child in token.children or ()]
    elements = frozenset(_OPENS[token.type] for token in (*tokens, *inner) if token.type in _OPENS)
    headings = tuple(
        " ".join(after.content.split()) for token, after in pairwise(tokens) if token.type == "heading_open"
    )
    code = tuple(
        Code(_language(token.info), token.content, _is_closed(lines, token.map, token.markup))
        for token in tokens
        if token.type == "fence"
    )
    return Outline(elements, headings, code)


def last_code(text: str, languages: Sequence[str]) -> str | None:
    """Return the last fenced block in one of these languages, or None. A block that never closes counts."""
    if "```" not in text and "~~~" not in text:
        return None
    found = [block.text for block in outline(text).code if block.language in languages]
    return found[-1] if found else None


@lru_cache
def _reader() -> "MarkdownIt":
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table")


def _language(info: str) -> str:
    words = info.split()
    return words[0].strip("{}.").casefold() if words else ""


def _is_closed(lines: Sequence[str], where: Sequence[int] | None, fence: str) -> bool:
    """Return whether a block ends with its fence. `where` is [first, end) in lines, both fences included."""
    if where is None or where[1] - where[0] < 2:
        return False
    last = lines[where[1] - 1].lstrip(" >\t")
    return last.startswith(fence) and not last.strip(fence[0]).strip()
