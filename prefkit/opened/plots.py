"""Charts of an opened step, one method each, so that a notebook completes their names.

A method returns an Altair chart that can be changed and combined further. The object itself shows all of them.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from prefkit.charts import GROUPS, Figure, of_report, of_rows, svg
from prefkit.charts.of_labels import difficulty_figures, label_figures, score_figures
from prefkit.charts.of_length import length_figures
from prefkit.charts.of_rows import prompt_figures, response_figures, row_figures
from prefkit.charts.of_votes import vote_figures
from prefkit.charts.rows import Rows, measured
from prefkit.charts.theme import HEIGHT
from prefkit.errors import PrefkitError
from prefkit.opened.pages import page
from prefkit.train.report import Report

if TYPE_CHECKING:
    import altair as alt

__all__ = ["Plots"]

_Figures = Callable[[Rows], Iterator[tuple[str, Figure]]]


class Plots:
    """What a table of rows has to show. A chart that its columns do not give raises PrefkitError and says what they do."""

    def __init__(self, name: str, table: pa.Table, report: Report | None = None) -> None:
        self._name, self._table, self._report = name, table, report

    def length(self) -> "alt.Chart":
        """Draw how long the two sides are, or the responses, or the prompts."""
        return self._one(_lengths, "length", "response-length", "prompt-length")

    def length_gap(self) -> "alt.Chart":
        """Draw which side is longer, and by how much."""
        return self._one(length_figures, "length-gap")

    def length_bias(self) -> "alt.Chart":
        """Draw how often the longer side is chosen, by how much longer it is."""
        return self._one(length_figures, "length-bias")

    def margin_by_length(self) -> "alt.Chart":
        """Draw the mean margin by how much longer chosen is."""
        return self._one(length_figures, "margin-by-length")

    def margin(self) -> "alt.Chart":
        """Draw by how much chosen is better."""
        return self._one(label_figures, "margin")

    def soft_labels(self) -> "alt.Chart":
        """Draw how sure the labels are: `p_chosen`."""
        return self._one(label_figures, "soft-labels")

    def flips(self) -> "alt.Chart":
        """Draw how likely each label is wrong: `flip_prob`."""
        return self._one(label_figures, "flip-prob")

    def weights(self) -> "alt.Chart":
        """Draw how much each pair counts in training."""
        return self._one(label_figures, "weight")

    def reliability(self) -> "alt.Chart":
        """Draw how often a gold score agrees with the labels, by how sure they are."""
        return self._one(label_figures, "reliability")

    def scores(self, score: str = "score") -> "alt.Chart":
        """Draw a score of both sides, or of the responses."""
        return self._one(_scores, f"scores:{score}")

    def score_gap(self, score: str = "score") -> "alt.Chart":
        """Draw how far apart the two sides are by a score."""
        return self._one(score_figures, f"score-gap:{score}")

    def scores_by_model(self, score: str = "score") -> "alt.Chart":
        """Draw a score of the responses by who wrote them."""
        return self._one(response_figures, f"scores-by-model:{score}")

    def score_by_length(self, score: str = "score") -> "alt.Chart":
        """Draw the mean score of responses by how long they are."""
        return self._one(response_figures, f"score-by-length:{score}")

    def reference(self) -> "alt.Chart":
        """Draw how likely both sides are to the reference model."""
        return self._one(score_figures, "reference")

    def difficulty(self, column: str = "difficulty") -> "alt.Chart":
        """Draw how the rows lie by a measure of difficulty."""
        return self._one(difficulty_figures, f"difficulty:{column}")

    def by_phase(self, column: str = "margin") -> "alt.Chart":
        """Draw a measure of difficulty by phase of the curriculum."""
        return self._one(difficulty_figures, f"phase:{column}")

    def votes(self) -> "alt.Chart":
        """Draw how many votes a pair has."""
        return self._one(vote_figures, "votes")

    def agreement(self) -> "alt.Chart":
        """Draw how far the votes on a pair agree."""
        return self._one(vote_figures, "agreement")

    def agreement_matrix(self) -> "alt.Chart":
        """Draw who agrees with whom."""
        return self._one(vote_figures, "agreement-matrix")

    def said(self) -> "alt.Chart":
        """Draw what each judge or annotator said."""
        return self._one(vote_figures, "said")

    def order(self) -> "alt.Chart":
        """Draw whether judges change their answer with the order of the sides."""
        return self._one(vote_figures, "order")

    def sources(self) -> "alt.Chart":
        """Draw where the rows come from, by split."""
        return self._one(row_figures, "source", "split")

    def domains(self) -> "alt.Chart":
        """Draw what the rows are about, by split."""
        return self._one(row_figures, "domain")

    def winners(self) -> "alt.Chart":
        """Draw whose responses are chosen, against other models."""
        return self._one(row_figures, "winners")

    def models(self) -> "alt.Chart":
        """Draw who wrote the responses."""
        return self._one(row_figures, "model")

    def finish(self) -> "alt.Chart":
        """Draw why generation ended."""
        return self._one(row_figures, "finish")

    def per_prompt(self) -> "alt.Chart":
        """Draw how many rows a prompt has."""
        return self._one(row_figures, "per-prompt")

    def prompts(self) -> "alt.Chart":
        """Draw how long the prompts are."""
        return self._one(prompt_figures, "prompt-length")

    def loss(self) -> "alt.Chart":
        """Draw the loss of the training run on these rows."""
        if self._report is None:
            raise PrefkitError(f"no model was trained on '{self._name}'", hint="prefkit train recipe.yaml")
        return _titled(of_report(self._report)["loss"])

    def figures(self) -> Mapping[str, Figure]:
        """Return everything that can be drawn, with titles and findings in words."""
        training = {} if self._report is None else of_report(self._report)
        return {**of_rows(self._table), **training}

    def _one(self, figures: _Figures, *names: str) -> "alt.Chart":
        rows = measured(self._table)
        there = dict(figures(rows)) if self._table.num_rows else {}
        for name in names:
            if name in there:
                return _titled(there[name])
        hint = f"what there is: {', '.join(of_rows(self._table)) or 'nothing'}"
        raise PrefkitError(f"'{self._name}' has no columns to draw '{names[0]}' from", hint=hint)

    def __repr__(self) -> str:
        return f"<charts of {self._name}: .length_bias(), .margin(), .scores() and more; .figures() has all there are>"

    def _repr_html_(self) -> str:
        from markupsafe import Markup

        groups: dict[str, list[dict[str, str]]] = {}
        for name, figure in self.figures().items():
            drawn = Markup(svg(figure.chart, figure.title, figure.description))  # noqa: S704 - `svg` escapes
            shown = {
                "title": figure.title,
                "description": figure.description,
                "svg": drawn,
                "call": _call(name),
            }
            groups.setdefault(GROUPS[figure.group], []).append(shown)
        return page("gallery.html", groups=list(groups.items()))


def _lengths(rows: Rows) -> Iterator[tuple[str, Figure]]:
    if rows.is_of_pairs():
        yield from length_figures(rows)
    elif "response" in rows.table.column_names:
        yield from response_figures(rows)
    else:
        yield from prompt_figures(rows)


def _scores(rows: Rows) -> Iterator[tuple[str, Figure]]:
    yield from score_figures(rows) if rows.is_of_pairs() else response_figures(rows)


_METHODS = {
    "flip-prob": "flips",
    "weight": "weights",
    "source": "sources",
    "domain": "domains",
    "split": "sources",
    "model": "models",
    "response-length": "length",
    "prompt-length": "prompts",
    "phase": "by_phase",
}


def _call(name: str) -> str:
    """Return how a figure is asked for: `.scores('helpful')`. Empty where nothing returns it alone."""
    stem, _, of = name.partition(":")
    method = _METHODS.get(stem, stem.replace("-", "_"))
    if not callable(Plots.__dict__.get(method)):
        return ".figures()"
    return f".{method}({of!r})" if of else f".{method}()"


def _titled(figure: Figure) -> "alt.Chart":
    """Return a figure's chart with its title and its finding above it."""
    import textwrap

    import altair as alt

    below = textwrap.wrap(figure.description, 66)
    title = alt.TitleParams(text=figure.title, subtitle=below, anchor="start", offset=12)
    tall = figure.chart.height if isinstance(figure.chart.height, int) else HEIGHT
    chart: alt.Chart = figure.chart.properties(
        title=title, height=tall + 36 + 14 * len(below), description=figure.description
    )
    return chart
