"""The opening of a comparison's page: the answer, what speaks against it, what was measured, and whether to believe it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from prefkit.card.markdown import code, text
from prefkit.experiment.contrary import ONE_RUN, against, is_one_run, is_same_model
from prefkit.experiment.report import METRICS, ArmReport, Comparison, Versus
from prefkit.experiment.told import has_wins, interval, title_of, wins
from prefkit.page.opening import Answer

__all__ = ["opening"]

_MOODS: Mapping[str, Literal["plain", "good", "bad", "unknown"]] = {
    "better": "good",
    "not worse": "good",
    "worse": "bad",
    "alarmed": "bad",
    "no power": "bad",
}
_WANTED: Mapping[str, str] = {"copy": "not distinguishable", "flip": "worse"}


def opening(report: Comparison) -> Iterator[Answer]:
    """Yield the cards of the page, the answer first."""
    arms = {arm.name: arm for arm in report.arms}
    plain = [each for each in report.versus if not arms[each.arm].control]
    yield from (_answer(report, each) for each in plain)
    if found := against(report):
        yield _against(found)
    yield _asked(report)
    if checks := [each for each in report.versus if arms[each.arm].control]:
        yield _controls(checks, arms, shares=has_wins(report.primary))
    yield from (_by_length(each) for each in plain if _has_lengths(each))


def _answer(report: Comparison, each: Versus) -> Answer:
    mood = _MOODS.get(each.verdict, "unknown")
    words, note = text(each.words, 900), ""
    if is_one_run(report):
        mood = "unknown" if mood == "good" else mood
        words, note = words.replace(f" {ONE_RUN}", ""), f"**{ONE_RUN}** "
    short = f"{text(each.verdict[:1].upper() + each.verdict[1:])}: {_found(report, each)}"
    meaning = " The figure is wins less losses: 0 is even." if has_wins(report.primary) else ""
    return Answer(
        f"Is {text(each.arm)} better than {text(each.base)}?", short, f"{note}{words}{meaning}", mood
    )


def _found(report: Comparison, each: Versus) -> str:
    """Return the figure that decides, wins in per cent."""
    if has_wins(report.primary):
        return f"wins {wins(each.primary)}, even is 50 %"
    return interval(each.primary, "+")


def _against(found: Sequence[str]) -> Answer:
    short = "1 thing" if len(found) == 1 else f"{len(found)} things"
    return Answer("What speaks against it?", short, "  \n".join(f"– {each}" for each in found), "unknown")


def _asked(report: Comparison) -> Answer:
    metric, looks = METRICS[report.primary], report.looks
    first = report.versus[0].base if report.versus else ""
    title = title_of(report.primary, first)
    unit = "even is 50 %" if has_wins(report.primary) else metric.unit
    seeds = f"{looks.seeds} seed{'s' * (looks.seeds != 1)}"
    trained = (
        f"Each dataset trained {code(report.model)} once, since seeds changed nothing in training; {seeds} drew answers to"
        if is_one_run(report)
        else f"Each dataset trained {code(report.model)} with {seeds}; every model answered"
    )
    because = (
        f"{trained} the same {report.prompts:,} held-out prompts. The smallest difference that a run of this size would"
        f" detect was said beforehand to be {report.plan.effect:.3f} (power 80 %)."
    )
    return Answer("What was measured?", f"{title[:1].upper()}{title[1:]} ({unit})", because)


def _controls(checks: Sequence[Versus], arms: Mapping[str, ArmReport], *, shares: bool) -> Answer:
    told = []
    for each in checks:
        wanted = _WANTED.get(arms[each.arm].control, "")
        share = f", wins {wins(each.primary)}" if shares else ""
        told.append(f"{text(each.arm)}: {each.verdict}{share}" + (f" (wanted: {wanted})" if wanted else ""))
    fine = all(each.verdict == _WANTED.get(arms[each.arm].control, each.verdict) for each in checks)
    same = [
        each
        for each in checks
        if arms[each.arm].control == "copy" and is_same_model(arms[each.arm], arms[each.base])
    ]
    why = " A copy must not differ, and flipped labels must lose, or the comparison shows what is not there, or nothing."
    question, because = "Can it be believed?", f"{'; '.join(told)}.{why}"
    if not fine:
        return Answer(question, "Its controls failed", because, "bad")
    if same:
        because += " The copy was trained to the same model: that it does not differ says nothing of how far training runs differ."
        return Answer(question, "In part: the copy is the same model, asked again", because, "unknown")
    return Answer(question, "Its controls came out as they should", because, "good")


def _has_lengths(each: Versus) -> bool:
    found = each.figures.get("length_controlled")
    return found is not None and found.estimate is not None


def _by_length(each: Versus) -> Answer:
    found, chars = each.figures["length_controlled"], each.figures.get("chars")
    longer = "" if chars is None else f" Its answers differ in length by {interval(chars, '+')} characters."
    again = each.figures.get("length_controlled_bootstrap")
    other = "" if again is None else f"; by the bootstrap {interval(again, '+')}"
    because = f"With answers equally long: {interval(found, '+')}{other}; as they are: {interval(each.primary, '+')}.{longer}"
    short = f"Equally long, it wins {wins(found)}, even is 50 %"
    return Answer(f"Is {text(each.arm)} only longer or shorter than {text(each.base)}?", short, because)
