"""Template: what a tokenizer and its chat template write by themselves, found out by having them write."""

import re
from typing import TYPE_CHECKING, NamedTuple

from prefkit.engines import Conversation, Failure, Message
from prefkit.engines.chat import encode_whole, end_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Template", "template_of"]

_PROBES = ("alpha probe", "beta probe", "gamma probe", "delta probe")
_ASKED = tuple(map(Message, ("user", "assistant", "user"), _PROBES))


class Template(NamedTuple):
    """What is written around texts."""

    bos: int | None
    """The token that begins a text, unless it ends one too."""
    begin: str
    """Its text."""
    ends: tuple[str, ...]
    """Tokens that end a turn, as text."""
    marks: tuple[str, ...]
    """Special tokens, and what else is written between turns (`### Response:`): no text should hold them."""
    closes: bool
    """Whether an end token is written after the last turn."""
    trims: bool
    """Whether white space is taken off the ends of a response."""


def template_of(tokenizer: "PreTrainedTokenizerBase") -> Template:
    """Find out what a chat template writes around texts."""
    ends, bos = end_ids(tokenizer), tokenizer.bos_token_id
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    asked = [
        Conversation(_ASKED, (Message("assistant", text),)) for text in (_PROBES[-1], f" {_PROBES[-1]} ")
    ]
    plain, spaced = encode_whole(tokenizer, asked)
    text = "" if isinstance(plain, Failure) else tokenizer.decode(plain, clean_up_tokenization_spaces=False)
    pieces = re.split("|".join(_PROBES), text)
    lines = re.split("|".join(["\n", *map(re.escape, special)]), "\n".join(pieces[1:-1]))
    found = [*special, *(line.strip() for line in lines if not line.strip().isalnum())]
    return Template(
        None if bos in ends else bos,
        tokenizer.bos_token or "",
        tuple(tokenizer.convert_ids_to_tokens(list(ends))),
        tuple(dict.fromkeys(mark for mark in found if len(mark) > 2)),
        any(tokenizer.convert_ids_to_tokens(end) in pieces[-1] for end in ends),
        plain == spaced,
    )
