"""The pair stage: who may take part, which pairs stand, what a pair row carries, what is counted."""

import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prefkit.columns import types
from prefkit.errors import ContractError
from prefkit.rng import child_id
from prefkit.stage import Context
from prefkit.stages.pair import Hardness, Pair
from prefkit.testing import check_stage, run_stage

KINDS = ["best-worst", "best-rest", "best-random", "best-second", "all", "adjacent", "fold", "tiers"]
KINDS += ["first-round", "tournament", "list"]


def met(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["chosen_id"].to_pylist(), table["rejected_id"].to_pylist(), strict=True))


def said(column: pa.ChunkedArray) -> list[str]:
    return [row[0]["content"] for row in column.to_pylist()]


def test_a_pair_carries_the_prompt_once_and_both_responses(make_responses):
    responses = make_responses(
        {"p": [1.0, 3.0, 2.0], "q": [5.0, 4.0]},
        source=["s"] * 5,
        model=list("abcde"),
        origin=["policy"] * 5,
        help=pa.array([0.1, 0.2, 0.3, 0.4, 0.5]),
    )
    out = check_stage(Pair(), responses)
    assert out.column_names == [
        *("id", "prompt_id", "prompt", "source", "chosen", "rejected", "chosen_id", "rejected_id"),
        *(
            "chosen_index",
            "rejected_index",
            "chosen_score",
            "rejected_score",
            "chosen_model",
            "rejected_model",
        ),
        *("chosen_origin", "rejected_origin", "chosen_help", "rejected_help"),
    ]
    assert met(out) == [("p1", "p0"), ("q0", "q1")]
    assert out["id"].to_pylist() == [child_id("pair", "p1", "p0"), child_id("pair", "q0", "q1")]
    assert said(out["chosen"]) == ["answer 1 to p", "answer 0 to q"]
    assert said(out["rejected"]) == ["answer 0 to p", "answer 1 to q"]
    assert said(out["prompt"]) == ["question p", "question q"]
    assert out["chosen_score"].to_pylist() == [3.0, 5.0]
    assert out["rejected_score"].to_pylist() == [1.0, 4.0]
    assert out["chosen_help"].to_pylist() == [0.2, 0.4]
    assert out["rejected_model"].to_pylist() == ["a", "e"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_the_laws(make_responses, kind):
    responses = make_responses(
        {"p": [1.0, 3.0, 2.0, -1.0, 0.0], "q": [5.0, 4.0], "r": [None, 1.0], "s": [2.0, 2.0], "t": [7.0]}
    )
    out = check_stage(Pair(kind=kind), responses)
    assert out.num_rows >= 2
    for row in out.to_pylist():
        assert row["chosen_id"] != row["rejected_id"]
        assert row["chosen_score"] > row["rejected_score"]


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("best-rest", [("p0", "p3"), ("p0", "p2"), ("p0", "p1")]),
        ("all", [("p0", "p3"), ("p0", "p2"), ("p1", "p3"), ("p0", "p1"), ("p1", "p2"), ("p2", "p3")]),
    ],
)
def test_curriculum_pairs_of_four_ranked_responses(make_responses, kind, wanted):
    # golden data.json V08
    out = run_stage(Pair(kind=kind), make_responses({"p": [5.0, 4.0, 3.0, 2.0]})).table
    assert met(out) == wanted


def test_first_round_and_tournament_of_accepted_samples(make_responses):
    # golden data.json V02: rewards of the accepted samples 0, 1, 3, 2 in order of acceptance
    accepted = make_responses({"p": [0.9, 0.1, 0.8, 0.5]})
    first = run_stage(Pair(kind="first-round"), accepted).table
    every = run_stage(Pair(kind="tournament"), accepted).table
    assert met(first) == [("p0", "p1"), ("p2", "p3")]
    assert met(every) == [("p0", "p1"), ("p2", "p3"), ("p0", "p2")]


def test_a_margin_too_small_makes_no_pair(make_responses):
    # golden data.json V43
    out = run_stage(Pair(kind="all", min_margin=0.1), make_responses({"p": [0.62, 0.55, 0.2, 0.05]}))
    assert sorted(met(out.table)) == [("p0", "p2"), ("p0", "p3"), ("p1", "p2"), ("p1", "p3"), ("p2", "p3")]
    assert out.notes == {"pair/pairs-small-margin": 1}
    best_worst = run_stage(Pair(), make_responses({"p": [0.62, 0.55, 0.2, 0.05]})).table
    assert best_worst["chosen_score"][0].as_py() - best_worst["rejected_score"][0].as_py() == pytest.approx(
        0.57
    )


def test_a_margin_that_differs_by_rounding_only_is_kept(make_responses):
    out = run_stage(Pair(min_margin=0.1, max_margin=0.1), make_responses({"p": [0.3, 0.2]}))
    assert met(out.table) == [("p0", "p1")]


def test_best_and_worst_of_the_beam(make_responses):
    # golden data.json V26
    assert met(run_stage(Pair(), make_responses({"p": [0.3, 0.9, 0.1, 0.5]})).table) == [("p1", "p2")]


def test_best_and_worst_by_penalised_score(make_responses):
    # golden data.json V29: plain best and worst are 0 and 2, of the penalised scores 1 and 2
    responses = make_responses({"p": [3.0, 2.5, 1.0]}, penalised=pa.array([1.2, 1.9, 0.2]))
    assert met(run_stage(Pair(), responses).table) == [("p0", "p2")]
    assert met(run_stage(Pair(by="penalised"), responses).table) == [("p1", "p2")]


def test_equal_scores_make_no_pair_and_are_counted(make_responses):
    out = run_stage(Pair(), make_responses({"p": [2.0, 2.0, 2.0], "q": [1.0, 0.0]}))
    assert met(out.table) == [("q0", "q1")]
    assert out.notes == {"pair/equal-scores": 1, "pair/pairs-equal-scores": 1, "dropped/equal-scores": 3}
    assert [part["id"].to_pylist() for part in out.dropped] == [["p0", "p1", "p2"]]


def test_equal_scores_make_a_pair_where_ties_are_wanted(make_responses):
    assert met(run_stage(Pair(strict=False), make_responses({"p": [2.0, 2.0]})).table) == [("p0", "p1")]


def test_texts_that_differ_in_whitespace_only_make_no_pair(make_responses):
    texts = {"p": ["so  be\nit ", "so be it"], "q": ["yes", "no"]}
    out = run_stage(Pair(), make_responses({"p": [1.0, 0.0], "q": [1.0, 0.0]}, texts))
    assert met(out.table) == [("q0", "q1")]
    assert out.notes["pair/identical-texts"] == 1


def test_whitespace_and_empty_responses_are_the_same_text(make_responses):
    out = run_stage(Pair(), make_responses({"p": [1.0, 0.0]}, {"p": ["", " \n\t"]}))
    assert out.table.num_rows == 0
    assert out.notes["pair/identical-texts"] == 1


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
def test_a_response_without_a_finite_score_takes_no_part(make_responses, bad):
    out = run_stage(Pair(), make_responses({"p": [1.0, bad, 3.0], "q": [bad, 1.0], "r": [bad, bad]}))
    assert met(out.table) == [("p2", "p0")]
    assert out.notes == {"pair/responses-no-score": 4, "pair/no-score": 2, "dropped/no-score": 4}


def test_a_prompt_with_one_response_is_counted(make_responses):
    out = run_stage(Pair(), make_responses({"p": [1.0], "q": [None], "r": [2.0, 1.0]}))
    assert met(out.table) == [("r0", "r1")]
    assert out.notes["pair/too-few-responses"] == 2


def test_dropped_rows_keep_the_input_schema(make_responses):
    responses = make_responses({"p": [1.0], "r": [2.0, 1.0]})
    (gone,) = run_stage(Pair(), responses).dropped
    assert gone.schema == responses.schema.append(pa.field("drop_reason", pa.string()))
    assert gone["drop_reason"].to_pylist() == ["too-few-responses"]


def test_negative_scores_are_scores(make_responses):
    assert met(run_stage(Pair(), make_responses({"p": [-3.0, -1.0, -2.0]})).table) == [("p1", "p0")]


def test_too_long_against_too_short_makes_no_pair(make_responses):
    # golden data.json V29: lengths (900, 300) no, (400, 300) yes, (280, 410) yes at a factor of 1.5
    texts = {"p": ["a" * 900, "b" * 300], "q": ["a" * 400, "b" * 300], "r": ["a" * 280, "b" * 410]}
    out = run_stage(Pair(length_ratio_max=1.5), make_responses({key: [1.0, 0.0] for key in "pqr"}, texts))
    assert met(out.table) == [("q0", "q1"), ("r0", "r1")]
    assert out.notes["pair/length-ratio"] == 1


def test_a_margin_too_large_makes_no_pair(make_responses):
    out = run_stage(Pair(max_margin=2.0), make_responses({"p": [9.0, 1.0], "q": [2.0, 1.0]}))
    assert met(out.table) == [("q0", "q1")]
    assert out.notes["pair/large-margin"] == 1


def test_a_limit_keeps_the_widest_gaps(make_responses):
    out = run_stage(Pair(kind="all", max_pairs=2), make_responses({"p": [5.0, 4.0, 3.0], "q": [1.0, 0.0]}))
    assert met(out.table) == [("p0", "p2"), ("p0", "p1"), ("q0", "q1")]
    assert out.notes == {"pair/pairs-over-limit": 1}


def test_roles_say_who_may_be_chosen_and_who_rejected(make_responses):
    responses = make_responses(
        {"p": [1.0, 3.0, 2.0, 0.0], "q": [1.0, 2.0]},
        origin=["policy", "dataset", "policy", "dataset", "policy", "policy"],
        model=["m"] * 6,
    )
    out = run_stage(Pair(chosen_from="dataset", rejected_from="policy"), responses)
    assert met(out.table) == [("p1", "p0")]
    assert out.notes["pair/no-candidate"] == 1


def test_roles_may_be_models_and_never_turn_a_pair_round(make_responses):
    responses = make_responses({"p": [1.0, 3.0]}, origin=["x", "x"], model=["large", "small"])
    out = run_stage(Pair(chosen_from=("large",), rejected_from=("small",)), responses)
    assert out.table.num_rows == 0
    assert out.notes["pair/small-margin"] == 1


def test_tiers_of_five(make_responses):
    # golden data.json V01
    responses = make_responses({"p": [-2.0, -4.5, -3.1, -6.0, -5.2], "q": [1.0, 0.0]})
    assert met(run_stage(Pair(kind="tiers"), responses).table) == [("p0", "p3"), ("q0", "q1")]
    assert met(run_stage(Pair(kind="tiers", tiers="high/low"), responses).table) == [
        ("p2", "p4"),
        ("q0", "q1"),
    ]
    low = run_stage(Pair(kind="tiers", tiers="low/worst"), responses)
    assert met(low.table) == [("p4", "p3")]
    assert low.notes["pair/no-match"] == 1


def test_by_model_rank_reads_no_scores(make_responses):
    responses = make_responses(
        {"p": [0.0, 9.0], "q": [0.0, 0.0]}, model=["small", "large", "large", "other"]
    ).drop_columns(["score"])
    out = run_stage(Pair(kind="by-model-rank", models=("large", "small")), responses)
    assert met(out.table) == [("p1", "p0")]
    assert out.notes["pair/no-score"] == 1


def test_semi_online_pairs_only_what_is_bad_enough(make_responses):
    # golden data.json V06: rewards .55, .30, .62 at tau .45 pair with .30; .7, .5, .6 do not pair
    responses = make_responses(
        {"p": [0.9, 0.55, 0.30, 0.62], "q": [0.9, 0.7, 0.5, 0.6]},
        origin=["dataset", "policy", "policy", "policy"] * 2,
        model=["m"] * 8,
    )
    roles = {"chosen_from": "dataset", "rejected_from": "policy"}
    out = run_stage(Pair(kind="semi-online", hardness=Hardness(tau=0.45), **roles), responses)
    assert met(out.table) == [("p0", "p2")]
    assert out.notes["pair/not-hard"] == 1
    assert (
        run_stage(Pair(kind="semi-online", hardness=Hardness(tau=1e9), **roles), responses).table.num_rows
        == 2
    )
    assert (
        run_stage(Pair(kind="semi-online", hardness=Hardness(tau=-1e9), **roles), responses).table.num_rows
        == 0
    )
    assert (
        run_stage(
            Pair(kind="semi-online", hardness=Hardness(quantile=0.5), **roles), responses
        ).table.num_rows
        == 2
    )


def test_a_list_keeps_the_places(make_responses):
    # golden data.json V26: gt 100, b 75, a 40, err -60
    out = check_stage(Pair(kind="list"), make_responses({"p": [40.0, 100.0, -60.0, 75.0]}))
    place = dict(zip(out["chosen_id"].to_pylist(), out["chosen_place"].to_pylist(), strict=True))
    assert place == {"p1": 0, "p3": 1, "p0": 2}
    assert set(out["rejected_place"].to_pylist()) == {1, 2, 3}
    assert out.schema.field("chosen_place").type == pa.int32()


def test_ratings_become_votes(make_responses, ratings):
    responses = make_responses({"p": [-1.0, -4.0]}).append_column(
        "ratings",
        ratings({"zoe": -1.0, "ann": -2.0, "bob": None}, {"ann": -2.0, "zoe": -6.0, "bob": -1.0, "eve": 0.0}),
    )
    (row,) = run_stage(Pair(), responses).table.to_pylist()
    assert [(vote["judge"], vote["winner"], vote["p"], vote["strength"]) for vote in row["votes"]] == [
        ("ann", "tie", 0.5, 0.0),
        ("zoe", "chosen", 1.0, 5.0),
    ]
    assert "chosen_ratings" not in row


def test_ratings_pass_the_laws(make_responses, ratings):
    responses = make_responses({"p": [1.0, 2.0, 3.0], "q": [1.0, 0.0]}).append_column(
        "ratings", ratings({"b": 1.0}, {"a": 2.0, "b": 3.0}, None, {"c": 1.0, "a": 1.0}, {"a": 2.0, "c": 0.0})
    )
    out = check_stage(Pair(kind="all"), responses)
    judges = [None if row is None else [vote["judge"] for vote in row] for row in out["votes"].to_pylist()]
    assert judges == [None, ["b"], None, ["a", "c"]]


def test_best_random_depends_on_the_seed_and_never_picks_the_best(make_responses):
    responses = make_responses({f"p{i}": [9.0, 1.0, 2.0, 3.0, 4.0] for i in range(30)})
    picked = [
        run_stage(Pair(kind="best-random"), responses, seed=seed).table["rejected_index"] for seed in range(3)
    ]
    assert len({tuple(column.to_pylist()) for column in picked}) == 3
    assert all(0 not in column.to_pylist() for column in picked)
    assert Pair(kind="best-random").draws()
    assert not Pair().draws()


def test_best_random_passes_over_the_text_of_the_best(make_responses):
    texts = {"p": ["same", "same ", "other"]}
    for seed in range(8):
        out = run_stage(Pair(kind="best-random"), make_responses({"p": [3.0, 1.0, 0.0]}, texts), seed=seed)
        assert met(out.table) == [("p0", "p2")]


def test_an_empty_shard_stays_empty(make_responses):
    responses = make_responses({"p": [1.0, 0.0]}).slice(0, 0)
    for kind in KINDS:
        assert run_stage(Pair(kind=kind), responses).table.num_rows == 0


def test_a_prompt_in_two_places_is_refused(make_responses):
    responses = make_responses({"p": [1.0, 0.0], "q": [1.0, 0.0]}).take([0, 2, 1, 3])
    with pytest.raises(ContractError, match="not adjacent"):
        Pair()(responses)


def test_one_prompt_id_with_two_prompts_is_refused(make_responses):
    responses = make_responses({"p": [1.0, 0.0], "q": [1.0, 0.0]})
    responses = responses.set_column(1, "prompt_id", pa.array(["p"] * 4))
    with pytest.raises(ContractError, match="prompt_id 'p' have different prompts"):
        Pair()(responses)


def test_pairs_cannot_be_paired(make_pairs):
    with pytest.raises(ContractError, match="takes response rows"):
        Pair()(make_pairs(2))


def test_a_missing_score_column_is_named(make_responses):
    with pytest.raises(ContractError, match="reads column 'help'"):
        Pair(by="help")(make_responses({"p": [1.0, 0.0]}))


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"kind": "best_worst"}, "best-worst"),
        ({"kind": "all", "tiers": "best/worst"}, "tiers is for kind 'tiers'"),
        ({"kind": "by-model-rank"}, "needs models"),
        ({"kind": "by-model-rank", "models": ["a", "b"], "min_margin": 1}, "margin has no meaning"),
        ({"kind": "semi-online"}, "needs hardness"),
        ({"min_margin": 2, "max_margin": 1}, "max_margin is below"),
        ({"max_pairs": 0}, "greater than 0"),
        ({"length_ratio_max": 0.5}, "greater than or equal to 1"),
        ({"kind": "tiers", "tiers": "worst/best"}, "pattern"),
        ({"tires": "x"}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(config, told):
    with pytest.raises(ValidationError, match=told):
        Pair.model_validate(config)


def test_the_config_is_spelled_as_in_recipes():
    assert Pair().model_dump()["kind"] == "best-worst"
    assert "kind" in Pair.model_json_schema()["properties"]


def test_a_long_response_passes(make_responses):
    texts = {"p": ["x" * 2_000_000, "ok 😀 שלום"]}
    out = run_stage(Pair(), make_responses({"p": [1.0, 0.0]}, texts)).table
    assert len(said(out["chosen"])[0]) == 2_000_000


values = st.sampled_from([0.0, 1.0, 2.0, 2.5, None, math.nan, math.inf])
texts = st.sampled_from(["a", " a", "b", "c", "", "  "])
groups = st.lists(st.lists(st.tuples(values, texts), min_size=1, max_size=5), min_size=1, max_size=5)


@settings(max_examples=60)
@given(groups, st.sampled_from(KINDS), st.booleans())
def test_every_prompt_gives_pairs_or_is_counted_once(make_responses, groups, kind, strict):
    scores = {f"p{i}": [score for score, _ in group] for i, group in enumerate(groups)}
    words = {f"p{i}": [text for _, text in group] for i, group in enumerate(groups)}
    responses = make_responses(scores, words)
    ctx = Context(seed=3)
    out = Pair(kind=kind, strict=strict)(responses, ctx)
    with_pairs = set(out["prompt_id"].to_pylist())
    without = sum(n for note, n in ctx.notes.items() if note.startswith("pair/") and "pairs-" not in note)
    without -= ctx.notes["pair/responses-no-score"]
    assert len(with_pairs) + without == len(groups)
    aside = [row["prompt_id"] for part in ctx.dropped for row in part.to_pylist()]
    assert sorted(aside) == sorted(p for p in responses["prompt_id"].to_pylist() if p not in with_pairs)
    for row in out.to_pylist():
        sides = [" ".join(row[side][0]["content"].split()) for side in ("chosen", "rejected")]
        assert sides[0] != sides[1]
        gap = row["chosen_score"] - row["rejected_score"]
        assert gap > 0 or (gap == 0 and not strict)


@settings(max_examples=60)
@given(groups, st.sampled_from(KINDS))
def test_pairs_do_not_depend_on_the_cut(make_responses, groups, kind):
    scores = {f"p{i}": [score for score, _ in group] for i, group in enumerate(groups)}
    responses = make_responses(
        scores, {f"p{i}": [text for _, text in group] for i, group in enumerate(groups)}
    )
    stage = Pair(kind=kind)
    whole = stage(responses, Context(seed=1)).to_pylist()
    parts = [responses.filter(pa.compute.equal(responses["prompt_id"], p)) for p in scores]
    assert whole == [row for part in parts for row in stage(part, Context(seed=1)).to_pylist()]


def test_pair_schema_is_declared():
    columns = types("id", "prompt_id", "prompt", "response", "index", "model", "origin", "score", "ratings")
    out = Pair().output_schema(pa.schema(list(columns.items())))
    assert out.field("votes").type == types("votes")["votes"]
    assert "chosen_ratings" not in out.names
