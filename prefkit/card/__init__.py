"""Data cards: what a dataset is, where it comes from and what to doubt, written from manifests alone.

No row is read: whatever a card says of rows was counted when their step was made. So a card can be written where the
shards are not, two builds of one recipe give the same card, and a figure in it can be traced to the step that has it.
The card is a Hugging Face dataset card: Markdown under a block of YAML.
"""

from collections.abc import Callable
from pathlib import Path

from prefkit.card import analysis, judges, limits, origin, provenance, quality
from prefkit.card.facts import Facts, collect
from prefkit.card.metadata import front_matter
from prefkit.card.reports import save_report
from prefkit.card.validation import validation
from prefkit.disk import replace_text
from prefkit.errors import PrefkitError
from prefkit.store import Store

__all__ = ["SECTIONS", "render", "save_report", "write_card"]

SECTIONS: tuple[tuple[str, Callable[[Facts], str]], ...] = (
    ("Where it comes from", origin.sources),
    ("Flow of rows", origin.flow),
    ("Composition", quality.composition),
    ("Quality", quality.quality),
    ("Length", quality.length),
    ("Label reliability", quality.labels),
    ("Judges", judges.judges),
    ("Analysis", analysis.analysis),
    ("Curriculum", quality.curriculum),
    ("Reference model", quality.reference),
    ("Training run", lambda facts: "" if facts.report is None else validation(facts.report)),
    ("Checks", limits.checks),
    ("Known limits", limits.limits),
    ("Columns", origin.columns),
    ("Models", provenance.models),
    ("Make it again", provenance.reproduction),
    ("Digests", provenance.digests),
    ("Software", provenance.versions),
)
"""Title, and what writes its Markdown: empty where there is nothing to say."""


def write_card(store: Store, run: str, out: Path | None = None) -> str:
    """Return the card of a run (`run`, or `run/05-pair` for a step and what led to it); write it to `out` if given.

    Raises: StoreError if there is no such run or a manifest is gone; PrefkitError if `out` cannot be written.
    """
    card = render(collect(store, run))
    if out is not None:
        _write(out, card)
    return card


def render(facts: Facts) -> str:
    """Return the card as Markdown. Sections with nothing to say are left out."""
    parts = [front_matter(facts), origin.opening(facts), *filter(None, [limits.banner(facts)])]
    for title, write in SECTIONS:
        if body := write(facts):
            parts.append(f"## {title}\n\n{body}")
    return "\n\n".join(parts) + "\n"


def _write(path: Path, card: str) -> None:
    try:
        replace_text(path, card)
    except OSError as error:
        what = f"the card cannot be written: {error.strerror or error}"
        raise PrefkitError(what, where=str(path), hint="give another place, or free space") from error
