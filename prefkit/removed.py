"""Rows that were removed on purpose, to save disk: which step they were of, and which objects held them.

A big build that keeps only the rows of its last step leaves manifests without rows behind. A note beside them tells
what was removed from what was lost: a step with a note need not be made again, and whoever asks for its rows is told
how to get them back. The note is written before anything is deleted, so a build that is killed in between leaves
nothing unexplained.

    removed/81d2….json           the step's key, and the digests of the objects that held its rows
"""

from collections.abc import Iterable

from prefkit.disk import Place, sealed, unsealed

__all__ = ["HINT", "NOTES", "is_noted", "is_removed", "note_removed", "unnote"]

NOTES = "removed"
HINT = "`prefkit build RECIPE --keep all` makes the rows of every step again"


def note_removed(place: Place, key: str, objects: Iterable[str]) -> None:
    """Note that the rows of a step are to go. Raises StoreError."""
    place.write(_note(key), sealed({"key": key, "objects": sorted(set(objects))}))


def unnote(place: Place, key: str) -> None:
    """Forget the note: the step has rows again. Raises StoreError."""
    place.remove([_note(key)])


def is_noted(place: Place, key: str) -> bool:
    """Say whether the rows of a step were removed on purpose."""
    data = place.read(_note(key))
    note = None if data is None else unsealed(data)
    return note is not None and note.get("key") == key


def is_removed(place: Place, digest: str) -> bool:
    """Say whether an object that is not there was removed on purpose. Reads every note."""
    notes = map(unsealed, place.read_many(list(place.listed(NOTES))).values())
    return any(note is not None and digest in note.get("objects", ()) for note in notes)


def _note(key: str) -> str:
    return f"{NOTES}/{key}.json"
