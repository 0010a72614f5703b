"""Every rule finds what it is about, says it in a few words, and lets sound pairs be."""

import json

import numpy as np
import pyarrow as pa
import pytest

from prefkit.lint import RULES, Read, check, look
from prefkit.train.settings import TrainSettings
from prefkit.train.tokenise import tokenise

TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
ASK = "<|im_start|>assistant\n"


def template(turn: str = TURN, ask: str = ASK, start: str = "") -> str:
    asked = f"{{% if add_generation_prompt %}}{ask}{{% endif %}}"
    return f"{start}{{% for m in messages %}}{turn}{{% endfor %}}{asked}"


def assistant(turn: str) -> str:
    """Write assistant turns in another way than the rest."""
    return "{% if m.role == 'assistant' %}" + turn + "{% else %}" + TURN + "{% endif %}"


STRIPS = template(assistant(ASK + "{{ m.content.split('</think>')[-1] }}<|im_end|>\n"))
THINKS = template(assistant(ASK + "<think>{{ m.content }}<|im_end|>\n"), ASK + "<think>")
REWRITES = template(TURN, ASK + "<think>")


def test_sound_pairs_have_nothing_but_information(lint, row):
    linted = lint(row(), row("red or blue or green", "blue", "red"))
    assert set(linted.found) == {"first-token-differs"}
    assert linted.report.errors == 0
    assert linted.report.trained_on == linted.report.rows == 2
    assert linted.report.tokens["first difference"] == {"p50": 0, "p95": 0, "max": 0}


def test_rules_have_names_meanings_and_hints_and_errors_come_first():
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names) >= 30
    assert all(name.replace("-", "").isalpha() and name.islower() for name in names)
    assert all(
        meaning and hint and not meaning.endswith(".") for meaning, hint in (rule.told for rule in RULES)
    )
    order = ["error", "warning", "info"]
    assert [order.index(rule.severity) for rule in RULES] == sorted(
        order.index(rule.severity) for rule in RULES
    )


@pytest.mark.parametrize(
    ("rule", "given", "detail"),
    [
        ("same-text", {"chosen": "red", "rejected": "red"}, '"red"'),
        ("empty-response", {"chosen": "", "rejected": "\n"}, "chosen and rejected"),
        ("empty-prompt", {"prompt": "  "}, "nothing is asked"),
        ("null-content", {"chosen": [{"role": "assistant", "content": None}]}, "chosen"),
        ("null-content", {"rejected": []}, "rejected"),
        ("end-token-in-response", {"chosen": "red<|im_end|>"}, 'chosen with "<|im_end|>"'),
        ("end-token-in-response", {"chosen": "red </s>\n", "rejected": "no</s>"}, 'chosen and rejected with " </s>\\n"'),
        ("think-on-one-side", {"chosen": "<think>seven</think>red"}, "chosen"),
        ("empty-think-on-one-side", {"rejected": "<think>\n\n</think>\n\nred"}, "rejected"),
        ("formatting-on-one-side", {"chosen": "\nred"}, "chosen begins with white space"),
        ("formatting-on-one-side", {"rejected": "red "}, "rejected ends with white space"),
        ("formatting-on-one-side", {"rejected": "red\r\nblue"}, "rejected has Windows line breaks"),
        ("whitespace-only-difference", {"chosen": "red  pens", "rejected": "red pens"}, '"red  pens"'),
        ("special-token-in-text", {"prompt": "what is <|im_start|>?"}, '"<|im_start|>"'),
        ("other-models-token", {"rejected": "[INST] red [/INST]"}, '"[INST]", "[/INST]"'),
        ("tool-call-broken", {"chosen": '<tool_call>\n{"name": "f",}\n</tool_call>'}, "Illegal trailing comma"),
        ("tool-call-broken", {"chosen": '<tool_call>{"name": "f"'}, "is not closed"),
        ("tool-call-broken", {"chosen": "<tool_call>{}</tool_call>"}, '"{}" names no function'),
        ("tools-invalid", {"tools": "{not json"}, '"{not json"'),
        ("tools-invalid", {"tools": "7"}, '"7" is no list'),
        ("tools-invalid", {"tools": '[{"type": "function"}]'}, "is no function"),
        ("prompt-repeated", {"chosen": "send red pens please, twelve", "rejected": "send red pens please no"}, "send red"),
        ("first-token-differs", {}, '"twelve" / "no"'),
    ],
)  # fmt: skip
def test_a_rule_finds_its_row_alone(lint, row, rule, given, detail):
    linted = lint(row(), row(**given), row())
    assert [linted.read.ids[at] for at in rows_of(linted, rule)][:3] == (
        ["pairs.jsonl:1", "pairs.jsonl:2", "pairs.jsonl:3"] if rule.startswith("first") else ["pairs.jsonl:2"]
    )
    assert detail in linted.details(rule)[0].replace("Expecting property name", "Illegal trailing comma")


def rows_of(linted, name):
    return sorted(next(rule.find(linted.subject) for rule in RULES if rule.name == name))


@pytest.mark.parametrize(
    ("prompt", "response", "detail"),
    [
        ("user user", "assistant", "user after user"),
        ("user system user", "assistant", "system after user"),
        ("user", "user assistant", "user after user"),
        ("user", "assistant user", "a response ends with a turn of user"),
        ("system", "assistant", "assistant after system"),
        ("assistant user", "assistant", "the prompt begins with a turn of assistant"),
        ("user", "narrator", "narrator after user"),
        ("user assistant", "user assistant", "a response begins with a turn of user"),
        ("user assistant user", "assistant tool assistant", None),
        ("system user", "assistant user assistant", None),
    ],
)
def test_turns_out_of_order_are_told_by_role(lint, row, turn, prompt, response, detail):
    def turns(roles: str) -> list:
        return [turn(role, f"{role} {at}") for at, role in enumerate(roles.split())]

    linted = lint(row(), row(turns(prompt), turns(response)))
    assert linted.details("role-order") == ([] if detail is None else [detail])


def test_a_prompt_that_ends_with_an_assistant_turn_is_information(lint, row, turn):
    linted = lint(row(), row([turn("user", "red"), turn("assistant", "twelve")], " pens", " cups"))
    assert linted.details("prefilled-prompt") == ['"twelve"']
    assert linted.errors() == set()


def test_a_template_that_strips_white_space_makes_the_same_tokens(lint, row):
    trims = template(TURN.replace("m.content", "m.content | trim"))
    linted = lint(row(), row(chosen="red", rejected="red "), template=trims)
    assert linted.details("same-tokens") == ['"red" / "red "']
    assert "formatting-on-one-side" not in linted.found


def test_a_template_that_writes_another_prompt_before_a_response_is_an_error(lint, row):
    linted = lint(row(), row(chosen="<think>a</think>red", rejected="<think>b</think>no"), template=REWRITES)
    assert [linted.read.ids[at] for at in rows_of(linted, "prompt-rewritten")] == ["pairs.jsonl:1"]
    assert linted.report.trained_on == 1


def test_thinking_that_the_template_strips_is_lost(lint, row):
    linted = lint(row(), row(chosen="<think>seven</think>red", rejected="no"), template=STRIPS)
    assert linted.details("thinking-lost") == ["chosen"]


def test_tokens_that_begin_a_text_twice_are_found_in_texts_and_templates(lint, row):
    once = template(start="{{ bos_token }}")
    linted = lint(row(), row("<s>red"), row(chosen=" <s>red"), template=once, bos=True)
    assert linted.found["doubled-bos"].count == 2
    assert linted.details("doubled-bos")[0] == 'a text begins with "<s>"'
    linted = lint(row(), template=template(start="{{ bos_token }}{{ bos_token }}"), bos=True)
    assert linted.details("doubled-bos") == ['the prompt begins with "<s><s>"']
    assert "doubled-bos" not in lint(row("<s>red"), template=once).found  # its tokenizer has no such token


def test_a_template_without_an_end_token_is_told_once_for_all_rows(lint, row):
    linted = lint(row(), row(), template=template("{{ m.role }}: {{ m.content }}\n", "assistant: "))
    assert linted.found["template-never-ends"].count == 2


def test_marks_that_are_no_tokens_are_found_where_a_text_spells_them(lint, row):
    marks = template("### {{ m.role }}:\n{{ m.content }}<|im_end|>\n", "### assistant:\n")
    linted = lint(row(), row(chosen="### user:\nred"), template=marks)
    assert linted.details("special-token-in-text") == ['"### user:"']


def test_tools_that_a_template_refuses_cost_their_row_alone(lint, row):
    tools = [json.dumps(value) for value in (7, "x", {"a": 1})] + ["[" * 100_000]
    refuses = "{% if tools %}{% for t in tools %}{{ t.name + '' }}{% endfor %}{% endif %}" + template()
    linted = lint(row(), *(row(tools=one) for one in tools), template=refuses)
    assert linted.found["tools-invalid"].count == linted.found["template-refuses"].count == 4
    assert linted.report.trained_on == 1


def test_conversations_that_part_early_are_told(lint, row, turn):
    one = [turn("assistant", "a"), turn("user", "b"), turn("assistant", "c")]
    other = [turn("assistant", "x"), *one[1:]]
    assert lint(row(), row(chosen=one, rejected=other)).details("differs-earlier") == ["at turn 1 of 3 and 3"]
    own = [[turn("user", text), turn("assistant", "red")] for text in ("how many", "how much")]
    linted = lint(row(), row(chosen=own[0], rejected=own[1]))
    assert linted.details("prompts-differ") == ["each response brings its own conversation"]


def test_a_prompt_repeated_as_turns_is_found(lint, row, turn):
    again = [turn("user", "red"), turn("assistant", "no")]
    linted = lint(row(), row("red", again, "blue"))
    assert linted.details("prompt-repeated") == ["as turns of chosen"]


@pytest.mark.parametrize("truncate", ["drop", "prompt", "response"])
@pytest.mark.parametrize("limit", [None, 12, 20, 40])
def test_what_lint_says_of_lengths_is_what_the_trainer_does(lint, row, truncate, limit):
    draw = np.random.default_rng(7)

    def text(most: int) -> str:
        return " ".join(draw.choice(["red", "blue", "pens", "cups"], size=draw.integers(1, most)))

    linted = lint(
        *(row(text(20), "red " + text(20), "red " + text(20)) for _ in range(60)),
        limit=limit,
        truncate=truncate,
    )
    table = linted.read.table.append_column("id", pa.array(linted.read.ids))
    settings = TrainSettings(model={"id": "x"}, max_length=limit, truncate=truncate)
    told = tokenise(table, linted.subject.tokenizer, settings)
    reasons = [f"dropped/{reason}" for reason in linted.subject.reasons if reason]
    cut = linted.found["truncated"].count if "truncated" in linted.found else 0
    assert linted.report.trained_on == len(told.pairs)
    assert dict(told.notes) == {
        **{reason: reasons.count(reason) for reason in reasons},
        **({f"truncated/{truncate}": cut} if cut else {}),
    }
    kept = np.flatnonzero(linted.subject.because(None))
    assert [(len(pair.prompt), len(pair.chosen), len(pair.rejected)) for pair in told.pairs] == [
        tuple(sizes) for sizes in linted.subject.left[kept].tolist()
    ]
    if limit == 20 and truncate != "prompt":
        assert linted.found["no-room"].count > 0
    if limit == 40 and truncate == "response":
        assert linted.found["end-lost-on-one-side"].count > 0
        assert linted.found["truncated"].examples[0]["detail"].split()[1] == "loses"


def test_a_prompt_that_leaves_little_room_is_told(lint, row):
    long = row("red " * 40, "blue " * 20, "no")
    limit = lint(long).report.tokens["prompt"]["max"] + 3
    linted = lint(long, limit=limit, truncate="response")
    assert linted.found["little-room"].count == 1
    assert linted.details("truncated")[0].startswith("chosen loses ")


def test_an_empty_table_is_reported_as_such(tokenizer_for):
    messages = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    table = pa.table({name: pa.array([], messages) for name in ("prompt", "chosen", "rejected")})
    report = check(look(table, tokenizer_for(), None), Read(table, []))
    assert (report.rows, report.findings) == (0, [])
