"""Strict YAML: the part of the language that says what it means, with the line of every value.

YAML 1.1 as PyYAML resolves it reads `5e-7` as text, `no` as false and `1.10` as the number 1.1. Here a plain word is a
boolean only if it is `true` or `false`, nothing only if it is `null`, a number only if it is a finite decimal number,
and text otherwise. Each keeps the text it was written as, so that a text field gets `1.10` and not `1.1`. Whatever
makes one line mean another is refused: duplicate keys, anchors and aliases (and with them documents that unfold to
gigabytes), merge keys, tags, several documents, values that are not there. The tree is built from parser events, which
never recurse, so that hostile nesting costs nothing.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceStartEvent,
)
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.scanner import Scanner

from prefkit.errors import Problem, RecipeError

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "Document",
    "Node",
    "Scalar",
    "parse",
    "parse_value",
    "plain",
    "read",
    "scalar",
]

MAX_BYTES = 1_000_000
"""A recipe is read by people; the largest shipped one has 3 kB."""
MAX_DEPTH = 50
_MAX_DIGITS = 4000  # Python refuses to convert integers of more than 4300 digits

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None}
_SURROGATE = re.compile("[\ud800-\udfff]")

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands. `line` counts from 1; for a value in a mapping it is the line of its key."""

    value: "Scalar | tuple[Node, ...] | Mapping[str, Node]"
    line: int
    text: str | None = None
    """How a plain word was written that means something other than its text."""
    origin: str = ""
    """Where it comes from, if not from a line of the file."""


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file. `problems` do not hide other problems: duplicate keys, of which the first is kept."""

    root: Node
    problems: tuple[Problem, ...] = ()


def read(path: Path) -> Document:
    """Parse a file. Raises RecipeError if it is missing, too large, not UTF-8 or not in the strict language."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = "check the path, or `prefkit new` to see the shipped recipes"
        raise _fatal(f"cannot read the recipe: {reason}", str(path), hint=hint) from error
    return parse(data, str(path))


def parse(data: bytes, name: str) -> Document:
    """Parse the bytes of a document; `name` is what errors call it. Raises RecipeError."""
    if len(data) > MAX_BYTES:
        raise _fatal(
            f"the file is larger than {MAX_BYTES:,} bytes", name, hint="put data into a file of its own"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"the file is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}"
        raise _fatal(what, name, line, "save the file as UTF-8") from error
    try:
        return _Builder(name).document(text)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"character U+{int(error.character):04X} is not allowed in YAML"
        raise _fatal(what, name, line, "delete the character") from error
    except yaml.MarkedYAMLError as error:
        raise _syntax(error, name) from error


def parse_value(text: str, name: str) -> Node:
    """Parse a value given on the command line: a word, or a quoted text, list or mapping in YAML's flow style."""
    if text.lstrip()[:1] in ("[", "{", '"', "'"):
        try:
            document = parse(text.encode("utf-8", "surrogatepass"), name)
        except RecipeError as error:
            raise RecipeError(
                [Problem(each.what, where=name, hint=each.hint) for each in error.problems]
            ) from error
        if document.problems:
            raise RecipeError([Problem(each.what, where=name, hint=each.hint) for each in document.problems])
        return document.root
    if _SURROGATE.search(text):
        raise _fatal("the value is not UTF-8", name)
    value = scalar(text)
    return Node(value, 1, None if isinstance(value, str) else text)


def plain(node: Node) -> object:
    """Return the tree as plain lists, dicts and scalars."""
    if isinstance(node.value, tuple):
        return [plain(item) for item in node.value]
    if isinstance(node.value, Mapping):
        return {key: plain(item) for key, item in node.value.items()}
    return node.value


def scalar(text: str) -> Scalar:
    """Return what a plain (unquoted) word means."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text) and len(text) <= _MAX_DIGITS:
        return int(text)
    if _FLOAT.fullmatch(text) and isfinite(number := float(text)):
        return number
    return text


class _Events(Reader, Scanner, Parser):
    """Turn text into parser events; no composer, resolver or constructor ever sees them."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)

    def all(self) -> Iterator[yaml.Event]:
        while self.check_event():
            event: yaml.Event = self.get_event()  # type: ignore[no-untyped-call]
            yield event


@dataclass
class _Open:
    """A list or mapping whose end has not been seen yet."""

    line: int
    items: list[Node] | None = None
    entries: dict[str, Node] | None = None
    key: str | None = None
    key_line: int = 0
    lines: dict[str, int] = field(default_factory=dict)


class _Builder:
    """Build the tree from events, and collect what is wrong on the way."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: list[_Open] = []
        self._root: Node | None = None
        self._stop: list[Problem] = []
        self._more: list[Problem] = []

    def document(self, text: str) -> Document:
        events = _Events(text)
        try:
            for event in events.all():
                self._event(event)
        except (
            ValueError,
            OverflowError,
        ) as error:  # "\UFFFFFFFF": PyYAML hands the number to chr() as it is
            raise _fatal(f"bad escape: {error}", self._name, events.line + 1) from error
        if self._root is None and not self._stop:
            self._empty()
        if self._stop or self._root is None:
            raise RecipeError([*self._stop, *self._more])
        return Document(self._root, tuple(self._more))

    def _event(self, event: yaml.Event) -> None:
        line = _line(event)
        if isinstance(event, NodeEvent) and event.anchor is not None:
            sign = "*" if isinstance(event, AliasEvent) else "&"
            what = f"anchors and aliases are not allowed: '{sign}{event.anchor}'"
            self._wrong(what, line, "write the value out")
        if isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag is not None:
            hint = "delete the tag; quote a value to make it text"
            self._wrong(f"tags are not allowed: '{event.tag}'", line, hint)
        if isinstance(event, AliasEvent):
            self._add(Node("", line))
        elif isinstance(event, ScalarEvent):
            self._scalar(event, line)
        elif isinstance(event, MappingStartEvent):
            self._push(_Open(line, entries={}))
        elif isinstance(event, SequenceStartEvent):
            self._push(_Open(line, items=[]))
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self._open.pop()
            self._add(Node(tuple(done.items or ()) if done.entries is None else done.entries, done.line))

    def _scalar(self, event: ScalarEvent, line: int) -> None:
        text = _joined(event.value)
        if _SURROGATE.search(text):
            self._wrong("a text has half of a surrogate pair", line, "write the character itself")
        if self._wants_key():
            self._key(text, line)
        elif event.style is not None:
            self._add(Node(text, line))
        elif not text and not self._open:
            self._empty()
        elif not text:
            self._wrong(
                f"{self._here()} has no value", self._line(line), "give it a value, or delete the line"
            )
            self._add(Node("", line))
        else:
            value = scalar(text)
            self._add(Node(value, line, None if isinstance(value, str) else text))

    def _empty(self) -> NoReturn:
        raise _fatal(
            "the file is empty", self._name, hint="`prefkit new quickstart` writes a recipe to start from"
        )

    def _wants_key(self) -> bool:
        return bool(self._open) and self._open[-1].entries is not None and self._open[-1].key is None

    def _here(self) -> str:
        inside = self._open[-1] if self._open else None
        return f"'{inside.key}'" if inside and inside.key is not None else "an item"

    def _line(self, line: int) -> int:
        # An empty scalar is marked where the parser noticed, which may be lines below its key.
        inside = self._open[-1] if self._open else None
        return inside.key_line if inside and inside.key is not None else line

    def _key(self, key: str, line: int) -> None:
        if key == "<<":
            self._wrong("merge keys are not allowed: '<<'", line, "write the keys out")
        elif not key:
            self._wrong("a key is empty", line, "write `key: value`")
        inside = self._open[-1]
        inside.key, inside.key_line = key, line

    def _push(self, inside: _Open) -> None:
        if self._wants_key():
            self._wrong("a key must be one word", inside.line, "write `key: value`")
            self._open[-1].key = ""
        if len(self._open) >= MAX_DEPTH:
            raise _fatal(f"nested more than {MAX_DEPTH} levels deep", self._name, inside.line)
        self._open.append(inside)

    def _add(self, node: Node) -> None:
        if not self._open:
            if self._root is not None:
                self._wrong("a recipe is one document", node.line, "delete what follows `---`")
            self._root = node
            return
        inside = self._open[-1]
        if inside.items is not None:
            inside.items.append(node)
        elif inside.entries is not None:
            self._entry(inside, inside.entries, node)

    def _entry(self, inside: _Open, entries: dict[str, Node], node: Node) -> None:
        if inside.key is None:  # an alias as a key, refused already
            inside.key = ""
            return
        key, inside.key = inside.key, None
        if key in entries:
            what = f"'{key}' is given twice, at lines {inside.lines[key]} and {inside.key_line}"
            self._more.append(_problem(what, self._name, inside.key_line, "keep one of them"))
            return
        inside.lines[key] = inside.key_line
        entries[key] = Node(node.value, inside.key_line, node.text)

    def _wrong(self, what: str, line: int, hint: str) -> None:
        self._stop.append(_problem(what, self._name, line, hint))


def _joined(text: str) -> str:
    """Return a text with the halves of surrogate pairs, as JSON escapes write them, put together."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _syntax(error: yaml.MarkedYAMLError, name: str) -> RecipeError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 0
    reason = error.problem or error.context or "unreadable"
    if "'\\t'" in reason:
        return _fatal("a tab where YAML wants spaces", name, line, "indent with spaces")
    context = f" {error.context}" if error.context and error.context != reason else ""
    return _fatal(
        f"not valid YAML: {reason}{context}", name, line, "check indentation, colons and quotes here"
    )


def _fatal(what: str, name: str, line: int = 0, hint: str = "") -> RecipeError:
    return RecipeError([_problem(what, name, line, hint)])


def _problem(what: str, name: str, line: int, hint: str) -> Problem:
    return Problem(what, where=f"{name}:{line}" if line else name, hint=hint, line=line)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 0
