"""Answers in steps: where they go wrong and what follows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.conditioning.stepwise import fault_at, labelled_steps, step_after

TEXT = "Step 1: 2+3=5.\nStep 2: 5*2=12.\nStep 3: so 12."
LABEL = "Step {}:"


def test_the_beginning_has_the_label_of_the_wrong_step():
    # golden data.json V04
    fault = fault_at(TEXT, 2, "\n", LABEL)
    assert TEXT[: fault.end] == "Step 1: 2+3=5.\nStep 2:"
    assert step_after(TEXT, fault.end, "\n", LABEL) == " 5*2=12."


def test_a_step_that_speaks_of_another_is_no_label():
    text = "Step 1: as in Step 2: below.\nmore\n\nStep 2: wrong\nstill\nStep 3: end"
    assert [mark.id for mark in labelled_steps(text, LABEL)] == [1, 2, 3]
    fault = fault_at(text, 4, "\n", LABEL)  # the judge counts lines, and the fourth is of step 2
    assert fault.step == 2
    assert step_after(text, fault.end, "\n", LABEL) == " wrong\nstill"
    assert fault_at("well\nStep 1: a", 1, "\n", LABEL) is None


def test_without_labels_steps_are_parts():
    text = "one\n\n two\nthree"
    fault = fault_at(text, 2, "\n")
    assert (fault.step, text[: fault.end]) == (2, "one")
    assert step_after(text, fault.end, "\n") == "\n\n two"
    assert fault_at(text, 4, "\n") is None
    assert fault_at(text, 1, "\n").end == 0


@given(
    st.lists(st.text("ab Step12:\n", max_size=12), max_size=6),
    st.integers(1, 8),
    st.sampled_from(["", LABEL]),
)
@pytest.mark.filterwarnings("error")
def test_beginning_and_step_are_a_beginning_of_the_text(parts, part, label):
    text = "\n".join(f"Step {n}:{said}" for n, said in enumerate(parts, start=1))
    fault = fault_at(text, part, "\n", label)
    if fault is not None:
        assert fault.step >= 1
        assert text.startswith(text[: fault.end] + step_after(text, fault.end, "\n", label))
