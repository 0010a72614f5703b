"""Write plain data as YAML that the strict reader reads back as the same data, and that a person would have written.

PyYAML's own writer quotes by the rules of its own reader: it leaves some line separators bare that its reader folds.
"""

import json
import re
from collections.abc import Iterator

from prefkit.yaml_strict import scalar

__all__ = ["yaml_text"]

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./@+-]*( [A-Za-z0-9_./@+-]+)*")


def yaml_text(data: object) -> str:
    """Return mappings, lists and scalars as YAML: blocks outside, one line where only scalars are inside."""
    return "\n".join(_lines(data)) + "\n"


def _lines(data: object) -> Iterator[str]:
    if isinstance(data, dict) and data:
        for key, value in data.items():
            yield from _entry(f"{_word(key)}:", value)
    elif isinstance(data, list) and data:
        for item in data:
            yield from _item(item)
    else:
        yield _flow(data)


def _entry(head: str, value: object) -> Iterator[str]:
    if _is_flat(value):
        yield f"{head} {_flow(value)}"
        return
    yield head
    for line in _lines(value):
        yield f"  {line}"


def _item(value: object) -> Iterator[str]:
    for at, line in enumerate([_flow(value)] if _is_flat(value) else _lines(value)):
        yield f"  {line}" if at else f"- {line}"


def _is_flat(value: object) -> bool:
    inside = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return not any(isinstance(item, dict | list) and item for item in inside)


def _flow(value: object) -> str:
    if isinstance(value, dict):
        return (
            f"{{ {', '.join(f'{_word(key)}: {_flow(item)}' for key, item in value.items())} }}"
            if value
            else "{}"
        )
    if isinstance(value, list):
        return f"[{', '.join(_flow(item) for item in value)}]"
    return _word(value) if isinstance(value, str) else json.dumps(value)


def _word(text: str) -> str:
    if _BARE.fullmatch(text) and scalar(text) == text:
        return text
    return "".join(
        mark if mark.isprintable() else json.dumps(mark)[1:-1]
        for mark in json.dumps(text, ensure_ascii=False)
    )
