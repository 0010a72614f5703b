"""The tasks of the toy world, and the prompts that set them.

A world in which preference learning can be measured offline needs tasks that a tiny model can almost do and whose
answers can be graded exactly. Two families do:

    note    Write a formal note to Anna: 3 pens, 2 cups. By Friday.
            Dear Anna, please send 3 pens and 2 cups by Friday. This is 5 in total. Kind regards.
    steps   Add 7, 15 and 4 step by step.
            7 + 15 = 22. 22 + 4 = 26. Answer: 26.

A prompt's text is the whole task: `read_prompt` takes it back into its parts, so an answer can be graded wherever
the two texts ended up, with no hidden columns.
"""

import random
import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from prefkit.errors import DataError

__all__ = [
    "DAYS",
    "ITEMS",
    "NAMES",
    "PHRASES",
    "TONES",
    "Line",
    "Note",
    "Phrases",
    "Steps",
    "Task",
    "Tone",
    "difficulty",
    "draw_task",
    "join_words",
    "read_prompt",
    "write_lines",
    "write_prompt",
]

Tone = Literal["formal", "friendly", "brief"]
TONES: Final[tuple[Tone, ...]] = ("formal", "friendly", "brief")
DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# fmt: off
NAMES: Final = (
    "Anna", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Henry", "Iris", "Jonas",
    "Karin", "Leo", "Maria", "Noah", "Olga", "Peter", "Rosa", "Simon", "Tina", "Victor",
)
ITEMS: Final = (
    "pens", "cups", "chairs", "lamps", "books", "boxes", "plates", "forks", "spoons", "towels",
    "keys", "ropes", "hats", "gloves", "bags", "clocks", "stamps", "maps", "coins", "bells",
)
# fmt: on


class Phrases(NamedTuple):
    """How one tone says each part of a note; the first wording is as good as the second."""

    opening: tuple[str, ...]
    request: tuple[str, ...]
    total: tuple[str, ...]
    closing: tuple[str, ...]


PHRASES: Final[Mapping[Tone, Phrases]] = {
    "formal": Phrases(
        opening=("Dear {name},", "Good day {name},"),
        request=("please send {lines} by {day}.", "kindly deliver {lines} by {day}."),
        total=("This is {total} in total.",),
        closing=("Kind regards.", "Yours sincerely."),
    ),
    "friendly": Phrases(
        opening=("Hi {name},", "Hey {name},"),
        request=("could you bring {lines} by {day}?", "can you get {lines} by {day}?"),
        total=("That makes {total} things!",),
        closing=("Thanks a lot!", "Cheers!"),
    ),
    "brief": Phrases(
        opening=("{name}:",),
        request=("{lines} by {day}.",),
        total=("Total {total}.",),
        closing=("Thanks.",),
    ),
}


class Line(NamedTuple):
    """One line of an order: how many of what."""

    number: int
    item: str


class Note(NamedTuple):
    """Ask somebody, in a tone, for one to four lines of items by a day."""

    tone: Tone
    name: str
    lines: tuple[Line, ...]
    day: str


class Steps(NamedTuple):
    """Add two to five terms, one after the other."""

    terms: tuple[int, ...]


Task = Note | Steps

# Two notes to one addition, as a sum is learnt from fewer examples than a note.
_NOTE_SHARE: Final = 0.65


def draw_task(rng: random.Random) -> Task:
    """Draw a task: a note with probability .65, else an addition; each length equally often."""
    return _draw_note(rng) if rng.random() < _NOTE_SHARE else _draw_steps(rng)


def write_prompt(task: Task) -> str:
    """Write the prompt that sets a task."""
    if isinstance(task, Steps):
        *head, last = map(str, task.terms)
        return f"Add {', '.join(head)} and {last} step by step."
    order = ", ".join(map(_write_line, task.lines))
    return f"Write a {task.tone} note to {task.name}: {order}. By {task.day}."


def read_prompt(text: str) -> Task:
    """Read a prompt back into its task; blank space around it does not matter.

    Raises: DataError if this world cannot have written it.
    """
    task = _read_note(text.strip()) or _read_steps(text.strip())
    if task is None:
        raise DataError(
            f"the toy world cannot grade this prompt, because it did not write it: '{_shorten(text)}'",
            hint="`python -m prefkit.toy 400` prints prompts that it can grade",
        )
    return task


def difficulty(task: Task) -> int:
    """Return 1 (easy) to 4 (hard): the lines of a note, or the additions of a sum."""
    return len(task.terms) - 1 if isinstance(task, Steps) else len(task.lines)


def write_lines(lines: tuple[Line, ...]) -> str:
    """Write an order as an answer does: `3 pens, 2 cups and 4 hats`."""
    return join_words([_write_line(line) for line in lines])


def join_words(words: list[str]) -> str:
    """Join words as a sentence does: `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _draw_note(rng: random.Random) -> Note:
    items = rng.sample(ITEMS, rng.randint(1, 4))
    lines = tuple(Line(rng.randint(2, 9), item) for item in items)
    return Note(tone=rng.choice(TONES), name=rng.choice(NAMES), lines=lines, day=rng.choice(DAYS))


def _draw_steps(rng: random.Random) -> Steps:
    additions = rng.randint(1, 4)
    return Steps((rng.randint(1, 20), *(rng.randint(1, 9) for _ in range(additions))))


def _write_line(line: Line) -> str:
    return f"{line.number} {line.item}"


def _either(words: tuple[str, ...]) -> str:
    return f"(?:{'|'.join(words)})"


_LINE: Final = rf"[2-9] {_either(ITEMS)}"
_NOTE: Final = re.compile(
    rf"Write a ({'|'.join(TONES)}) note to ({'|'.join(NAMES)}): "
    rf"({_LINE}(?:, {_LINE}){{0,3}})\. By ({'|'.join(DAYS)})\."
)
_STEPS: Final = re.compile(r"Add ((?:1?[1-9]|10|20)(?:, [1-9]){0,3}) and ([1-9]) step by step\.")


def _read_note(text: str) -> Note | None:
    match = _NOTE.fullmatch(text)
    if match is None:
        return None
    tone, name, order, day = match.groups()
    lines = tuple(Line(int(line[0]), line[2:]) for line in order.split(", "))
    if len({line.item for line in lines}) < len(lines):
        return None
    return Note(tone=next(known for known in TONES if known == tone), name=name, lines=lines, day=day)


def _read_steps(text: str) -> Steps | None:
    match = _STEPS.fullmatch(text)
    return match and Steps((*map(int, match[1].split(", ")), int(match[2])))


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
