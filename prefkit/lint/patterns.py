"""Patterns: what may stand in a text that a chat template should have written, or nobody; and how to look for it."""

import json
import re
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.lint.subject import Hits, Subject, where
from prefkit.lint.template import Template

__all__ = ["EMPTY_THINK", "OTHERS", "SPACE", "any_of", "end_of", "has", "on_one_side", "on_sides", "quoted"]

SPACE = " \t\r\n"
"""What counts as white space at the ends of a response."""
EMPTY_THINK = r"<think>\s*</think>\s*"
_ENDS = r"<\|(?:im_end|endoftext|eot_id|end_of_text|end)\|>|<end_of_turn>|<｜end▁of▁sentence｜>|</s>"
_STARTS = r"<\|(?:im_start|begin_of_text|start_header_id|system|user|assistant)\|>|<start_of_turn>|\[/?INST\]|<<SYS>>"
OTHERS = f"{_ENDS}|{_STARTS}"
"""What finds the marks that the templates of widespread models write."""
_SHOWN = 40
"""Characters of a text that a person needs to recognise it."""


def has(texts: pa.Array, pattern: str) -> np.ndarray:
    """Return which texts match a regular expression, bool [texts]."""
    return np.asarray(pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False), dtype=bool)


def any_of(texts: Sequence[str]) -> str:
    """Return a regular expression for any of these texts, the longest first; one that never matches for none."""
    return "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True)) or r"[^\s\S]"


def end_of(template: Template) -> re.Pattern[str]:
    """Return what finds end tokens, the model's own and those of others, at the end of a text."""
    return re.compile(f"(?:[{SPACE}]*(?:{any_of(template.ends)}|{_ENDS}))+[{SPACE}]*$")


def on_sides(subject: Subject, find: Callable[[pa.Array], np.ndarray]) -> Hits:
    """Return the rows with a response that is found by the text of its last turn, and which side it is."""
    found = {side: find(texts) for side, texts in subject.last.items()}
    return where(
        np.logical_or(*found.values()), lambda row: " and ".join(side for side in found if found[side][row])
    )


def on_one_side(subject: Subject, find: Callable[[pa.Array], np.ndarray]) -> Hits:
    """Return the rows with exactly one response that is found, and which side it is."""
    return {row: sides for row, sides in on_sides(subject, find).items() if " and " not in sides}


def quoted(text: str) -> str:
    """Return the beginning of a text, in quotes and on one line."""
    return json.dumps(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…", ensure_ascii=False)
