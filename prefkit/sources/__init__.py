"""Sources: where rows come from, and how any shape they have becomes the one table that flows through a recipe.

    peek       what columns a source will give, from its head alone
    identity   a digest of what stands behind it
    read       canonical rows, batch by batch, with the rows that cannot be read beside them
    gather     the rows of each prompt brought together, in shards; `passed_through` where they are already

Reading knows four things apart: how a file is stored (`files`, `records`, `columnar`, `hub`), which public
layout its rows have (`layouts`), what one value means (`cells`, `conversations`, `verdicts`), and what a row
becomes (`shape`, `rows`).
"""

from prefkit.sources.apart import can_be_apart, read_apart
from prefkit.sources.contents import RefDigest, identity
from prefkit.sources.gathering import ScatteredError, gather, passed_through, unify
from prefkit.sources.layouts import LAYOUTS
from prefkit.sources.reading import Batch, Peek, ReadRef, RefSchema, peek, read
from prefkit.sources.source import Coding, Join, Source, Target, portable

__all__ = [
    "LAYOUTS",
    "VERSION",
    "Batch",
    "Coding",
    "Join",
    "Peek",
    "ReadRef",
    "RefDigest",
    "RefSchema",
    "ScatteredError",
    "Source",
    "Target",
    "can_be_apart",
    "gather",
    "identity",
    "passed_through",
    "peek",
    "portable",
    "read",
    "read_apart",
    "unify",
]

VERSION = 2
"""Bump when the same data under the same settings gives other rows."""
