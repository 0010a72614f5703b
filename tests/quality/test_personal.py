"""Personal data: what has a form is found, what only looks like it is not, and redaction leaves nothing to redact."""

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.quality.personal import KINDS, finds, has_personal, luhn, mod97, redacted, suspects

KEY = "sk-" + "a1B2" * 8
FOUND = {
    "email": ["write to ann.lee+x@mail.acme.co.uk, please", "(bob@firm.de)"],
    "card": ["4111 1111 1111 1111", "5500-0000-0000-0004.", "340000000000009", "378282246310005"],
    "iban": [
        "GB82 WEST 1234 5698 7654 32",
        "pay DE89370400440532013000 now",
        "FR14 2004 1010 0505 0001 3M02 606",
    ],
    "ip": ["host 8.8.8.8 is up", "2001:4860:4860:0:0:0:0:8888"],
    "phone": ["call (212) 555-0147", "+44 20 7946 0958", "+49 (30) 901820", "212-555-0147"],
    "key": [KEY, "token ghp_" + "Ab12" * 9, "AKIAIOSFODNN7EXAMPLE"],
}
NOT_FOUND = [
    "4111 1111 1111 1112",  # one digit off
    "0000 0000 0000 0000",
    "GB82 WEST 1234 5698 7654 33",
    "127.0.0.1 and 192.168.0.12 and 1.2.3 and 999.1.1.1",
    "12:30:45 and 3.14159265358979 and 2024-01-15 and 1,234,567,890",
    "user@example.com and a@b.test",
    "@name and C++ and a@b",
    "sk-learn is a short-form-of-a-well-known-package-name-indeed",
    "ISBN 978-3-16-148410-0",
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind in FOUND for text in FOUND[kind]])
def test_what_has_the_form_is_found_and_named(kind, text):
    assert [find.kind for find in finds(text)] == [kind]
    clean, replaced = redacted(text)
    assert f"[{kind}]" in clean
    assert replaced == [kind]


@pytest.mark.parametrize("text", NOT_FOUND)
def test_what_only_looks_like_it_stays(text):
    assert finds(text) == []


def test_check_digits_catch_every_single_wrong_digit():
    number, account = "4539578763621486", "DE89370400440532013000"
    assert luhn(number)
    assert mod97(account)
    for at in range(16):
        wrong = number[:at] + str((int(number[at]) + 1) % 10) + number[at + 1 :]
        assert not luhn(wrong)
    for at in range(2, 22):
        assert not mod97(account[:at] + str((int(account[at]) + 1) % 10) + account[at + 1 :])


def test_a_kind_may_be_left_alone():
    text = "a.b@firm.de from 8.8.8.8"
    assert redacted(text, ("ip",)) == ("a.b@firm.de from [ip]", ["ip"])
    assert has_personal(pa.chunked_array([[text, None, "x"]]), ("email",)).tolist() == [True, False, False]


PIECES = (
    [text for texts in FOUND.values() for text in texts] + NOT_FOUND + [" ", ".", "-", "+1", "4", "[", "]"]
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=6).map("".join), st.text(max_size=20))
def test_redacting_twice_changes_nothing_and_the_loose_look_misses_nothing(text, noise):
    text = text + noise
    clean, replaced = redacted(text)
    assert redacted(clean) == (clean, [])
    if replaced:
        assert suspects(pl.Series([text]), KINDS).tolist() == [True]
