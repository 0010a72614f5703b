"""From what was measured to the report: every figure against plain numpy, and what decides, on tables made up for it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
from scipy.special import stdtrit

from prefkit.comparing.several import holm
from prefkit.experiment.analyse import Rules, analyse, primary_gap
from prefkit.experiment.arm import Facts, Run
from prefkit.experiment.report import ArmReport, RunReport, Versus
from prefkit.experiment.table import COLUMNS

SEEDS, PROMPTS, SAMPLES = 4, 30, 2
SETS = {"a": 12, "b": 30}
RULES = Rules(primary="win_rate", smallest=0.05, margin=None, band=0.0, beta=0.5, draws=200)
ARMS = {"a": "", "b": "", "a (copy)": "copy", "a (30% flipped)": "flip"}
TWO = {"a": "", "b": ""}
"""Without the controls, where nothing rests on them."""
Answers = Mapping[str, np.ndarray]
"""By arm: float64 [seeds, prompts, samples]."""


class World(NamedTuple):
    """What was measured, as arrays. Arm "" is the untrained model."""

    score: Answers
    chars: Answers
    kl: Answers
    second: Answers
    preferred: Answers
    logps: Mapping[tuple[str, str], np.ndarray]
    """By arm and set: float64 [seeds, pairs, sides]; by ("", set) of the reference, [pairs, sides]."""
    gaps: Mapping[str, np.ndarray]
    """By set: length gap of each pair."""
    owners: Mapping[str, np.ndarray]
    """By set: which prompt each pair is of."""


def world(seed: int = 0, **effects: float) -> World:
    """Answers with a prompt's, a seed's and their own noise; `b=0.5` makes those of arm b better by that much."""
    draw = np.random.default_rng(seed)
    shape = (SEEDS, PROMPTS, SAMPLES)
    names = ["", *ARMS]
    wanted = {
        "a": 0.3,
        "b": 0.3,
        "a (copy)": 0.3,
        "a (30% flipped)": -0.9,
        **{key.replace("_", " "): value for key, value in effects.items()},
    }
    of_prompt = draw.normal(0, 1, (1, PROMPTS, 1))
    score = {name: of_prompt + wanted.get(name, 0.0) + draw.normal(0, 0.7, shape) for name in names}
    logps: dict[tuple[str, str], np.ndarray] = {}
    for of, size in SETS.items():
        logps["", of] = draw.normal(-20, 3, (size, 2))
        for name in ARMS:
            logps[name, of] = logps["", of] + draw.normal([0.5, -0.5], 3, (SEEDS, size, 2))
    return World(
        score=score,
        chars={name: draw.integers(40, 120, shape).astype(float) for name in names},
        kl={name: draw.gamma(2, 1, shape) for name in ARMS},
        second={name: score[name] + draw.normal(0, 0.3, shape) for name in names},
        preferred={},
        logps=logps,
        gaps={of: draw.integers(-9, 10, size).astype(float) for of, size in SETS.items()},
        owners={of: np.arange(size) // 2 for of, size in SETS.items()},
    )


def _rows(
    arm: str,
    metric: str,
    of: str,
    seeds: Sequence[int],
    names: Sequence[tuple[str, str]],
    values: np.ndarray,
    step: int,
) -> pl.DataFrame:
    """Rows of one metric; `values` is [seeds, names]."""
    count = len(names)
    told = {
        "arm": arm,
        "seed": np.repeat(np.asarray(seeds, dtype=np.int64), count),
        "step": step,
        "metric": metric,
        "of": of,
        "prompt_id": [name for name, _ in names] * len(seeds),
        "row": [row for _, row in names] * len(seeds),
        "value": np.asarray(values, dtype=np.float64).ravel(),
    }
    return pl.DataFrame(told, schema_overrides=COLUMNS).select(*COLUMNS)


def measured(given: World, step: int = 10) -> pl.DataFrame:
    """The table that a run would have left."""
    answers = [(f"p{n:02}", str(k)) for n in range(PROMPTS) for k in range(SAMPLES)]
    frames = []
    for metric in ("score", "chars", "kl", "second", "preferred"):
        for arm, values in vars_of(given)[metric].items():
            at = 0 if arm == "" else step
            of = "a" if metric == "preferred" else ""
            frames.append(_rows(arm, metric, of, range(SEEDS), answers, values.reshape(SEEDS, -1), at))
    for (arm, of), values in given.logps.items():
        pairs = [(f"{of}{owner}", f"{of}-{at}") for at, owner in enumerate(given.owners[of])]
        for side, name in enumerate(("chosen_logp", "rejected_logp")):
            seeds, at = ([0], 0) if arm == "" else (range(SEEDS), step)
            frames.append(_rows(arm, name, of, seeds, pairs, values[..., side].reshape(len(seeds), -1), at))
        if arm == "":
            frames.append(_rows("", "length_gap", of, [0], pairs, given.gaps[of][None], 0))
    return pl.concat(frames)


def vars_of(given: World) -> dict[str, Answers]:
    return {name: value for name, value in given._asdict().items() if name not in ("logps", "gaps", "owners")}


def facts(
    arms: Mapping[str, str] | None = None, runs: Mapping[str, Sequence[Run]] | None = None
) -> list[Facts]:
    arms = TWO if arms is None else arms
    return [
        Facts(
            name,
            "" if control else name,
            "0",
            control,
            control == "copy",
            100,
            50,
            (runs or {}).get(name, ()),
        )
        for name, control in arms.items()
    ]


class Told(NamedTuple):
    arms: dict[str, ArmReport]
    versus: dict[str, Versus]


def report(given: World | pl.DataFrame, rules: Rules = RULES, **options: object) -> Told:
    frame = measured(given) if isinstance(given, World) else given
    arms, versus = analyse(frame, facts(**options), range(SEEDS), rules)
    return Told({arm.name: arm for arm in arms}, {one.arm: one for one in versus})


GIVEN = world()


@pytest.fixture(scope="module")
def told() -> Told:
    return report(GIVEN, arms=ARMS)


def right(given: World, arm: str, of: str) -> np.ndarray:
    """Whether the implicit reward tells a pair, by hand: [seeds, pairs]."""
    ratio = given.logps[arm, of] - given.logps["", of]
    return (ratio[..., 0] > ratio[..., 1]).astype(float)


def share(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The share of sample pairs that ours wins, one by one."""
    wins = [
        (one > other) + (one == other) / 2
        for mine, its in zip(ours.reshape(-1, SAMPLES), theirs.reshape(-1, SAMPLES), strict=True)
        for one in mine
        for other in its
    ]
    return sum(wins) / len(wins)


# figures


@pytest.mark.parametrize("arm", ["b", "a (copy)", "a (30% flipped)"])
def test_win_rates_are_those_counted_by_hand(told, arm):
    wins = share(GIVEN.score[arm], GIVEN.score["a"])
    assert told.versus[arm].primary.estimate == pytest.approx(2 * wins - 1)
    assert told.arms[arm].metrics["win_rate"].estimate == pytest.approx(2 * wins - 1)
    second = share(GIVEN.second[arm], GIVEN.second["a"])
    assert told.versus[arm].figures["second_win_rate"].estimate == pytest.approx(2 * second - 1)
    base = [2 * share(GIVEN.score[name], GIVEN.score[""]) - 1 for name in (arm, "a")]
    assert told.arms[arm].metrics["win_rate_base"].estimate == pytest.approx(base[0])
    assert told.versus[arm].figures["win_rate_base"].estimate == pytest.approx(base[0] - base[1])


def test_seeds_are_told_apart(told):
    by_hand = [
        2 * share(ours, theirs) - 1 for ours, theirs in zip(GIVEN.score["b"], GIVEN.score["a"], strict=True)
    ]
    assert told.versus["b"].by_seed == pytest.approx(by_hand)
    assert np.mean(by_hand) == pytest.approx(told.versus["b"].primary.estimate)


@pytest.mark.parametrize("metric", ["score", "second", "chars", "kl"])
def test_means_of_answers_and_their_differences(told, metric):
    values = vars_of(GIVEN)[metric]
    assert told.arms["b"].metrics[metric].estimate == pytest.approx(values["b"].mean())
    figure = told.versus["b"].figures[metric]
    assert figure.estimate == pytest.approx((values["b"] - values["a"]).mean())
    gap = (values["b"] - values["a"]).mean(axis=2)
    assert figure.error_of_prompts == pytest.approx(gap.mean(axis=0).std(ddof=1) / PROMPTS**0.5)
    assert (figure.seeds, figure.prompts, figure.left_out) == (SEEDS, PROMPTS, 0)


@pytest.mark.parametrize("of", SETS)
def test_accuracy_on_each_set_counts_pairs_of_a_prompt_as_one_cluster(told, of):
    ours = right(GIVEN, "b", of)
    assert told.arms["b"].metrics[f"accuracy:{of}"].estimate == pytest.approx(ours.mean())
    figure, gap = told.versus["b"].figures[f"accuracy:{of}"], ours - right(GIVEN, "a", of)
    assert figure.estimate == pytest.approx(gap.mean())
    assert figure.prompts == SETS[of] // 2
    clusters = gap.mean(axis=0).reshape(-1, 2).mean(axis=1)  # all clusters have two pairs
    assert figure.error_of_prompts == pytest.approx(clusters.std(ddof=1) / len(clusters) ** 0.5)


def test_sets_weigh_the_same_whatever_their_size(told):
    each = [right(GIVEN, "b", of).mean() for of in SETS]
    theirs = [right(GIVEN, "a", of).mean() for of in SETS]
    assert told.arms["b"].metrics["accuracy"].estimate == pytest.approx(np.mean(each))
    assert told.versus["b"].figures["accuracy"].estimate == pytest.approx(np.mean(each) - np.mean(theirs))


def test_balanced_accuracy_is_the_mean_of_longer_and_shorter(told):
    found = []
    for of in SETS:
        hits = right(GIVEN, "b", of)
        found += [hits[:, GIVEN.gaps[of] > 0].mean(), hits[:, GIVEN.gaps[of] < 0].mean()]
    assert told.arms["b"].metrics["accuracy_balanced"].estimate == pytest.approx(np.mean(found))


def test_a_set_without_shorter_chosen_sides_is_left_out_of_the_balance():
    long = GIVEN._replace(gaps={**GIVEN.gaps, "a": np.ones(SETS["a"])})
    hits = right(GIVEN, "b", "b")
    by_hand = [hits[:, GIVEN.gaps["b"] > 0].mean(), hits[:, GIVEN.gaps["b"] < 0].mean()]
    figure = report(long).arms["b"].metrics["accuracy_balanced"]
    assert figure.estimate == pytest.approx(np.mean(by_hand))
    assert figure.left_out == SETS["a"]


def test_ranking_and_ranks_mended(told):
    ranked, mended = [], []
    for of, size in SETS.items():
        now = (GIVEN.logps["b", of][..., 0] >= GIVEN.logps["b", of][..., 1]).astype(float)
        wrong = GIVEN.logps["", of][:, 0] < GIVEN.logps["", of][:, 1]
        assert 0 < wrong.sum() < size
        ranked.append(now.mean())
        mended.append(now[:, wrong].mean())
    assert told.arms["b"].metrics["ranking"].estimate == pytest.approx(np.mean(ranked))
    assert told.arms["b"].metrics["ranks_mended"].estimate == pytest.approx(np.mean(mended))


def test_every_wrong_rank_mended_is_a_rate_of_one_however_many_each_set_had():
    logps = dict(GIVEN.logps)
    for of, wrong in (("a", 2), ("b", 27)):
        reference = np.tile([-10.0, -20.0], (SETS[of], 1))
        reference[:wrong] = [-20.0, -10.0]
        logps["", of] = reference
        for arm in ARMS:
            logps[arm, of] = np.tile([-5.0, -30.0], (SEEDS, SETS[of], 1))
    found = report(GIVEN._replace(logps=logps)).arms["b"].metrics["ranks_mended"]
    assert found.estimate == pytest.approx(1.0)
    assert found.left_out == sum(SETS.values()) - 29


def test_ratios_and_the_brier_score(told):
    chosen, rejected, brier = [], [], []
    for of in SETS:
        ratio = GIVEN.logps["b", of] - GIVEN.logps["", of]
        chosen.append(ratio[..., 0].mean())
        rejected.append(ratio[..., 1].mean())
        brier.append(((1 - 1 / (1 + np.exp(-0.5 * (ratio[..., 0] - ratio[..., 1])))) ** 2).mean())
    metrics = told.arms["b"].metrics
    for name, values in (("chosen_ratio", chosen), ("rejected_ratio", rejected), ("brier", brier)):
        assert metrics[name].estimate == pytest.approx(np.mean(values)), name


def test_rewards_that_are_no_log_ratios_imply_no_probability():
    assert "brier" not in report(GIVEN, RULES._replace(beta=None)).arms["b"].metrics


def test_scores_within_the_band_are_ties():
    found = report(GIVEN, RULES._replace(band=100.0))
    assert found.versus["b"].primary.estimate == 0


def test_the_bootstrap_stands_beside_the_formula(told):
    versus = told.versus["b"]
    assert versus.bootstrap.estimate == pytest.approx(versus.primary.estimate)
    width = [one.high - one.low for one in (versus.bootstrap, versus.primary)]
    assert width[0] == pytest.approx(width[1], rel=0.5)
    controlled, again = (versus.figures[f"length_controlled{end}"] for end in ("", "_bootstrap"))
    assert controlled.estimate == pytest.approx(again.estimate, abs=1e-9)


def test_only_named_secondary_metrics_share_the_error(told):
    figures = told.versus["b"].figures
    named = ["win_rate_base", "score", "second_win_rate", "accuracy", "accuracy_balanced", "ranking"]
    assert {name for name, figure in figures.items() if figure.adjusted is not None} == set(named)
    by_hand = holm(np.array([figures[name].p for name in named]))
    assert [figures[name].adjusted for name in named] == pytest.approx(list(by_hand))


def test_the_first_dataset_is_not_compared_with_itself(told):
    assert set(told.versus) == set(ARMS) - {"a"}
    assert "win_rate" not in told.arms["a"].metrics


# what must not matter, and what must


def test_a_shift_of_one_arm_moves_exactly_what_it_is_of(told):
    moved = GIVEN._replace(kl={**GIVEN.kl, "b": GIVEN.kl["b"] + 3})
    found = report(moved, arms=ARMS)
    for arm in ("a", "a (copy)", "a (30% flipped)"):
        assert found.arms[arm] == told.arms[arm]
    before, after = told.versus["b"].figures, found.versus["b"].figures
    same = set(before) - {"kl", "matched"}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert after["kl"].estimate == pytest.approx(before["kl"].estimate + 3)
    assert after["kl"].error == pytest.approx(before["kl"].error)


def test_the_unit_of_scores_moves_no_win_rate(told):
    found = report(GIVEN._replace(score={arm: 5 * values - 2 for arm, values in GIVEN.score.items()}))
    for arm in found.versus:
        before, after = told.versus[arm], found.versus[arm]
        assert after.primary == before.primary
        assert after.verdict == before.verdict
        assert after.figures["length_controlled"] == before.figures["length_controlled"]
        assert after.figures["score"].estimate == pytest.approx(5 * before.figures["score"].estimate)
        assert after.figures["score"].p == pytest.approx(before.figures["score"].p)


def test_the_order_of_rows_changes_nothing(told):
    assert report(measured(GIVEN).sample(fraction=1, shuffle=True, seed=1), arms=ARMS) == told


def test_only_the_seeds_asked_for_are_looked_at():
    frame = measured(GIVEN)
    first = frame.filter((pl.col("seed") < 2) | (pl.col("arm") == ""))
    assert analyse(frame, facts(), [0, 1], RULES) == analyse(first, facts(), [0, 1], RULES)


def test_only_the_end_of_a_run_decides(told):
    early = measured(world(seed=9), step=5).filter(pl.col("arm") != "")
    found = report(pl.concat([measured(GIVEN), early]))
    for arm, versus in found.versus.items():
        assert versus.primary == told.versus[arm].primary
    assert {point.step for point in found.arms["b"].points} == {0, 5, 10}


def test_a_score_that_is_missing_is_left_out_and_counted(told):
    holes = {arm: values.copy() for arm, values in GIVEN.score.items()}
    holes["b"][1, 3] = np.nan
    holes["a"][2, 7, 0] = np.nan
    found = report(GIVEN._replace(score=holes)).versus["b"]
    assert found.primary.left_out == 1, "one of two samples is enough"
    assert found.primary.prompts == PROMPTS - 1
    theirs, ours = (np.delete(holes[arm], 3, axis=1) for arm in ("a", "b"))
    wins = [
        np.nanmean(np.where(np.isnan(one - its[:, None]), np.nan, one > its[:, None]))
        for one, its in zip(ours.reshape(-1, SAMPLES), theirs.reshape(-1, SAMPLES), strict=True)
    ]
    assert found.primary.estimate == pytest.approx(2 * np.mean(wins) - 1)
    assert found.figures["chars"] == told.versus["b"].figures["chars"]


def test_an_arm_without_what_decides_is_not_compared():
    frame = measured(GIVEN).filter(~((pl.col("arm") == "b") & (pl.col("metric") == "score")))
    assert set(report(frame, arms=ARMS).versus) == {"a (copy)", "a (30% flipped)"}


def test_a_look_sees_what_the_report_says(told):
    found = primary_gap(measured(GIVEN), "b", "a", range(SEEDS), RULES)
    figure = told.versus["b"].primary
    assert (found.estimate, found.low, found.high) == (figure.estimate, figure.low, figure.high)


# what decides


def test_better_worse_and_not_distinguishable():
    found = {effect: report(world(b=effect)).versus["b"] for effect in (1.5, -1.0, 0.3)}
    assert [one.verdict for one in found.values()] == ["better", "worse", "not distinguishable"]
    assert "b is better than a" in found[1.5].words
    assert "b is worse than a" in found[-1.0].words
    said = found[0.3].words
    assert "not distinguishable with this budget" in said
    assert "seeds" in said
    assert "prompts" in said
    assert found[0.3].effect > 0.05
    assert found[0.3].needs_prompts is None or found[0.3].needs_prompts > PROMPTS


@pytest.mark.parametrize(("chance", "verdict"), [(0.03, "better"), (0.003, "no power")])
def test_controls_are_read_at_99_percent(chance, verdict):
    given, rules = world(b=1.5), RULES._replace(primary="score")
    found = primary_gap(measured(given), "a (copy)", "a", range(SEEDS), rules)
    shift = found.error * stdtrit(found.df, 1 - chance / 2) - found.estimate
    copy = {"a (copy)": given.score["a (copy)"] + shift}
    given = given._replace(
        score={**given.score, **copy}, second={**given.second, **copy, "a": given.score["a"]}
    )
    told = report(given, rules, arms=ARMS)
    assert told.versus["a (copy)"].primary.p == pytest.approx(chance)
    assert told.versus["a (copy)"].verdict == "better", "of itself it says what its own interval says"
    assert told.versus["b"].verdict == verdict


def test_flipped_labels_that_do_not_lose_leave_nothing_to_say():
    effects = {"a (30% flipped)": 0.3}
    found = report(world(b=1.5, **effects), arms=ARMS).versus["b"]
    assert found.verdict == "no power"
    assert any("flipped labels do not lose" in reason for reason in found.reasons)


def test_without_controls_a_difference_decides_alone():
    draw_even = world(b=1.5, **{"a (30% flipped)": 0.3})
    assert report(draw_even).versus["b"].verdict == "better"


def by_length(longer: float, taste: float = 1.0) -> World:
    """Scores that are nothing but a taste for length, and answers of arm b that are so much longer."""
    draw, shape = np.random.default_rng(1), (SEEDS, PROMPTS, SAMPLES)
    chars = {name: draw.normal(80, 10, shape) for name in ("", *ARMS)}
    chars["b"] += longer
    chars["a (30% flipped)"] -= 30 * np.sign(taste)
    score = {name: taste * values + draw.normal(0, 4, shape) for name, values in chars.items()}
    return GIVEN._replace(score=score, second=score, chars=chars)


def test_a_win_that_goes_away_with_equal_lengths_is_one_of_length():
    found = report(by_length(8)).versus["b"]
    assert found.primary.low > 0
    assert found.figures["length_controlled"].low <= 0
    assert found.verdict == "longer"


def test_shorter_answers_do_not_win_by_length():
    found = report(by_length(-8, taste=-1.0)).versus["b"]
    assert found.primary.low > 0
    assert found.figures["length_controlled"].low <= 0
    assert found.figures["chars"].high < 0
    assert found.verdict == "better"


def test_two_scorers_that_see_the_opposite_decide_nothing():
    given = world(b=1.5)
    other = given._replace(second={**given.second, "b": given.second["b"] - 3})
    found = report(other).versus["b"]
    assert found.figures["second_win_rate"].high < 0 < found.primary.low
    assert found.verdict == "judges disagree"


def test_the_judge_decides_where_it_does():
    draw, shape = np.random.default_rng(3), (SEEDS, PROMPTS, SAMPLES)
    chances = {"b": 0.8, "a (copy)": 0.5, "a (30% flipped)": 0.2}
    preferred = {arm: (draw.random(shape) < chance).astype(float) for arm, chance in chances.items()}
    preferred["b"][0, 0] = np.nan
    scored = {arm: preferred[arm] + draw.normal(0, 1, shape) for arm in ("b", "a (copy)")}
    given = GIVEN._replace(
        preferred=preferred, second={**GIVEN.second, **scored, "a": draw.normal(0, 1, shape)}
    )
    found = report(given, RULES._replace(primary="judge")).versus["b"]
    assert found.primary.estimate == pytest.approx(2 * preferred["b"][:, 1:].mean() - 1)
    assert found.primary.left_out == 1
    assert found.verdict == "better"
    assert found.figures["win_rate"].adjusted is not None, "it is secondary now"
    assert "judge_length_controlled" in found.figures


def test_accuracy_decides_where_it_does():
    given = world(b=1.0)
    logps = {**given.logps, **{("b", of): given.logps["b", of] + [4.0, -4.0] for of in SETS}}
    found = report(given._replace(logps=logps), RULES._replace(primary="accuracy")).versus["b"]
    gaps = [(right(given._replace(logps=logps), "b", of) - right(given, "a", of)).mean() for of in SETS]
    assert found.primary.estimate == pytest.approx(np.mean(gaps))
    assert found.primary.prompts == sum(SETS.values()) // 2
    assert found.bootstrap.estimate == pytest.approx(found.primary.estimate)
    assert found.verdict == "better"


def test_the_interval_has_the_level_of_its_look():
    given = world(b=0.55)
    wide, narrow = (report(given, RULES._replace(level=level)).versus["b"] for level in (0.9999, 0.95))
    assert (wide.primary.level, narrow.primary.level) == (0.9999, 0.95)
    assert wide.primary.low < narrow.primary.low
    assert wide.figures["win_rate"].level == 0.95
    assert "99.99 % interval" in wide.words


@pytest.mark.parametrize(
    ("effect", "verdict"), [(1.5, "better"), (-1.0, "worse"), (0.3, "not distinguishable")]
)
def test_one_seed_speaks_of_these_models_alone(effect, verdict):
    _, (found,) = analyse(measured(world(b=effect)), facts(), [0], RULES)
    assert found.verdict == verdict
    assert found.primary.variance["seed"] is None
    assert found.primary.df == PROMPTS - 1
    assert "with one seed this holds for these two models" in found.words.lower()


def test_a_loss_within_the_margin_is_not_worse():
    found = report(world(b=0.3), RULES._replace(margin=0.9)).versus["b"]
    assert found.verdict == "not worse"


def runs_of(entropy: np.ndarray, mass: np.ndarray) -> list[Run]:
    """Two runs whose likeliest tokens did so."""
    one = RunReport(
        seed=0, steps=1, pairs=1, tokens=1, seconds=1, first_loss=1, last_loss=1, curves={"loss": [(0, 1.0)]}
    )
    return [Run(one, np.zeros(8, bool), entropy, mass, -np.arange(len(entropy), dtype=float))] * 2


def test_an_alarm_that_the_first_dataset_did_not_raise_is_told():
    calm, falling = np.full(8, 1.0), np.linspace(1, 0.5, 8)
    runs = {"a": runs_of(calm, calm), "b": runs_of(calm, falling)}
    found = report(world(b=1.5), runs=runs)
    assert found.arms["b"].alarms == ["mass of the likeliest tokens falls"]
    assert found.versus["b"].verdict == "alarmed"
    both = report(world(b=1.5), runs={**runs, "a": runs["b"]})
    assert both.versus["b"].verdict == "better"


def test_a_margin_that_grows_while_chosen_falls_is_displacement():
    logps = dict(GIVEN.logps)
    for of, size in SETS.items():
        logps["b", of] = np.broadcast_to(GIVEN.logps["", of] - [1.0, 3.0], (SEEDS, size, 2))
        logps["a", of] = np.broadcast_to(GIVEN.logps["", of] + [1.0, -3.0], (SEEDS, size, 2))
    found = report(GIVEN._replace(logps=logps)).arms
    assert (found["a"].displaced, found["b"].displaced) == (False, True)
