"""Charts of rows, of training and of comparisons, each with its finding in words.

`of_rows` draws whatever a table has to say; the same Altair charts are interactive in a notebook and become SVG for a
page. Rows are binned before anything is drawn, so a chart of a million rows is as small as one of a hundred.
"""

from collections.abc import Iterator, Mapping

import pyarrow as pa

from prefkit.charts.figure import Figure
from prefkit.charts.of_comparisons import frontier, intervals, score_by_length, seeds
from prefkit.charts.of_labels import difficulty_figures, label_figures, score_figures
from prefkit.charts.of_length import length_figures
from prefkit.charts.of_rows import prompt_figures, response_figures, row_figures
from prefkit.charts.of_training import of_report, of_training
from prefkit.charts.of_votes import vote_figures
from prefkit.charts.rows import Rows, measured
from prefkit.charts.svg import svg

__all__ = [
    "GROUPS",
    "Figure",
    "frontier",
    "intervals",
    "of_report",
    "of_rows",
    "of_training",
    "score_by_length",
    "seeds",
    "svg",
]

GROUPS: Mapping[str, str] = {
    "length": "Does length explain the labels?",
    "labels": "What the labels say",
    "scores": "Scores",
    "judges": "Who was asked, and whether they agree",
    "difficulty": "Difficulty",
    "rows": "What the rows are",
    "training": "Training",
    "comparison": "Comparison",
}
"""Groups of figures in the order of a page, with their headings."""


def of_rows(table: pa.Table) -> Mapping[str, Figure]:
    """Draw everything that the rows of a step have to say, by name, group after group. No rows, no figures."""
    if not table.num_rows:
        return {}
    rows = measured(table)
    order = list(GROUPS)
    found = sorted(_found(rows), key=lambda entry: order.index(entry[1].group))
    return dict(found)


def _found(rows: Rows) -> Iterator[tuple[str, Figure]]:
    if rows.is_of_pairs():
        yield from length_figures(rows)
        yield from label_figures(rows)
        yield from score_figures(rows)
        yield from vote_figures(rows)
        yield from difficulty_figures(rows)
    elif "response" in rows.table.column_names:
        yield from response_figures(rows)
    yield from prompt_figures(rows)
    yield from row_figures(rows)
