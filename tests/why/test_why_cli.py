"""`prefkit why` and the history that `prefkit show --id` adds, as a user sees them."""

import json
import re
from pathlib import Path

import pytest

from prefkit.cli import run

OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
HOSTILE = "\x1b[31m\x07\u202e[red]not markup[/red] {{ 7 }}"


@pytest.fixture
def tell(capsys):
    """Run a command and return what it prints: stdout where it ends well, else stderr."""

    def told(*arguments: str, code: int = 0) -> str:
        assert run(arguments) == code
        out, err = capsys.readouterr()
        return out if code == 0 else err

    return told


def test_a_life_is_printed_step_by_step(chain, tell):
    pair = chain.rows("10-reference")[0]
    text = tell("why", "small", pair["id"][:12], "--store", str(chain.store.root), "--price", "policy=1/2")
    assert text.startswith(f"pair {pair['id']} of small: kept in 10-reference\n")
    for step in chain.build.steps:
        assert f"\n{step}" in text
    assert "call test/judge  generate · fake · " in text
    assert "read as " in text
    assert re.search(
        r"9 calls: test/policy 5, test/reward 2, test/judge 2; \d+ tokens in; \d+ tokens out; <?\$0\.0", text
    )


def test_the_json_of_a_life_has_all_of_it(chain, tell):
    pair = chain.rows("10-reference")[0]
    life = json.loads(tell("why", "small", pair["id"], "--json", "--store", str(chain.store.root)))
    assert life["row"] == pair
    assert [chapter["step"] for chapter in life["chapters"]] == list(chain.build.steps)
    asked = [call["asked"] for chapter in life["chapters"] for call in chapter["calls"]]
    assert len(asked) == 9
    assert all("messages" in each or "response" in each for each in asked)


def test_the_life_of_a_prompt_has_a_line_a_row(chain, tell):
    prompt = chain.rows("00-data")[0]["id"]
    text = tell("why", "small", prompt, "--store", str(chain.store.root))
    assert "4 calls: test/policy 4" in text
    assert len(re.findall(r"^  response +\S+  made", text, re.MULTILINE)) == 4


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("zz", "no row of the run has the id 'zz'"),
        ("", "rows have an id that begins with ''"),
        (HOSTILE, "no row"),
    ],
)
def test_an_id_that_names_no_row_is_a_clear_error(chain, tell, row, what):
    err = tell("why", "small", row, "--store", str(chain.store.root), code=2)
    assert what in err
    assert "\n  hint:  " in err
    assert not OBEYED.search(err)


def test_long_texts_are_cut_with_a_count_and_whole_in_json(make, tell):
    made = make("  - split", [{"prompt": "ask", "response": "long " * 1000}])
    row = made.rows("split")[0]["id"]
    where = ("--store", str(made.store.root))
    assert "4 400 characters more" in " ".join(tell("why", "small", row, *where).split())
    life = json.loads(tell("why", "small", row, "--json", *where))
    assert life["row"]["response"][0]["content"] == "long " * 1000


def test_nothing_of_a_stranger_reaches_the_terminal_as_it_is(make, tell):
    rows = [
        {
            "prompt": f"q {HOSTILE}",
            "response": f"{at} {HOSTILE}",
            "score": float(at),
            "model": HOSTILE,
            "source": HOSTILE,
        }
        for at in range(3)
    ]
    rows.append({"prompt": "", "response": HOSTILE})
    made = make("  - pair: { kind: best-worst }\n  - judge: { model: judge, verdict: token }", rows)
    where = ("--store", str(made.store.root))
    ids = [
        made.rows("judge")[0]["id"],
        made.rows("00-data")[0]["id"],
        made.rows("00-data")[0]["prompt_id"],
        ":4",
    ]
    for row in ids:
        text = tell("why", "small", row, *where)
        assert not OBEYED.search(text)
        assert not OBEYED.search(tell("why", "small", row, "--json", *where))
        assert "[red]not markup[/red]" in " ".join(text.split())


def test_show_with_an_id_adds_what_became_of_the_row(chain, tell):
    pair = chain.rows("10-reference")[0]
    where = ("--store", str(chain.store.root))
    text = tell("show", "small/margin", "--id", pair["id"], *where)
    history = text.partition("\nhistory\n")[2].splitlines()
    assert [line.split()[0] for line in history if re.match(r"  \d\d-", line)] == list(chain.build.steps)[:9]
    assert f"prefkit why small {pair['id'][:12]}" in history[-1]
    assert json.loads(tell("show", "small", "--id", pair["id"], "--json", *where)) == pair
    dropped = chain.aside("filter")[0]
    told = tell("show", "small/filter", "--dropped", "--id", dropped["id"], *where)
    assert "02-filter         dropped: too-short" in told


def test_prices_are_those_of_the_recipes_models(chain, tell):
    where = ("--store", str(chain.store.root))
    pair = chain.rows("10-reference")[0]["id"]
    assert "no model 'nobody'" in tell("why", "small", pair, "--price", "nobody=1/2", *where, code=2)
    prices = Path(chain.store.root).parent / "prices.yaml"
    prices.write_text("judge: 1000/1000\n")
    life = json.loads(tell("why", "small", pair, "--prices", str(prices), "--json", *where))
    costs = {call["model"]: call["dollars"] for chapter in life["chapters"] for call in chapter["calls"]}
    assert costs["test/policy"] is None
    assert float(costs["test/judge"]) > 0
