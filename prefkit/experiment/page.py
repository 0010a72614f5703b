"""The page of a comparison: the answer first, then what it rests on, down to single answers beside each other.

Written from the report and from the answers that stand beside it, with the same shell as the page of a build.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl
import pyarrow as pa

from prefkit.charts import Figure
from prefkit.charts.of_comparisons import frontier, intervals, score_by_length, seeds
from prefkit.charts.of_training import of_training
from prefkit.experiment.beside import beside
from prefkit.experiment.contrary import ONE_RUN, is_one_run
from prefkit.experiment.markdown import render
from prefkit.experiment.opening import opening
from prefkit.experiment.ready import read_answers
from prefkit.experiment.report import METRICS, ArmReport, Comparison
from prefkit.experiment.told import GLOSSARY, has_wins
from prefkit.page.groups import Group, drawn
from prefkit.page.shell import BROWSER, render_page, write

__all__ = ["comparison_page", "write_page"]

_KIT = BROWSER._replace(template="comparison.html", styles=(*BROWSER.styles, "comparison.css"))
_WINS: Mapping[str, str] = {
    "win_rate": "by score",
    "length_controlled": "equally long",
    "judge": "by judge",
    "judge_length_controlled": "judge, equally long",
    "second_win_rate": "second scorer",
}
"""Metrics of one unit, so that their intervals can stand on one axis, by their name there."""
_CURVES = ("loss", "accuracy", "log-probs")
_REDRAWN = "How much re-drawn answers differ"
"""What the dots of seeds show where seeds changed nothing in training."""


def write_page(report: Comparison, out: Path) -> Path:
    """Write `report.html` into the folder of a comparison, beside its `answers.arrow`. Raises PrefkitError."""
    path = out / "answers.arrow"
    answers = read_answers(path) if path.is_file() else None
    return write(out / "report.html", comparison_page(report, answers))


def comparison_page(report: Comparison, answers: pa.Table | None = None) -> str:
    """Return the page of a comparison. `answers` are response rows with `arm`, `seed` and `sample`."""
    sets = [] if answers is None else list(beside(report, answers))
    named = [arm.name for arm in report.arms if not arm.control]
    values = {
        "title": " or ".join(named) + "?",
        "report": report,
        "opening": [
            each._replace(short=_tied(each.short), because=_tied(each.because)) for each in opening(report)
        ],
        "groups": list(_groups(report, answers)),
        "sections": list(_sections(report)),
        "sets": [each.name for each in sets],
        "words": GLOSSARY,
        "first": report.versus[0].base if report.versus else "",
    }
    return render_page(_KIT, values, [block for each in sets for block in each.blocks])


def _sections(report: Comparison) -> Iterator[tuple[str, str]]:
    """Yield the sections of the report's Markdown; words and doubts have places of their own on a page."""
    for part in render(report).split("\n\n## ")[1:]:
        title, _, body = part.partition("\n\n")
        if title not in ("Words", "What speaks against it"):
            yield title, body.replace("< .", "<\u00a0.")


def _tied(words: str) -> str:
    """Return words whose figures do not break over two lines: `95 %`, `(0.1 to 0.2)`."""
    whole = _INTERVAL.sub("(\\1\u00a0to\u00a0\\2)", words)
    return _PER_CENT.sub("\\1\u00a0%", whole)


_INTERVAL = re.compile(r"\((\S+) to (\S+)\)")
_PER_CENT = re.compile(r"([0-9]) %")


# charts


def _groups(report: Comparison, answers: pa.Table | None) -> Iterator[Group]:
    found = [figure for figure in _figures(report, answers) if figure is not None]
    if found:
        lead = "An interval that leaves out what is even is filled. "
        lead += (
            f"Dots are seeds; here seeds only drew other answers. {ONE_RUN}"
            if is_one_run(report)
            else "Dots are seeds: where they lie apart, one run says little."
        )
        lead += _abbreviated(report)
        yield Group(
            "about-difference",
            "How do they differ?",
            "Differences",
            lead,
            [drawn(each) for each in found],
            "",
        )
    curves = [drawn(each) for arm in report.arms if not arm.control for each in _curves(arm)]
    if curves:
        yield Group(
            "about-training",
            "How did training go?",
            "Training",
            "The first seed of each dataset. Each step has a batch of other pairs, so single steps are no trend.",
            curves,
            "",
        )


def _figures(report: Comparison, answers: pa.Table | None) -> Iterator[Figure | None]:
    names = _short_names(report)
    arms = list(names.values())
    yield _shares(report, names)
    yield _by_seed(report, names)
    points = [{"arm": names[arm.name], **point.model_dump()} for arm in report.arms for point in arm.points]
    if points:
        yield frontier(pl.DataFrame(points), y="wins against the untrained model", arms=arms)
    if answers is not None and {"arm", "seed", "chars", "score"} <= set(answers.column_names):
        frame = pl.DataFrame(answers.select(["arm", "seed", "chars", "score"]))
        frame = frame.filter(pl.col("arm").is_in(list(names)))
        frame = frame.with_columns(pl.col("arm").replace_strict(names, return_dtype=pl.String))
        means = frame.group_by("arm", "seed", maintain_order=True).agg(
            pl.col("score").mean(), length=pl.col("chars").mean()
        )
        yield score_by_length(means, arms=arms)


def _shares(report: Comparison, names: Mapping[str, str]) -> Figure | None:
    """Draw all wins against the first dataset, as shares."""
    found = [
        {
            "arm": names[each.arm],
            "metric": _WINS[name],
            **{
                end: (1 + value) / 2
                for end, value in (("estimate", one.estimate), ("low", one.low), ("high", one.high))
            },
        }
        for each in report.versus
        for name, one in {report.primary: each.primary, **each.figures}.items()
        if name in _WINS and one.estimate is not None and one.low is not None and one.high is not None
    ]
    if not found:
        return None
    first = report.versus[0].base
    title = "How often each dataset wins against the first"
    return intervals(
        pl.DataFrame(found),
        title=title,
        x=f"wins against {first}, even is 50 %",
        arms=list(names.values()),
        even=0.5,
    )


def _by_seed(report: Comparison, names: Mapping[str, str]) -> Figure | None:
    shares = has_wins(report.primary)
    apart = [
        {"arm": names[each.arm], "seed": seed, "value": (1 + value) / 2 if shares else value}
        for each in report.versus
        for seed, value in enumerate(each.by_seed)
    ]
    if not apart:
        return None
    first = report.versus[0].base
    x = f"wins against {first}, even is 50 %" if shares else METRICS[report.primary].title
    told = {"title": _REDRAWN} if is_one_run(report) else {}
    return seeds(pl.DataFrame(apart), x=x, arms=list(names.values()), shares=shares, **told)


def _short_names(report: Comparison) -> dict[str, str]:
    """Return the names of datasets in charts: a control without that of the dataset it was made of."""
    names = {arm.name: arm.name for arm in report.arms}
    start = f"{report.arms[0].name} ("
    for arm in report.arms:
        short = arm.name.removeprefix(start).removesuffix(")")
        if arm.control and arm.name.startswith(start) and short and short not in names.values():
            names[arm.name] = short
    return names


def _abbreviated(report: Comparison) -> str:
    """Say which controls are named in short."""
    short = [name for full, name in _short_names(report).items() if full != name]
    return f" In charts, {' and '.join(short)} of {report.arms[0].name} are controls." if short else ""


def _curves(arm: ArmReport) -> Iterator[Figure]:
    if not arm.runs:
        return
    by_step: dict[int, dict[str, float]] = {}
    for name, points in arm.runs[0].curves.items():
        for step, value in points:
            by_step.setdefault(step, {"step": step})[name] = value
    for name, figure in of_training([by_step[step] for step in sorted(by_step)]).items():
        if name in _CURVES:
            yield figure._replace(title=f"{arm.name}: {figure.title}")
