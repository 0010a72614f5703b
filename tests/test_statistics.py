"""What a manifest says of rows, against figures worked by hand."""

import json
import time
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from prefkit.columns import MESSAGES, VOTES
from prefkit.statistics import Summary, summarise
from prefkit.statistics.figures import (
    Share,
    describe,
    fleiss,
    length_auc,
    mean_interval,
    rank_correlation,
    share,
    share_interval,
    wilson,
)
from prefkit.statistics.records import PairSummary
from prefkit.tables import to_messages


def _pairs(chosen: list[str], rejected: list[str], **columns: Any) -> pa.Table:
    count = len(chosen)
    fixed = {
        "id": [f"pair-{at}" for at in range(count)],
        "prompt_id": columns.pop("prompt_id", [f"prompt-{at}" for at in range(count)]),
        "prompt": to_messages(pa.array(["why?"] * count, pa.string()), "user"),
        "chosen": to_messages(pa.array(chosen, pa.string()), "assistant"),
        "rejected": to_messages(pa.array(rejected, pa.string()), "assistant"),
    }
    return pa.table({**fixed, **columns})


def _summary(table: pa.Table) -> Summary:
    return Summary.model_validate(json.loads(json.dumps(summarise(table), allow_nan=False)))


def _of_pairs(table: pa.Table) -> PairSummary:
    found = _summary(table).pairs
    assert found is not None
    return found


def _votes(*rows: str) -> pa.Array:
    words = {"c": "chosen", "r": "rejected", "t": "tie", "x": "no idea"}
    empty = {"order": None, "p": None, "strength": None, "rationale": None}
    return pa.array(
        [[{"judge": f"judge-{at}", "winner": words[w], **empty} for at, w in enumerate(row)] for row in rows],
        VOTES,
    )


# figures


def test_wilson_gives_the_textbook_interval() -> None:
    low, high = wilson(0.2, 50)
    assert (round(low, 4), round(high, 4)) == (0.1124, 0.3304)


def test_a_rate_of_nothing_has_no_interval_and_bounds_stay_in_range() -> None:
    assert share_interval(Share()) is None
    assert wilson(0.0, 3) == (0.0, pytest.approx(0.5615, abs=1e-4))
    assert wilson(1.0, 3) == (pytest.approx(0.4385, abs=1e-4), 1.0)


def test_rows_that_repeat_each_other_count_as_one() -> None:
    once = np.array([True, False, False, True, False, False, False, False])
    alone, thrice = share(once, np.arange(8)), share(np.repeat(once, 3), np.repeat(np.arange(8), 3))
    assert alone.effective == 8
    assert thrice.n == 24
    assert thrice.effective == pytest.approx(8, rel=0.2)
    values = np.arange(8.0)
    single, triple = describe(values), describe(np.repeat(values, 3), np.repeat(np.arange(8), 3))
    assert single.error == pytest.approx(values.std(ddof=1) / np.sqrt(8), rel=1e-5)
    assert triple.error == pytest.approx(single.error, rel=1e-5)


def test_a_share_of_all_is_as_certain_as_there_are_prompts() -> None:
    assert share(np.ones(6, bool), np.array([0, 0, 0, 1, 1, 1])) == Share(count=6, n=6, effective=2)


def test_intervals_of_pairs_of_one_prompt_cover_in_about_95_of_100_samples() -> None:
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(120), 5)
    covered = {"share": 0, "mean": 0, "rows alone": 0}
    for _ in range(300):
        flags = rng.uniform(size=600) < np.repeat(rng.beta(0.6, 1.4, 120), 5)
        values = rng.normal(size=600) + np.repeat(rng.normal(size=120), 5)
        for name, found, truth in (
            ("share", share_interval(share(flags, groups)), 0.3),
            ("mean", mean_interval(describe(values, groups)), 0.0),
            ("rows alone", mean_interval(describe(values)), 0.0),
        ):
            covered[name] += found is not None and found.low <= truth <= found.high
    assert 0.91 <= covered["share"] / 300 <= 0.98
    assert 0.91 <= covered["mean"] / 300 <= 0.98
    assert covered["rows alone"] / 300 < 0.85


def test_describe_counts_what_is_missing_and_describes_the_rest() -> None:
    spread = describe(np.array([3.0, 1.0, np.nan, 2.0, np.inf, 4.0]))
    assert (spread.n, spread.missing) == (4, 2)
    assert (spread.min, spread.p50, spread.max, spread.mean) == (1, 2.5, 4, 2.5)
    assert spread.std == pytest.approx(1.29099)
    assert sum(spread.bars) == 4


def test_describe_leaves_the_undefined_null() -> None:
    assert describe(np.array([np.nan])).mean is None
    assert describe(np.array([5.0])).std is None
    assert describe(np.array([5.0, 5.0])).bars == (2,)
    assert mean_interval(describe(np.array([5.0]))) is None


def test_describe_survives_the_largest_floats() -> None:
    spread = describe(np.array([-1.7e308, 0.0, 1.7e308, 1.7e308]))
    assert sum(spread.bars) == 4
    json.dumps(spread.model_dump(), allow_nan=False)


def test_quantiles_agree_with_numpy() -> None:
    values = np.random.default_rng(0).normal(size=1001)
    spread = describe(values)
    wanted = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
    assert [spread.p5, spread.p25, spread.p50, spread.p75, spread.p95] == pytest.approx(wanted, rel=1e-5)


def test_fleiss_kappa_of_the_worked_example_is_one_third() -> None:
    found = fleiss(np.array([[2, 0, 0], [1, 1, 0], [0, 2, 0]]), np.arange(3))
    assert found is not None
    assert (found.observed.value, found.chance, found.kappa) == pytest.approx((2 / 3, 0.5, 1 / 3), rel=1e-5)
    assert found.observed.n == 3


def test_kappa_of_single_raters_is_undefined() -> None:
    assert fleiss(np.array([[1, 0, 0], [0, 1, 0]]), np.arange(2)) is None


def test_length_auc_is_the_chance_that_a_pair_beats_a_turned_one() -> None:
    gaps = np.array([5.0, -2.0, 1.0, 0.0])
    by_hand = np.mean(
        [[1.0 if one > -other else 0.5 if one == -other else 0.0 for other in gaps] for one in gaps]
    )
    assert length_auc(gaps, np.arange(4)).value == pytest.approx(by_hand)
    assert length_auc(np.array([0.0, 0.0]), np.arange(2)).value == 0.5
    assert length_auc(np.array([3.0, 1.0]), np.arange(2)).value == 1.0
    assert length_auc(np.zeros(0), np.arange(0)).value is None


def test_the_interval_of_the_length_auc_covers_in_about_95_of_100_samples() -> None:
    rng = np.random.default_rng(1)
    truth = float(length_auc(rng.normal(0.3, 1.0, 200_000), np.arange(200_000)).value or 0)
    found = [length_auc(rng.normal(0.3, 1.0, 200), np.arange(200)) for _ in range(300)]
    covered = sum((each.low or 0) <= truth <= (each.high or 0) for each in found)
    assert 0.91 <= covered / 300 <= 0.98


def test_rank_correlation_sees_order_only_and_agrees_with_polars() -> None:
    rng = np.random.default_rng(2)
    rows = np.arange(300)
    one = rng.integers(0, 9, 300).astype(float)
    other = one + rng.normal(0, 3, 300)
    frame = pl.DataFrame({"one": one, "other": other})
    wanted = frame.select(pl.corr("one", "other", method="spearman")).item()
    assert rank_correlation(one, other, rows).value == pytest.approx(wanted, abs=1e-5)
    assert rank_correlation(one, np.exp(one), rows).value == 1.0
    assert rank_correlation(one, np.ones(300), rows).value is None
    assert rank_correlation(one[:3], other[:3], rows[:3]).n == 3


# tables


def test_longer_chosen_rate_of_the_worked_example_is_one_half() -> None:
    lengths = [(10, 5), (7, 9), (12, 11), (6, 6)]
    pairs = _of_pairs(_pairs(["a" * one for one, _ in lengths], ["b" * other for _, other in lengths]))
    assert pairs.lengths.longer.rate == 0.5
    assert (pairs.lengths.equal.count, pairs.lengths.equal.n) == (1, 4)


def test_lengths_are_in_characters_and_add_up_over_turns() -> None:
    turns = [
        {"role": "assistant", "content": "né"},
        {"role": "user", "content": None},
        {"role": "assistant", "content": "abc"},
    ]
    table = _pairs(["x"], ["y"]).set_column(3, "chosen", pa.array([turns], MESSAGES))
    pairs = _of_pairs(table)
    assert pairs.lengths.chosen.max == 5


def test_identical_sides_are_counted_by_every_turn_and_role() -> None:
    table = _pairs(["same", "ab", "abc"], ["same", "ba", "ab"])
    user = to_messages(pa.array(["same", "ab", "ab"]), "user")
    assert _of_pairs(table).identical.count == 1
    assert _of_pairs(table.set_column(4, "rejected", user)).identical.count == 0


def test_a_prompt_in_two_splits_is_found_even_when_its_rows_are_apart() -> None:
    table = _pairs(
        ["a"] * 4, ["b"] * 4, prompt_id=["p", "q", "p", "r"], split=["train", "train", "test", None]
    )
    found = _summary(table)
    assert found.straddling == 1
    assert [(split.name, split.rows, split.prompts) for split in found.splits] == [
        ("test", 1, 1),
        ("train", 2, 2),
        (None, 1, 1),
    ]
    assert found.prompts == 3


def test_scores_are_described_on_both_sides_with_their_gap() -> None:
    table = _pairs(
        ["a"] * 4,
        ["b"] * 4,
        chosen_score=[2.0, 1.0, 0.5, None],
        rejected_score=[1.0, 1.0, 0.75, 0.0],
        chosen_score_std=[1.0] * 4,
        rejected_score_std=[1.0] * 4,
    )
    pairs = _of_pairs(table)
    assert list(pairs.scores) == ["score"]
    score = pairs.scores["score"]
    assert (score.chosen.n, score.chosen.missing, score.gap.n) == (3, 1, 3)
    assert (score.higher.count, score.equal.count, score.higher.n) == (1, 1, 3)


def test_aspects_of_a_struct_score_have_names() -> None:
    aspects = pa.array([{"clear": 1.0, "note": "x"}, {"clear": 3.0, "note": "y"}])
    pairs = _of_pairs(_pairs(["a", "b"], ["c", "d"], chosen_rated=aspects, rejected_rated=aspects))
    assert pairs.scores["rated.clear"].chosen.mean == 2


def test_labels_are_counted_by_what_training_would_use() -> None:
    table = _pairs(
        ["a"] * 4,
        ["b"] * 4,
        p_chosen=[1.0, 0.75, 0.25, 0.5],
        tie=[False, False, False, True],
        flipped=[True, False, False, None],
        flip_prob=[0.0, 0.1, None, 0.0],
        weight=[1.0, 1.0, 2.0, 0.0],
    )
    labels = _of_pairs(table).labels
    assert labels.tie == Share(count=1, n=4, effective=4)
    assert labels.graded == Share(count=3, n=4, effective=4)
    assert labels.reversed == Share(count=1, n=3, effective=3)
    assert labels.flipped == Share(count=1, n=3, effective=3)
    assert labels.doubted == Share(count=1, n=3, effective=3)
    assert labels.weighted == Share(count=2, n=4, effective=4)


def test_votes_agree_as_fleiss_says_whichever_side_is_stored_as_chosen() -> None:
    stored = _votes("cc", "cr", "cc")  # the worked example with each row oriented to its winner
    votes = _of_pairs(_pairs(["a"] * 3, ["b"] * 3, votes=stored)).votes
    assert votes is not None
    assert votes.agreement is not None
    assert (votes.agreement.value, votes.chance, votes.kappa) == pytest.approx((2 / 3, 0.5, 1 / 3), rel=1e-5)
    assert (votes.chosen, votes.rejected, votes.tie, votes.agreement.n) == (5, 1, 0, 3)
    assert [(judge.name, judge.rows) for judge in votes.judges.top] == [("judge-0", 3), ("judge-1", 3)]


def test_votes_that_say_nothing_are_counted_apart() -> None:
    table = _pairs(["a"] * 3, ["b"] * 3, votes=pa.concat_arrays([_votes("cx", ""), pa.nulls(1, VOTES)]))
    votes = _of_pairs(table).votes
    assert votes is not None
    assert (votes.pairs, votes.unread, votes.agreement, votes.kappa) == (1, 1, None, None)


def test_phases_and_ranks_are_described() -> None:
    table = _pairs(
        ["a"] * 4,
        ["b"] * 4,
        phase=pa.array([0, 0, 1, None], pa.int32()),
        rank=[3, 1, 0, 2],
        margin=[1.0, 3.0, 0.0, 0.0],
    )
    order = _of_pairs(table).order
    assert order is not None
    assert [(phase.phase, phase.rows) for phase in order.phases] == [(0, 2), (1, 1)]
    assert order.phases[0].worth is not None
    assert order.phases[0].worth.mean == 2
    assert order.whole
    again = _of_pairs(table.set_column(6, "rank", pa.array([0, 0, 1, 2]))).order
    assert again is not None
    assert again.whole is False


def test_models_are_counted_in_pairs_of_sides() -> None:
    table = _pairs(["a"] * 3, ["b"] * 3, chosen_model=["x", "x", None], rejected_model=["y", "y", "x"])
    models = _of_pairs(table).models
    assert [(couple.chosen, couple.rejected, couple.rows) for couple in models] == [
        ("x", "y", 2),
        (None, "x", 1),
    ]


def test_only_the_most_frequent_names_are_listed_and_the_rest_counted() -> None:
    names = [f"source-{at:02d}" for at in range(25)] + ["source-00"]
    sources = _summary(_pairs(["a"] * 26, ["b"] * 26, source=names)).sources
    assert sources is not None
    assert (sources.top[0].name, sources.top[0].rows, len(sources.top)) == ("source-00", 2, 20)
    assert (sources.others, sources.distinct) == (5, 25)


def test_responses_and_prompts_have_statistics_of_their_own() -> None:
    prompts = pa.table(
        {"id": ["p", "q"], "prompt_id": ["p", "q"], "prompt": to_messages(pa.array(["hi", "hello"]), "user")}
    )
    assert _summary(prompts).prompt_chars is not None
    responses = pa.table(
        {
            "id": ["a", "b", "c"],
            "prompt_id": ["p", "p", "q"],
            "response": to_messages(pa.array(["1", "22", None]), "assistant"),
            "score": [1.0, None, 3.0],
            "score_std": [0.1, 0.1, 0.1],
            "finish": ["stop", "stop", "length"],
        }
    )
    found = _summary(responses)
    assert found.responses is not None
    assert list(found.responses.scores) == ["score"]
    assert (found.responses.chars.n, found.responses.chars.missing) == (2, 1)
    assert found.per_prompt is not None
    assert (found.per_prompt.max, found.prompts) == (2, 2)


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_statistics_do_not_depend_on_chunks(chunk: int) -> None:
    table = _pairs(
        ["a", "bb", "ccc", "dd"],
        ["b", "bb", "c", "é"],
        votes=_votes("cr", "", "ct", "c"),
        chosen_score=[1.0, 2.0, 3.0, 4.0],
        rejected_score=[0.0, 0.0, 5.0, 1.0],
        split=["train", "test", "train", None],
    )
    pieces = [table.slice(at, chunk) for at in range(0, 4, chunk)]
    assert summarise(pa.concat_tables(pieces)) == summarise(table)


def test_an_empty_table_has_statistics_without_figures() -> None:
    table = _pairs(
        ["a"],
        ["b"],
        votes=_votes("c"),
        split=["train"],
        chosen_score=[1.0],
        rejected_score=[0.0],
        rank=[0],
        phase=[0],
        tie=[True],
        p_chosen=[1.0],
    )
    found = _summary(table.slice(0, 0))
    assert found.rows == 0
    assert found.pairs is not None
    assert found.pairs.lengths.longer.rate is None
    assert found.pairs.lengths.auc.value is None


def test_statistics_of_a_hundred_thousand_pairs_take_a_fraction_of_a_second() -> None:
    count = 100_000
    rng = np.random.default_rng(3)
    text = "the quick brown fox jumps over the lazy dog — " * 20
    chosen, rejected = ([text[: int(n)] for n in rng.integers(1, 900, count)] for _ in range(2))
    numbers = {name: rng.normal(size=count) for name in ("chosen_score", "rejected_score", "margin")}
    table = _pairs(
        chosen,
        rejected,
        p_chosen=rng.uniform(size=count),
        split=rng.choice(["train", "test"], count),
        **numbers,
    )
    # About 0.12 s alone; the best of three, since the machine may be shared.
    assert min(_seconds(table) for _ in range(3)) < 0.3


def _seconds(table: pa.Table) -> float:
    started = time.process_time()
    summarise(table)
    return time.process_time() - started
