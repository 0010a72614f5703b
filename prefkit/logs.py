"""Logs: what happened in a run, one event a line, for machines that watch many of them.

Events go through Python's own `logging`, to the logger `prefkit`: a library user attaches whatever handler they have,
and where there is none an event costs a look. `JsonLines` is the handler of `--log`: one JSON object a line, written
and flushed at once, so that the last line of a run that was killed is the last thing it did.

An event is told where it happens, with what is known there. The run and the step are remembered from the events that
begin them, so that a retry deep in an engine says which step it was for. No secret is written: addresses lose what
stands before `@` and after `?`, and the values of environment variables that hold keys are struck out of every line.
"""

import json
import logging
import math
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import RLock
from typing import Any, TextIO, final

__all__ = [
    "ERROR",
    "INFO",
    "WARNING",
    "JsonLines",
    "fields_of",
    "hidden_in",
    "listening",
    "note",
    "shown_address",
]

INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR
_NAME = "prefkit"
_FIELDS = "prefkit_fields"
_LONGEST = 2000
"""Characters of one text in a line: errors quote what servers and files say."""
_SECRET = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS)(?:_|$)", re.IGNORECASE)
_SHORTEST_SECRET = 8
"""Characters; a shorter value stands in harmless text by chance."""
_USERINFO = re.compile(r"(?<=://)[^/\s@\"]+@")
# JSON writes out what a terminal would obey below U+0020 alone.
_UNSAFE = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def note(event: str, fields: Mapping[str, object], level: int = INFO) -> None:
    """Tell that something happened, to whoever listens."""
    logger = logging.getLogger(_NAME)
    if (
        logger.isEnabledFor(level) and logger.hasHandlers()
    ):  # without a handler, Python prints warnings by itself
        logger.log(level, event, extra={_FIELDS: dict(fields)})


@contextmanager
def listening(handler: logging.Handler) -> Iterator[None]:
    """Hand every event to a handler while this lasts."""
    logger = logging.getLogger(_NAME)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what was told of an event; of a record that somebody else wrote, nothing."""
    found = record.__dict__.get(_FIELDS)
    return found if isinstance(found, dict) else {}


def shown_address(text: str) -> str:
    """Return a server's address, or an engine's name, as it may be shown: without key, password and query."""
    if "://" not in text:
        return text
    scheme, _, rest = text.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"


def hidden_in(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values of variables whose names say that they are secret, the longest first."""
    found = {
        value
        for name, value in environment.items()
        if _SECRET.search(name) and len(value) >= _SHORTEST_SECRET
    }
    return tuple(sorted(found, key=len, reverse=True))


@final
class JsonLines(logging.Handler):
    """Write events as lines of JSON. A line that cannot be written ends the log, and is told once, not the work."""

    def __init__(self, file: TextIO, secrets: tuple[str, ...] = ()) -> None:
        super().__init__(INFO)
        self._file = file
        self._secrets = tuple(json.dumps(secret, ensure_ascii=False)[1:-1] for secret in secrets)
        self._here: dict[str, object] = {}
        self._writing = RLock()
        self.ended = ""
        """Why the log ends early; "" while it does not."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one event."""
        fields = fields_of(record)
        with self._writing:
            if fields.get("arm"):
                self._here = {}  # an arm is of a comparison, and not of the run that was built last
            self._here |= {name: fields[name] for name in ("run", "step") if name in fields}
            line = self._line(record, {**self._here, **fields})
            if self.ended:
                return
            try:
                self._file.write(line + "\n")
                self._file.flush()
            except (OSError, ValueError) as error:
                self.ended = (error.strerror if isinstance(error, OSError) else str(error)) or "closed"
                if self._file is not sys.stderr:
                    print(f"the log ends here: {self.ended}", file=sys.stderr)

    def _line(self, record: logging.LogRecord, fields: Mapping[str, object]) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        head = {"time": when, "level": record.levelname.lower(), "event": record.getMessage()}
        value = {**head, **{name: _cut(item) for name, item in fields.items() if item is not None}}
        text = json.dumps(value, ensure_ascii=False, default=str, allow_nan=True)
        text = _UNSAFE.sub(lambda found: f"\\u{ord(found.group()):04x}", _USERINFO.sub("", text))
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _cut(value: object) -> object:
    if isinstance(value, str) and len(value) > _LONGEST:
        return f"{value[:_LONGEST]}... ({len(value) - _LONGEST} characters more)"
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else str(value)
    return _plain(value)


def _plain(value: object) -> object:
    """Return what is nested with text in the place of numbers that JSON has no word for."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
