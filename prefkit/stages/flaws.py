"""Flaws of a text that can be seen from the text alone: each a function from conversations to bool [rows]."""

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.quality import endings, languages, personal, phrases
from prefkit.tables import last_content
from prefkit.texts import contents, repeated_share

__all__ = ["ANSWER", "TEXT", "empty", "repeating", "role_leak"]

_LEAKS = (
    r"(?i)(?:^|\n)[ \t]*(?:\#\#\#[ \t]*)?(?:human|user|assistant|system|instruction|response)[ \t]*:"
    r"|<\|[a-z_]{2,20}\|>"
    r"|\[/?INST\]|</?s>"
)


def empty(messages: pa.ChunkedArray) -> np.ndarray:
    """Return where nothing but whitespace is said, or nothing at all."""
    texts = pl.Series(contents(messages))
    return texts.fill_null("").str.contains(r"\S").not_().to_numpy()


def role_leak(messages: pa.ChunkedArray) -> np.ndarray:
    """Return where a text speaks for another role: a line that opens with `Human:`, or a chat template's marker."""
    texts = pl.Series(contents(messages))
    return texts.fill_null("").str.contains(_LEAKS).to_numpy()


def repeating(messages: pa.ChunkedArray, above: float) -> np.ndarray:
    """Return where more than this share of a text has been there before."""
    return repeated_share(contents(messages)) > above


def _read(look: Callable[[pl.Series], np.ndarray]) -> Callable[[pa.ChunkedArray], np.ndarray]:
    return lambda messages: look(pl.Series(contents(messages)))


def _personal(messages: pa.ChunkedArray) -> np.ndarray:
    return personal.has_personal(contents(messages))


def _of_both(
    look: Callable[[pl.Series, pl.Series], np.ndarray],
) -> Callable[[pa.ChunkedArray, pa.ChunkedArray], np.ndarray]:
    # the question alone: what a system prompt is written in says nothing of the answer
    return lambda prompts, answers: look(pl.Series(last_content(prompts)), pl.Series(contents(answers)))


TEXT: Mapping[str, Callable[[pa.ChunkedArray], np.ndarray]] = {
    "empty": empty,
    "role-leak": role_leak,
    "personal-data": _personal,
    "special-token": _read(endings.special_tokens),
    "cut-off": _read(endings.cut_off),
    "refusal": _read(phrases.refusal),
}
"""What can be seen of a text alone."""
ANSWER: Mapping[str, Callable[[pa.ChunkedArray, pa.ChunkedArray], np.ndarray]] = {
    "other-script": _of_both(languages.other_script),
    "other-language": _of_both(languages.other_language),
}
"""What can be seen of an answer beside its prompt."""
