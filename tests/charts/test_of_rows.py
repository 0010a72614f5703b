"""Figures of rows: their numbers are those of the rows, and odd rows give fewer figures, never an error."""

import json
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from prefkit.charts import GROUPS, Figure, of_rows, svg
from prefkit.columns import MESSAGES, VOTES
from prefkit.statistics.figures import wilson
from prefkit.tables import to_messages


def pairs(chosen: list[int], rejected: list[int], **columns: Any) -> pa.Table:
    """Pairs whose sides have so many characters."""
    count = len(chosen)
    fixed = {
        "id": [f"pair-{at}" for at in range(count)],
        "prompt_id": columns.pop("prompt_id", [f"prompt-{at}" for at in range(count)]),
        "prompt": to_messages(pa.array(["why?"] * count, pa.string()), "user"),
        "chosen": to_messages(pa.array(["x" * n for n in chosen], pa.string()), "assistant"),
        "rejected": to_messages(pa.array(["y" * n for n in rejected], pa.string()), "assistant"),
    }
    return pa.table({**fixed, **columns})


def votes(*rows: list[tuple[str, str, str | None]]) -> pa.Array:
    """Votes as (judge, winner, order)."""
    rest = {"p": None, "strength": None, "rationale": None}
    return pa.array(
        [[{"judge": j, "winner": w, "order": o, **rest} for j, w, o in row] for row in rows], VOTES
    )


def data(figure: Figure) -> list[dict[str, Any]]:
    """All values that the chart carries."""
    return [row for rows in figure.chart.to_dict()["datasets"].values() for row in rows]


def plain(figure: Figure) -> str:
    return figure.description.replace("\u00a0", " ")


# length


def test_length_bias_counts_the_longer_side_and_leaves_equal_pairs_out():
    rng = np.random.default_rng(0)
    chosen, rejected = rng.integers(1, 60, 400), rng.integers(1, 60, 400)
    figure = of_rows(pairs(chosen.tolist(), rejected.tolist()))["length-bias"]
    apart = chosen != rejected
    size, wins = np.abs(chosen - rejected)[apart], (chosen > rejected)[apart]
    points = [row for row in data(figure) if "value" in row]
    assert sum(row["rows"] for row in points) == apart.sum()
    for row in points:
        inside = (size >= row["left"]) & (size <= row["right"])
        assert row["rows"] == inside.sum()
        assert row["value"] == pytest.approx(wins[inside].mean())
        assert row["middle"] == np.median(size[inside])
        assert (row["low"], row["high"]) == pytest.approx(wilson(wins[inside].mean(), inside.sum()), abs=1e-4)
    assert f"in {100 * wins.mean():.0f} % of {apart.sum()} pairs" in plain(figure)


def test_the_interval_of_a_bin_is_over_prompts():
    one = of_rows(pairs([9, 9, 1, 9] * 20, [1, 1, 9, 1] * 20))["length-bias"]
    same = [f"prompt-{at // 20}" for at in range(80)]
    chosen = [9] * 60 + [1] * 20
    grouped = of_rows(pairs(chosen, [10 - n for n in chosen], prompt_id=same))["length-bias"]
    (alone,), (together,) = ([row for row in data(each) if "value" in row] for each in (one, grouped))
    assert alone["value"] == together["value"] == 0.75
    assert together["high"] - together["low"] > 2 * (alone["high"] - alone["low"])


def test_the_gap_is_split_by_sign_and_no_bar_mixes_the_two():
    chosen, rejected = [5, 9, 30, 7, 12], [9, 5, 10, 7, 100]
    figure = of_rows(pairs(chosen, rejected))["length-gap"]
    bars = [row for row in data(figure) if "series" in row]
    by_name = {
        name: [row for row in bars if row["series"] == name]
        for name in ("chosen longer", "rejected longer", "equal")
    }
    for row in by_name["chosen longer"]:
        assert row["rows"] == 0 or row["left"] >= 0
    for row in by_name["rejected longer"]:
        assert row["rows"] == 0 or row["right"] <= 0
    assert plain(figure) == "chosen is longer in 40 % of 5 pairs (rejected longer in 40 %, equal in 20 %)"


def test_mean_margins_by_length_gap_are_those_of_the_rows():
    rng = np.random.default_rng(1)
    chosen, rejected = rng.integers(1, 200, 500), rng.integers(1, 200, 500)
    margin = rng.normal(size=500) + 0.01 * (chosen - rejected)
    table = pairs(chosen.tolist(), rejected.tolist(), margin=margin)
    for row in (row for row in data(of_rows(table)["margin-by-length"]) if "value" in row):
        gap = chosen - rejected
        inside = (gap >= row["left"]) & (gap <= row["right"])
        assert row["rows"] == inside.sum()
        assert row["value"] == pytest.approx(margin[inside].mean(), rel=1e-5, abs=1e-5)
        assert row["low"] < row["value"] < row["high"]


# labels and scores


def test_a_histogram_holds_every_row_once_also_beyond_its_ends():
    rng = np.random.default_rng(2)
    margin = np.append(rng.normal(size=5000), [1e6, -1e6])
    figure = of_rows(pairs([3] * 5002, [2] * 5002, margin=margin))["margin"]
    bars = data(figure)
    assert sum(row["rows"] for row in bars) == 5002
    for row in bars[1:-1]:
        assert row["rows"] == ((margin >= row["left"]) & (margin < row["right"])).sum()
    assert len(bars) < 40


def test_scores_of_both_sides_are_counted_apart():
    table = pairs([3] * 4, [2] * 4, chosen_score=[1.0, 2.0, 3.0, None], rejected_score=[0.0, 2.0, 4.0, 9.0])
    found = of_rows(table)
    bars = data(found["scores:score"])
    assert sum(row["rows"] for row in bars if row["series"] == "chosen") >= 3
    assert plain(found["scores:score"]) == "mean score 2 chosen, 2 rejected"
    assert (
        plain(found["score-gap:score"]) == "chosen has the higher score in 33 % of 3 pairs, the same in 33 %"
    )


def test_a_score_of_the_prompt_alone_is_a_difficulty_and_no_gap():
    table = pairs([3] * 3, [2] * 3, chosen_pass_rate=[0.2, 0.5, 0.8], rejected_pass_rate=[0.2, 0.5, 0.8])
    found = of_rows(table)
    assert [name for name in found if "pass_rate" in name] == ["difficulty:chosen_pass_rate"]
    assert plain(found["difficulty:chosen_pass_rate"]) == "pass rate is 0.5 in the middle, 0.2 to 0.8 in all"


def test_beliefs_in_flips_add_up():
    figure = of_rows(pairs([3] * 4, [2] * 4, flip_prob=[0.9, 0.6, 0.1, 0.4]))["flip-prob"]
    assert (
        plain(figure) == "2 pairs of 4 are more likely mislabelled than not; about 2 mislabelled are expected"
    )


def test_reliability_compares_beliefs_with_a_gold_score():
    belief = [0.55] * 10 + [0.95] * 10
    gold = [1.0] * 6 + [-1.0] * 4 + [1.0] * 9 + [-1.0]
    table = pairs([3] * 20, [2] * 20, p_chosen=belief, chosen_gold=gold, rejected_gold=[0.0] * 20)
    points = [row for row in data(of_rows(table)["reliability"]) if "rows" in row]
    assert [(row["middle"], row["value"], row["rows"]) for row in points] == [
        (0.55, 0.6, 10),
        (0.95, 0.9, 10),
    ]


def test_phases_show_the_quantiles_of_the_margin():
    margin, phase = [1.0, 2.0, 3.0, 10.0, 20.0, 30.0], pa.array([0, 0, 0, 1, 1, 1], pa.int32())
    figure = of_rows(pairs([3] * 6, [2] * 6, margin=margin, phase=phase))["phase:margin"]
    assert [(row["series"], row["p50"]) for row in data(figure)] == [("phase 0", 2.0), ("phase 1", 20.0)]


# judges


def test_the_agreement_matrix_is_over_the_pairs_that_two_share():
    rows = votes(
        [("a", "chosen", None), ("b", "chosen", None)],
        [("a", "chosen", None), ("b", "rejected", None), ("c", "rejected", None)],
        [("a", "tie", None), ("b", "tie", None)],
        [("c", "chosen", None)],
    )
    figure = of_rows(pairs([3] * 4, [2] * 4, votes=rows))["agreement-matrix"]
    cells = {(row["one"], row["other"]): (row["value"], row["rows"]) for row in data(figure)}
    assert cells["a", "b"] == (pytest.approx(2 / 3), 3)
    assert cells["b", "c"] == (1.0, 1)
    assert cells["a", "c"] == (0.0, 1)
    assert cells["b", "a"] == cells["a", "b"]
    assert len(cells) == 6


def test_whoever_was_asked_twice_counts_once_in_the_matrix():
    rows = votes([("a", "chosen", None), ("a", "rejected", None), ("b", "tie", None)])
    figure = of_rows(pairs([3], [2], votes=rows))["agreement-matrix"]
    assert {row["value"] for row in data(figure)} == {1.0}


def test_answers_in_both_orders_are_told_apart():
    both = ("chosen-first", "rejected-first")
    answers = [("chosen", "chosen"), ("chosen", "rejected"), ("rejected", "chosen"), ("tie", "chosen")]
    rows = votes(
        *([("j", winner, order) for winner, order in zip(pair, both, strict=True)] for pair in answers)
    )
    figure = of_rows(pairs([3] * 4, [2] * 4, votes=rows))["order"]
    found = {row["part"]: row["rows"] for row in data(figure)}
    assert found == {"same answer": 1, "first shown wins": 1, "second shown wins": 1, "tie in one order": 1}
    assert "the same answer in 25 %, the first shown wins in 25 %" in plain(figure)


def test_votes_asked_in_one_order_say_nothing_of_order():
    rows = votes([("j", "chosen", "chosen-first")], [("j", "chosen", None)])
    assert "order" not in of_rows(pairs([3] * 2, [2] * 2, votes=rows))


def test_agreement_is_the_share_of_agreeing_pairs_of_votes():
    rows = votes(
        [("a", "chosen", None), ("b", "chosen", None), ("c", "rejected", None)],
        [("a", "chosen", None), ("b", "chosen", None)],
        [("a", "chosen", None)],
    )
    figure = of_rows(pairs([3] * 3, [2] * 3, votes=rows))["agreement"]
    assert (
        plain(figure)
        == "two votes on one pair agree in 67 %; all agree in 50 % of 2 pairs with two votes or more"
    )


# rows, responses, prompts


def test_composition_counts_rows_by_source_and_split():
    table = pairs(
        [3] * 5, [2] * 5, source=["a", "a", "b", "b", "b"], split=["train", "test", "train", "train", None]
    )
    figure = of_rows(table)["source"]
    found = {(row["name"], row["part"]): row["rows"] for row in data(figure)}
    assert found == {("b", "train"): 2, ("b", "(none)"): 1, ("a", "train"): 1, ("a", "test"): 1}
    assert plain(figure) == "2 sources; b has 60 % of 5 pairs"


def test_winners_are_counted_against_other_models_only():
    table = pairs([3] * 4, [2] * 4, chosen_model=["m", "m", "n", "m"], rejected_model=["n", "n", "m", "m"])
    points = {row["name"]: row for row in data(of_rows(table)["winners"]) if "name" in row}
    assert {name: (row["value"], row["rows"]) for name, row in points.items()} == {
        "m": (pytest.approx(2 / 3), 3),
        "n": (pytest.approx(1 / 3), 3),
    }


def responses(**columns: Any) -> pa.Table:
    texts = pa.array(["x" * n for n in (1, 2, 3, 4)], pa.string())
    fixed = {"id": list("abcd"), "prompt_id": list("ppqq"), "response": to_messages(texts, "assistant")}
    return pa.table({**fixed, **columns})


def test_responses_have_scores_lengths_and_models():
    found = of_rows(responses(score=[1.0, 2.0, 3.0, 4.0], model=list("mmnn"), finish=["stop"] * 4))
    assert {"scores:score", "scores-by-model:score", "response-length", "finish", "model"} <= set(found)
    assert [(row["series"], row["p50"]) for row in data(found["scores-by-model:score"])] == [
        ("n", 3.5),
        ("m", 1.5),
    ]


def test_prompts_are_counted_once_each():
    texts = to_messages(pa.array(["ab", "ab", "abcd"], pa.string()), "user")
    figure = of_rows(pa.table({"id": list("abc"), "prompt_id": list("ppq"), "prompt": texts}))[
        "prompt-length"
    ]
    assert sum(row["rows"] for row in data(figure)) == 2


# odd rows


def all_null(count: int) -> pa.Table:
    columns = {
        **{name: pa.nulls(count, MESSAGES) for name in ("prompt", "chosen", "rejected")},
        **{
            name: pa.nulls(count, pa.float64())
            for name in ("margin", "p_chosen", "flip_prob", "chosen_score", "rejected_score")
        },
        **{
            name: pa.nulls(count, pa.string())
            for name in ("source", "split", "chosen_model", "rejected_model")
        },
        "votes": pa.nulls(count, VOTES),
        "phase": pa.nulls(count, pa.int32()),
    }
    return pa.table(
        {"id": [str(at) for at in range(count)], "prompt_id": [str(at) for at in range(count)], **columns}
    )


def unreal(count: int) -> pa.Table:
    odd = ([float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 5e-324] * count)[:count]
    scores = dict.fromkeys(("margin", "p_chosen", "flip_prob", "weight", "chosen_score"), odd)
    return pairs(
        [3] * count, [2] * count, **scores, rejected_score=odd[::-1], phase=pa.array(range(count), pa.int32())
    )


ODD: dict[str, Callable[[], pa.Table]] = {
    "no rows": lambda: pairs([], []),
    "one row": lambda: pairs(
        [3], [2], margin=[1.0], chosen_score=[1.0], rejected_score=[0.0], votes=votes([("j", "tie", None)])
    ),
    "nothing but nulls": lambda: all_null(3),
    "no finite number": lambda: unreal(12),
    "constants": lambda: pairs(
        [3] * 9,
        [3] * 9,
        margin=[0.0] * 9,
        p_chosen=[0.5] * 9,
        chosen_score=[7.0] * 9,
        rejected_score=[7.0] * 9,
        weight=[1.0] * 9,
    ),
    "empty lists of votes": lambda: pairs([3] * 2, [2] * 2, votes=votes([], [])),
    "no prompt ids": lambda: pairs([3, 9], [2, 10]).drop_columns(["prompt_id"]),
    "large strings": lambda: pairs([3, 9], [2, 10], source=pa.array(["a", "b"], pa.large_string())),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_rows_are_drawn_or_left_out(name: str):
    found = of_rows(ODD[name]())
    for figure in found.values():
        ET.fromstring(svg(figure.chart, figure.title, figure.description))
        json.dumps(figure.chart.to_dict(), allow_nan=False)
        assert "nan" not in figure.description
        assert figure.group in GROUPS
    assert (len(found) == 0) == (name in {"no rows", "nothing but nulls"})


def test_rows_with_hostile_names_are_drawn_as_text():
    bad = [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "a\x00b\u202e",
        "",
        "\\\" + alert(1) + '",
        "y" * 500,
        "y" * 501,
    ]
    said = votes(*([(name, "chosen", None), ("judge", "chosen", None)] for name in bad))
    columns = {"source": bad, "domain": bad[::-1], "chosen_model": bad, "rejected_model": bad[::-1]}
    scores = {'chosen_<b>\x07\\"': [float(at) for at in range(7)], 'rejected_<b>\x07\\"': [0.0] * 7}
    found = of_rows(pairs([3] * 7, [2] * 7, votes=said, **columns, **scores))
    assert {"source", "domain", "winners", "agreement-matrix", "said", 'scores:<b>\x07\\"'} <= set(found)
    for figure in found.values():
        root = ET.fromstring(svg(figure.chart, figure.title, figure.description))
        assert not [
            each
            for each in root.iter()
            if each.tag.rpartition("}")[2] in {"script", "img", "b", "a", "image"}
        ]
    assert len({row["name"] for row in data(found["source"])}) == 7


def test_figures_come_group_after_group():
    table = pairs(
        [3, 9],
        [2, 10],
        margin=[1.0, 2.0],
        chosen_score=[1.0, 2.0],
        rejected_score=[0.0, 0.5],
        source=["a", "b"],
    )
    groups = [figure.group for figure in of_rows(table).values()]
    assert groups == sorted(groups, key=list(GROUPS).index)


def test_a_chart_of_many_rows_is_as_small_as_one_of_few():
    rng = np.random.default_rng(3)
    count = 200_000
    lengths = rng.integers(1, 4000, count)
    texts = pa.array(["x" * n for n in range(40)])
    sides = {
        side: to_messages(texts.take(pa.array(rng.integers(0, 40, count))), "assistant")
        for side in ("chosen", "rejected")
    }
    ids = [str(at) for at in range(count)]
    table = pa.table(
        {"id": ids, "prompt_id": ids, **sides, "margin": lengths / 7, "p_chosen": rng.random(count)}
    )
    begun = time.process_time()
    found = of_rows(table)
    assert time.process_time() - begun < 10
    assert max(len(json.dumps(figure.chart.to_dict())) for figure in found.values()) < 20_000
