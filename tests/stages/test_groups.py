"""The groups stage: planted groups, prototypes and routes, new people, and whether there are groups at all."""

import numpy as np
import pyarrow as pa
import pytest

from prefkit.engines import Engines
from prefkit.engines.fake import FakeEngine
from prefkit.errors import EstimateError, PrefkitError
from prefkit.estimators.preference import logistic
from prefkit.stages.annotators import Annotators
from prefkit.stages.groups import Groups
from prefkit.stages.label import Label
from prefkit.stages.split import Split
from prefkit.testing import check_stage, run_stage

HEADS = np.array([[2.0, 0.5], [-1.5, 1.5]])
MODEL = {"id": "test/embeds"}


@pytest.fixture
def people(make_pairs):
    """Thirty people, the first eighteen of whom like `kind` and the others dislike it."""

    def build(count=30, each=40, seed=0, heads=HEADS, **more):
        draw = np.random.default_rng(seed)
        who = np.repeat(np.arange(count), each)
        group = (who >= 0.6 * count).astype(int)
        one, other = draw.normal(size=(2, len(who), 2))
        wins = draw.random(len(who)) < logistic(((one - other) * heads[group]).sum(axis=1))
        chosen, rejected = (np.where(wins[:, None] == side, one, other) for side in (True, False))
        names = ("kind", "short")
        scores = {f"chosen_{name}": chosen[:, at] for at, name in enumerate(names)}
        scores |= {f"rejected_{name}": rejected[:, at] for at, name in enumerate(names)}
        table = make_pairs(len(who), annotator=[f"person {at:02}" for at in who], **scores, **more)
        return table, group

    return build


def groups(table, seed=0, **settings):
    return run_stage(Groups(of=("kind", "short"), **settings), table, seed=seed)


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_planted_groups_are_found_and_tell_labels_better_than_one_reward(people, kind):
    table, group = people()
    out = groups(table, kind=kind)
    assert out.table["group"].to_pylist() == [("a", "b")[at] for at in group]
    assert out.notes["groups/annotators of a"] == 18
    assert out.notes["groups/annotators of b"] == 12
    shares = np.array(out.table["group_shares"].to_pylist())
    assert shares.sum(axis=1) == pytest.approx(np.ones(len(shares)))
    one = groups(table, kind=kind, groups=1).table
    right = [(each["p_chosen"].to_numpy() > 0.5).mean() for each in (out.table, one)]
    assert right[0] > right[1] + 0.1


def test_the_laws_of_a_stage_hold(people):
    table, _ = people(4, 3)
    domain = table.append_column("domain", pa.array(["x", "y"] * 6))
    for kind in ("soft", "hard"):
        check_stage(Groups(kind=kind, of=("kind", "short")), table)
    check_stage(Groups(kind="routed", of=("kind", "short"), context="domain"), domain)
    embeds = Engines({MODEL["id"]: FakeEngine()})
    check_stage(Groups(model=MODEL), table.slice(0, 6), engines=embeds)
    out = run_stage(Groups(kind="routed", model=MODEL), table, engines=embeds).table
    assert out["group_shares"].null_count == 0


def test_prototypes_keep_the_laws_and_find_people_who_prefer_alike(people):
    table, group = people(10, 20)
    out = check_stage(Groups(kind="prototypes", of=("kind", "short")), table)
    assert out["group"].to_pylist() == [("a", "b")[at] for at in group]


def test_names_of_people_and_the_order_of_groups_do_not_matter(people):
    table, _ = people(10, 30)
    at = table.column_names.index("annotator")
    renamed = table.set_column(
        at, "annotator", pa.array([f"z{n[7:]}" for n in table["annotator"].to_pylist()])
    )
    found = [groups(each, seed=seed).table for each, seed in ((table, 0), (renamed, 0), (table, 7))]
    told = [np.array(each["p_chosen"].to_pylist()) for each in found]
    assert told[0] == pytest.approx(told[1], abs=1e-9)
    assert told[0] == pytest.approx(told[2], abs=0.01)
    assert found[0]["group"].to_pylist() == found[2]["group"].to_pylist()


def test_rows_without_a_feature_or_an_annotator_have_no_group(people):
    table, _ = people(6, 20)
    at, name = table.column_names.index("chosen_kind"), table.column_names.index("annotator")
    table = table.set_column(
        at, "chosen_kind", pa.array([None, *table["chosen_kind"].to_pylist()[1:]], pa.float64())
    )
    table = table.set_column(name, "annotator", pa.array([*table["annotator"].to_pylist()[:-1], None]))
    out = groups(table).table
    for column in ("group", "group_shares", "p_chosen"):
        assert [row for row, value in enumerate(out[column].to_pylist()) if value is None] == [0, 119]


def test_people_are_held_out_and_placed_by_a_few_labels_that_then_go(people):
    table, group = people(60)
    split = run_stage(Split(by="annotator", test=0.3), table).table
    new = np.array(split["split"].to_pylist()) == "test"
    group = dict(zip(table["id"].to_pylist(), group, strict=True))
    strangers = groups(split).table.filter(pa.array(new))
    assert set(strangers["group"].to_pylist()) == {None}
    right = {}
    for kind in ("soft", "hard", "prototypes"):
        out = groups(split, kind=kind, place=8)
        placed = out.table.filter(pa.array(np.array(out.table["split"].to_pylist()) == "test"))
        assert out.notes["dropped/placed-by"] == 8 * len(set(placed["annotator"].to_pylist()))
        assert set(placed["annotator"].to_pylist()) == set(strangers["annotator"].to_pylist())
        right[kind] = (placed["p_chosen"].to_numpy() > 0.5).mean()
        if kind != "prototypes":
            told = [
                (g, "ab"[group[i]])
                for g, i in zip(*(placed[c].to_pylist() for c in ("group", "id")), strict=True)
            ]
            assert np.mean([one == other for one, other in told if one]) > 0.9
    alone = (strangers["p_chosen"].to_numpy() > 0.5).mean()
    assert min(right.values()) > alone + 0.1


def test_labels_of_the_test_split_change_nothing_that_is_said_of_it(people):
    table, _ = people(12, 30)
    split = run_stage(Split(test=0.3), table).table
    test = np.array(split["split"].to_pylist()) == "test"
    out = groups(split).table
    turned = run_stage(Label(ops=({"flip": {"rate": 1.0}},)), split).table.drop_columns("flipped")
    mixed = pa.concat_tables([split.filter(pa.array(~test)), turned.filter(pa.array(test))])
    other = groups(mixed).table
    both = [
        dict(zip(each["id"].to_pylist(), each["p_chosen"].to_pylist(), strict=True)) for each in (out, other)
    ]
    for at, held in zip(split["id"].to_pylist(), test, strict=True):
        assert both[1][at] == pytest.approx(1 - both[0][at] if held else both[0][at], abs=1e-9)


def test_a_router_reads_the_groups_off_the_prompt(people):
    table, group = people(15)
    domain = table.append_column("domain", pa.array(["art", "code"]).take(pa.array(group)))
    routed = groups(domain.drop_columns("annotator"), kind="routed", context="domain")
    assert routed.table["group"].to_pylist() == [("a", "b")[at] for at in group]
    one = groups(domain, groups=1).table
    right = [(each["p_chosen"].to_numpy() > 0.5).mean() for each in (routed.table, one)]
    assert right[0] > right[1] + 0.1
    assert "groups/annotators of a" not in routed.notes


def test_exchanging_names_tells_groups_from_none(people):
    def p_value(heads):
        notes = groups(people(12, 25, heads=heads)[0], permutations=19).notes
        return next(float(name.split()[-1]) for name in notes if "p-value" in name)

    assert p_value(HEADS) == pytest.approx(0.05)
    assert p_value(HEADS[[0, 0]]) > 0.05


def test_votes_of_each_group_come_together_as_a_label_of_its_own(make_pairs, votes):
    said = {"ann": "chosen", "bob": "rejected", "cy": "chosen", "dee": "rejected"}
    column = votes(*[[(name, vote, None, None) for name, vote in said.items()]] * 2)
    rows = run_stage(Annotators(), make_pairs(2, votes=column)).table
    of = {"ann": "a", "bob": "b", "cy": "a", "dee": "b"}
    rows = rows.append_column("group", pa.array([of[name] for name in rows["annotator"].to_pylist()]))
    out = check_stage(Annotators(kind="each-group"), rows)
    assert out["group"].to_pylist() == ["a", "b", "a", "b"]
    assert [[vote["judge"] for vote in row] for row in out["votes"].to_pylist()] == [
        ["ann", "cy"],
        ["bob", "dee"],
    ] * 2
    labelled = run_stage(Label(ops=("from-votes",)), out).table
    told = [
        (row[0]["content"], p)
        for row, p in zip(*(labelled[c].to_pylist() for c in ("chosen", "p_chosen")), strict=True)
    ]
    assert told == [("good 0", 1.0), ("bad 0", 1.0), ("good 1", 1.0), ("bad 1", 1.0)]


def test_members_of_a_group_who_disagree_are_told_the_same_way_round(make_pairs, votes):
    column = votes(
        [("ann", "chosen", 0.75, 1.0), ("bob", "rejected", 0.25, -1.0), ("cy", "rejected", 0.1, -2.0)]
    )
    rows = run_stage(Annotators(), make_pairs(1, votes=column)).table
    rows = rows.append_column("group", pa.array(["a", "a", None]))
    out = run_stage(Annotators(kind="each-group"), rows)
    assert [(v["judge"], v["winner"], v["p"]) for v in out.table["votes"][0].as_py()] == [
        ("ann", "chosen", 0.75),
        ("bob", "rejected", 0.25),
    ]
    assert out.notes == {"dropped/no-group": 1}


def test_what_cannot_be_grouped_says_so(people):
    table, _ = people(3, 5)
    with pytest.raises(EstimateError, match="3 annotators cannot be in 4 groups"):
        groups(table, groups=4)
    with pytest.raises(PrefkitError, match="no row outside the test split"):
        groups(table.append_column("split", pa.array(["test"] * 15)))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "either of, scores, or model"),
        ({"of": "kind", "model": MODEL}, "either of, scores, or model"),
        ({"of": "kind", "kind": "routed"}, "needs a context"),
        ({"of": "kind", "context": "domain"}, "context is for kind 'routed'"),
        ({"of": "kind", "kind": "prototypes", "permutations": 19}, "permutations is for"),
    ],
)
def test_settings_that_say_nothing_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        Groups(**settings)
