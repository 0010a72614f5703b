"""Checked: a remembered answer carries a checksum, so that bits which rot on a disk are not taken for what a model said.

SQLite knows whether its pages fit together, and not whether a text in them is the one that was written. The checksum
stands behind the answer as 16 characters of white space, which every reader of JSON skips: the file has the same table
as before, answers without a checksum are read as they were, and it travels with the answer to other machines. It covers
the key too, so an answer that lies under another request's key is found as well.
"""

from zlib import crc32

__all__ = ["answer_of", "has_checksum", "with_checksum"]

_SPACES = b" \t\n\r"
"""Each stands for two bits, the lowest first."""
_LENGTH = 16
_FOUR = [
    bytes(_SPACES[number >> shift & 3] for shift in (0, 2, 4, 6)) for number in range(256)
]  # by byte of the checksum


def with_checksum(key: bytes, answer: bytes) -> bytes:
    """Return an answer as it is kept under its key."""
    return answer + _spaces(key, answer)


def answer_of(key: bytes, kept: bytes) -> bytes | None:
    """Return the answer that is kept under a key; None if it is not as it was written, as far as it says.

    The file may be anybody's: what is not even bytes is returned as it is, for the reader of answers to refuse.
    """
    if not has_checksum(kept):
        return kept
    answer = kept[:-_LENGTH]
    return answer if kept.endswith(_spaces(key, answer)) else None


def has_checksum(kept: bytes) -> bool:
    """Say whether something kept ends as one with a checksum does: no answer ends in white space by itself."""
    return isinstance(kept, bytes) and kept[-1:].isspace()


def _spaces(key: bytes, answer: bytes) -> bytes:
    number = crc32(answer, crc32(key))
    return b"".join(_FOUR[number >> shift & 0xFF] for shift in (0, 8, 16, 24))
