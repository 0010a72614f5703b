import time

import pytest

pytest.importorskip("math_verify", reason="needs prefkit[verify]")

EQUAL = [
    (r"so \boxed{\frac12}", "0.5"),
    (r"\boxed{x^2+2x+1}", "(x+1)^2"),
    (r"Answer: $\{2, 1\}$", r"\{1,2\}"),
    (r"\boxed{50\%}", "0.5"),
    (r"\boxed{(1,2)}", "(1,2)"),
    ("A: x^2 + 1", "1 + x^2"),
    ("A: 1/3", "0.333333"),
    ("A: 18 eggs", "18"),
    ("#### 1,000", "1000"),
    ("A: 3.0", "3"),
    ("it is 5", "5"),
    ("A: even", "even"),
    (r"\boxed{2}", "so it is 1 + 1\n#### 2"),
]
DIFFERENT = [
    (r"\boxed{\frac13}", "0.5"),
    (r"\boxed{[1,2)}", "(1,2]"),
    (r"\boxed{x^2+1}", "x^2"),
    ("A: 17", "18"),
    ("A: 2\nA: 3", "2"),
    ("", "5"),
    ("I do not know", "5"),
]


UNKNOWN = [("A: 1.5", None), ("A: 2.5", " "), (None, "1"), ("A: 3.5", "what is it?")]


def test_answers_are_compared_as_mathematics(judge):
    answers, references = zip(*EQUAL, *DIFFERENT, *UNKNOWN, strict=True)
    found = judge("math-equal", answers, reference_answer=references)
    assert dict(zip(answers, found.scores, strict=True)) == {
        **{answer: 1.0 for answer, _ in EQUAL},
        **{answer: 0.0 for answer, _ in DIFFERENT},
        **{answer: None for answer, _ in UNKNOWN},
    }
    assert found.notes == {"no-reference": 2, "no-response": 1, "bad-reference": 1}


HOSTILE = [
    r"\boxed{10^{10^{10}}}",
    "A: 10**10**10",
    r"\boxed{(x+1)^{100000}}",
    r"\boxed{\sum_{k=1}^{10^{12}} \sin(k)}",
    r"\boxed{" + "(" * 900 + "x" + ")" * 900 + "}",
    r"\boxed{" + "x+" * 20_000 + "x}",
    "A: " + "9" * 1_900,
    "A: factorial(10**9)",
]


def test_hostile_answers_cost_their_time_do_nothing_and_never_count_as_right(judge, tmp_path):
    trap = tmp_path / "trap"
    tmp_path.chmod(0o777)
    program = f"__import__('pathlib').Path('{trap}').touch()"
    programs = [f"A: {program}", rf"\boxed{{{program}}}", f"${program}$", program]
    answers = [*HOSTILE, *programs, r"\boxed{\frac12}"]
    started = time.monotonic()
    found = judge(
        {"math-equal": {"seconds": 0.3, "memory": 1024}}, answers, reference_answer=["1/2"] * len(answers)
    )
    assert time.monotonic() - started < 60  # seconds, most of which are the start on a busy machine
    assert found.scores[-1] == 1.0
    assert set(found.scores[:-1]) <= {0.0, None}
    assert found.notes["timeout"] >= 1
    assert not trap.exists()


def test_a_strict_rule_wants_a_marker(judge):
    found = judge({"math-equal": {"strict": True}}, ["it is 5", "A: 5"], reference_answer=["5", "5"])
    assert found.scores == [0.0, 1.0]
