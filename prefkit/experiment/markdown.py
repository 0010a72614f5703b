"""The report of a comparison as Markdown: a pure function of the report, for people, cards and pull requests."""

from collections.abc import Iterator, Mapping, Sequence

from prefkit.card.markdown import code, count, table
from prefkit.experiment.contrary import against
from prefkit.experiment.report import METRICS, ArmReport, Comparison, Versus
from prefkit.experiment.told import GLOSSARY, deciding, has_wins, interval, title_of, wins

__all__ = ["interval", "render", "title_of"]


def render(report: Comparison) -> str:
    """Return the report as Markdown, the answer first."""
    parts = [
        f"# Comparison: {' and '.join(arm.name for arm in report.arms if not arm.control)}",
        *_answer(report),
    ]
    for title, lines in (
        ("What speaks against it", [f"- {each}" for each in against(report)]),
        ("Before believing it", [f"- {note}" for note in report.notes]),
        ("What was asked", _protocol(report)),
        ("Datasets", [_arms(report.arms)]),
        ("Differences", list(_differences(report))),
        ("What it varies by", [_variances(report.versus)]),
        ("Win rate by KL", list(_points(report))),
        ("Training health", [_health(report.arms)]),
        ("Weights that training changed", [_weights(report.arms)]),
        ("Words", [f"- **{word}**: {meaning}" for word, meaning in GLOSSARY.items()]),
    ):
        if lines := [line for line in lines if line]:
            parts += [f"## {title}", *(["\n".join(lines)] if lines[0].startswith("- ") else lines)]
    return "\n\n".join(parts) + "\n"


def _answer(report: Comparison) -> Iterator[str]:
    for each in report.versus:
        control = next(arm.control for arm in report.arms if arm.name == each.arm)
        share = f" {_wins_of(each)}" if has_wins(report.primary) else ""
        yield f"**{'control: ' if control else ''}{each.verdict}.**{share} {each.words}"


def _wins_of(each: Versus) -> str:
    return f"{code(each.arm)} wins {wins(each.primary)}, even is 50 %."


def _protocol(report: Comparison) -> Iterator[str]:
    plan, looks = report.plan, report.looks
    rows = [
        ("model", code(report.model)),
        ("objective", code(report.objective)),
        ("protocol", code(report.protocol)),
        ("decides", f"{METRICS[report.primary].title} ({METRICS[report.primary].unit})"),
        ("seeds", count(looks.seeds)),
        ("held-out prompts", count(report.prompts)),
        ("runs, steps", f"{count(plan.runs)}, {count(plan.steps)}"),
        ("answers drawn", count(plan.answers)),
        (
            "smallest difference that a run of this size would detect (power 80 %), said before",
            f"{plan.effect:.3f} (variance: {plan.variance_from})",
        ),
        (
            "looks",
            f"{looks.taken} of {looks.planned}{', stopped early' if looks.stopped else ''}; error spent {looks.spent:.3f}",
        ),
    ]
    rows += [(f"prompts left out: {reason}", count(rows_)) for reason, rows_ in report.removed.items()]
    yield table(("", ""), rows)
    versions = ", ".join(f"{name} {version}" for name, version in report.software.items())
    yield f"Software: {versions}."


def _arms(arms: Sequence[ArmReport]) -> str:
    metrics = [name for name in METRICS if any(name in arm.metrics for arm in arms)]
    metrics += sorted({name for arm in arms for name in arm.metrics if ":" in name})
    rows: list[tuple[str, ...]] = [
        ("pairs", *(count(arm.pairs) for arm in arms)),
        ("prompts", *(count(arm.prompts) for arm in arms)),
        ("steps a run", *(count(arm.runs[0].steps) if arm.runs else "" for arm in arms)),
        (
            "tokens a run",
            *(count(round(sum(run.tokens for run in arm.runs) / max(len(arm.runs), 1))) for arm in arms),
        ),
    ]
    for name in metrics:
        told = wins if has_wins(name) or name == "win_rate_base" else interval
        cells = [told(arm.metrics[name]) if name in arm.metrics else "" for arm in arms]
        rows.append((title_of(name, arms[0].name), *cells))
    rows.append(
        ("diversity of answers", *("" if arm.diversity is None else f"{arm.diversity:.3f}" for arm in arms))
    )
    return table(("", *(code(arm.name) for arm in arms)), rows)


def _differences(report: Comparison) -> Iterator[str]:
    for each in report.versus:
        yield f"### {code(each.arm)} less {code(each.base)}"
        names = [name for name in each.figures if name != report.primary]
        names.sort(key=lambda name: (each.figures[name].adjusted is None, title_of(name)))
        shares = has_wins(report.primary)
        rows = [
            (
                f"**{deciding(report, each.primary, each.base)}**",
                f"**{interval(each.primary, '+')}**",
                f"**{wins(each.primary)}**" if shares else "",
                _p(each.primary.p),
                "decides",
            )
        ]
        if each.bootstrap is not None:
            rows.append(
                (
                    "the same by the pigeonhole bootstrap",
                    interval(each.bootstrap, "+"),
                    wins(each.bootstrap) if shares else "",
                    _p(each.bootstrap.p),
                    "",
                )
            )
        for name in names:
            figure = each.figures[name]
            share = wins(figure) if has_wins(name) else ""
            told = (interval(figure, "+"), share, _p(figure.p), _p(figure.adjusted))
            rows.append((title_of(name, each.base), *told))
        yield table(("", "difference (95 %)", "wins, even is 50 %", "p:", "after Holm:"), rows)
        yield f"By seed: {', '.join(f'{value:+.3f}' for value in each.by_seed)}."


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "< .001" if value < 0.001 else f"{value:.3f}"


def _variances(versus: Sequence[Versus]) -> str:
    rows = []
    for each in versus:
        told = each.primary.variance or {}
        cells = ["" if told.get(name) is None else f"{told[name]:.4f}" for name in ("prompt", "seed", "rest")]
        errors = [
            "" if value is None else f"{value:.4f}"
            for value in (each.primary.error_of_prompts, each.primary.error)
        ]
        rows.append((code(each.arm), *cells, *errors, f"{each.effect:.3f}"))
    titles = (
        *("", "variance of prompts:", "of seeds:", "of both:", "standard error, prompts alone:"),
        *("standard error:", "smallest difference detected (power 80 %):"),
    )
    return table(titles, rows)


def _points(report: Comparison) -> Iterator[str]:
    rows = []
    for arm in report.arms:
        for step in sorted({point.step for point in arm.points}):
            here = [point for point in arm.points if point.step == step]
            kl, won = (
                sum(values) / len(here) for values in ([p.kl for p in here], [p.win_rate for p in here])
            )
            rows.append((code(arm.name), count(step), f"{kl:.3f}", f"{100 * won:.0f} %"))
    if rows:
        yield table(("", "step:", "KL, nats an answer:", "wins against the untrained model:"), rows)


def _health(arms: Sequence[ArmReport]) -> str:
    rows = []
    for arm in arms:
        losses = [
            f"{_mean(values):.3f}"
            for values in ([run.first_loss for run in arm.runs], [run.last_loss for run in arm.runs])
        ]
        displaced = "yes" if arm.displaced else "no"
        rows.append((code(arm.name), *losses, displaced, "; ".join(arm.alarms) or "none"))
    return table(
        ("", "first loss:", "last loss:", "chosen became less likely, on held-out pairs", "alarms"), rows
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _weights(arms: Sequence[ArmReport]) -> str:
    names: Mapping[str, str] = {
        "weights_same": "the same, float32",
        "weights_within": "moved by 1e-5 at most",
        "weights_same_bfloat16": "the same as bfloat16",
        "overlap_of_seeds": "changed by another seed too",
        "overlap_by_chance": "by chance",
    }
    rows = [
        (
            code(arm.name),
            *("" if (value := arm.weights.get(name)) is None else f"{value:.3f}" for name in names),
        )
        for arm in arms
    ]
    return table(("", *(f"{title}:" for title in names.values())), rows)
