"""The shell of a page: one HTML file that runs only its own script, asks nothing of anybody, and can be read anywhere.

What a page shows comes from strangers, so the browser is told what may run: a Content-Security-Policy names the page's
one style and one script by their digests and forbids everything else, requests included. Templates, styles and
scripts are files beside this module, put into the page as they are; data never becomes a template, and reaches the
script only as base64, which no parser takes for markup.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from prefkit.card.markdown import number, text
from prefkit.disk import replace_text
from prefkit.errors import PrefkitError
from prefkit.page.markup import inline, markup
from prefkit.show import visible

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["BROWSER", "Block", "Kit", "render_page", "write"]

_FILES = Path(__file__).with_name("files")


class Block(NamedTuple):
    """Data for the page's script: JSON, compressed, in base64."""

    name: str
    """The id of the element that holds it."""
    packed: str


class Kit(NamedTuple):
    """What a page is put together from: names of files beside this module."""

    template: str
    styles: Sequence[str] = ("shell.css",)
    scripts: Sequence[str] = ("theme.js",)


BROWSER = Kit(
    template="build.html",
    styles=("shell.css", "browser.css"),
    scripts=(
        *("theme.js", "data.js", "text.js", "difference.js", "query.js", "row.js"),
        *("filters.js", "parts.js", "walk.js", "address.js", "browser.js"),
    ),
)
"""A page with a browser of rows; `_replace` its template."""


def render_page(kit: Kit, values: Mapping[str, Any], blocks: Sequence[Block] = ()) -> str:
    """Return a page as HTML. Everything in `values` is escaped, unless it is `Markup` that prefkit made itself."""
    style = "\n".join(_read(name) for name in kit.styles)
    script = "\n".join(_read(name) for name in kit.scripts)
    known = {"style": style, "script": script, "policy": _policy(style, script), "blocks": blocks}
    return _environment().get_template(kit.template).render({**values, **known})


def write(path: Path, page: str) -> Path:
    """Write a page, whole or not at all, and return its path. Raises PrefkitError if it cannot be written."""
    try:
        replace_text(path, page)
    except OSError as error:
        what = f"the page cannot be written: {error.strerror or error}"
        raise PrefkitError(what, where=str(path), hint="give another place, or free space") from error
    return path


def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_FILES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number,
        "text": text,
        "visible": visible,
        "markup": markup,
        "inline": inline,
        "count": _count,
    }
    return made


def _count(value: int) -> str:
    return f"{value:,}"


def _policy(style: str, script: str) -> str:
    """Return what the page may do: its own style and script, and nothing else."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}';"
        " base-uri 'none'; form-action 'none'"
    )


def _digest(source: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


def _read(name: str) -> str:
    return (_FILES / name).read_text(encoding="utf-8")
