"""Style: one feature of a response that can be counted, as a score: how formatted, how hedged, how easy, how new."""

from typing import ClassVar, Literal, cast, final

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import model_validator

from prefkit.columns import Columns, types
from prefkit.quality.style import FEATURES, counted
from prefkit.rules.rule import Rule
from prefkit.tables import last_content
from prefkit.texts import contents

__all__ = ["Style"]

_WORD = r"[\pL\pN]+(?:['’]\pL+)*"
Feature = Literal[
    "words",
    "sentences",
    "paragraphs",
    "bullets",
    "numbered",
    "headings",
    "bold",
    "code",
    "tables",
    "links",
    "questions",
    "exclamations",
    "emoji",
    "numbers",
    "hedges",
    "praise",
    "blame",
    "refusal",
    "readability",
    "novelty",
]


@final
class Style(Rule):
    """Score one feature of a response's style: a count, or the reading ease, or how few words are those of a source."""

    name: ClassVar[str] = "style"

    feature: Feature
    """What is counted; `refusal` is 1 or 0. `readability`: the reading ease of Flesch (1948), English alone; syllables are
    runs of vowels. `novelty`: 1 less the Jaccard similarity of the words with those of the source."""
    per_words: bool = False
    """Whether a count is given for each 100 words. Null where there are none."""
    source: Literal["prompt", "reference_answer"] = "prompt"
    """For `novelty`: what the response is compared with."""

    @model_validator(mode="after")
    def _counts(self) -> "Style":
        if self.per_words and self.feature in ("words", "refusal", "readability", "novelty"):
            raise ValueError(f"per_words is for counts, and '{self.feature}' is none")
        return self

    def reads(self) -> Columns:
        return types("response", *([self.source] if self.feature == "novelty" else []))

    def score(self, table: pa.Table) -> pa.Array:
        response = last_content(table["response"])
        texts = cast("pl.Series", pl.from_arrow(response))
        words = texts.str.count_matches(_WORD).cast(pl.Float64).to_numpy()
        if self.feature == "novelty":
            found = _novelty(texts, self._source(table))
        elif self.feature == "readability":
            found = _reading_ease(texts, words)
        elif self.feature == "words":
            found = words
        else:
            found = counted(table["response"])[:, FEATURES.index(self.feature)]
        if self.per_words:
            found = np.divide(100 * found, words, out=np.full(len(words), np.nan), where=words > 0)
        unknown = np.isnan(found) | response.is_null().to_numpy(zero_copy_only=False)
        return pa.array(found, pa.float64(), mask=unknown)

    def _source(self, table: pa.Table) -> pl.Series:
        column = table[self.source]
        return cast("pl.Series", pl.from_arrow(contents(column) if self.source == "prompt" else column))


def _reading_ease(texts: pl.Series, words: np.ndarray) -> np.ndarray:
    """Return Flesch's reading ease, NaN without words. Source: A New Readability Yardstick (1948), its equation."""
    plain = texts.str.to_lowercase()
    endings = plain.str.count_matches(r"[.!?]+(?:\s|$)").cast(pl.Float64).to_numpy()
    # A word has a syllable for each run of vowels, without a silent e at its end, and at least one.
    groups = plain.str.count_matches(r"[aeiouy]+").cast(pl.Float64).to_numpy()
    silent = plain.str.count_matches(r"[aeiouy][^aeiouy\W\d_]+e\b").cast(pl.Float64).to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        syllables = np.maximum(groups - silent, words)
        ease: np.ndarray = 206.835 - 1.015 * words / np.maximum(endings, 1) - 84.6 * syllables / words
    return ease


def _novelty(texts: pl.Series, source: pl.Series) -> np.ndarray:
    """Return 1 less the shared part of all different words of both; NaN where there is no source, or no word at all."""
    both = pl.DataFrame({"text": texts, "source": source}).select(
        pl.all().str.to_lowercase().str.extract_all(_WORD).list.unique()
    )
    shared, every = (
        both.select(each.list.len().cast(pl.Float64)).to_series().to_numpy()
        for each in (
            pl.col("text").list.set_intersection("source"),
            pl.col("text").list.set_union("source"),
        )
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        new: np.ndarray = 1 - shared / every
    return new
