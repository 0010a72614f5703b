"""The recipes that come with prefkit: a list to choose from, and copies to change."""

import shutil
from pathlib import Path
from typing import NamedTuple

from prefkit.catalog import suggest
from prefkit.errors import PrefkitError
from prefkit.recipe import Recipe

__all__ = ["SCHEMA", "Shipped", "copy", "folder", "listed"]

SCHEMA = "recipe.schema.json"
"""What editors check a recipe with; shipped recipes name it in their first line."""


class Shipped(NamedTuple):
    """One recipe, and the question it asks."""

    name: str
    question: str


def folder() -> Path:
    """Return where the shipped recipes are: inside the installed package, or beside it in a checkout."""
    inside = Path(__file__).parent / "recipes"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "recipes"


def listed() -> list[Shipped]:
    """Return every shipped recipe with the first sentence of its opening comment."""
    return [Shipped(path.stem, _question(path)) for path in sorted(folder().glob("*.yaml"))]


def copy(name: str, into: Path) -> list[Path]:
    """Copy a recipe with the data it names and the schema; return the files made. Overwrites nothing."""
    names = [shipped.name for shipped in listed()]
    if name not in names:
        hint = suggest(name, names) or f"recipes: {', '.join(names)}"
        raise PrefkitError(f"no recipe is called '{name}'", hint=hint)
    source = folder() / f"{name}.yaml"
    target = into / source.name
    if target.exists():
        raise PrefkitError(
            "this file is there already, and is not overwritten", where=str(target), hint="choose a folder"
        )
    try:
        return [_copy(source, target), *_beside(source, into)]
    except OSError as error:
        reason = error.strerror or str(error)
        raise PrefkitError(
            f"cannot copy the recipe: {reason.lower()}", where=str(into), hint="choose a folder"
        ) from error


def _beside(source: Path, into: Path) -> list[Path]:
    """Copy what a recipe needs beside it, where it is not there yet."""
    wanted = [SCHEMA]
    for item in Recipe.load(source).data:
        wanted += [item.file] if isinstance(item.file, str) else item.file or ()
    made = []
    for pattern in wanted:
        for path in sorted(source.parent.glob(pattern)):
            target = into / path.relative_to(source.parent)
            if not target.exists():
                made.append(_copy(path, target))
    return made


def _copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return target


def _question(path: Path) -> str:
    words: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.removeprefix("#").strip()
        if not line.startswith("#") or (words and not text):
            break
        if text and not text.startswith("yaml-language-server"):
            words.append(text)
    return " ".join(words)
