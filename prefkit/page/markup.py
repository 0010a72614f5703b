"""The card's Markdown as HTML: the sections that a card writes of a dataset, on a page.

HTML in the Markdown stays text. Cells that stand to the right say so by a class: a page that names its styles by
digest takes none from an attribute.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token
    from markupsafe import Markup

__all__ = ["inline", "markup"]


def markup(source: str) -> "Markup":
    """Return Markdown as HTML that may stand on a page as it is."""
    from markupsafe import Markup

    reader = _reader()
    tokens = reader.parse(source)
    return Markup(reader.renderer.render(_framed(tokens), reader.options, {}))  # noqa: S704 - HTML is off


def inline(source: str) -> "Markup":
    """Return one line of Markdown as HTML without a paragraph around it."""
    from markupsafe import Markup

    return Markup(_reader().renderInline(source))  # noqa: S704 - HTML is off


_DEEPER = {f"h{level}": f"h{level + 1}" for level in range(1, 6)}
"""Sections of Markdown stand under a heading of the page."""
_FRAME = '<div class="scroll" tabindex="0" role="region" aria-label="table">'


def _reader() -> "MarkdownIt":
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "link", "autolink"])


def _framed(tokens: "list[Token]") -> "list[Token]":
    """Return the tokens with alignment as a class, and tables in a frame that scrolls by itself."""
    from markdown_it.token import Token

    made: list[Token] = []
    for token in tokens:
        if "style" in token.attrs:
            side = "right" if "right" in str(token.attrs.pop("style")) else "left"
            token.attrs["class"] = side
        if token.tag in _DEEPER:
            token.tag = _DEEPER[token.tag]
        if token.type == "table_open":
            made.append(Token("html_block", "", 0, content=_FRAME))
        made.append(token)
        if token.type == "table_close":
            made.append(Token("html_block", "", 0, content="</div>\n"))
    return made
