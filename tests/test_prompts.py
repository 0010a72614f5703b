import json

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
