"""Languages: whether an answer is in the language of its question.

`other_script` needs nothing: it compares the script that most letters are of, so it tells Chinese from English and not German
from English. `other_language` asks py3langid (BSD, 4 MB, numpy alone), an extra, since telling a hundred languages apart
is a model's work. Both stay silent where there is little to go by: a text below a number of letters, code, or a
question that asks for a translation.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from prefkit.errors import PrefkitError

__all__ = ["other_language", "other_script", "scripts", "spoken"]

_SCRIPTS = (
    "Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Bengali", "Tamil", "Telugu", "Thai", "Georgian",
    "Armenian", "Hangul", "Kana", "Han",
)  # fmt: skip
_CLASSES = {"Kana": r"[\p{Hiragana}\p{Katakana}]"}
_KANA, _HAN = _SCRIPTS.index("Kana"), _SCRIPTS.index("Han")
LEAST = 20
"""Letters below which a text is in no script or language."""
SURE = 0.7
"""Probability from which on a language is believed: finds 87 % of German answers to English sentences, and nothing where
2,730 sentences were held against others of their language."""
_CODE = r"(?s)```.*?(?:```|$)|`[^`\n]*`|https?://\S+|<[^>\n]{1,200}>"
_ASKS_FOR_ANOTHER = (
    r"(?i)\btranslat|\b(?:in|into|to) (?:english|french|german|spanish|italian|portuguese|dutch|russian|chinese|mandarin"
    r"|japanese|korean|arabic|hindi|turkish|polish|latin|greek|hebrew|swedish|danish|norwegian|finnish|czech|ukrainian"
    r"|vietnamese|thai|indonesian)\b|翻译|翻譯|翻訳|переве|перевод|übersetz|tradu[iczs]"
)


def scripts(texts: pl.Series) -> np.ndarray:
    """Return which script most letters are of: int64 [texts], -1 where there are under 20 letters.

    Any Kana makes a text Japanese, so that its Chinese characters are not taken for Chinese.
    """
    plain = texts.fill_null("").str.replace_all(_CODE, " ")
    found = np.zeros((len(plain), len(_SCRIPTS)))
    found[:, 0] = plain.str.count_matches(rf"\p{{{_SCRIPTS[0]}}}").to_numpy()
    rows = np.flatnonzero((plain.str.len_bytes() > plain.str.len_chars()).to_numpy())
    wide = plain[rows]  # a text of ASCII alone has no other letters
    for column, name in enumerate(_SCRIPTS[1:], start=1):
        found[rows, column] = wide.str.count_matches(_CLASSES.get(name, rf"\p{{{name}}}")).to_numpy()
    letters = found.sum(axis=1)
    dense = found[:, _HAN] + found[:, _KANA]  # a character of these is a word
    japanese = (found[:, _KANA] > 0) & (dense > 0)
    found[:, _KANA] += np.where(japanese, found[:, _HAN], 0.0)
    found[:, _HAN] *= ~japanese
    most: np.ndarray = found.argmax(axis=1)
    most[letters + 3 * dense < LEAST] = -1
    return most


def other_script(prompts: pl.Series, answers: pl.Series) -> np.ndarray:
    """Return which answers are in another script than their prompt, no translation being asked for: bool [texts]."""
    asked, told = scripts(prompts), scripts(answers)
    found: np.ndarray = (asked >= 0) & (told >= 0) & (asked != told) & ~_asks(prompts)
    return found


def other_language(prompts: pl.Series, answers: pl.Series) -> np.ndarray:
    """Return which answers are in another language than their prompt, no translation being asked for: bool [texts].

    Raises: PrefkitError where py3langid is not installed.
    """
    rows = np.flatnonzero(~_asks(prompts))
    asked, told = spoken(prompts[rows]), spoken(answers[rows])
    found: np.ndarray = other_script(prompts, answers)
    found[rows] |= [bool(one and other and one != other) for one, other in zip(asked, told, strict=True)]
    return found


def spoken(texts: pl.Series) -> Sequence[str | None]:
    """Return the language of each text by ISO 639, None where it is not sure. Equal texts are looked at once.

    Raises: PrefkitError where py3langid is not installed.
    """
    plain = texts.fill_null("").str.replace_all(_CODE, " ").str.slice(0, 2000)
    letters = plain.str.count_matches(r"\p{L}") + 3 * plain.str.count_matches(
        r"[\p{Han}\p{Hiragana}\p{Katakana}]"
    )
    plain = pl.select(pl.when(letters >= LEAST).then(plain)).to_series()
    told: dict[str | None, str | None] = {None: None}
    for text in plain.drop_nulls().unique(maintain_order=True):
        language, sure = _identifier().classify(text)
        told[text] = str(language) if sure >= SURE else None
    return [told[text] for text in plain]


def _asks(prompts: pl.Series) -> np.ndarray:
    return prompts.fill_null("").str.contains(_ASKS_FOR_ANOTHER).to_numpy()


@lru_cache
def _identifier() -> Any:
    try:
        from py3langid.langid import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
            MODEL_FILE,
            LanguageIdentifier,
        )
    except ImportError as error:
        hint = "pip install 'prefkit[language]', or drop `other-script`, which needs nothing"
        raise PrefkitError("telling languages apart needs py3langid", hint=hint) from error
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
