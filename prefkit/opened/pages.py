"""Small pages for notebooks: templates in which whatever comes from rows is escaped and cannot turn the text.

A notebook may be dark or light, and says so in ways of its own; so these pages take the colour of the text around
them, and mix every line and wash from it.
"""

from typing import TYPE_CHECKING, Any

from prefkit.show import cut, in_brief, plain, settings, thousands, visible

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["page"]


def page(template: str, **values: Any) -> str:
    """Render one of the templates in `files` with these values."""
    return _environment().get_template(template).render(**values)


def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("prefkit.opened", "files"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_readable,
    )
    made.filters |= {
        "brief": in_brief,
        "told": _told,
        "cut": cut,
        "settings": settings,
        "spoken": plain,
        "thousands": thousands,
    }
    return made


def _told(value: Any) -> str:
    return "–" if value is None else in_brief(value, 160)


def _readable(value: Any) -> Any:
    """Write out control characters and marks of direction; what is marked up already stands."""
    return visible(value) if type(value) is str else value
