"""Flaws of a text that can be seen from the text alone: each a function from conversations to bool [rows]."""

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.texts import contents, repeated_share

__all__ = ["empty", "repeating", "role_leak"]

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
