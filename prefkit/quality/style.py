"""Style: what can be seen of a text without reading it, as numbers: how long, how formatted, how it sounds.

Each is a column [texts]; counts are taken as ln(1 + count), so that the difference of two sides is about a ratio and one very
long text does not decide a fit. Together they are what a label must not be told by: see `prefkit.analysis.shortcut`.
"""

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.quality.phrases import counts, refusal
from prefkit.texts import chunkwise, contents

__all__ = ["FEATURES", "counted", "feature", "style"]

_COUNTED = {
    "sentences": r"[.!?。！？](?:\s|$)",
    "paragraphs": r"\n[ \t]*\n",
    "bullets": r"(?m)^[ \t]*[-*•+][ \t]",
    "numbered": r"(?m)^[ \t]*[0-9]{1,3}[.)][ \t]",
    "headings": r"(?m)^[ \t]{0,3}#{1,6}[ \t]",
    "bold": r"\*\*[^*\n]+\*\*",
    "code": r"`[^`\n]+`|(?m)^[ \t]*```",
    "tables": r"(?m)^[ \t]*\|.*\|[ \t]*$",
    "links": r"https?://",
    "questions": r"[?？]",
    "exclamations": r"[!！]",
    "emoji": r"[\x{1F300}-\x{1FAFF}\x{2600}-\x{27BF}]",
    "numbers": r"[0-9]+",
}
_PHRASES = ("hedges", "praise", "blame")
FEATURES: tuple[str, ...] = ("length", *_COUNTED, *_PHRASES, "refusal")
"""Their names, in the order of the columns."""


def style(messages: pa.ChunkedArray) -> np.ndarray:
    """Return the style of each conversation: float64 [rows, features]; null counts as the empty text.

    `length` is in characters; `refusal` is 1 or 0; the others are counts; all but `refusal` as ln(1 + x).
    """
    return chunkwise(_style, messages)


def feature(messages: pa.ChunkedArray, name: str) -> np.ndarray:
    """Return one column of the style: float64 [rows]."""
    at = FEATURES.index(name)
    return chunkwise(lambda some: _style(some)[:, at], messages)


def counted(messages: pa.ChunkedArray) -> np.ndarray:
    """Return the same as plain counts: float64 [rows, features]."""
    return chunkwise(_counted, messages)


def _style(messages: pa.ChunkedArray) -> np.ndarray:
    raw = _counted(messages)
    return np.where(np.array(FEATURES) == "refusal", raw, np.log1p(raw))


def _counted(messages: pa.ChunkedArray) -> np.ndarray:
    texts = pl.Series(contents(messages)).fill_null("")
    columns = {"length": texts.str.len_chars()}
    columns |= {name: texts.str.count_matches(pattern) for name, pattern in _COUNTED.items()}
    told = {name: column.cast(pl.Float64).to_numpy() for name, column in columns.items()}
    told |= counts(texts)
    told["refusal"] = refusal(texts).astype(np.float64)
    return np.stack([told[name] for name in FEATURES], axis=1)
