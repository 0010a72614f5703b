"""Errors a user can act on: what went wrong, where, and what to do about it.

The command line prints these without a traceback and exits with 2. Anything else that escapes is a bug of
prefkit: it prints its traceback and exits with 1. A child exists only where a caller would act differently:

    PrefkitError
    ├── RecipeError      the recipe is wrong; carries every problem found in one pass
    ├── DataError        rows or files cannot be read as what they claim to be
    ├── ContractError    a stage and a table do not fit, or a stage broke its own law
    ├── EngineError      a model could not be loaded or would not answer
    ├── StoreError       the store cannot be read or written, or holds something it should not
    ├── EstimateError    an estimator did not converge, or its input cannot identify it
    ├── MemoryLimitError a step would hold more memory than is allowed
    ├── TrainError       training cannot go on
    └── GateError        the dataset was built, and is not what it must be
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefkit.run import Build

__all__ = [
    "ContractError",
    "DataError",
    "EngineError",
    "EstimateError",
    "GateError",
    "MemoryLimitError",
    "PrefkitError",
    "Problem",
    "RecipeError",
    "StoreError",
    "TrainError",
]


class PrefkitError(Exception):
    """Say what is wrong, where, and how to go on.

    `what` is lower case with no full stop and shows the offending value; `hint` is a command or an edit.
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what, where, hint)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.hint:
            lines.append(f"  hint:  {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process boundaries (worker pools); keyword-only arguments need this to survive.
        return (_rebuild, (type(self), self.what, self.where, self.hint))


def _rebuild(kind: type[PrefkitError], what: str, where: str, hint: str) -> PrefkitError:
    return kind(what, where=where, hint=hint)


class Problem(PrefkitError):  # noqa: N818 - it is one item of a RecipeError
    """One thing wrong with a recipe, at one line of it."""

    def __init__(self, what: str, *, where: str = "", hint: str = "", line: int = 0) -> None:
        super().__init__(what, where=where, hint=hint)
        self.line = line


class RecipeError(PrefkitError):
    """Everything that is wrong with a recipe, sorted by line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[object, ...]:
        return (RecipeError, (self.problems,))


class DataError(PrefkitError):
    """Rows or files cannot be read as what they claim to be."""


class ContractError(PrefkitError):
    """A stage and a table do not fit together, or a stage broke its own law."""


class EngineError(PrefkitError):
    """A model could not be loaded, or would not answer."""


class StoreError(PrefkitError):
    """The store cannot be read or written, or holds something it should not."""


class EstimateError(PrefkitError):
    """An estimator did not converge, or its input cannot identify what it estimates."""


class MemoryLimitError(PrefkitError):
    """A step would hold more memory than is allowed. Nothing of it was begun, and what stands stays."""


class TrainError(PrefkitError):
    """Training cannot start or cannot go on."""


class GateError(PrefkitError):
    """A dataset fails gates that stop its build. All of it was built, and is kept."""

    def __init__(self, problems: Sequence[Problem], run: str, build: "Build | None" = None) -> None:
        self.problems = tuple(problems)
        self.run = run
        self.build = build
        """What was built, where the error comes straight from the build: it is not sent to other processes."""
        hint = f"all of it is built and kept: `prefkit card {run}` says what it is"
        super().__init__("\n".join(str(problem) for problem in self.problems), hint=hint)

    def __reduce__(self) -> tuple[object, ...]:
        return (GateError, (self.problems, self.run))
