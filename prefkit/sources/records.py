"""JSON rows: one object a line, or one array of objects, both read in bounded memory.

A line that is broken costs only itself. An array is one document: it is parsed element by element as it
streams in, and a syntax error in it ends the reading, since what follows it cannot be told apart.
"""

import io
import json
import re
from collections.abc import Iterator
from json import JSONDecodeError, JSONDecoder
from typing import BinaryIO, TextIO, final

from prefkit.errors import DataError
from prefkit.sources.chunks import CHUNK_ROWS, BadRowError, Chunk, Row, chunked
from prefkit.sources.files import DataFile, opened

__all__ = ["json_array", "json_lines"]

_MAX_LINE = 256 << 20
_BLOCK = 1 << 20
_SPACE = re.compile(r"[ \t\r\n]*")


def json_lines(file: DataFile, rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
    """Yield the rows of a JSON Lines file."""
    with opened(file) as stream:
        yield from chunked(_lines(stream, file), _parse, rows)


def _lines(stream: BinaryIO, file: DataFile) -> Iterator[tuple[int, str, int]]:
    line = 0
    while raw := stream.readline(_MAX_LINE):
        line += 1
        if len(raw) == _MAX_LINE:
            where = f"{file.shown}:{line}"
            raise DataError(
                f"a line is longer than {_MAX_LINE >> 20} MB", where=where, hint="write one object a line"
            )
        if line == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if not raw.isspace():
            yield line, raw.decode("utf-8", "surrogateescape"), len(raw)


def json_array(file: DataFile, rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
    """Yield the rows of a JSON array of objects. Rows are numbered from 1."""
    with opened(file) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        yield from chunked(_Elements(text, file).all(), _parse, rows)


def _parse(text: str) -> Row:
    """Return one object. Raises BadRowError with the reason."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadRowError("invalid UTF-8") from error
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRowError("invalid JSON") from error
    if not isinstance(row, dict):
        raise BadRowError("not an object")
    if ("\\ud" in text or "\\uD" in text) and not _is_unicode(row):
        raise BadRowError("invalid Unicode escape")
    return row


def _is_unicode(row: Row) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


@final
class _Elements:
    """The elements of a JSON array as text, one after another, from a buffer that holds little more than one."""

    def __init__(self, stream: TextIO, file: DataFile) -> None:
        self._stream = stream
        self._file = file
        self._text = ""
        self._at = 0
        self._lines = 1  # line of the start of the buffer
        self._ended = False
        self._decoder = JSONDecoder()

    def all(self) -> Iterator[tuple[int, str, int]]:
        """Yield (number from 1, text, characters) of each element."""
        self._expect("[")
        number = 0
        while self._next() != "]" or number:
            number += 1
            element = self._element()
            yield number, element, len(element)
            if self._next() == "]":
                break
            self._expect(",")
        self._expect("]")
        if self._next():
            raise self._error("there is more after the array's end")

    def _expect(self, mark: str) -> None:
        found = self._next()
        if found != mark:
            raise self._error(f"expected '{mark}'" if found else "it ends in the middle")
        self._at += 1

    def _next(self) -> str:
        """Return the next character that is not white space, without passing it; empty at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._fill(_BLOCK):
                return ""

    def _element(self) -> str:
        block = _BLOCK
        while True:
            try:
                _, end = self._decoder.raw_decode(self._text, self._at)
            except JSONDecodeError as error:
                if self._ended or not _is_cut(error, len(self._text)):
                    raise self._error(_said(error), error.pos) from error
            except RecursionError as error:
                raise self._error("it is nested too deeply") from error
            else:
                # A number at the buffer's end may go on; objects and strings end where they end.
                if end < len(self._text) or self._ended or self._text[end - 1] in '}]"':
                    element = self._text[self._at : end]
                    self._at = end
                    return element
            if len(self._text) - self._at > _MAX_LINE:
                raise self._error(f"a row is longer than {_MAX_LINE >> 20} MB")
            self._fill(block)
            block *= 2

    def _fill(self, size: int) -> bool:
        """Read on, forgetting what has been passed. Says whether there was more."""
        more = "" if self._ended else self._stream.read(size)
        self._ended = not more
        self._lines += self._text.count("\n", 0, self._at)
        self._text = self._text[self._at :] + more
        self._at = 0
        return bool(more)

    def _error(self, what: str, at: int | None = None) -> DataError:
        line = self._lines + self._text.count("\n", 0, self._at if at is None else at)
        hint = "copy the file again if it was cut off; JSON Lines loses only the broken row"
        return DataError(
            f"'{self._file.shown}' is not a JSON array: {what}", where=f"{self._file.path}:{line}", hint=hint
        )


def _is_cut(error: JSONDecodeError, length: int) -> bool:
    """Say whether an error may come from the buffer's end: in a string, or within a literal or number at the end."""
    return error.msg.startswith("Unterminated string") or error.pos >= length - 16


def _said(error: JSONDecodeError) -> str:
    return "it ends in the middle" if error.pos >= len(error.doc) else error.msg[0].lower() + error.msg[1:]
