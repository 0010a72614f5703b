"""Lint: what a trainer's tokenizer and chat template would make of each pair, before anybody pays for training on it.

Nothing here imitates the trainer: tokens come from `prefkit.engines.chat`, what is cut or left out is decided by
`prefkit.train.tokenise`, and the rules only look at what those two say.

    read    pairs as they stand, the wrong ones too
    look    tokenise them once
    check   ask every rule
    mend    a repaired copy, and what was done to each row
"""

from prefkit.lint.mending import Mended, mend, write
from prefkit.lint.reading import Read, read
from prefkit.lint.report import Finding, Report, check
from prefkit.lint.rules import RULES
from prefkit.lint.subject import Subject, look

__all__ = [
    "RULES",
    "Finding",
    "Mended",
    "Read",
    "Report",
    "Subject",
    "check",
    "look",
    "mend",
    "read",
    "write",
]
