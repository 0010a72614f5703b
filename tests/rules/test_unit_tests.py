import json

import pyarrow as pa
import pytest
from pydantic import ValidationError

from prefkit.columns import MESSAGES
from prefkit.rules.unit_tests import UnitTests, read_tests
from prefkit.stages.score import Score
from prefkit.testing import check_stage

ADD = "Sure:\n```python\ndef add(a, b):\n    return a + b\n```\nDone."
QUICK = {"allow_execution": True, "seconds": 0.5, "memory": 256}


def block(code: str) -> str:
    return f"```python\n{code}\n```"


def rule(**settings):
    return {"unit-tests": {**QUICK, **settings}}


def test_nothing_runs_unless_the_recipe_says_so():
    with pytest.raises(ValidationError, match="set allow_execution: true"):
        UnitTests(tests=("assert True",))
    with pytest.raises(ValidationError, match="exactly one of column and tests"):
        UnitTests(allow_execution=True)


def test_the_score_is_the_share_of_tests_passed(judge):
    tests = ["assert add(1, 2) == 3", "assert add(2, 2) == 5", "assert add('a', 'b') == 'ab'", "undefined()"]
    assert judge(rule(tests=tests), [ADD, block("def add(a, b): return 3")]).scores == [0.5, 0.25]
    assert judge(rule(tests=tests, how="all"), [ADD]).scores == [0.0]
    assert judge(rule(tests=tests[:1], how="all"), [ADD]).scores == [1.0]


def test_tests_may_be_a_column_in_each_of_its_spellings(judge):
    column = [
        "assert add(1, 1) == 2\nassert add(1, 2) == 3",
        json.dumps(["assert add(1, 1) == 2", "assert add(1, 1) == 3"]),
        "def test_sum():\n    assert add(1, 1) == 3",
        "from unittest import TestCase\nclass Sums(TestCase):\n    def test_it(self):\n        self.assertEqual(add(1, 1), 2)",
        "[]",
        " ",
        None,
        '{"a": 1}',
    ]
    found = judge(rule(column="checks"), [ADD] * len(column), checks=column)
    assert found.scores == [1.0, 0.5, 0.0, 1.0, None, None, None, None]
    assert found.notes == {"no-tests": 3, "bad-tests": 1}


def test_programs_are_judged_by_what_they_print(judge):
    column = [json.dumps([{"input": "2\n3\n", "output": "5"}, {"input": "1\n1\n", "output": "3"}])]
    programs = [
        "print(int(input()) + int(input()))",
        "import sys\nprint(sum(map(int, sys.stdin)))\nsys.exit(0)",
    ]
    failing = ["print(5)\nraise SystemExit(1)", "import os\nos._exit(0)", "x = 1", "while True: print(1)"]
    answers = [block(program) for program in (*programs, *failing)]
    found = judge(rule(column="checks"), answers, checks=column * len(answers))
    assert found.scores == [0.5, 0.5, 0.0, 0.0, 0.0, 0.0]


def test_tests_that_cannot_fail_are_no_tests(judge):
    column = [
        "def check(f):\n    assert f(1, 2) == 3",
        "x = 1",
        "assert (",
        '"a text"',
        "pass",
        "from __future__ import x",
    ]
    found = judge(rule(column="checks"), [ADD] * len(column), checks=column)
    assert found == ([None] * len(column), {"bad-tests": len(column)})


def test_one_bad_test_does_not_spoil_the_others(judge):
    found = judge(rule(tests=["assert add(1, 2) == 3", "assert ("]), [ADD])
    assert found == ([1.0], {"bad-tests": 1})


def test_what_is_no_code_fails_and_what_is_no_response_is_null(judge):
    found = judge(rule(tests=["assert 1"]), ["I cannot.", block("def ("), None, block("")])
    assert found == ([0.0, 0.0, None, 0.0], {"no-code": 2, "no-response": 1})
    assert judge(rule(tests=["assert f() == 1"], fenced=False), ["def f(): return 1"]).scores == [1.0]


HOSTILE = {
    "exits at once": "import sys\nsys.exit(0)",
    "exits at once, harder": "import os\nos._exit(0)",
    "exits at the end": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef f(): raise SystemExit",
    "loops": "while True: pass",
    "loops in C": "sum(range(10**15))",
    "ignores signals": "import signal\nfor n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n    except OSError: pass\nwhile True: pass",
    "eats memory": "hog = [bytearray(1 << 20) for _ in range(1 << 20)]",
    "overflows the stack": "import sys\nsys.setrecursionlimit(10**9)\ndef f(): return f()\nf()",
    "writes where it may not": "open('/tmp/prefkit-was-here', 'w')",
    "reads what it may not": "open('/etc/passwd').read()",
    "looks at other processes": "import os\nos.listdir('/proc/1')",
    "fills the disk": "with open('x', 'wb') as file:\n    for _ in range(10**6): file.write(bytes(1 << 20))",
    "opens a connection": "import socket\nsocket.create_connection(('127.0.0.1', 9), 0.2)",
    "kills its parent": "import os\nos.kill(os.getppid(), 9)\nos.kill(1, 9)\nraise ValueError",
    "writes to what is open": 'import os\nfor n in range(3, 64):\n    try: os.write(n, b\'{"said": "passed"}\\n\' * 9)\n    except OSError: pass\nos._exit(0)',
    "imports us": "import prefkit",
    "is no Python": "\x00",
    "is half a character": r"x = '\ud800'.encode()",
}


def test_hostile_code_fails_and_its_neighbours_do_not(judge):
    answers = [each for code in HOSTILE.values() for each in (block(code), ADD)]
    tests = ["assert add(1, 2) == 3 if 'add' in globals() else f() == 1"]
    found = judge(rule(tests=tests), answers)
    failed = dict(zip(HOSTILE, found.scores[::2], strict=True))
    assert failed == dict.fromkeys(HOSTILE, 0.0)
    assert set(found.scores[1::2]) == {1.0}
    assert found.notes["timed-out"] >= 3


def test_a_fork_bomb_ends_with_its_test(judge):
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    assert judge(rule(tests=["assert 1"], seconds=0.2), [block(bomb), ADD]).scores == [0.0, 1.0]


def test_the_environment_holds_no_secret(judge, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "a-planted-secret")
    looks = "import os\nfound = [value for value in os.environ.values() if 'planted' in value]"
    assert judge(rule(tests=["assert found == []"]), [block(looks)]).scores == [1.0]


def test_huge_output_goes_nowhere(judge):
    assert judge(rule(tests=["assert done"]), [block("print('x' * 10**7)\ndone = True")]).scores == [1.0]


def test_a_test_that_replaces_things_spoils_no_other(judge):
    patch = "import builtins, time\nbuiltins.sum = lambda _: 7\ntime.sleep = None\nassert total([1]) == 7"
    plain = "assert total([1]) == 1"
    code = block("def total(values): return sum(values)")
    assert judge(rule(tests=[patch, plain, patch, plain]), [code]).scores == [1.0]


def test_what_one_test_writes_the_next_does_not_find(judge):
    writes = "import os\nos.makedirs('a/b/c')\nopen('a/b/c/x', 'w').write('x')\nopen('y', 'w').write('y')"
    clean = "import os\nassert sorted(os.listdir('.')) == ['solution.py']"
    assert judge(rule(tests=[writes + "\nassert 1", clean]), [block("")]).scores == [0.0]
    assert judge(rule(tests=[writes + "\nassert 1", clean]), [block("x = 1")]).scores == [1.0]


def test_a_row_whose_tests_all_hang_is_given_up_early(judge):
    found = judge(rule(tests=["assert 1"] * 50, seconds=0.1), [block("while True: pass")])
    assert found == ([0.0], {"timed-out": 1})


def test_sets_have_the_same_order_every_time(judge):
    code = block("order = ''.join({'a', 'b', 'c', 'd', 'e'})")
    seen = {
        judge(rule(tests=[f"assert order[0] == {letter!r}" for letter in "abcde"]), [code]).scores[0]
        for _ in range(3)
    }
    assert seen == {0.2}


def test_a_score_by_unit_tests_keeps_the_laws_of_a_stage():
    said = [
        [{"role": "assistant", "content": text}] for text in (ADD, block("def add(a, b): return 0"), "no")
    ]
    ids = ["a", "b", "c"]
    rows = pa.table(
        {
            "id": ids,
            "prompt_id": ["p"] * 3,
            "prompt": pa.array([[{"role": "user", "content": "add"}]] * 3, MESSAGES),
            "response": pa.array(said, MESSAGES),
            "checks": ["assert add(0, 0) == 0", "assert add(0, 1) == 1", "assert add(0, 0) == 0"],
        }
    )
    assert check_stage(Score(rule=rule(column="checks")), rows)["score"].to_pylist() == [1.0, 0.0, 0.0]


def test_no_rows_start_no_sandbox(judge):
    assert judge(rule(tests=["assert 1"]), []) == ([], {})


@pytest.mark.parametrize("text", ["[1]", '[{"input": "a"}]', '[{"input": 1, "output": "a"}]', "1"])
def test_cells_that_hold_no_tests_are_told_from_empty_ones(text):
    assert read_tests(text) is None
    assert read_tests("") == []
