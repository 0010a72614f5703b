"""An answer of a page's opening: a question, a word or two, and the sentence that says why."""

from typing import Literal, NamedTuple

__all__ = ["Answer", "Mood"]

Mood = Literal["plain", "good", "bad", "unknown"]


class Answer(NamedTuple):
    """A question, the answer in a word or two, and the sentence that says why. Markdown."""

    question: str
    short: str
    because: str
    mood: Mood = "plain"
