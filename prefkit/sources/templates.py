"""Prompts: from the columns that make one up, through a template or a system text, to messages."""

import re
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from prefkit.columns import MESSAGES
from prefkit.sources.cells import Cells, as_list, first_problem, messages, none, problem_where, texts
from prefkit.sources.chunks import Chunk
from prefkit.sources.shape import Shape
from prefkit.sources.source import Source

__all__ = ["filled", "prompt_column"]

_SPLIT = re.compile(r"\{([^{}]*)\}")


def prompt_column(chunk: Chunk, shape: Shape, source: Source, notes: Counter[str]) -> Cells:
    """Return the prompts of a chunk, with input and system text where the source has some."""
    if source.prompt_template:
        prompts = filled(source.prompt_template, chunk, notes)
    else:
        prompts = messages(chunk.column(shape.targets["prompt"][0]), "prompt", "user", notes)
    below = shape.column("input")
    if below is not None:
        prompts = _below(prompts, texts(chunk.column(below), "input", notes).values)
    above = shape.column("system")
    if above is None and not source.system:
        return prompts
    empty = pa.nulls(chunk.rows, pa.string())
    given = empty if above is None else texts(chunk.column(above), "system", notes).values
    return _above(prompts, pc.fill_null(given, source.system))


def filled(template: str, chunk: Chunk, notes: Counter[str]) -> Cells:
    """Fill a template's `{column}` places: plain substitution, nothing is looked up in what is put in."""
    parts = _SPLIT.split(template)
    columns, problems = list[pa.Array](), [none(chunk.rows)]
    for at, part in enumerate(parts):
        if at % 2 == 0:
            columns.append(pa.repeat(pa.scalar(part, pa.string()), chunk.rows))
            continue
        values = texts(chunk.column(part), part, notes).values
        problems.append(problem_where(values.is_null(), f"no '{part}' for the prompt"))
        columns.append(values)
    joined = pc.binary_join_element_wise(*columns, pa.scalar("", pa.string()))
    cells = messages(joined, "prompt", "user", notes)
    return Cells(cells.values, first_problem([*problems, cells.problems]))


def _below(prompts: Cells, texts_below: pa.Array) -> Cells:
    """Add text to the last turn of each prompt, two lines below; blank text adds nothing."""
    rows = prompts.values.to_pylist()
    for row, below in zip(rows, as_list(texts_below), strict=True):
        if row and below and below.strip():
            said = row[-1]["content"]
            row[-1]["content"] = f"{said}\n\n{below}" if said.strip() else below
    return Cells(pa.array(rows, MESSAGES), prompts.problems)


def _above(prompts: Cells, systems: pa.Array) -> Cells:
    """Put a system turn before each prompt that has none."""
    rows = prompts.values.to_pylist()
    made = [
        [{"role": "system", "content": system}, *row]
        if row and system and row[0]["role"] != "system"
        else row
        for row, system in zip(rows, as_list(systems), strict=True)
    ]
    return Cells(pa.array(made, MESSAGES), prompts.problems)
