"""What a check found: faults, each with what would mend it, and what was looked at."""

from typing import Literal, NamedTuple

__all__ = ["Counts", "Fault", "Kind", "Report"]

Kind = Literal[
    "missing",
    "cut-short",
    "damaged",
    "unreadable",
    "disagrees",
    "stranger",
]
"""`missing`: not there. `cut-short`: of another size than was filed. `damaged`: its content is not what its name, its
seal or its digest says. `unreadable`: the disk or its permissions give nothing. `disagrees`: sound, and at odds with
what names it. `stranger`: nobody wrote it, and a reader would take it for part of the dataset."""


class Fault(NamedTuple):
    """One thing that is not what it should be."""

    kind: Kind
    what: str
    """`object 3f9c… is cut short: 512 of 9 000 bytes`."""
    where: str
    """The file, as a path below the store or the folder."""
    used_by: tuple[str, ...] = ()
    """The steps that name it: `small/05-pair`."""
    mend: str = ""
    """What to do, and what that takes."""
    asked_again: int = 0
    """Answers of models that making it again would ask for, and pay for, once more; at most."""


class Counts(NamedTuple):
    """What was looked at."""

    runs: int = 0
    steps: int = 0
    parts: int = 0
    files: int = 0
    """Objects of a store, files of an export."""
    rows: int = 0
    bytes: int = 0
    answers: int | None = None
    """Answers in the memo; None where it was not looked at, or is not there."""


class Report(NamedTuple):
    """The outcome of a check."""

    subject: str
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    """What is no fault, and good to know."""
    counts: Counts
    seconds: float

    @property
    def is_sound(self) -> bool:
        """Whether everything is what it should be."""
        return not self.faults
