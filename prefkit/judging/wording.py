"""Wording: what a judge is asked, from versioned files or from a recipe, with what others wrote fenced off.

Responses are untrusted: one may hold the words that close its own quotation, or a verdict. So every text that others
wrote stands between two lines with a mark that is drawn for each request, and that none of the texts holds. A text
is put in once and never looked at again, so it cannot become part of the template either.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Self, final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from prefkit import rng
from prefkit.errors import ContractError
from prefkit.prompts import fill, names_in, template

__all__ = ["AnyWording", "Wording", "asked", "check_places", "fence", "marked"]

_OPTIONAL = frozenset({"rubric", "reference", "answer"})
_MARK_DIGITS = 12


@final
class Wording(BaseModel):
    """A template or rubric: the name of one that prefkit ships, or a text or file of the recipe's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = None
    """One that is shipped: `judge.pairwise.v1`. A changed text has a new version, so the name is its identity."""
    text: str | None = None
    """The words themselves."""
    file: str | None = None
    """A text file with the words, relative to the recipe. What it says is part of the key of a step that uses it."""

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if [self.name, self.text, self.file].count(None) != 2:
            raise ValueError("give one of name, text and file")
        if self.name is not None:
            template(self.name)
        return self

    @model_serializer(mode="wrap")
    def _without_nothing(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = dump(self)
        return {key: value for key, value in plain.items() if value is not None}

    def read(self, folder: Path) -> Self:
        """Return the wording with the words of its file in the file's place. Raises ContractError if it has none."""
        if self.file is None:
            return self
        path = folder / self.file
        try:
            return type(self)(text=path.read_text(encoding="utf-8").removesuffix("\n"))
        except (OSError, UnicodeDecodeError) as error:
            reason = str(error.strerror).lower() if isinstance(error, OSError) else "it is not UTF-8"
            what = f"the template '{path.name}' cannot be read: {reason}"
            hint = "give a text file, relative to the recipe, or the words as {text: ...}"
            raise ContractError(what, where=str(path), hint=hint) from error

    @property
    def words(self) -> str:
        """The words. Those of a file have to be `read` first."""
        if self.file is not None:
            raise ContractError(f"the template '{self.file}' is not read yet", hint="call read(folder) first")
        return template(self.name) if self.name is not None else self.text or ""

    @property
    def label(self) -> str:
        """What judgements call it: its name, or `text:` and a digest of its words."""
        if self.name is not None:
            return self.name
        return f"text:{blake2b(self.words.encode('utf-8', 'surrogatepass'), digest_size=6).hexdigest()}"


def _named(value: Any) -> Any:
    """Read a wording as recipes spell it: a shipped one's name alone, or `{text: ...}`, or `{file: judge.txt}`."""
    return {"name": value} if isinstance(value, str) else value


AnyWording = Annotated[Wording, BeforeValidator(_named, json_schema_input_type=str | dict[str, str])]


def check_places(words: str, needed: Sequence[str]) -> None:
    """Raise ValueError if a template lacks one of the places it needs, or has one that nothing fills."""
    there = names_in(words)
    missing, odd = sorted(set(needed) - there), sorted(there - set(needed) - _OPTIONAL)
    if missing or odd:
        wanted = ", ".join("{{" + name + "}}" for name in needed)
        wrong = f"lacks '{missing[0]}'" if missing else f"has '{odd[0]}', which nothing fills"
        raise ValueError(f"the template {wrong}: it needs {wanted}, and may have {sorted(_OPTIONAL)}")


def marked(seed: int, key: str, attempt: int, texts: Sequence[str]) -> str:
    """Return the mark of a request: digits that depend on the seed and on what is asked, and that no text holds."""
    again = 0
    while True:
        mark = rng.child_id("judge mark", str(seed), key, str(attempt), str(again))[:_MARK_DIGITS]
        if not any(mark in text for text in texts):
            return mark
        again += 1


def fence(text: str, mark: str) -> str:
    """Return a text that others wrote between two lines with the mark."""
    return f"<text {mark}>\n{text}\n</text {mark}>"


def asked(words: str, values: Mapping[str, str]) -> str:
    """Return a template with its values; how to answer comes last where the template has no place for it."""
    there = names_in(words)
    question = fill(words, {name: value for name, value in values.items() if name in there})
    return question if "answer" in there else f"{question}\n\n{values['answer']}".rstrip()
