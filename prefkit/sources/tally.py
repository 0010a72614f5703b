"""Tally: count the rows that cannot be read, and stop when they are too many."""

from collections import Counter

from prefkit.errors import DataError
from prefkit.sources.chunks import BadRow

__all__ = ["Tally"]


class Tally:
    """Counts of one source."""

    def __init__(self, max_bad: float, place: str) -> None:
        self.rows = 0
        self._max_bad = max_bad
        self._place = place
        self._reasons: Counter[str] = Counter()
        self._first: tuple[str, BadRow] | None = None

    def add(self, rows: int, bad: list[BadRow], file: str) -> None:
        """Count good rows and bad ones of a file."""
        self.rows += rows + len(bad)
        self._reasons.update(row.reason for row in bad)
        if bad and self._first is None:
            self._first = (file, min(bad))

    def check(self, most: int | None = None) -> None:
        """Raise DataError if too many rows are bad, whatever follows; `most` is how many rows there can be at most."""
        bad = self._reasons.total()
        total = self.rows if most is None else max(most, self.rows)
        if not bad or bad <= self._max_bad * total:
            return
        assert self._first is not None
        file, row = self._first
        top = ", ".join(f"{reason} ({count})" for reason, count in self._reasons.most_common(3))
        share = bad / self.rows
        what = f"{bad} of {self.rows} rows of '{self._place}' cannot be read, above max_bad = {self._max_bad:g}: {top}"
        hint = f"mend the rows, or allow them: max_bad: {_above(share)}"
        raise DataError(what, where=f"first at {file}:{row.line} ({row.reason})", hint=hint)

    def finish(self) -> None:
        """Raise DataError if too many rows are bad, or if there are none at all."""
        if not self.rows:
            raise DataError(f"'{self._place}' holds no rows", hint="check the file, `where` and `take`")
        self.check()


def _above(share: float) -> float:
    """Return a round number a little above a share."""
    return next((step for step in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if step >= share), 0.999)
