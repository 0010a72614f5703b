"""From pair rows to token ids: one place says what is cut, and counts it.

The boundary of prompt and response is `prefkit.engines.chat.encode`'s, the same for training, for the reference
log-probs and for sampling. Rows that share a prompt and a response share their tokens, so that the batches can
compute them once. Nothing is shortened or left out without a count.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from prefkit.engines import Conversation, Failure
from prefkit.engines.chat import Encoded, encode_all, offsets
from prefkit.objectives import SIDES, Mask
from prefkit.tables import message_tuples
from prefkit.train.settings import TrainSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Pair", "Tokenised", "Weighted", "conversations", "settle", "tokenise"]

Ids = tuple[int, ...]


class Weighted(NamedTuple):
    """What a mask says of one side of a pair: float64 [response tokens] each."""

    tokens: np.ndarray
    """Weights of log-probs."""
    terms: np.ndarray
    """Weights of masked token terms."""


class Pair(NamedTuple):
    """One pair as tokens."""

    row: int
    """Its row in the table it came from."""
    id: str
    prompt: Ids
    chosen: Ids
    rejected: Ids
    cut: bool = False
    """Whether something was left out of it, so that log-probs of the whole are not its own."""
    masks: tuple[Weighted, Weighted] | None = None
    """Of chosen and of rejected; None where every token counts."""


class Tokenised(NamedTuple):
    """The pairs that can be trained on, in table order, and what became of the others."""

    pairs: Sequence[Pair]
    notes: Mapping[str, int]
    """`dropped/<reason>` and `truncated/<side>` counts."""


def tokenise(
    pairs: pa.Table, tokenizer: "PreTrainedTokenizerBase", settings: TrainSettings, limit: int | None = None
) -> Tokenised:
    """Encode every pair and cut it to length.

    `limit` is the model's own longest input; `settings.max_length` may be shorter. Pairs whose responses are the same
    tokens, before or after cutting, have a zero gradient and a loss of log 2, and so have pairs none of whose tokens
    the objective's mask keeps: they are dropped with a count.
    """
    bounds = [bound for bound in (limit, settings.max_length) if bound is not None]
    longest = min(bounds) if bounds else None
    notes: Counter[str] = Counter()
    kept = []
    sides = conversations(pairs, "chosen"), conversations(pairs, "rejected")
    encoded = zip(*(encode_all(tokenizer, side) for side in sides), strict=True)
    masked = _masked(pairs, tokenizer, settings.objective.mask)
    for row, (name, (one, other)) in enumerate(zip(pairs["id"].to_pylist(), encoded, strict=True)):
        if isinstance(one, Failure) or isinstance(other, Failure):
            notes["dropped/no-template"] += 1
            continue
        pair = Pair(row, name, tuple(one.prompt_ids), tuple(one.response_ids), tuple(other.response_ids))
        pair, reason = settle(pair, tuple(other.prompt_ids), longest, settings.truncate)
        if reason is None and pair.cut:
            notes[f"truncated/{settings.truncate}"] += 1
        if reason is None and masked is not None:
            pair, reason = masked(pair, (sides[0][row], one), (sides[1][row], other))
        if reason is None:
            kept.append(pair)
        else:
            notes[f"dropped/{reason}"] += 1
    return Tokenised(kept, notes)


def settle(pair: Pair, other_prompt: Ids, longest: int | None, truncate: str) -> tuple[Pair, str | None]:
    """Return a pair as it is trained on, and why it is not if it is not.

    `other_prompt` is the prompt as it stands before the rejected response, `longest` and `truncate` say how to cut.
    """
    reason = _unusable(pair, other_prompt)
    if reason is None and longest is not None and _length(pair) > longest:
        return _cut(pair, longest, truncate)
    return pair, reason


def conversations(pairs: pa.Table, side: str) -> list[Conversation]:
    """Return each row's prompt with its `chosen` or `rejected` response, as engines take them."""
    tools = pairs["tools"].to_pylist() if "tools" in pairs.column_names else [None] * pairs.num_rows
    sides = zip(message_tuples(pairs["prompt"]), message_tuples(pairs[side]), tools, strict=True)
    return [Conversation(prompt, response, tool) for prompt, response, tool in sides]


_Said = tuple[Conversation, Encoded]
_Masked = Callable[[Pair, _Said, _Said], tuple[Pair, str | None]]


def _masked(pairs: pa.Table, tokenizer: "PreTrainedTokenizerBase", mask: Mask) -> _Masked | None:
    """Return what puts the mask on a pair, or says why the pair is of no use; None where every token counts."""
    if not mask.reads():
        return None
    spans = {side: pairs[f"{side}_spans"] for side in SIDES}

    def put(pair: Pair, *said: _Said) -> tuple[Pair, str | None]:
        found = []
        for side, ids, (conversation, encoded) in zip(SIDES, (pair.chosen, pair.rejected), said, strict=True):
            where = offsets(tokenizer, conversation, encoded)
            if isinstance(where, Failure):
                return pair, "no-offsets"
            marked = spans[side][pair.row].as_py() or []
            where = where[: len(ids)]
            found.append(Weighted(mask.tokens(marked, where, side), mask.term_tokens(marked, where, side)))
        reason = None if any(one.tokens.any() for one in found) else "nothing-marked"
        return pair._replace(masks=(found[0], found[1])), reason

    return put


def _length(pair: Pair) -> int:
    return len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))


def _unusable(pair: Pair, other_prompt: Ids) -> str | None:
    if pair.prompt != other_prompt:
        return "prompts-differ"  # a template that writes the prompt differently before each response
    if not pair.prompt or not pair.chosen or not pair.rejected:
        return "empty"
    return "same-tokens" if pair.chosen == pair.rejected else None


def _cut(pair: Pair, longest: int, side: str) -> tuple[Pair, str | None]:
    if side == "drop":
        return pair, "too-long"
    if side == "prompt":
        room = longest - max(len(pair.chosen), len(pair.rejected))
        if room < 1:
            return pair, "no-room-for-prompt"
        return pair._replace(prompt=pair.prompt[-room:], cut=True), None
    room = longest - len(pair.prompt)
    if room < 1:
        return pair, "no-room-for-response"
    pair = pair._replace(chosen=pair.chosen[:room], rejected=pair.rejected[:room], cut=True)
    return pair, "same-tokens-after-cut" if pair.chosen == pair.rejected else None
