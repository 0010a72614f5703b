import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.engines import Message
from prefkit.errors import ContractError
from prefkit.prompts import fill, names_in, rationale_flaw, spoken, template

TEMPLATES = ("rationale.general.v1", "rationale.specific.v1", "rationale.train.v1")
ANSWERS = ("The sum of 2 and 2 is 4, as anyone who has counted to four can tell.", "It is 5.")


def test_every_shipped_template_says_what_it_needs():
    needs = {"prompt", "response_1", "response_2"}
    assert [names_in(template(name)) - needs for name in TEMPLATES] == [{"better"}, {"better"}, set()]


def test_the_templates_for_one_response_show_no_other():
    names = [f"rationale.response.{kind}.v1" for kind in ("general", "specific", "train")]
    assert [names_in(template(name)) - {"prompt", "response"} for name in names] == [
        {"standing"},
        {"standing"},
        set(),
    ]


def test_a_template_that_does_not_exist_is_named():
    with pytest.raises(ContractError, match=r"no template is called 'rationale\.general\.v99'"):
        template("rationale.general.v99")


@given(st.text())
def test_values_are_put_in_as_they_are(text):
    assert fill("a {{x}} b {{y}} c {{x}}", {"x": text, "y": "{{x}}"}) == f"a {text} b {{{{x}}}} c {text}"


@pytest.mark.parametrize("values", [{}, {"x": "1", "y": "2"}, {"y": "2"}])
def test_missing_and_surplus_values_are_errors(values):
    with pytest.raises(ContractError, match=r"needs the values \['x'\]"):
        fill("{{x}}", values)


def test_one_turn_is_spoken_as_it_is_and_several_with_their_roles():
    assert spoken([Message("user", "hi")]) == "hi"
    assert spoken([Message("system", "be kind"), Message("user", "hi")]) == "system: be kind\n\nuser: hi"
    assert spoken([]) == spoken([Message("user", None)]) == ""


@pytest.mark.parametrize(
    ("kind", "text", "flaw"),
    [
        ("general", "Response 1 gets the sum right.", None),
        ("general", " \n", "empty"),
        ("general", "The chosen response is right.", "names-label"),
        ("specific", 'It was Rejected: "It is 5."', "names-label"),
        ("general", "unchosen paths", None),
        ("general", "It  is 5.", "is-an-answer"),
        ("general", f"Because: {ANSWERS[0]}", "copies-answer"),
        ("general", "It says of 2 and 2 is 4, as anyone who has counted.", "copies-answer"),
        ("general", "It says the sum of 2 and 2 is 4.", None),
        ("specific", "It says the sum is right.", "quotes-nothing"),
        ("specific", 'It says "is 6", which nobody said.', "quotes-nothing"),
        ("specific", 'It says "is 5", which is wrong.', None),
        ("specific", "It says “is 5”, which is wrong.", None),
        ("specific", "It says `is 5`, which is wrong.", None),
        ("specific", 'It says "", which is wrong.', "quotes-nothing"),
        ("specific", f'It says "{ANSWERS[0]}"', "copies-answer"),
        ("specific", 'The whole of "It is 5." is wrong.', None),
    ],
)
def test_a_rationale_that_leaks_copies_or_quotes_nothing_is_found_out(kind, text, flaw):
    assert rationale_flaw(kind, text, ANSWERS) == flaw


@given(st.sampled_from(["general", "specific"]), st.text(), st.text(), st.text())
def test_any_text_is_judged_without_an_error(kind, text, one, other):
    assert json.dumps(rationale_flaw(kind, text, (one, other)))


VERDICTS = [
    "Response 1 is better.",
    "Response 2 is clearly the better one.",
    "**Response B** is preferred, as it adds up.",
    "Overall, Answer 2 was the winner.",
    "Response 1 wins on tone.",
    "I prefer Response 2 for its tone.",
    "Better: 1",
    "The preferred one is response 2",
    "The winner is B, by far.",
    "Verdict: A",
    "So [[B]].",
    "Assistant 1 seems much stronger.",
    "Response 1 is worse than the other.",
]
TOLD = [
    "The annotator liked it.",
    "As the label says, it adds up.",
    "I was told that it adds up.",
    "This was already decided.",
    "It matches the ground truth.",
]
DISGUISED = [
    "The ch\u200bosen one adds up.",
    "\uff23\uff28\uff2f\uff33\uff25\uff2e",
    "re\u00adjected",
    "Response\u2060 1 is\u200b better",
]
HARMLESS = [
    "In this response a better tone is kept.",
    "The better one is a bit long.",
    "The winner is a warm note, B-sides aside.",
    "Response 1 gets the sum right, Response 2 does not.",
    "The better answer keeps closer to the list. To its credit, the other answer holds the tone.",
    "One is warm and the other is curt; warmth was asked for.",
    "A better tone would have helped response 2, which is a bit long.",
    "It says “is 5”, which is wrong.",
    "It uses the word “better” where “good” would do.",
    "Preferring short words is what was asked.",
]


@pytest.mark.parametrize("text", VERDICTS + DISGUISED)
def test_a_strict_check_finds_the_label_by_whatever_name(text):
    assert rationale_flaw("general", text, ANSWERS, strict=True) == "names-label"


@pytest.mark.parametrize("text", TOLD)
def test_a_strict_check_finds_talk_of_a_label(text):
    assert rationale_flaw("general", text, ANSWERS, strict=True) == "tells-of-label"


@pytest.mark.parametrize("text", HARMLESS)
def test_a_strict_check_lets_reasons_pass(text):
    assert rationale_flaw("general", text, ANSWERS, strict=True) is None


def test_a_strict_check_wants_every_quote_to_be_real():
    mixed = 'It says "is 5" and then "the moon is made of cheese".'
    assert rationale_flaw("specific", mixed, ANSWERS) is None
    assert rationale_flaw("specific", mixed, ANSWERS, strict=True) == "quotes-wrongly"
    assert (
        rationale_flaw("specific", 'It says "The Sum of 2 and 2 is 4," as asked.', ANSWERS, strict=True)
        == "quotes-nothing"
    )
    real = 'It says "the sum of 2 and 2 is 4," but first "is 5".'
    assert rationale_flaw("specific", real, ANSWERS, strict=True) is None


plain = st.text(alphabet="abcdefgh ijk.", max_size=60)


@given(
    plain,
    plain,
    st.sampled_from(["chosen", "Rejected", "CHOSEN"]),
    st.sampled_from(["general", "specific"]),
    st.booleans(),
)
def test_a_label_is_found_wherever_it_stands(before, after, label, kind, strict):
    assert rationale_flaw(kind, f"{before} {label} {after}", ANSWERS, strict=strict) == "names-label"


@given(st.integers(0, 7), st.integers(9, 15), plain)
def test_nine_words_in_a_row_of_an_answer_are_a_copy_whatever_stands_around(start, length, around):
    words = ANSWERS[0].split()[start : start + length]
    copied = f"{around}. {' '.join(words).upper()} {around}"
    assert (rationale_flaw("general", copied, ANSWERS) == "copies-answer") == (len(words) >= 9)


@given(st.sampled_from(["general", "specific"]), st.text(max_size=80), st.text(max_size=80))
def test_a_strict_check_finds_all_that_a_plain_one_does(kind, text, answer):
    flaw = rationale_flaw(kind, text, (answer, "other"))
    strictly = rationale_flaw(kind, text, (answer, "other"), strict=True)
    assert strictly == flaw if flaw else strictly in (None, "names-label", "tells-of-label", "quotes-wrongly")


@pytest.mark.parametrize(
    "text",
    ["better " * 30_000, "response 1 " * 20_000, '"a' * 50_000, "(" * 100_000, "prefer response " * 20_000],
)
def test_a_text_made_to_be_slow_is_not(text):
    started = time.monotonic()
    rationale_flaw("specific", text, ANSWERS, strict=True)
    assert time.monotonic() - started < 5
