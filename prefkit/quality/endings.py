"""Endings and markers: text that stops in the middle, and text that holds what only a machine should see.

Whether generation hit its limit is known where `finish` is. Where it is not, an answer gives itself away by a code
block that never closes, or by prose of some length whose last line ends with a word or a comma. A poem, a list or a line of
code may end without a full stop, so only a last line as long as a sentence of prose counts.
"""

import numpy as np
import polars as pl

__all__ = ["cut_off", "special_tokens"]

_SPECIAL = (
    r"<\|[a-zA-Z_▁|0-9]{2,40}\|>|<｜[^｜>\n]{2,40}｜>|</?s>|<(?:pad|unk|bos|eos|mask|cls|sep)>|\[/?INST\]"
    r"|<</?SYS>>|<(?:start|end)_of_turn>|<(?:end_of_text|begin_of_text|endoftext)>|<extra_id_[0-9]+>|\[(?:PAD|UNK|CLS|SEP|MASK)\]"
)
_FENCE = r"(?m)^[ \t]*```"
_WORDS = 12
"""Words of a last line that make it prose."""
_LAST = r"([^\n]*)\s*$"
_STOPS = r"""[\p{L}\p{N},;–—(\[{/&+=-]$"""
_CODE_OR_TABLE = r"^\s*(?:\||[-*•#>]|[0-9]+[.)]|```)|(?:https?://|#)\S+$"


def special_tokens(texts: pl.Series) -> np.ndarray:
    """Return which texts hold a tokenizer's marker, `<|im_end|>` or `[INST]`: bool [texts]; null holds none."""
    return texts.str.contains(_SPECIAL).fill_null(False).to_numpy()


def cut_off(texts: pl.Series) -> np.ndarray:
    """Return which texts seem to stop in the middle: bool [texts]; null does not.

    Scripts that end sentences otherwise, such as Thai, would all be found: lines with letters outside Latin, Greek and
    Cyrillic are not judged.
    """
    plain = texts.fill_null("")
    open_block = (plain.str.count_matches(_FENCE) % 2 == 1).to_numpy()
    last = plain.str.extract(_LAST).fill_null("")
    prose = (last.str.count_matches(r"\S+") >= _WORDS).to_numpy()
    stops = last.str.contains(_STOPS).to_numpy() & ~last.str.contains(_CODE_OR_TABLE).to_numpy()
    foreign = last.str.contains(r"[^\p{Latin}\p{Greek}\p{Cyrillic}\p{Common}\p{Inherited}]").to_numpy()
    found: np.ndarray = open_block | (prose & stops & ~foreign)
    return found
