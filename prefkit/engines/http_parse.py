"""Reading an HTTP/1.1 reply from bytes as they come, with bounds on everything a server could make endless.

Apart from any connection, so that it can be tested on every way a reply may be cut into pieces. It reads what replies
of chat servers are made of: a head, and a body with a length, in chunks, or up to the end of the connection.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["MOST_BYTES", "Broken", "Reading", "Reply", "TooMuch"]

MOST_BYTES = 16 << 20
"""Largest body taken, in bytes: a hundred times the longest answers there are. What is larger is not read."""
_MOST_HEAD_BYTES = 64 << 10
_MOST_INTERIM = 16
"""Replies of status 1xx before the reply."""
_END = b"\r\n\r\n"
_STATUS = re.compile(r"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: .*)?", re.DOTALL)
_SIZE = re.compile(rb"([0-9a-fA-F]{1,12})[ \t]*(?:;.*)?", re.DOTALL)
_BODILESS = (204, 304)


class Broken(Exception):  # noqa: N818 - what happened to the connection
    """The connection ended within a reply, or what came is no reply. The text says which, in prefkit's words only."""


class TooMuch(Broken):
    """The reply is larger than what is taken."""


class Reply(NamedTuple):
    """What a server replied."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case; of several with one name, the last."""
    body: bytes
    is_last: bool
    """Whether the connection cannot be used again."""


class _Head(NamedTuple):
    status: int
    headers: Mapping[str, str]
    is_last: bool
    length: int | None
    """Bytes of the body; None if it is chunked or ends with the connection."""
    is_chunked: bool


class Reading:
    """One reply being read."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        """Expect a reply with a body of at most so many bytes."""
        self._most = most
        self._buffer, self._body = bytearray(), bytearray()
        self._head: _Head | None = None
        self._interim = self._searched = 0

    def feed(self, data: bytes) -> Reply | None:
        """Take what came, and return the reply once it is whole. Raises Broken or TooMuch."""
        self._buffer += data
        if self._head is None:
            self._head = self._read_head()
        if self._head is None:
            return None
        if self._head.is_chunked:
            return self._read_chunks(self._head)
        if self._head.length is None:
            self._check(len(self._buffer))
            return None
        if len(self._buffer) < self._head.length:
            return None
        body = bytes(self._buffer[: self._head.length])
        return self._reply(self._head, body, len(self._buffer) > self._head.length)

    def end(self) -> Reply:
        """Return the reply that ends with its connection. Raises Broken if it does not."""
        if self._head is None or self._head.is_chunked or self._head.length is not None:
            raise Broken("the connection was cut")
        return self._reply(self._head, bytes(self._buffer), True)

    def _read_head(self) -> _Head | None:
        while True:
            end = self._buffer.find(_END, max(0, self._searched - len(_END)), _MOST_HEAD_BYTES)
            if end < 0:
                if len(self._buffer) >= _MOST_HEAD_BYTES:
                    raise Broken("the head of the reply does not end")
                self._searched = len(self._buffer)
                return None
            head = _parse(self._buffer[:end].decode("latin-1"))
            del self._buffer[: end + len(_END)]
            self._searched = 0
            if head.status >= 200:
                self._check(head.length or 0)
                return head
            self._interim += 1
            if self._interim > _MOST_INTERIM:
                raise Broken("the reply does not begin")

    def _read_chunks(self, head: _Head) -> Reply | None:
        buffer = self._buffer
        while (end := buffer.find(b"\r\n", 0, _MOST_HEAD_BYTES)) >= 0:
            size = _chunk_size(buffer[:end])
            if size == 0:
                return self._after_chunks(head, end)
            self._check(len(self._body) + size)
            start, stop = end + 2, end + 2 + size
            if len(buffer) < stop + 2:
                return None
            if buffer[stop : stop + 2] != b"\r\n":
                raise Broken("a chunk of the reply has not the length it says")
            self._body += buffer[start:stop]
            del buffer[: stop + 2]
        if len(buffer) >= _MOST_HEAD_BYTES:
            raise Broken("a chunk of the reply has no length")
        return None

    def _after_chunks(self, head: _Head, end: int) -> Reply | None:
        """Return the reply once the lines behind the last chunk, which say nothing, have ended."""
        stop = self._buffer.find(_END, end, end + _MOST_HEAD_BYTES)
        if stop >= 0:
            return self._reply(head, bytes(self._body), len(self._buffer) > stop + len(_END))
        if len(self._buffer) >= end + _MOST_HEAD_BYTES:
            raise Broken("the reply does not end")
        return None

    def _reply(self, head: _Head, body: bytes, is_last: bool) -> Reply:
        return Reply(head.status, head.headers, body, head.is_last or is_last)

    def _check(self, size: int) -> None:
        if size > self._most:
            raise TooMuch(f"the answer is larger than {self._most} bytes")


def _parse(text: str) -> _Head:
    first, *lines = text.split("\r\n")
    found = _STATUS.fullmatch(first)
    if found is None:
        raise Broken("what came is no HTTP reply")
    headers = {
        name.lower(): value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon
    }
    status, kept = int(found[2]), headers.get("connection", "").lower()
    is_last = "close" in kept or (found[1] == "0" and "keep-alive" not in kept)
    if status < 200 or status in _BODILESS:
        return _Head(status, headers, is_last, 0, False)
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].lower() != "chunked":
            raise Broken("the reply is encoded in a way that was not asked for")
        return _Head(status, headers, is_last or "content-length" in headers, None, True)
    length = headers.get("content-length")
    if length is None:
        return _Head(status, headers, True, None, False)
    if not (length.isascii() and length.isdigit() and len(length) <= 15):
        raise Broken("the reply has no length that could be")
    return _Head(status, headers, is_last, int(length), False)


def _chunk_size(line: bytearray) -> int:
    found = _SIZE.fullmatch(line)
    if found is None:
        raise Broken("a chunk of the reply has no length")
    return int(found[1], 16)
