import pyarrow as pa

from prefkit.columns import MESSAGES
from prefkit.stages.reference_answer import ReferenceAnswer
from prefkit.testing import check_stage, run_stage


def solutions(*rows):
    prompt = [{"role": "user", "content": "?"}]
    return pa.table(
        {
            "id": [str(n) for n in range(len(rows))],
            "prompt_id": [row[0] for row in rows],
            "prompt": pa.array([prompt] * len(rows), MESSAGES),
            "model": pa.array([row[1] for row in rows], pa.string()),
            "response": pa.array(
                [None if row[2] is None else [{"role": "assistant", "content": row[2]}] for row in rows],
                MESSAGES,
            ),
        }
    )


def test_every_row_of_a_prompt_gets_the_trusted_answer():
    table = solutions(
        ("p", "six", "A: 5"),
        ("p", "human", "2 + 2\nA: no\nA: 4 \nthanks"),
        ("q", "human", "A: 7"),
        ("q", None, "A: 8"),
        ("r", "six", "A: 9"),
    )
    out = check_stage(ReferenceAnswer(writer="human", marker="A:"), table)
    assert out["reference_answer"].to_pylist() == ["4", "4", "7", "7", None]


def test_a_prompt_without_a_trusted_answer_is_counted_and_null():
    table = solutions(
        ("p", "human", "no marker"), ("q", "human", None), ("r", "human", "A:  "), ("s", "human", "A: 1")
    )
    outcome = run_stage(ReferenceAnswer(writer="human", marker="A:"), table)
    assert outcome.table["reference_answer"].to_pylist() == [None, None, None, "1"]
    assert outcome.notes == {"reference-answer/prompts-without": 3}


def test_without_a_marker_the_whole_response_is_the_answer():
    out = check_stage(ReferenceAnswer(writer="human"), solutions(("p", "human", " 42 "), ("p", "six", "41")))
    assert out["reference_answer"].to_pylist() == ["42", "42"]
