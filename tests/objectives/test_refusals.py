"""What a table shows to be missing, out of range or without effect is refused before anything is trained."""

from typing import Any

import pyarrow as pa
import pytest

from prefkit.columns import COLUMNS
from prefkit.errors import TrainError
from prefkit.objectives import PRESETS, Objective
from prefkit.objectives.extras import EXTRAS, PENALTIES
from prefkit.objectives.heads import Heads
from prefkit.objectives.labels import LABELS
from prefkit.objectives.masks import MASKS
from prefkit.objectives.more_links import LINKS
from prefkit.objectives.offsets import OFFSETS
from prefkit.objectives.piece import Piece
from prefkit.objectives.reducers import REDUCERS
from prefkit.objectives.rewards import REWARDS
from prefkit.objectives.weights import WEIGHTS

SPANS = [
    ("kind", pa.string()),
    ("start", pa.int32()),
    ("end", pa.int32()),
    ("id", pa.int32()),
    ("value", pa.float64()),
]


def spans(*marked: tuple[str, float | None]) -> list[dict[str, object]]:
    return [
        {"kind": kind, "start": at, "end": at + 1, "id": at, "value": value}
        for at, (kind, value) in enumerate(marked)
    ]


GOOD: dict[str, list[Any]] = {
    "ref_chosen_logp": [-3.0, -4.0],
    "ref_rejected_logp": [-3.5, -4.0],
    "ref_fingerprint": ["f", "f"],
    "p_chosen": [0.7, 0.9],
    "flip_prob": [0.1, 0.0],
    "tie": [True, False],
    "margin": [0.5, -0.1],
    "weight": [0.5, 1.5],
    "annotator": ["ann", "ben"],
    "dimension": ["honest", "helpful"],
    "pair_group": ["g", "g"],
    "trace_mode": ["trace", "empty"],
    "degree": [0, 1],
    "chosen_score": [0.9, 0.8],
    "rejected_score": [0.2, 0.3],
    "chosen_win_rate": [0.9, 0.8],
    "rejected_win_rate": [0.2, 0.3],
    "chosen_kind": [0.1, 0.2],
    "rejected_kind": [0.2, 0.2],
    "chosen_spans": [spans(("phrase", None), ("sentence", 1.0), ("weight", 0.5), ("step", 0.9))] * 2,
    "rejected_spans": [spans(("phrase", None), ("sentence", 0.0), ("weight", 0.5), ("step", 0.9))] * 2,
    "ref_history": [[{"model": "m", "chosen_logp": -3.0, "rejected_logp": -4.0}]] * 2,
    "chosen_teacher": [[[{"id": 1, "logp": -0.5}]]] * 2,
    "rejected_teacher": [[[{"id": 1, "logp": -0.5}]]] * 2,
    "rejected_advantage": [[[{"id": 1, "value": 0.5}]]] * 2,
}
NEEDED: dict[str, dict[str, object]] = {
    "modpo": {"weights": {"kind": 0.5}},
    "mah-dpo": {"dimensions": ["helpful", "honest"]},
    "spo-degree": {"degrees": 2},
}


def table(**changed: list[Any] | None) -> pa.Table:
    columns = {name: values for name, values in {**GOOD, **changed}.items() if values is not None}
    types = {name: COLUMNS[name].type if name in COLUMNS else pa.float64() for name in columns}
    return pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})


def preset(name: str) -> Objective:
    return Objective.model_validate({"preset": name, **NEEDED.get(name, {})})


@pytest.mark.parametrize("name", PRESETS)
def test_rows_that_carry_all_and_hold_sense_are_accepted(name: str) -> None:
    preset(name).check(table())


@pytest.mark.parametrize("name", PRESETS)
def test_each_column_that_a_preset_reads_is_asked_for_by_name_and_writer(name: str) -> None:
    for column in preset(name).reads():
        with pytest.raises(
            TrainError, match=f"reads column '{column}', which the pairs do not have"
        ) as raised:
            preset(name).check(table(**{column: None}))
        writer = COLUMNS[column].writer if column in COLUMNS else "source, score"
        assert raised.value.hint == f"add the stage that writes it: {writer}"
        with pytest.raises(TrainError, match=f"column '{column}' is null in 1 of 2 rows"):
            preset(name).check(table(**{column: [GOOD[column][0], None]}))


FREE = {"reward": "log-prob"}
ROW = [{"model": "m", "chosen_logp": -3.0, "rejected_logp": -4.0}]
REFUSED: dict[str, tuple[object, dict[str, list[Any]], str]] = {
    "cdpo, all rates 0": ("cdpo-rows", {"flip_prob": [0.0, 0.0]}, "labels 'smooth' change nothing: every flip rate is 0"),
    "cdpo, rate set to 0": ({"preset": "cdpo", "rate": 0}, {}, "every flip rate is 0"),
    "cdpo, a rate of a half": ("cdpo-rows", {"flip_prob": [0.1, 0.5]}, r"every flip_prob in \[0, 0.5\)"),
    "rdpo, all rates 0": ("rdpo-rows", {"flip_prob": [0.0, 0.0]}, "every flip rate is 0"),
    "rdpo, rate set to 0": ({"preset": "rdpo", "rate": 0}, {}, "labels 'robust' change nothing"),
    "rdpo, a rate of a half": ("rdpo-rows", {"flip_prob": [0.1, 0.5]}, r"every flip_prob in \[0, 0.5\)"),
    "rdpo, a negative rate": ("rdpo-rows", {"flip_prob": [-0.1, 0.2]}, r"every flip_prob in \[0, 0.5\)"),
    "soft labels that are hard": ("soft-dpo", {"p_chosen": [1.0, 1.0]}, "every p_chosen is 1"),
    "one annotator": ("lcpo", {"annotator": ["ann", "ann"]}, "need two annotators, or `by: none`"),
    "no ties, rao-kupper": ("dpo-rk", {"tie": [False, False]}, "no row is a tie"),
    "nothing but ties, rao-kupper": ("dpo-rk", {"tie": [True, True]}, "every row is a tie"),
    "no ties, davidson": ("dpo-d", {"tie": [False, False]}, "no row is a tie"),
    "nothing but ties, davidson": ("dpo-d", {"tie": [True, True]}, "every row is a tie"),
    "a positive power without a clip": ({"preset": "bpo", "power": 0.5, "low": None}, {}, "give `low`"),
    "online ipo with certain labels": ("online-ipo", {"p_chosen": [1.0, 1.0]}, "every p_chosen is 1"),
    "copg without a score gap": ("copg", {"rejected_score": [0.9, 0.8]}, "the scores of every pair are equal"),
    "no margins, offset": ("odpo", {"margin": [0.0, 0.0]}, "every margin is 0"),
    "no margins, madpo": ("madpo", {"margin": [0.0, 0.0]}, "every margin is 0"),
    "weights of 1": ("weighted-dpo", {"weight": [1.0, 1.0]}, "every weight is 1"),
    "degrees that skip one": ("spo-degree", {"degree": [0, 2]}, "needs the degrees 0 to 1"),
    "degrees without the whole": ("spo-degree", {"degree": [1, 1]}, "needs the degrees 0 to 1"),
    "lipo, scores out of range": ("lipo", {"chosen_score": [7.0, 8.0]}, r"need scores in \[0, 1\]"),
    "lipo, a tie in the list": ("lipo", {"rejected_score": [0.2, 0.8]}, "chosen_score above rejected_score, and 1 rows"),
    "tpo, a tie in the list": ("tpo", {"rejected_score": [0.2, 0.8]}, "chosen_score above rejected_score"),
    "pro, a tie in the list": ("pro", {"rejected_score": [0.9, 0.8]}, "and 2 rows have not"),
    "rrpo without phrases": ("rrpo", dict.fromkeys(["chosen_spans", "rejected_spans"], [spans(("step", 1.0))] * 2), "spans of kind 'phrase', and the rows have \\['step'\\]"),
    "rrpo without spans": ("rrpo", {"chosen_spans": [[], []], "rejected_spans": [[], []]}, "and the rows have none"),
    "mask-dpo, no true chosen": ("mask-dpo", {"chosen_spans": [spans(("sentence", 0.0))] * 2}, "'chosen_spans' has no true"),
    "mask-dpo, no false rejected": ("mask-dpo", {"rejected_spans": [spans(("sentence", 1.0))] * 2}, "'rejected_spans' has no false"),
    "token weights out of range": ("sparsepo", {"chosen_spans": [spans(("weight", 1.5))] * 2}, r"values in \[0, 1\]"),
    "cosines that are missing": ({"preset": "tpo", "weigh": "one-plus-cos"}, {"chosen_spans": [spans(("step", None))] * 2}, "steps without a value"),
    "other rewards that tell nothing": ("modpo", {"chosen_kind": [0.2, 0.2]}, "are equal within every pair"),
    "heads without rows": ("mah-dpo", {"dimension": ["helpful", "helpful"]}, "the rows have one dimension"),
    "heads for other dimensions": ({"preset": "mah-dpo", "dimensions": ["a", "b"]}, {}, r"the heads are for \['a', 'b'\]"),
    "a view without its other": ("bvpo", {"pair_group": ["g", "h"]}, "2 pair groups are not one row with `trace`"),
    "two views of one sort": ("bvpo", {"trace_mode": ["trace", "trace"]}, "1 pair groups are not"),
    "win rates out of range": ("sppo", {"chosen_win_rate": [1.5, 0.5]}, r"'chosen_win_rate' must be in \[0, 1\]"),
    "win rates that tell nothing": ("egpo", {"rejected_win_rate": [0.9, 0.8]}, "the win rates of every pair are equal"),
    "fewer earlier policies than weights": ({"preset": "mnpo", "weights": [1, 1]}, {}, "weighs 2 earlier policies, and 'ref_history' has 1"),
    "weights of earlier policies that are 0": ({"preset": "mnpo", "weights": [0]}, {}, "are all 0"),
    "distillation of nothing": ({"preset": "dckd", "chosen": 0, "rejected": 0}, {}, "both coefficients are 0"),
}  # fmt: skip


def spelled(case: str) -> Objective:
    spelling = REFUSED[case][0]
    if isinstance(spelling, str) and spelling.endswith("-rows"):
        return Objective.model_validate({"preset": spelling.removesuffix("-rows"), "rate": None})
    return preset(spelling) if isinstance(spelling, str) else Objective.model_validate(spelling)


@pytest.mark.parametrize("case", REFUSED)
def test_rows_that_would_make_a_loss_senseless_or_another_one_are_refused(case: str) -> None:
    _, changed, told = REFUSED[case]
    with pytest.raises(TrainError, match=told) as raised:
        spelled(case).check(table(**changed))
    assert raised.value.hint


def test_values_of_other_kinds_of_spans_do_not_matter() -> None:
    marked = [spans(("weight", 0.5), ("step", -0.9))] * 2
    preset("sparsepo").check(table(chosen_spans=marked, rejected_spans=marked))


def test_every_piece_that_can_refuse_is_made_to() -> None:
    builtin = (*MASKS, *REWARDS, *OFFSETS, *LINKS, *LABELS, *WEIGHTS, *REDUCERS, *EXTRAS, *PENALTIES, Heads)
    able = {piece for piece in builtin if piece.refuse is not Piece.refuse}
    made = set()
    for case, (_, changed, _) in REFUSED.items():
        whole = spelled(case)
        pieces = [*whole.pieces(), *([whole.heads] if whole.heads else [])]
        made |= {type(piece) for piece in pieces if piece.refuse(table(**changed))}
    assert made == able
    assert (len(able), len(REFUSED)) == (25, 41)
