"""Personal data that has a form: e-mail and IP addresses, telephone, card and bank account numbers, keys.

A form alone finds too much: of sixteen digits in a row, nine in ten are no card. So numbers that carry a check digit must
pass it (cards: Luhn, ISO/IEC 7812-1; accounts: the remainder 97 of ISO 13616), addresses must be addresses of the
Internet, and telephone numbers must be written as such. Names, street addresses and dates of birth have no form and
are not found.

Redaction replaces a find by its kind in brackets, `[email]`, in every text alike. It goes on until nothing is found, so
doing it twice changes nothing.

A first, loose look over whole columns leaves few texts; only those are searched find by find.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

__all__ = ["KINDS", "Find", "Personal", "finds", "has_personal", "redacted", "suspects"]

Personal = Literal["email", "phone", "card", "iban", "key", "ip"]


class Find(NamedTuple):
    """Characters [start, end) of a text."""

    start: int
    end: int
    kind: Personal


class _Form(NamedTuple):
    look: str
    """A loose pattern for whole columns: what it misses is not searched. No look-around."""
    find: re.Pattern[str]
    holds: Callable[[str], bool]
    """Whether what was found is what it looks like."""


_ACCOUNT = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18,
    "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24,
    "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24,
    "XK": 20,
}  # fmt: skip
"""Characters of an account number, by country: the registry of ISO 13616."""
_NOBODY = re.compile(
    r"@(?:[\w.-]+\.)?(?:example\.(?:com|org|net)|[\w-]+\.(?:example|invalid|test|localhost))$", re.IGNORECASE
)


def luhn(number: str) -> bool:
    """Return whether the digits of a card number check. Source: ISO/IEC 7812-1, annex B."""
    digits = [int(mark) for mark in reversed(number) if mark.isdecimal()]
    doubled = [2 * digit - 9 * (digit > 4) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def mod97(number: str) -> bool:
    """Return whether an account number has its country's length and leaves 1 when divided by 97. Source: ISO 13616."""
    plain = "".join(number.split()).upper()
    if _ACCOUNT.get(plain[:2]) != len(plain):
        return False
    return int("".join(str(int(mark, 36)) for mark in plain[4:] + plain[:4])) % 97 == 1


def _is_card(number: str) -> bool:
    digits = re.sub(r"\D", "", number)
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and luhn(digits)


def _is_phone(number: str) -> bool:
    return 9 <= sum(mark.isdecimal() for mark in number) <= 15


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


_BARE = r"(?<![\w.+-])"
_FORMS: Mapping[Personal, _Form] = {
    "email": _Form(
        r"[A-Za-z0-9]@[A-Za-z0-9]",
        re.compile(
            r"(?<![\w.%+-])[A-Za-z0-9][\w.%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}(?![\w-])"
        ),
        lambda found: _NOBODY.search(found) is None,
    ),
    "key": _Form(
        r"sk-|gh[pousr]_|github_pat_|AKIA|ASIA|AIza|xox[abprs]-|hf_|glpat-|eyJ|PRIVATE KEY|[sr]k_live_",
        re.compile(
            r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----[\s\S]{0,8000}?(?:-----END [A-Z ]{0,20}PRIVATE KEY-----|\Z)"
            r"|(?<![\w-])(?:sk-(?:[a-z]{2,10}-)*[A-Za-z0-9_]{20,200}|gh[pousr]_[A-Za-z0-9]{36,255}"
            r"|github_pat_\w{22,255}|A[KS]IA[A-Z0-9]{16}|AIza[\w-]{35}|xox[abprs]-[A-Za-z0-9-]{10,250}"
            r"|hf_[A-Za-z0-9]{30,60}|glpat-[\w-]{20,60}|[sr]k_live_[A-Za-z0-9]{16,200}"
            r"|eyJ[\w-]{10,2000}\.eyJ[\w-]{10,4000}\.[\w-]{10,2000})(?![\w-])"
        ),
        lambda found: any(mark.isdecimal() for mark in found) or found.startswith("-----"),
    ),
    "iban": _Form(
        r"[A-Za-z]{2}[0-9]{2} ?[A-Za-z0-9]{4}",
        re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}(?![A-Za-z0-9])"),
        mod97,
    ),
    "card": _Form(
        r"[0-9](?:[ -]?[0-9]){12}",
        re.compile(
            _BARE
            + r"[2-6][0-9]{3}(?:([ -]?)[0-9]{4}\1[0-9]{4}\1[0-9]{1,7}|[ -]?[0-9]{6}[ -]?[0-9]{5})(?![\w-])"
        ),
        _is_card,
    ),
    "ip": _Form(
        r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[0-9A-Fa-f]:[0-9A-Fa-f:]+:[0-9A-Fa-f]|::",
        re.compile(
            r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w]|\.[0-9])"
            r"|(?<![\w:.])[0-9A-Fa-f]{1,4}(?::{1,2}[0-9A-Fa-f]{1,4}){3,7}(?![\w:])"
        ),
        _is_public,
    ),
    "phone": _Form(
        r"\+[0-9(]|\([0-9]{2,5}\)|[0-9][-. ][0-9]{3,4}[-. ][0-9]",
        re.compile(
            r"(?<![\w.+-])\+[1-9][0-9]{0,2}(?:[ .-]?(?:\([0-9]{1,4}\)|[0-9]{1,4})){2,6}(?![\w-]|\.[0-9])"
            r"|(?<![\w.(-])\([2-9][0-9]{2}\) ?[0-9]{3}[-. ][0-9]{4}(?![\w-]|\.[0-9])"
            r"|(?<![\w.+-])(?:1[-. ])?[2-9][0-9]{2}([-.])[2-9][0-9]{2}\1[0-9]{4}(?![\w-]|\.[0-9])"
        ),
        _is_phone,
    ),
}
KINDS: tuple[Personal, ...] = tuple(_FORMS)
"""In the order of looking: what one kind has taken is no other."""


def finds(text: str, kinds: tuple[Personal, ...] = KINDS) -> list[Find]:
    """Return what is found in one text, by place; nothing overlaps."""
    taken: list[Find] = []
    for kind in KINDS:
        if kind not in kinds:
            continue
        form = _FORMS[kind]
        for match in form.find.finditer(text):
            start, end = match.span()
            free = all(end <= other.start or other.end <= start for other in taken)
            if free and form.holds(match.group()):
                taken.append(Find(start, end, kind))
    return sorted(taken)


def suspects(texts: pl.Series, kinds: tuple[Personal, ...] = KINDS) -> np.ndarray:
    """Return which texts to search at all: bool [texts]. A superset of those that hold something."""
    look = "|".join(f"(?:{_FORMS[kind].look})" for kind in kinds)
    return texts.str.contains(look).fill_null(False).to_numpy()


def has_personal(texts: pa.ChunkedArray, kinds: tuple[Personal, ...] = KINDS) -> np.ndarray:
    """Return which texts hold personal data: bool [texts]; null holds none."""
    column = pl.Series(texts)
    hit: np.ndarray = suspects(column, kinds)
    for row in np.flatnonzero(hit):  # the few that a loose look has left
        hit[row] = bool(finds(column[int(row)], kinds))
    return hit


def redacted(text: str, kinds: tuple[Personal, ...] = KINDS) -> tuple[str, list[Personal]]:
    """Return a text with its finds replaced by their kind in brackets, and what was replaced."""
    replaced: list[Personal] = []
    while found := finds(text, kinds):  # each round leaves fewer digits and letters, so it ends
        for find in reversed(found):
            text = f"{text[: find.start]}[{find.kind}]{text[find.end :]}"
        replaced += [find.kind for find in found]
    return text, replaced
