"""The page of a comparison: the answer first, what it rests on, and the answers of the models beside each other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from prefkit.columns import MESSAGES
from prefkit.experiment.contrary import against
from prefkit.experiment.page import comparison_page
from prefkit.experiment.report import ArmReport, Comparison, Figure, Looks, Plan, Point, RunReport, Versus

EVIL = "<script>alert(1)</script>"


def figure(estimate: float, reach: float = 0.08) -> Figure:
    low, high = estimate - reach, estimate + reach
    return Figure(
        estimate=estimate, error=0.04, low=low, high=high, p=0.01, method="two-way", seeds=2, prompts=60
    )


def arm(name: str, control: str = "") -> ArmReport:
    run = RunReport(
        seed=0,
        steps=3,
        pairs=9,
        tokens=90,
        seconds=1.0,
        first_loss=0.7,
        last_loss=0.5,
        curves={"loss": [(0, 0.7), (1, 0.6), (2, 0.5)]},
    )
    return ArmReport(
        name=name,
        ref=name,
        digest="0" * 32,
        control=control,
        other_seeds=False,
        pairs=9,
        prompts=5,
        metrics={"score": figure(0.6), "kl": figure(0.2)},
        weights={},
        diversity=None,
        displaced=False,
        alarms=(),
        points=[Point(seed=0, step=3, kl=0.2, win_rate=0.6)],
        runs=[run],
    )


def versus(name: str, verdict: Any, estimate: float) -> Versus:
    return Versus(
        arm=name,
        base="clean",
        verdict=verdict,
        words=f"{name} is {verdict}: {EVIL}",
        reasons=(),
        primary=figure(estimate),
        by_seed=[estimate - 0.01, estimate + 0.01],
        bootstrap=None,
        figures={"length_controlled": figure(estimate / 2), "chars": figure(8.0, 2.0)},
        effect=0.1,
        needs_prompts=100,
        needs_seeds=None,
    )


def comparison(*found: Versus, flip: Any = "worse") -> Comparison:
    controls = [versus("flipped", flip, -0.4)]
    return Comparison(
        name="clean-vs-other-01234567",
        id="01234567",
        protocol="89abcdef",
        model="m",
        model_identity="i",
        objective="dpo",
        batch=8,
        train={},
        settings={},
        primary="win_rate",
        prompts=60,
        removed={},
        plan=Plan(
            runs=6,
            steps=18,
            pairs=54,
            answers=600,
            verdicts=0,
            seconds=None,
            effect=0.2,
            floor=0.1,
            variance={},
            variance_from="typical",
        ),
        looks=Looks(planned=1, taken=1, seeds=2, spent=0.05, stopped=False),
        arms=[arm("clean"), *(arm(each.arm) for each in found), arm("flipped", "flip")],
        versus=[*found, *controls],
        notes=["Seeds are few."],
        software={"prefkit": "0.1.0"},
    )


def answers() -> pa.Table:
    def said(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    rows = [(name, k) for name in ("", "clean", "noisy") for k in range(6)]
    return pa.table(
        {
            "prompt_id": [f"p{k}" for _, k in rows],
            "prompt": pa.array([[{"role": "user", "content": f"question {k}"}] for _, k in rows], MESSAGES),
            "id": [f"{name or 'base'}-{k}" for name, k in rows],
            "response": pa.array([said(f"{name} answers {k} {EVIL}") for name, k in rows], MESSAGES),
            "sample": [0] * len(rows),
            "chars": [9.0] * len(rows),
            "score": [0.1 * k + (name == "clean") for name, k in rows],
            "arm": [name for name, _ in rows],
            "seed": [0] * len(rows),
        }
    )


def test_a_comparison_opens_with_its_answer_and_shows_answers_beside_each_other(
    visit: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(comparison_page(comparison(versus("noisy", "worse", -0.27)), answers()), encoding="utf-8")
    seen = visit(path)
    short = seen.page.locator("#short").inner_text().replace("\u00a0", " ")
    assert "Is noisy better than clean?" in short
    assert "Worse: wins 36 % (32 to 40), even is 50 %" in short
    assert EVIL in short
    assert "Its controls came out as they should" in short
    assert "With answers equally long: -0.135" in short
    assert seen.page.locator("svg.chart").count() >= 4
    assert seen.status() == "6 answers, all shown"
    assert seen.page.get_by_role("heading", name="noisy", exact=True).count() == 1
    row = seen.page.get_by_role("region", name="The row that is looked at")
    assert row.locator("ins").all_text_contents() == ["noisy"]
    assert row.locator("del").all_text_contents() == ["clean"]
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 1280


def two_runs(arm: ArmReport, *, last: float) -> ArmReport:
    """Return an arm with another run, whose loss ends elsewhere."""
    other = arm.runs[0].model_copy(update={"seed": 1, "curves": {"loss": [(0, 0.7), (1, 0.6), (2, last)]}})
    return arm.model_copy(update={"runs": [*arm.runs, other]})


def test_runs_that_seeds_did_not_change_are_told_as_one() -> None:
    plain = comparison(versus("noisy", "worse", -0.27))
    report = plain.model_copy(update={"arms": [two_runs(arm, last=0.5) for arm in plain.arms]})
    page = comparison_page(report)
    assert page.count("One training run each: this does not show what another run would give.") >= 2
    assert "How much re-drawn answers differ" in page
    differ = plain.model_copy(update={"arms": [two_runs(arm, last=0.4) for arm in plain.arms]})
    assert "One training run each" not in comparison_page(differ)
    assert "How much the seeds differ" in comparison_page(differ)


def test_a_copy_that_is_the_same_model_shows_less_than_it_seems() -> None:
    found = comparison(versus("noisy", "worse", -0.27))
    copy = arm("clean (copy)", "copy")
    with_copy = found.model_copy(
        update={
            "arms": [*found.arms, copy],
            "versus": [*found.versus, versus(copy.name, "not distinguishable", 0.01)],
        }
    )
    assert "In part: the copy is the same model, asked again" in comparison_page(with_copy)


def test_what_points_the_other_way_stands_beside_the_answer() -> None:
    worse = versus("noisy", "worse", -0.27)
    figures = {
        "accuracy": figure(0.2),
        "ranking": figure(-0.2),
        "score": figure(0.01),
        "brier": figure(-0.2),
        "length_controlled": figure(-0.01),
    }
    told = against(comparison(worse.model_copy(update={"figures": figures})))
    assert told[:3] == [
        "`noisy` is better by reward accuracy on held-out pairs: +0.200 (+0.120 to +0.280).",
        "`noisy` is better by Brier score of the implied probability: -0.200 (-0.280 to -0.120).",
        "`noisy` is not shown to differ by wins against `clean`, by score, answers equally long: -0.010 (-0.090 to +0.070).",
    ]
    assert not against(comparison(worse.model_copy(update={"figures": {}})))


def test_a_comparison_whose_controls_failed_says_so() -> None:
    page = comparison_page(comparison(versus("other", "no power", 0.3), flip="not distinguishable"))
    page = page.replace("\u00a0", " ")
    assert "No power: wins 65 % (61 to 69)" in page
    assert "Its controls failed" in page
    assert 'id="browser"' not in page
