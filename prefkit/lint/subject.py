"""Subject: what the rules look at. Every pair is tokenised once, by the trainer's own path.

Shapes: R rows. Tokens of all rows lie one after the other, so that a rule is a few operations on whole columns.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.engines import Conversation, Failure
from prefkit.engines.chat import Encoded, encode_all
from prefkit.lint.template import Template, template_of
from prefkit.tables import last_content
from prefkit.train.tokenise import Pair, conversations, settle

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Hits", "Subject", "Tokens", "each", "look", "where"]

_CHUNK = 1000
"""Rows tokenised at once: enough for the tokenizer to be quick, few enough to show progress."""
_PARTS = ("prompt", "chosen", "rejected")
Hits = dict[int, str]
"""The rows that a rule found, and in a few words what is wrong with each."""


class Tokens(NamedTuple):
    """Token ids of all rows: row r has `ids[offsets[r]:offsets[r + 1]]`; none where the template failed."""

    ids: np.ndarray
    offsets: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int64 [R]."""
        return np.asarray(np.diff(self.offsets))

    def row(self, at: int) -> list[int]:
        """Return the ids of one row."""
        return list(map(int, self.ids[self.offsets[at] : self.offsets[at + 1]]))


@dataclass(frozen=True)
class Subject:
    """Pairs as text, as tokens, and what the trainer would do with each."""

    tokenizer: "PreTrainedTokenizerBase"
    template: Template
    limit: int | None
    """Tokens that a prompt and a response may have together."""
    truncate: str
    said: Mapping[str, Sequence[Conversation]]
    """By side: the prompt with its response."""
    last: Mapping[str, pa.Array]
    """By side: the text of the last turn, "" where there is none."""
    texts: tuple[pa.Array, np.ndarray]
    """The text of every turn, "" where it is null, and the row that it is of."""
    tokens: Mapping[str, Tokens]
    """Of `prompt`, `chosen` and `rejected`, before anything is cut."""
    left: np.ndarray
    """Tokens that are left of the three once they are cut, int64 [R, 3]."""
    reasons: Sequence[str | None]
    """Why the trainer leaves a row out, as it counts that; None where it does not."""
    failures: Mapping[int, str]
    """What the chat template had against a row."""

    @property
    def lost(self) -> np.ndarray:
        """Return how many tokens are cut off prompt, chosen and rejected, int64 [R, 3]."""
        return np.asarray(np.stack([part.lengths for part in self.tokens.values()], axis=1) - self.left)

    def because(self, *reasons: str | None) -> np.ndarray:
        """Return the rows that the trainer leaves out for one of these reasons, bool [R]; None: that it takes."""
        return np.array([reason in reasons for reason in self.reasons], dtype=bool)

    def first_difference(self) -> np.ndarray:
        """Return the place of the first token that differs, int64 [R]; the shorter length where one goes on."""
        one, other = self.tokens["chosen"], self.tokens["rejected"]
        shorter = np.minimum(one.lengths, other.lengths)
        row = np.repeat(np.arange(len(shorter)), shorter)
        at = np.arange(len(row)) - np.repeat(np.cumsum(shorter) - shorter, shorter)
        differs = one.ids[one.offsets[row] + at] != other.ids[other.offsets[row] + at]
        rows, first = np.unique(row[differs], return_index=True)
        shorter[rows] = at[differs][first]
        return np.asarray(shorter)


def where(mask: np.ndarray, detail: Callable[[int], str]) -> Hits:
    """Return the rows where a mask, bool [R], is true."""
    return {row: detail(row) for row in np.flatnonzero(mask).tolist()}


def each(subject: Subject, fault: Callable[[Conversation, Conversation], str | None]) -> Hits:
    """Return the rows in which something is wrong with chosen and rejected, each with its prompt."""
    pairs = zip(*subject.said.values(), strict=True)
    return {row: what for row, pair in enumerate(pairs) if (what := fault(*pair)) is not None}


def look(
    table: pa.Table,
    tokenizer: "PreTrainedTokenizerBase",
    limit: int | None,
    truncate: str = "drop",
    progress: Callable[[int, int], None] | None = None,
) -> Subject:
    """Tokenise pairs. `limit` and `truncate` are what `train` calls `max_length` (or the model's own) and `truncate`."""
    said = {side: conversations(table, side) for side in _PARTS[1:]}
    whole, cut, reasons, failures = list[Pair](), list[Pair](), list[str | None](), dict[int, str]()
    for start in range(0, table.num_rows, _CHUNK):
        sides = [encode_all(tokenizer, side[start : start + _CHUNK]) for side in said.values()]
        for row, (one, other) in enumerate(zip(*sides, strict=True), start):
            pair, settled = _settled(row, one, other, limit, truncate)
            failed = [side.error for side in (one, other) if isinstance(side, Failure)]
            if failed:
                failures[row] = failed[0]
            whole.append(pair)
            cut.append(settled[0])
            reasons.append(settled[1])
        if progress is not None:
            progress(len(whole), table.num_rows)
    last = {side: pc.fill_null(last_content(table[side]), "") for side in said}
    tokens = {
        "prompt": _tokens([pair.prompt for pair in whole]),
        "chosen": _tokens([pair.chosen for pair in whole]),
        "rejected": _tokens([pair.rejected for pair in whole]),
    }
    left = [(len(pair.prompt), len(pair.chosen), len(pair.rejected)) for pair in cut]
    return Subject(
        tokenizer,
        template_of(tokenizer),
        limit,
        truncate,
        said,
        last,
        _texts(table),
        tokens,
        np.array(left, np.int64).reshape(-1, 3),
        reasons,
        failures,
    )


def _settled(
    row: int, one: Encoded | Failure, other: Encoded | Failure, limit: int | None, truncate: str
) -> tuple[Pair, tuple[Pair, str | None]]:
    """Return a pair whole, and what the trainer makes of it."""
    if isinstance(one, Failure) or isinstance(other, Failure):
        nothing = Pair(row, "", (), (), ())
        return nothing, (nothing, "no-template")
    pair = Pair(row, "", tuple(one.prompt_ids), tuple(one.response_ids), tuple(other.response_ids))
    return pair, settle(pair, tuple(other.prompt_ids), limit, truncate)


def _tokens(rows: Sequence[Sequence[int]]) -> Tokens:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
    return Tokens(np.fromiter(chain.from_iterable(rows), np.int32, int(offsets[-1])), offsets)


def _texts(table: pa.Table) -> tuple[pa.Array, np.ndarray]:
    columns = [table[part].combine_chunks() for part in _PARTS]
    lengths = [
        pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False) for column in columns
    ]
    texts = [pc.fill_null(column.flatten().field("content"), "") for column in columns]
    return pa.concat_arrays(texts), np.concatenate(
        [np.repeat(np.arange(len(size)), size) for size in lengths]
    )
