"""How every chart looks: few colours, each with a meaning, and quiet axes.

A notebook draws on a canvas, which knows no CSS, and a page has a dark and a light side. So charts carry plain
colours that can be read on both, and `svg` puts the page's CSS variables in their place, by name. No two roles share
a colour, or they could not be told apart there.
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["COLOURS", "FONT", "HEIGHT", "HUES", "WIDTH", "styled"]

COLOURS: Mapping[str, str] = {
    "chosen": "#3b78d8",
    "rejected": "#cf6516",
    "all": "#47887a",
    "bad": "#c9463d",
    "good": "#35915c",
    "ink": "#6f7883",
    "soft": "#7b848f",
    "line": "#8d959f",
    "paper": "#808890",
}
"""Colours by role; a page may define `--chosen` and so on. At least 3 to 1 against white and against near black."""
HUES = ("#2e86c8", "#c9711d", "#2f9a70", "#b565a7", "#8f7d22", "#cc5560", "#5d7fb0", "#8070c8")
"""For values that have no role of their own, such as models, judges and arms: `--hue-1` to `--hue-8`."""
FONT = "system-ui, sans-serif"
WIDTH, HEIGHT = 380, 200
"""Of a chart with its axes and legend, in pixels of its view box."""


def styled(chart: Any, *, height: int = HEIGHT) -> Any:
    """Return an Altair chart, of one view, in the common size and dress. Its axes and legend are within the size, so that charts align."""
    import altair as alt

    size = {"width": WIDTH, "height": height, "padding": _PADDING, "background": "transparent"}
    return chart.properties(**size, autosize=_FIT, config=alt.Config(**_CONFIG))


_PADDING = {"left": 4, "right": 8, "top": 2, "bottom": 2}
_FIT = {"type": "fit", "contains": "padding"}
_TEXTS = {
    "labelColor": COLOURS["soft"],
    "titleColor": COLOURS["ink"],
    "titleFontWeight": "normal",
    "labelFontSize": 11,
    "titleFontSize": 11,
    "labelFont": FONT,
    "titleFont": FONT,
}
_LINES = {
    "domainColor": COLOURS["line"],
    "tickColor": COLOURS["line"],
    "gridColor": COLOURS["line"],
    "gridOpacity": 0.22,
    "tickSize": 3,
    "labelSeparation": 8,
    "labelOverlap": True,
}
_LEGEND = {
    "orient": "top",
    "title": None,
    "symbolSize": 60,
    "padding": 0,
    "offset": 4,
    "columnPadding": 18,
    "symbolOpacity": 1,
}
_CONFIG: Mapping[str, Any] = {
    "font": FONT,
    "view": {"stroke": None},
    "axis": {**_TEXTS, **_LINES, "labelLimit": 130},
    "axisY": {"titlePadding": 9},  # labels in a page's font may be wider than Vega measures
    "legend": {**_TEXTS, **_LEGEND, "labelLimit": 150},
    "text": {"font": FONT, "color": COLOURS["ink"]},
    "title": {"anchor": "start", "color": COLOURS["ink"], "subtitleColor": COLOURS["soft"], "fontSize": 13},
}
