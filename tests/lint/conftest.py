"""A toy tokenizer with any chat template, and pairs written down as text."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from prefkit.lint import Read, Report, Subject, check, look, mend, read, write
from prefkit.store import Store

WORDS = "red blue green seven twelve pens cups please send thanks friday monday anna ben total order"
SPECIAL = ["<s>", "<|system|>", "<think>", "</think>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer(template: str = CHATML, *, bos: bool = False) -> Any:
    from prefkit.toy.model import make_tokenizer as make

    tokenizer = make([WORDS])
    tokenizer.add_tokens([one for one in SPECIAL if "think" in one])
    tokenizer.add_special_tokens({"extra_special_tokens": [one for one in SPECIAL if "think" not in one]})
    tokenizer.chat_template = template
    tokenizer.eos_token = "<|im_end|>"
    if bos:
        tokenizer.bos_token = "<s>"
    return tokenizer


def make_turn(role: str, text: str | None) -> dict[str, str | None]:
    return {"role": role, "content": text}


def make_row(
    prompt: Any = "send red pens please", chosen: Any = "twelve", rejected: Any = "no", **more: Any
) -> dict[str, Any]:
    """One row as TRL reads it; text becomes one turn."""
    parts = {"prompt": ("user", prompt), "chosen": ("assistant", chosen), "rejected": ("assistant", rejected)}
    turns = {
        name: text if isinstance(text, list) else [make_turn(role, text)]
        for name, (role, text) in parts.items()
    }
    return turns | more


class Linted:
    """Rows that were read from a file, looked at and checked."""

    def __init__(self, dataset: Path, tokenizer: Any, limit: int | None, truncate: str) -> None:
        self.dataset = dataset
        self.read: Read = read(str(dataset), Store(dataset.parent / "runs"))
        self.subject: Subject = look(self.read.table, tokenizer, limit, truncate)
        self.report: Report = check(self.subject, self.read)

    @property
    def found(self) -> Mapping[str, Any]:
        return {one.rule: one for one in self.report.findings}

    def details(self, rule: str) -> list[str]:
        return [example["detail"] for example in self.found[rule].examples] if rule in self.found else []

    def errors(self) -> set[str]:
        return {one.rule for one in self.report.findings if one.severity == "error"}


@pytest.fixture(scope="session")
def tokenizer_for() -> Callable[..., Any]:
    return make_tokenizer


@pytest.fixture
def lint(tmp_path: Path) -> Callable[..., Linted]:
    """Lint rows with a template."""

    def run(
        *rows: Any,
        template: str = CHATML,
        limit: int | None = None,
        truncate: str = "drop",
        bos: bool = False,
    ):
        path = tmp_path / "pairs.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in rows))
        return Linted(path, make_tokenizer(template, bos=bos), limit, truncate)

    return run


@pytest.fixture
def mended(tmp_path: Path) -> Callable[[Linted], Linted]:
    """Mend what was linted, and lint the copy that was written."""

    def run(before: Linted) -> Linted:
        done = mend(before.subject, before.read)
        write(done, tmp_path / "mended", {})
        subject = before.subject
        return Linted(tmp_path / "mended", subject.tokenizer, subject.limit, subject.truncate)

    return run


@pytest.fixture(scope="session")
def row() -> Callable[..., dict[str, Any]]:
    return make_row


@pytest.fixture(scope="session")
def turn() -> Callable[[str, str | None], dict[str, str | None]]:
    return make_turn
