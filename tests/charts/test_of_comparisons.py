"""Charts of comparisons, from plain frames."""

import xml.etree.ElementTree as ET
from typing import Any

import polars as pl
import pytest

from prefkit.charts import Figure, frontier, intervals, score_by_length, seeds, svg


def data(figure: Figure | None) -> list[dict[str, Any]]:
    assert figure is not None
    ET.fromstring(svg(figure.chart, figure.title, figure.description))
    return [row for rows in figure.chart.to_dict()["datasets"].values() for row in rows]


def test_intervals_that_leave_out_zero_are_said():
    frame = pl.DataFrame(
        {
            "arm": ["flipped", "copy"],
            "metric": ["win rate", "win rate"],
            "estimate": [-0.1, 0.01],
            "low": [-0.15, -0.02],
            "high": [-0.05, 0.04],
        }
    )
    figure = intervals(frame)
    apart = {row["arm"]: row["apart"] for row in data(figure) if "arm" in row}
    assert apart == {"flipped": True, "copy": False}
    assert figure is not None
    assert figure.description == "1 of 2 intervals leave out 0: flipped -0.1 (-0.15 to -0.05)"


def test_checkpoints_of_a_seed_are_one_path_and_the_last_is_its_end():
    rows = [(seed, step, float(step), 0.5 + step / 100) for seed in (0, 1) for step in (10, 1, 5)]
    frame = pl.DataFrame(rows, schema=["seed", "step", "kl", "win_rate"], orient="row").with_columns(
        arm=pl.lit("a")
    )
    figure = frontier(frame)
    points = [row for row in data(figure) if "kl" in row]
    assert [row["step"] for row in points[:6]] == [1, 5, 10, 1, 5, 10]
    assert [row["step"] for row in points[6:]] == [10, 10]
    assert figure is not None
    assert figure.description.replace("\u00a0", " ").endswith("a 60 % at 10 nats")


def test_seeds_have_a_dot_each_and_their_mean():
    frame = pl.DataFrame({"arm": ["a", "a", "b"], "seed": [0, 1, 0], "value": [0.5, 0.7, 0.1]})
    rows = data(seeds(frame, x="win rate"))
    assert [row["value"] for row in rows if "seed" in row] == [0.5, 0.7, 0.1]
    assert [row["value"] for row in rows if "seed" not in row] == pytest.approx([0.6, 0.1])


def test_scores_stand_against_lengths():
    frame = pl.DataFrame(
        {"arm": ["a", "b"], "seed": ["0", "0"], "length": [100.0, 300.0], "score": [0.5, 0.5]}
    )
    assert [(row["length"], row["score"]) for row in data(score_by_length(frame))] == [
        (100.0, 0.5),
        (300.0, 0.5),
    ]


def test_hostile_names_of_arms_stay_text():
    bad = ["<script>x</script>", "a\x00\u202e", "z" * 300, "z" * 301, ""]
    frame = pl.DataFrame(
        {
            "arm": bad,
            "metric": bad,
            "seed": bad,
            "estimate": [0.1] * 5,
            "low": [0.0] * 5,
            "high": [0.2] * 5,
            "value": [1.0] * 5,
        }
    )
    for figure in (intervals(frame), seeds(frame, x="<b>")):
        assert len({row["arm"] for row in data(figure) if "arm" in row}) == 5
        assert figure is not None
        assert figure.description.isprintable()


def test_a_dataset_has_one_colour_in_all_charts_of_a_page():
    arms = ["first", "noisy", "copy"]
    points = pl.DataFrame({"arm": ["noisy", "copy"], "seed": [0, 0], "value": [0.5, 0.7]})
    lengths = pl.DataFrame({"arm": arms, "seed": [0] * 3, "length": [9.0] * 3, "score": [0.5] * 3})

    def colours(figure: Figure | None) -> dict[str, str]:
        assert figure is not None
        layers = figure.chart.to_dict()
        found = next(each for each in layers.get("layer", [layers]) if "color" in each["encoding"])
        scale = found["encoding"]["color"]["scale"]
        return dict(zip(scale["domain"], scale["range"], strict=True))

    whole = colours(score_by_length(lengths, arms=arms))
    part = colours(seeds(points, x="x", arms=arms))
    assert list(whole) == arms
    assert part == {name: whole[name] for name in ("noisy", "copy")}


def test_nothing_finite_gives_no_figure():
    frame = pl.DataFrame({"arm": ["a"], "metric": ["m"], "seed": [0], "step": [1], "nothing": [float("nan")]})
    nothing = pl.col("nothing")
    assert intervals(frame.with_columns(estimate=nothing, low=nothing, high=nothing)) is None
    assert frontier(frame.with_columns(kl=nothing, win_rate=nothing)) is None
    assert seeds(frame.with_columns(value=nothing), x="x") is None
    assert score_by_length(frame.with_columns(length=nothing, score=nothing)) is None
    assert seeds(frame.with_columns(value=nothing).clear(), x="x") is None
