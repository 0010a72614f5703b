"""Footer: where each column of a Parquet file's row groups says that its pages begin.

Arrow reads footers too, and looks at what is said of a column when it is asked for that column; what does not fit then
ends the process, since its Python binding does not expect an error there. So nothing is asked for: it is read here.
"""

import os
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import Any, NamedTuple

from prefkit.sources.files import DataFile, misread
from prefkit.sources.thrift import struct

__all__ = ["ColumnChunk", "column_chunks"]

_END = Struct("<I4s")
_MAGIC = b"PAR1"
_ROW_GROUPS, _COLUMNS, _ABOUT = 4, 1, 3
_CODECS = {0: "", 1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
_CODEC, _VALUES, _DATA, _DICTIONARY = 4, 5, 9, 11


class ColumnChunk(NamedTuple):
    """A column in one row group."""

    codec: str
    """As Arrow calls it; "" for none, and for one that Arrow cannot unfold alone, "?"."""
    values: int
    begins: int
    """Where in the file its first page is."""


def column_chunks(file: DataFile, groups: int, columns: int) -> list[list[ColumnChunk]]:
    """Return the columns of each row group, as the footer tells them. Raises DataError where it does not tell of so many."""
    try:
        with file.path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            length, magic = _END.unpack(os.pread(stream.fileno(), _END.size, max(size - _END.size, 0)))
            if magic != _MAGIC or length > size - _END.size:
                raise ValueError("encrypted, or no footer")
            footer = os.pread(stream.fileno(), length, size - _END.size - length)
        told: Any = struct(footer, lists={_ROW_GROUPS: {_COLUMNS: {}}})[0].get(_ROW_GROUPS, [])
        found = [[_chunk(column[_ABOUT]) for column in group[_COLUMNS]] for group in told]
        if [len(group) for group in found] != [columns] * groups:
            raise ValueError("other columns than Arrow sees")
    except (ValueError, IndexError, KeyError, TypeError, StructError) as error:
        raise misread(file, "its footer is none") from error
    return found


def _chunk(about: dict[int, int]) -> ColumnChunk:
    data, dictionary = about[_DATA], about.get(_DICTIONARY)
    begins = dictionary if dictionary is not None and 0 < dictionary < data else data
    return ColumnChunk(_CODECS.get(about[_CODEC], "?"), about[_VALUES], begins)
