"""Edits: `--set PATH=VALUE` changes a recipe before it is checked, as if the file had said so.

A path is what one would say: `seed`, `models.policy.revision`, `data.0.file`, `train.steps`, `build.pair.by`. Sources
count from 0. A step is named by its stage (`build.pair`) where the recipe has one of it, or by its number or name as
`prefkit plan` shows them (`build.5`, `build.05-pair`), which count from 1 because step 00 reads the data.

A value is read by the same strict rules as the file. A `file` is relative to the folder one types in, while paths in
a recipe are relative to the recipe.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from prefkit.catalog import suggest
from prefkit.errors import Problem, RecipeError
from prefkit.yaml_strict import MAX_DEPTH, Node, parse_value

__all__ = ["Edited", "edit", "step_word"]

_FILE = re.compile(r"data\.[0-9]+\.(join\.)?file")
_NUMBER = re.compile(r"[0-9]{1,6}")


class Edited(NamedTuple):
    """The tree with every edit that could be made, and what is wrong with the others."""

    root: Node
    problems: tuple[Problem, ...]


def edit(root: Node, sets: Sequence[str], here: Path) -> Edited:
    """Apply edits in order. `here` is the folder that a `file` given on the command line is relative to."""
    problems: list[Problem] = []
    for text in sets:
        try:
            root = _apply(root, text, here)
        except RecipeError as error:
            problems.extend(error.problems)
    return Edited(root, tuple(problems))


def step_word(node: Node) -> str:
    """Return the stage that an item of `build:` names, or nothing if it is not a step."""
    if isinstance(node.value, str):
        return node.value
    if isinstance(node.value, Mapping) and len(node.value) == 1:
        return next(iter(node.value))
    return ""


def _apply(root: Node, text: str, here: Path) -> Node:
    origin = f"--set {text}"
    path, sign, word = text.partition("=")
    keys = path.split(".")
    if not sign or not all(keys) or len(keys) > MAX_DEPTH:
        raise _wrong(f"'{text}' is not PATH=VALUE", origin, "write it like --set build.pair.by=score")
    value = parse_value(word, origin)
    if _FILE.fullmatch(path):
        value = _absolute(value, here)
    return _put(root, keys, _from(value, origin), [], origin)


def _absolute(node: Node, here: Path) -> Node:
    if isinstance(node.value, tuple):
        return Node(tuple(_absolute(item, here) for item in node.value), 0)
    return Node(str(here.absolute() / node.value), 0) if isinstance(node.value, str) else node


def _from(node: Node, origin: str) -> Node:
    """Mark a value, and all inside it, as coming from the command line."""
    if isinstance(node.value, tuple):
        return Node(tuple(_from(item, origin) for item in node.value), 0, origin=origin)
    if isinstance(node.value, Mapping):
        return Node({key: _from(item, origin) for key, item in node.value.items()}, 0, origin=origin)
    return Node(node.value, 0, node.text, origin)


def _put(node: Node, keys: Sequence[str], value: Node, done: Sequence[str], origin: str) -> Node:
    """Return the tree with the value at the path; keys of mappings are made where they are missing."""
    if not keys:
        return value
    head, rest, path = keys[0], keys[1:], [*done, keys[0]]
    if isinstance(node.value, tuple):
        at = _position(node.value, head, done, origin)
        item = _put_step(node.value[at], rest, value, path, origin) if list(done) == ["build"] else None
        item = item or _put(node.value[at], rest, value, path, origin)
        return Node((*node.value[:at], item, *node.value[at + 1 :]), node.line, origin=node.origin)
    if isinstance(node.value, Mapping):
        inside = node.value.get(head, Node({}, 0, origin=origin))
        changed = {**node.value, head: _put(inside, rest, value, path, origin)}
        return Node(changed, node.line, origin=node.origin)
    raise _wrong(
        f"'{'.'.join(done)}' is a value, and has no '{head}' inside", origin, f"--set {'.'.join(done)}=VALUE"
    )


def _put_step(step: Node, rest: Sequence[str], value: Node, path: Sequence[str], origin: str) -> Node | None:
    """Return a step with a setting changed; its path leaves out the stage's name, which the tree has."""
    word = step_word(step)
    if not word or not rest:
        return None
    settings = (
        step.value[word] if isinstance(step.value, Mapping) else Node({}, step.line, origin=step.origin)
    )
    return Node({word: _put(settings, rest, value, path, origin)}, step.line, origin=step.origin)


def _position(items: Sequence[Node], word: str, done: Sequence[str], origin: str) -> int:
    if list(done) == ["build"]:
        return _step_position(items, word, origin)
    if not _NUMBER.fullmatch(word) or int(word) >= len(items):
        last = f"0 to {len(items) - 1}" if items else "none"
        raise _wrong(f"'{'.'.join(done)}' has no item '{word}'", origin, f"items: {last}")
    return int(word)


def _step_position(items: Sequence[Node], word: str, origin: str) -> int:
    words = [step_word(item) for item in items]
    names = [f"{at:02d}-{name}" for at, name in enumerate(words, start=1)]
    number = int(word) if _NUMBER.fullmatch(word) else 0
    found = [at for at, name in enumerate(names) if word in (name, words[at]) or number == at + 1]
    if len(found) == 1:
        return found[0]
    if found:
        raise _wrong(
            f"'build.{word}' could be any of {len(found)} steps", origin, f"steps: {', '.join(names)}"
        )
    hint = suggest(word, [*words, *names]) or f"steps: {', '.join(names) or 'none'}"
    raise _wrong(f"'build' has no step '{word}'", origin, hint)


def _wrong(what: str, origin: str, hint: str) -> RecipeError:
    return RecipeError([Problem(what, where=origin, hint=hint)])
