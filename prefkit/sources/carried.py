"""Carried: columns that some objectives read and that only whoever made the data knows: spans, views, teachers.

They come under prefkit's own names and types. A row whose value has another type, or whose spans reach outside the
text they mark, is a bad row: a mask on the wrong characters would train on the wrong tokens without a word.
"""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.columns import COLUMNS, SPANS, Level
from prefkit.sources.cells import Cells, first_problem, flat, kept, numbers, problem_where, texts
from prefkit.sources.chunks import Column

__all__ = ["CARRIED", "carried", "span_problems"]

CARRIED: dict[Level, tuple[str, ...]] = {
    "prompt": (),
    "response": ("win_rate",),
    "pair": (
        "chosen_win_rate",
        "rejected_win_rate",
        "chosen_spans",
        "rejected_spans",
        "annotator",
        "dimension",
        "pair_group",
        "trace_mode",
        "degree",
        "ref_history",
        "chosen_teacher",
        "rejected_teacher",
        "rejected_advantage",
        "teacher_fingerprint",
    ),
}
"""Targets by level. Spans and the like say of one side what holds for it, so they need `chosen` and `rejected`."""
_KINDS = ("phrase", "sentence", "step", "weight", "kl-weight")
_NUMBERED = ("phrase", "step")
_LOWEST = {"step": -1.0}


def carried(column: Column, name: str, notes: Counter[str]) -> Cells:
    """Read a column under one of the names in CARRIED, as the type that the vocabulary gives it."""
    kind = COLUMNS[name].type
    if pa.types.is_string(kind):
        cells = texts(column, name, notes)
        return _modes(cells) if name == "trace_mode" else cells
    if pa.types.is_list(kind):
        return kept(column, name, kind)
    cells = numbers(column, name, notes)
    return _shares(cells, name) if pa.types.is_floating(kind) else _whole(cells, name)


def span_problems(spans: pa.Array, texts_: pa.Array, name: str) -> pa.Array:
    """Return what is wrong with each row of spans over a text, string [rows]; null where nothing is."""
    spans = spans.cast(SPANS)
    lengths = pc.fill_null(pc.list_value_length(spans), 0).to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(spans)), lengths)
    size = pc.fill_null(pc.utf8_length(texts_), 0).to_numpy(zero_copy_only=False)[rows]
    marked = spans.flatten()
    start, end = (_floats(marked.field(edge)) for edge in ("start", "end"))
    kind, value = marked.field("kind"), _floats(marked.field("value"))
    number = pc.is_null(marked.field("id")).to_numpy(zero_copy_only=False)
    lowest = np.asarray([_LOWEST.get(word, 0.0) for word in kind.to_pylist()])
    wrong = {
        f"unknown kind of span in '{name}'": ~_is_in(kind, _KINDS),
        f"'{name}' reaches outside its text": ~((start >= 0) & (start < end) & (end <= size)),
        f"a phrase or step without id in '{name}'": number & _is_in(kind, _NUMBERED),
        f"a value out of range in '{name}'": (value < lowest) | (value > 1),
    }
    return first_problem([problem_where(_some(hit, rows, len(spans)), told) for told, hit in wrong.items()])


def _modes(cells: Cells) -> Cells:
    odd = pc.invert(pc.is_in(pc.fill_null(cells.values, "trace"), pa.array(["trace", "empty"])))
    return Cells(cells.values, problem_where(flat(odd), "trace_mode is neither 'trace' nor 'empty'"))


def _shares(cells: Cells, name: str) -> Cells:
    values = pc.fill_null(cells.values, 0.0)
    odd = pc.or_(pc.less(values, 0.0), pc.greater(values, 1.0))
    return cells._replace(
        problems=first_problem([cells.problems, problem_where(odd, f"{name} is not in [0, 1]")])
    )


def _whole(cells: Cells, name: str) -> Cells:
    values = pc.fill_null(cells.values, 0.0)
    fits = pc.and_(
        pc.equal(pc.floor(values), values), pc.and_(pc.less(values, 2**31), pc.greater(values, -1))
    )
    told = problem_where(pc.invert(fits), f"{name} is not a whole number of at least 0")
    whole = pc.if_else(fits, cells.values, pa.scalar(None, pa.float64()))
    return Cells(whole.cast(COLUMNS[name].type), first_problem([cells.problems, told]))


def _floats(values: pa.Array) -> np.ndarray:
    """Return numbers as float64, null as NaN."""
    return np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False))


def _is_in(values: pa.Array, known: tuple[str, ...]) -> np.ndarray:
    return np.asarray(pc.is_in(values, pa.array(known)).to_numpy(zero_copy_only=False))


def _some(hit: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    return np.asarray(np.bincount(rows[hit], minlength=count) > 0)
