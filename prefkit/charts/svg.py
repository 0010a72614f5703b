"""A chart as SVG for a page: one drawing for dark, light and paper, that a screen reader hears as one sentence.

The SVG comes from Vega, and texts in it come from rows, so only elements and attributes that draw pass: no script, no
link, no style, no class that the page's own styles would meet. Colours become CSS variables with the colour itself
as what holds where a page defines none, and ids carry a digest, so that many drawings can share one page.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prefkit.charts.theme import COLOURS, FONT, HUES
from prefkit.show import visible

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    import altair as alt

__all__ = ["svg"]

_DRAWS = frozenset({"g", "path", "line", "rect", "circle", "text", "tspan", "defs", "clipPath"})
_SAYS = frozenset(
    {
        *("d", "x", "y", "x1", "x2", "y1", "y2", "dx", "dy", "r", "cx", "cy", "rx", "ry", "width", "height"),
        *("transform", "fill", "fill-opacity", "opacity", "stroke", "stroke-width", "stroke-opacity"),
        *("stroke-dasharray", "stroke-linecap", "stroke-linejoin", "stroke-miterlimit", "text-anchor"),
        *("font-size", "font-weight", "font-style", "clip-path", "id"),
    }
)
_VARIABLES: Mapping[str, str] = {
    **{colour: f"var(--{name}, {colour})" for name, colour in COLOURS.items()},
    **{colour: f"var(--hue-{number}, {colour})" for number, colour in enumerate(HUES, start=1)},
}
_NUMBER = re.compile(r"-?\d+\.\d{3,}(?:e-?\d+)?")
_EMPTY = ("", "M0,0h0v0h0Z")
_HERE = re.compile(r"url\(#([\w-]+)\)")


def svg(chart: "alt.TopLevelMixin", title: str, description: str) -> str:
    """Draw a chart as an SVG element for a page. It has no size of its own and fills what it is put in.

    `title` and `description` are all that a screen reader hears; both may hold any text, and are escaped. The first
    drawing of a process takes about a second, those that follow about 50 ms.
    """
    import xml.etree.ElementTree as ET

    import vl_convert

    spec = _printable(chart.to_dict())
    silent = {**spec, "config": {**spec.get("config", {}), "aria": False}}  # one sentence, not one a mark
    drawn = vl_convert.vegalite_to_svg(silent, allowed_base_urls=[])
    said = {"title": _plain(title), "desc": _plain(description)}
    prefix = f"c{hashlib.sha256('|'.join([*said.values(), drawn]).encode()).hexdigest()[:10]}"
    whole = ET.fromstring(drawn)  # noqa: S314 - written by Vega in this process; it declares no entities
    out = ET.Element("svg", _frame(whole, prefix))
    for tag, text in said.items():
        ET.SubElement(out, tag, {"id": f"{prefix}-{tag}"}).text = text
    marks = ET.SubElement(out, "g", {"aria-hidden": "true", "fill": "none", "font-family": FONT})
    marks.extend(_kept(whole, prefix))
    return ET.tostring(out, encoding="unicode")


def _frame(whole: "Element", prefix: str) -> dict[str, str]:
    return {
        "xmlns": "http://www.w3.org/2000/svg",
        "class": "chart",
        "overflow": "visible",  # a page's font may be wider than the one that Vega measured
        "viewBox": whole.get("viewBox", "0 0 0 0"),
        "role": "img",
        "aria-labelledby": f"{prefix}-title {prefix}-desc",
    }


def _kept(parent: "Element", prefix: str) -> Iterator["Element"]:
    """Yield the children that draw something, cleaned, theirs cleaned too."""
    import xml.etree.ElementTree as ET

    for child in parent:
        tag = child.tag.rpartition("}")[2]
        if (
            tag not in _DRAWS
            or child.get("display") == "none"
            or (tag == "path" and child.get("d") in _EMPTY)
        ):
            continue
        made = ET.Element(tag, _attributes(child, prefix))
        made.text = (child.text or "").replace("\u2212", "-") if tag in {"text", "tspan"} else None
        made.extend(_kept(child, prefix))
        if tag != "g" or len(made):
            yield made


def _is_unseen(tag: str, element: "Element") -> bool:
    if tag != "path":
        return element.get("display") == "none"
    return element.get("d") in _EMPTY or not (element.get("fill") or element.get("stroke"))


def _attributes(element: "Element", prefix: str) -> dict[str, str]:
    return {
        name: _value(name, value, prefix)
        for name, value in element.attrib.items()
        if name in _SAYS and not (name == "opacity" and value == "1")
    }


def _value(name: str, value: str, prefix: str) -> str:
    if name in {"fill", "stroke"}:
        return _VARIABLES.get(value, value)
    if name == "id":
        return f"{prefix}-{value}"
    if name == "clip-path":
        return _HERE.sub(rf"url(#{prefix}-\1)", value)
    return (
        _NUMBER.sub(lambda found: f"{float(found.group()):.2f}", value)
        if name in {"d", "transform"}
        else value
    )


def _plain(text: str) -> str:
    """Return a text with every character written out that XML forbids or that turns the text's direction."""
    return visible(text).replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")


def _printable(value: Any) -> Any:
    """Return a chart's specification with all its texts plain."""
    if isinstance(value, str):
        return _plain(value)
    if isinstance(value, dict):
        return {name: _printable(inner) for name, inner in value.items()}
    return [_printable(inner) for inner in value] if isinstance(value, list) else value
