"""The combine stage: what it reads, which rows it compares, and what it writes."""

import math

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from prefkit.engines import Engines, Failure, Model
from prefkit.engines.fake import FakeEngine
from prefkit.errors import ContractError
from prefkit.stages.combine import Combine
from prefkit.stages.pair import Pair
from prefkit.testing import check_stage, run_stage

MODEL = Model(id="m")
FAKE = Engines({"m": FakeEngine()})
TWO = {"of": ["help", "brief"]}


def near(*values):
    return [pytest.approx(value, abs=1e-5) for value in values]


def made(settings) -> Combine:
    return Combine.model_validate({**TWO, **settings})


def scored(settings, table, name="score") -> list:
    return run_stage(made(settings), table, engines=FAKE).table[name].to_pylist()


@pytest.fixture
def table(make_responses) -> pa.Table:
    """Two prompts: the first has the rows of a worked example, the second one a score that is missing."""
    return make_responses(
        {"p": [None] * 3, "q": [None] * 4},
        help=[0.62, 0.55, 0.35, 0.9, 0.5, 0.1, None],
        brief=[0.20, 0.24, 0.30, 0.1, 0.5, 0.8, 0.4],
        task=[0.3, 0.1, 0.2, 0.0, 0.5, 0.4, 0.9],
        split=["train"] * 3 + ["test"] * 4,
    )


@pytest.fixture
def pairs(make_pairs) -> pa.Table:
    return make_pairs(
        chosen_help=[1.0, 0.2, 0.9, 0.4, None],
        rejected_help=[0.5, 0.1, 0.7, 0.5, 0.1],
        chosen_brief=[0.1, 0.9, 0.2, 0.8, 0.3],
        rejected_brief=[0.4, 0.2, 0.3, 0.1, 0.2],
        split=["train", "train", "train", "test", "train"],
    )


EACH = [
    {},
    {"weights": {"help": 2.0, "brief": -1.0}},
    {"kind": "direction", "weights": {"help": 3.0, "brief": 4.0}},
    {"kind": "direction", "angles": [-45.0, 45.0]},
    {"kind": "saturate", "thresholds": {"help": 0.44, "brief": 0.238}},
    {"kind": "satisfy", "thresholds": {"help": 0.44, "brief": 0.238}},
    {"kind": "mean"},
    {"kind": "maxmin"},
    {"kind": "cvar", "share": 0.7, "weights": {"help": 3.0, "brief": 1.0}},
]
NORMALISED = [
    "logit",
    {"kind": "z", "within": "dataset"},
    {"kind": "rank", "within": "dataset", "clip": [0.1, 0.9]},
    {"kind": "minmax", "reference": {"help": [0.0, 2.0], "brief": [0.0, 1.0, 3.0]}},
]


@pytest.mark.parametrize("settings", EACH, ids=str)
def test_every_kind_keeps_the_laws_on_responses_and_on_pairs(settings, table, pairs):
    check_stage(made({**settings, "as": "all"}), table)
    check_stage(made({**settings, "at": "pair"}), pairs)


@pytest.mark.parametrize("how", [*NORMALISED, "z", "minmax", "rank"], ids=str)
def test_every_normaliser_keeps_the_laws(how, table, pairs):
    check_stage(made({"normalise": how}), table)
    if how in NORMALISED:
        check_stage(made({"normalise": how, "at": "pair"}), pairs)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "hypervolume"},
        {"kind": "hypervolume", "normalise": "rank"},
        {"kind": "maxmin", "over": "expectation"},
        {"kind": "dual", "thresholds": {"help": 0.5, "brief": 0.2}, "task": "task"},
        {
            "kind": "dual",
            "thresholds": {"help": 0.5, "brief": 0.2},
            "task": "task",
            "equality": True,
            "normalise": "z",
        },
    ],
    ids=str,
)
def test_kinds_of_whole_pools_keep_the_laws(settings, table):
    check_stage(made(settings), table)


@pytest.mark.parametrize("target", ["level", "contrast"])
def test_prompt_aware_weights_keep_the_laws(target, pairs):
    check_stage(
        made({"kind": "prompt-aware", "model": MODEL, "at": "pair", "target": target}), pairs, engines=FAKE
    )


def test_only_what_looks_at_other_rows_needs_them():
    scopes = {
        "map": [{}, {"normalise": "logit"}, {"kind": "maxmin"}, {"normalise": NORMALISED[3]}],
        "group": [{"normalise": "z"}, {"kind": "hypervolume"}, {"kind": "hypervolume", "normalise": "rank"}],
        "global": [
            {"normalise": NORMALISED[1]},
            {"kind": "maxmin", "over": "expectation"},
            {"kind": "dual", "thresholds": {"help": 1, "brief": 1}, "task": "task"},
        ],
    }
    for scope, settings in scopes.items():
        assert [made(each).scope() for each in settings] == [scope] * len(settings)
    assert made({"kind": "direction", "angles": [0, 90]}).draws()
    assert not made({}).draws()


def test_a_score_that_is_missing_leaves_none_and_is_counted(table):
    out = run_stage(made({"weights": {"help": 1.0, "brief": 0.0}}), table)
    assert out.table["score"].to_pylist() == [0.62, 0.55, 0.35, 0.9, 0.5, 0.1, None]
    assert out.notes == {"combine/without-a-score": 1}


def test_scores_are_compared_with_those_of_their_prompt(table):
    only = {"weights": {"help": 1.0, "brief": 0.0}}
    assert scored({**only, "normalise": "z"}, table)[:3] == near(0.990618, 0.378766, -1.369384)
    assert scored({**only, "normalise": "minmax"}, table) == [*near(1, 0.740741, 0, 1, 0.5, 0), None]
    assert scored({**only, "normalise": "rank"}, table)[3:] == [*near(5 / 6, 1 / 2, 1 / 6), None]


def test_what_is_fitted_to_the_dataset_is_not_fitted_to_its_test_split(table):
    how = {"kind": "minmax", "within": "dataset"}
    told = scored({"weights": {"help": 1.0, "brief": 0.0}, "normalise": how}, table)
    assert told[:3] == near(1, 0.740741, 0)
    assert told[3] == pytest.approx((0.9 - 0.35) / 0.27)


def test_a_direction_has_length_one_and_prefers_what_lies_in_it(table):
    angle = math.radians(-15)
    weights = {"help": math.cos(angle), "brief": math.sin(angle)}
    scores = table.set_column(
        table.schema.get_field_index("help"), "help", pa.array([70.0, 60, 70, 0, 0, 0, 0])
    )
    scores = scores.set_column(
        scores.schema.get_field_index("brief"), "brief", pa.array([80.0, 20, 40, 0, 0, 0, 0])
    )
    told = scored({"kind": "direction", "weights": weights}, scores)
    assert told[:3] == near(46.909284, 52.779169, 57.262046)
    tenfold = {name: 10 * weight for name, weight in weights.items()}
    assert scored({"kind": "direction", "weights": tenfold}, scores) == near(*told)


def test_a_prompt_draws_one_direction_for_all_its_responses(table):
    stage = made({"kind": "direction", "angles": [-45.0, 0.0], "as": "along"})
    out = run_stage(stage, table, seed=4).table
    drawn = out["along_direction"].to_pylist()
    assert drawn[0] == drawn[2] != drawn[3]
    for one in drawn:
        assert math.hypot(*one) == pytest.approx(1)
        assert -45 <= math.degrees(math.atan2(one[1], one[0])) <= 0
    assert out["along"].to_pylist()[0] == pytest.approx(0.62 * drawn[0][0] + 0.2 * drawn[0][1])
    assert out["along"].to_pylist()[6] is None


def test_a_saturated_score_counts_up_to_its_threshold(table):
    told = scored({"kind": "saturate", "thresholds": {"help": 0.44, "brief": 0.238}}, table)
    assert told[:2] == near(0.64, 0.678)


def test_groups_are_taken_as_the_mean_the_worst_or_a_worst_share(table):
    assert scored({"kind": "mean", "weights": {"help": 9.0, "brief": 1.0}}, table)[0] == pytest.approx(0.578)
    assert scored({"kind": "maxmin"}, table)[:4] == [0.2, 0.24, 0.3, 0.1]
    assert scored({"kind": "cvar", "share": 0.5}, table)[:4] == [0.2, 0.24, 0.3, 0.1]


def test_what_a_response_alone_offers(make_responses):
    table = make_responses({"p": [None] * 4}, help=[0.9, 0.5, 0.1, 0.4], brief=[0.1, 0.5, 0.8, 0.4])
    told = scored({"kind": "hypervolume"}, table)
    # the reference is (.02, .03): the borders of the front are wider, its middle is as in the plane
    assert told == near(0.4 * 0.07, 0.07, 0.08 * 0.3, 0.0)
    chosen = run_stage(Pair(), table.set_column(5, "score", pa.array(told))).table
    assert chosen["rejected_id"].to_pylist() == ["p3"]
    same = make_responses({"p": [None] * 2}, help=[0.5, 0.5], brief=[0.1, 0.1])
    assert scored({"kind": "hypervolume"}, same) == [0.0, 0.0]


def at_odds(make_responses, prompts=120) -> pa.Table:
    drawn = np.random.default_rng(0)
    first = drawn.uniform(0, 1, 4 * prompts)
    groups = {f"p{at}": [None] * 4 for at in range(prompts)}
    return make_responses(
        groups, help=list(first), brief=list(1 - first), task=list(drawn.uniform(0, 1, 4 * prompts))
    )


def test_the_dual_keeps_its_weights_and_tells_what_cannot_be_met(make_responses):
    table = at_odds(make_responses)
    settings = {"kind": "dual", "task": "task", "thresholds": {"help": 0.6, "brief": 0.3}, "as": "all"}
    out = run_stage(made(settings), table)
    (weights,) = {tuple(each) for each in out.table["all_weights"].to_pylist()}
    assert 0 < weights[1] < weights[0] < 1
    assert out.notes == {"combine/threshold-missed/help": 0, "combine/threshold-missed/brief": 0}
    far = run_stage(made({**settings, "thresholds": {"help": 3.0, "brief": 0.3}}), table)
    assert far.notes["combine/threshold-missed/help"] == 1


def test_max_min_over_all_prompts_weighs_the_group_that_fares_worse(make_responses):
    table = at_odds(make_responses)
    halved = table.set_column(
        table.schema.get_field_index("brief"),
        "brief",
        pa.array([0.5 * one for one in table["brief"].to_pylist()]),
    )
    out = run_stage(made({"kind": "maxmin", "over": "expectation"}), halved).table
    weights = out["score_weights"].to_pylist()[0]
    assert sum(weights) == pytest.approx(1)
    assert weights[1] > weights[0]


class Alike:
    """Embeds by the last letter."""

    def embed(self, model, texts):
        for position, text in enumerate(texts):
            yield position, Failure("down") if text.endswith("9") else (float(text[-1] in "02468"), 1.0)


def test_weights_follow_what_good_answers_to_such_prompts_are_good_at(make_pairs):
    count = 8
    even = [at % 2 == 0 for at in range(count)]
    table = make_pairs(
        chosen_help=[3.0 if each else 0.0 for each in even],
        rejected_help=[0.0] * count,
        chosen_brief=[0.0 if each else 3.0 for each in even],
        rejected_brief=[0.0] * count,
    )
    settings = {"kind": "prompt-aware", "model": MODEL, "at": "pair", "floor": 0.0, "ridge": 1e-6}
    out = run_stage(made(settings), table, engines=Engines({"m": Alike()})).table
    strong = math.exp(3) / (1 + math.exp(3))
    for each, weights in zip(even, out["score_weights"].to_pylist(), strict=True):
        assert weights == pytest.approx([strong, 1 - strong] if each else [1 - strong, strong], abs=1e-3)
    assert out["chosen_score"].to_pylist() == pytest.approx([3 * strong] * count, abs=3e-3)
    assert out["rejected_score"].to_pylist() == [0.0] * count


def test_a_prompt_that_cannot_be_embedded_sets_its_row_aside(make_pairs):
    columns = dict.fromkeys(("chosen_help", "rejected_help", "chosen_brief", "rejected_brief"), [1.0] * 10)
    settings = {"kind": "prompt-aware", "model": MODEL, "at": "pair"}
    out = run_stage(made(settings), make_pairs(**columns), engines=Engines({"m": Alike()}))
    assert out.table.num_rows == 9
    assert out.failed[0]["error"].to_pylist() == ["down"]
    assert out.table["score_weights"].to_pylist() == [pytest.approx([0.5, 0.5])] * 9


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"weights": {"help": 1.0}}, "a number for each"),
        ({"kind": "saturate"}, "needs thresholds"),
        ({"kind": "dual", "thresholds": {"help": 1.0, "brief": 1.0}}, "needs a task"),
        ({"thresholds": {"help": 1.0, "brief": 1.0}}, "has no thresholds"),
        ({"kind": "maxmin", "weights": {"help": 1.0, "brief": 1.0}}, "has no weights"),
        ({"kind": "direction", "weights": {"help": 0.0, "brief": 0.0}}, "not 0"),
        ({"kind": "mean", "weights": {"help": -1.0, "brief": 1.0}}, "populations"),
        ({"kind": "prompt-aware", "model": MODEL}, "at: pair"),
        ({"kind": "hypervolume", "at": "pair"}, "before pairing"),
        ({"normalise": "z", "at": "pair"}, "before pairing"),
        ({"normalise": {"kind": "logit", "reference": {"help": [0, 1], "brief": [0, 1]}}}, "no reference"),
        ({"normalise": {"kind": "z", "reference": {"help": [0, 1]}}}, "for each score"),
        ({"normalise": {"kind": "z", "clip": [1, 1]}}, "lower and an upper"),
        ({"as": "help"}, "set `as`"),
        ({"of": ["help", "help"]}, "twice"),
        ({"of": ["help"], "kind": "direction", "angles": [0, 1]}, "two scores"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, told):
    with pytest.raises(ValidationError, match=told):
        made(settings)


def test_a_score_that_nothing_writes_is_an_error_of_the_plan(table):
    with pytest.raises(ContractError, match="reads column 'depth'"):
        Combine.model_validate({"of": ["help", "depth"]}).check_schema(table.schema)


def test_a_combined_score_that_is_too_large_is_null(make_responses):
    table = make_responses({"p": [None, None]}, help=[1e308, 1.0], brief=[1e308, 1.0])
    assert scored({}, table) == [None, 2.0]
