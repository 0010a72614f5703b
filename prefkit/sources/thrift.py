"""Thrift: what a Parquet file says before each of its pages, which is more than its footer has to say truly; and the footer.

Arrow gives no access to the headers of pages, and trusts them: a page is unfolded to the size that its header names,
and to no other. So they are read here, as values by the numbers of their fields, in the compact protocol. What is
neither header nor footer raises ValueError.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

__all__ = ["Fields", "struct"]

Fields: TypeAlias = "dict[int, int | Fields | list[Fields]]"
"""Whole numbers and structs by the number of their field; texts, floats, and lists but for those asked for are passed over."""
Lists: TypeAlias = "Mapping[int, Lists]"
"""Fields that are lists of structs to be kept, and those of these structs."""
_TRUE, _FALSE, _BYTE, _FLOAT, _TEXT, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_DEEPEST = 16


def struct(
    data: bytes, at: int = 0, depth: int = 0, lists: Lists = MappingProxyType({})
) -> tuple[Fields, int]:
    """Return the fields of a struct and where it ends. Raises ValueError, and IndexError where `data` ends first."""
    fields: Fields = {}
    number = 0
    while data[at]:
        kind, step = data[at] & 15, data[at] >> 4
        at += 1
        if step:
            number += step
        else:
            number, at = _whole(data, at)
        if kind == _LIST and number in lists:
            fields[number], at = _structs(data, at, depth + 1, lists[number])
            continue
        value, at = _value(data, at, kind, depth)
        if value is not None:
            fields[number] = value
    return fields, at + 1


def _structs(data: bytes, at: int, depth: int, lists: Lists) -> tuple[list[Fields], int]:
    count, kind, at = _head(data, at)
    if count and kind != _STRUCT:
        raise ValueError("a list of something else")
    found = list[Fields]()
    for _ in range(count):
        fields, at = struct(data, at, depth, lists)
        found.append(fields)
    return found, at


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    """Return how many elements a list has, their kind, and where the first begins."""
    count, kind, at = data[at] >> 4, data[at] & 15, at + 1
    if count == 15:
        count, at = _number(data, at)
    return count, kind, at


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple["int | Fields | None", int]:
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    if kind in {_TRUE, _FALSE}:
        return int(kind == _TRUE), at
    if kind == _BYTE:
        return data[at], at + 1
    if kind < _FLOAT:
        return _whole(data, at)
    if kind == _STRUCT:
        return struct(data, at, depth + 1)
    if kind == _FLOAT:
        return None, at + 8
    if kind == _TEXT:
        length, at = _number(data, at)
        return None, at + length
    return None, _behind_many(data, at, kind, depth)


def _behind_many(data: bytes, at: int, kind: int, depth: int) -> int:
    """Return where a list, set or map ends."""
    if kind == _MAP:
        count, at = _number(data, at)
        if not count:
            return at
        kinds, at = [data[at] >> 4, data[at] & 15], at + 1
    elif kind in {_LIST, _SET}:
        count, one, at = _head(data, at)
        kinds = [one]
    else:
        raise ValueError(f"no kind of field is called {kind}")
    for _ in range(count):
        for one in kinds:
            # Of many, truth takes a byte of its own.
            at = at + 1 if one in {_TRUE, _FALSE} else _value(data, at, one, depth + 1)[1]
        if at > len(data):
            raise IndexError
    return at


def _whole(data: bytes, at: int) -> tuple[int, int]:
    number, at = _number(data, at)
    return (number >> 1) ^ -(number & 1), at


def _number(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while data[at] & 128:
        number |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
    return number | data[at] << shift, at + 1
