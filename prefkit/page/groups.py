"""Charts on a page, group after group, each group with what the card says to its question."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from prefkit.card import analysis, judges, quality
from prefkit.card.facts import Facts
from prefkit.card.validation import validation
from prefkit.charts import GROUPS, Figure, of_rows, svg
from prefkit.charts.of_training import of_report, of_training
from prefkit.page.run import Logged

__all__ = ["Drawn", "Group", "drawn", "groups"]


class Drawn(NamedTuple):
    """A chart as SVG, and its finding in words."""

    title: str
    svg: str
    description: str


class Group(NamedTuple):
    """Charts that answer one question."""

    anchor: str
    title: str
    short: str
    """For a list of links."""
    lead: str
    figures: Sequence[Drawn]
    text: str
    """What the card says; Markdown."""


_SHORT: Mapping[str, str] = {
    "length": "Length",
    "labels": "Labels",
    "scores": "Scores",
    "judges": "Who was asked",
    "difficulty": "Difficulty",
    "rows": "What the rows are",
    "training": "Training",
    "comparison": "Comparison",
}
_LEADS: Mapping[str, str] = {
    "length": "If the longer answer wins most of the time, a model can learn to be long instead of good.",
    "labels": "A label says which side is better; some are surer than others, and some may be wrong.",
    "scores": "What scorers or raters gave to each side. The further apart the sides, the clearer the pair.",
    "judges": "Where people or models voted: who they are, and how often two of them say the same.",
    "difficulty": "Which pairs are hard to learn, and in which order they come.",
    "training": "One run with one seed: it shows that the pairs can be learned from, not how much better they are.",
}


def groups(facts: Facts, table: pa.Table, logged: Logged) -> Iterator[Group]:
    """Yield the groups that have something to show, in the order of a page."""
    figures = [*of_rows(table).values(), *_training(facts, logged).values()]
    texts = {"judges": "\n\n".join(filter(None, [judges.judges(facts), analysis.analysis(facts)]))}
    if facts.report is not None:
        texts["training"] = validation(facts.report)
    for name, title in GROUPS.items():
        own = [drawn(figure) for figure in figures if figure.group == name]
        text = texts.get(name, "")
        if own or text:
            lead = " ".join(filter(None, [_LEADS.get(name, ""), _of_margin(facts, name)]))
            yield Group(f"about-{name}", title, _SHORT.get(name, title), lead, own, text)


def _of_margin(facts: Facts, group: str) -> str:
    """Say what the margin is under this recipe, where charts show it. Markdown."""
    meant = quality.margin_of(facts) if group in ("length", "labels") else ""
    if not meant:
        return ""
    if group == "length" and quality.is_without_length(facts):
        return f"Margin here is {meant}. That it neither rises nor falls with length overall is so by construction, and no evidence."
    return f"Margin here is {meant}."


def drawn(figure: Figure) -> Drawn:
    """Return a figure as a page holds it."""
    return Drawn(figure.title, svg(figure.chart, figure.title, figure.description), figure.description)


def _training(facts: Facts, logged: Logged) -> Mapping[str, Figure]:
    if facts.report is None:
        return {}
    return {**of_report(facts.report), **of_training(logged.steps, logged.evaluations)}
