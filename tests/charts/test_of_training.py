"""Training curves: what a run logged, thinned, with what was measured on the way."""

import math

import pytest

from prefkit.charts import of_report, of_training
from prefkit.train.report import Change, HeldOut, Interval, Report


def values(figure, series: str) -> list[tuple[float, float]]:
    rows = [row for data in figure.chart.to_dict()["datasets"].values() for row in data]
    return [(row["step"], row["value"]) for row in rows if row.get("series") == series]


def test_a_run_shows_what_it_logged_and_nothing_else():
    steps = [
        {"step": at, "loss": 1 / (at + 1), "chosen_logp": -10.0, "rejected_logp": -20.0} for at in range(5)
    ]
    found = of_training(steps, [{"step": 3, "accuracy": 0.75}])
    assert list(found) == ["loss", "accuracy", "log-probs"]
    assert values(found["loss"], "in training") == [(at, 1 / (at + 1)) for at in range(5)]
    assert values(found["accuracy"], "held out") == [(3, 0.75)]
    assert values(found["log-probs"], "rejected") == [(at, -20.0) for at in range(5)]


def test_a_long_curve_is_drawn_through_means_of_stretches():
    steps = [{"step": at, "loss": float(at % 2)} for at in range(12_000)]
    points = values(of_training(steps)["loss"], "in training")
    assert len(points) == 120
    assert {value for _, value in points} == {0.5}
    assert points[0][0] == pytest.approx(49.5)


def test_steps_without_a_number_are_left_out():
    steps = [{"step": 0, "loss": math.nan}, {"step": 1, "loss": None}, {"step": 2}, {"step": 3, "loss": 0.5}]
    assert values(of_training(steps)["loss"], "in training") == [(3, 0.5)]


def test_a_run_that_logged_nothing_has_no_figures():
    assert of_training([]) == {}
    assert of_training([{"step": 0, "loss": math.inf}]) == {}


def report(held_out: HeldOut | None) -> Report:
    return Report(
        key="k", model="m", objective="dpo", settings={}, placement={}, pairs=4, notes={}, steps=2, seconds=1.0,
        tokens=10, first_loss=0.7, last_loss=0.5, curve=[(0, 0.7), (1, 0.5)], held_out=held_out, samples=None,
    )  # fmt: skip


def test_a_report_alone_has_the_loss_and_what_changed():
    at = Interval(mean=0.5, low=0.4, high=0.6, prompts=3)
    moved = Change(before=at, after=at, difference=Interval(mean=0.25, low=0.1, high=0.4, prompts=3))
    same = Change(before=at, after=at, difference=at)
    held = HeldOut(
        pairs=3, accuracy=moved, loss=same, reward_margin=same, chosen_logp=same, rejected_logp=same
    )
    found = of_report(report(held))
    assert list(found) == ["loss", "held-out"]
    assert values(found["loss"], "in training") == [(0, 0.7), (1, 0.5)]
    assert found["held-out"].description == "reward accuracy +0.250 (95 %: +0.100 to +0.400)"
    assert list(of_report(report(None))) == ["loss"]
