"""Labels from judges who are not all as good, through the label stage."""

import re

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from prefkit.columns import VOTES
from prefkit.errors import PrefkitError
from prefkit.stage import Context
from prefkit.stages.label import Label
from prefkit.testing import check_stage
from prefkit.votes import mirror_votes

GOOD, BAD, LEANS = 0.95, 0.55, 0.9


def judged(count: int = 600, seed: int = 0, true_flips: float = 0.2) -> tuple[pa.Table, np.ndarray]:
    """Pairs of which a share is stored the wrong way round; one good judge, three bad ones, one who likes what is first."""
    draw = np.random.default_rng(seed)
    flipped = draw.random(count) < true_flips
    votes = []
    for flip in flipped:
        row = []
        for judge, right in (("good", GOOD), ("bad1", BAD), ("bad2", BAD), ("bad3", BAD), ("leans", None)):
            for order in ("chosen-first", "rejected-first"):
                first = order == "chosen-first"
                if right is None:
                    chosen = first if draw.random() < LEANS else not flip
                else:
                    chosen = (draw.random() < right) != flip
                row.append({"judge": judge, "order": order, "winner": "chosen" if chosen else "rejected"})
        votes.append(row)
    votes[3] = []
    names = [f"p{at}" for at in range(count)]
    turn = pa.array([[{"role": "user", "content": "x"}]] * count)
    table = pa.table(
        {
            "id": names,
            "prompt_id": names,
            "prompt": turn,
            "source": ["s"] * count,
            "chosen": turn,
            "rejected": turn,
            "votes": pa.array(
                [[{**dict.fromkeys(VOTES.value_type.names), **v} for v in row] for row in votes], VOTES
            ),
        }
    )
    return table, flipped


def label(table: pa.Table, op: object) -> tuple[pa.Table, dict[str, int]]:
    context = Context(seed=0)
    found = Label(ops=(op,))(table, context)
    return found, dict(context.notes)


def right(table: pa.Table, flipped: np.ndarray) -> float:
    p = np.asarray([0.5 if value is None else value for value in table["p_chosen"].to_pylist()])
    return float(np.where(p == 0.5, 0.5, (p > 0.5) != flipped).mean())


@pytest.mark.parametrize("model", ["orders", "dawid-skene", "one-coin"])
def test_a_good_judge_is_found_among_bad_ones(model: str) -> None:
    table, flipped = judged()
    plain, _ = label(table, "from-votes")
    found, notes = label(table, {"from-judges": {"model": model}})
    assert right(found, flipped) > right(plain, flipped) + 0.08
    assert right(found, flipped) > 0.93
    assert notes["label/judges"] == 5
    flips = np.asarray([value or 0.0 for value in found["flip_prob"].to_pylist()])
    assert flips.mean() == pytest.approx(0.2, abs=0.03)
    assert found["p_chosen"][3].as_py() is None
    assert found["flip_prob"][3].as_py() is None


def test_exchanged_sides_have_the_mirrored_label() -> None:
    table, _ = judged(300)
    rows = np.arange(300) % 3 == 0
    at = table.column_names.index("votes")
    mirrored = table.set_column(at, "votes", mirror_votes(table["votes"], rows))
    for model in ("orders", "dawid-skene"):
        plain, other = (label(one, {"from-judges": {"model": model}})[0] for one in (table, mirrored))
        p, q = (np.asarray(one["p_chosen"].to_pylist(), dtype=float) for one in (plain, other))
        np.testing.assert_allclose(np.where(rows, 1 - q, q), p, atol=1e-4)


def test_one_judge_cannot_be_judged() -> None:
    table, _ = judged(20)
    votes = [[vote for vote in row if vote["judge"] == "good"] for row in table["votes"].to_pylist()]
    alone = table.set_column(table.column_names.index("votes"), "votes", pa.array(votes, VOTES))
    with pytest.raises(PrefkitError, match="all votes are of one judge"):
        label(alone, "from-judges")


def test_nobody_voted() -> None:
    table, _ = judged(20)
    none = table.set_column(table.column_names.index("votes"), "votes", pa.array([None] * 20, VOTES))
    assert label(none, "from-judges")[0]["p_chosen"].null_count == 20


def test_the_laws_of_a_stage_hold() -> None:
    check_stage(Label(ops=("from-judges",)), judged(40)[0])


def test_notes_say_how_far_each_judge_is_right_in_each_order():
    table, _ = judged()
    _, notes = label(table, "from-judges")
    told = {name.split("'")[1]: name for name in notes if name.startswith("label/judge '")}
    assert set(told) == {"good", "bad1", "bad2", "bad3", "leans"}
    first, second = (float(part) for part in re.findall(r"[01]\.\d{3}", told["good"]))
    assert first == pytest.approx(GOOD, abs=0.04)
    assert second == pytest.approx(GOOD, abs=0.04)
    first, second = (float(part) for part in re.findall(r"[01]\.\d{3}", told["leans"]))
    assert first > 0.9
    assert second < 0.3


def test_the_next_vote_is_the_best_judges_where_there_is_doubt():
    table, _ = judged()
    found, _ = label(table, {"from-judges": {"next_vote": True}})
    rows = found.select(["p_chosen", "next_judge", "next_order", "next_gain"]).to_pylist()
    assert rows[3] == dict.fromkeys(rows[3], None), "nobody voted"
    told = [row for row in rows if row["p_chosen"] is not None]
    doubtful = [row for row in told if 0.2 < row["p_chosen"] < 0.8]
    assert doubtful
    assert {row["next_judge"] for row in doubtful} == {"good"}
    sure = [row["next_gain"] for row in told if not 0.01 < row["p_chosen"] < 0.99]
    assert max(sure) < min(row["next_gain"] for row in doubtful)
    check_stage(Label(ops=({"from-judges": {"next_vote": True}},)), table.slice(0, 40))
    assert "next_vote" not in str(Label(ops=("from-judges",)).model_dump(mode="json"))
    with pytest.raises(ValidationError, match="model: orders"):
        Label(ops=({"from-judges": {"next_vote": True, "model": "one-coin"}},))
