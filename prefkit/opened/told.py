"""What is said of two builds, and of one row: the differences and the life, to read in a notebook."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefkit.diff import Difference
from prefkit.opened.excerpts import as_card
from prefkit.opened.pages import page

if TYPE_CHECKING:
    from prefkit.why import Biography

__all__ = ["Changes", "Life"]

_LONG = ("prompt", "response", "chosen", "rejected", "alt_prompt", "tools")


@dataclass(frozen=True)
class Changes:
    """What changed from one step to another."""

    before: str
    after: str
    difference: Difference

    def _repr_html_(self) -> str:
        return page("difference.html", before=self.before, after=self.after, found=self.difference)


@dataclass(frozen=True)
class Life:
    """The life of one row, from prompt to label."""

    biography: "Biography"

    def _repr_html_(self) -> str:
        life = self.biography
        counted = [(call.tokens_in or 0) + (call.tokens_out or 0) for call in life.calls]
        row = {**life.row, "id": life.id, "prompt": life.row.get("prompt") or list(life.prompt)}
        return page(
            "life.html",
            life=life,
            row=as_card(row),
            calls=len(counted),
            tokens=sum(counted),
            dollars=life.dollars,
            long=_LONG,
        )
