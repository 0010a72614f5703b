"""Formulas over columns: what they mean, and what cannot be written in them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.weighting.expression import parse

COLUMNS = {"a": np.array([2.0, -3.0]), "b": np.array([0.5, 4.0])}


def value(text: str) -> list[float]:
    return parse(text)(COLUMNS, 2).tolist()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a + b * 2", [3.0, 5.0]),
        ("(a + b) * 2", [5.0, 2.0]),
        ("a - b - 1", [0.5, -8.0]),
        ("a / b / 2", [2.0, -0.375]),
        ("-a ** 2", [-4.0, -9.0]),
        ("2 ** 3 ** 2 + 0 * a", [512.0, 512.0]),
        ("2 ** -b", [2**-0.5, 2**-4.0]),
        ("--a", [2.0, -3.0]),
        ("max(a, 0) + min(b, 1)", [2.5, 1.0]),
        ("abs(a) + sqrt(4) + log(exp(b))", [4.5, 9.0]),
        ("logistic(a)", [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(3))]),
        ("1.5e1 * a", [30.0, -45.0]),
    ],
)
def test_arithmetic_is_as_everyone_reads_it(text, told):
    assert value(text) == pytest.approx(told)


def test_a_formula_knows_its_columns():
    assert parse("max(b, 2) * (1 - a) / b").columns() == ("a", "b")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a +", "found 'the end'"),
        ("(a", "found 'the end'"),
        ("a b", "found 'b'"),
        ("a.__class__", "cannot read"),
        ("a[0]", "cannot read"),
        ("__import__('os')", "cannot read"),
        ("open(a)", "no function"),
        ("max(a)", "takes 2 values"),
        ("a; b", "cannot read"),
        ("", "found 'the end'"),
        ("a == b", "cannot read"),
        ("é", "cannot read"),
        ("(" * 60 + "a" + ")" * 60, "nested"),
        ("a**" * 60 + "a", "nested"),
        ("a+" * 600 + "a", "1000 are the most"),
    ],
)
def test_nothing_else_can_be_written(text, told):
    with pytest.raises(ValueError, match=told):
        parse(text)


def test_what_has_no_value_is_not_finite_and_does_not_raise():
    assert not np.isfinite(parse("1 / (a - a) + log(0 - abs(a))")(COLUMNS, 2)).any()
    assert np.isfinite(parse("logistic(exp(a * 1000))")(COLUMNS, 2)).all()


@settings(max_examples=200)
@given(st.text(alphabet="ab1.e+-*/(), maxlog", max_size=30))
def test_any_text_is_a_formula_or_a_clear_error(text):
    try:
        formula = parse(text)
    except ValueError:
        return
    assert formula(dict.fromkeys(formula.columns(), np.ones(3)), 3).shape == (3,)
