"""Builders of tiny tables: scored responses and pairs, written as a reader would write them down."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest

from prefkit.columns import COLUMNS, MESSAGES, RATINGS, VOTES

Build = Callable[..., pa.Table]


def said(role: str, text: str | None) -> list[dict[str, str]] | None:
    return None if text is None else [{"role": role, "content": text}]


def column(name: str, values: Sequence[Any]) -> pa.Array:
    bare = name.removeprefix("chosen_").removeprefix("rejected_")
    known = COLUMNS.get(name) or COLUMNS.get(bare)
    return pa.array(values, known.type if known else None)


def rated(**scores: float | None) -> list[dict[str, Any]]:
    return [{"annotator": name, "score": score, "comment": None} for name, score in scores.items()]


def voted(*votes: tuple[str, str | None, float | None, float | None]) -> list[dict[str, Any]]:
    keys = ("judge", "winner", "p", "strength")
    return [dict(zip(keys, vote, strict=True)) | {"order": None, "rationale": None} for vote in votes]


@pytest.fixture(scope="session")
def make_responses() -> Build:
    """Build response rows: `make_responses({"p": [3.0, 1.0]}, p=["text", "other"], model=[...])`."""

    def build(
        scores: Mapping[str, Sequence[float | None]],
        texts: Mapping[str, Sequence[str | None]] | None = None,
        **more: Any,
    ) -> pa.Table:
        rows = [(prompt, index) for prompt, given in scores.items() for index in range(len(given))]
        texts = texts or {}
        told = [texts[p][i] if p in texts else f"answer {i} to {p}" for p, i in rows]
        columns: dict[str, Any] = {
            "id": pa.array([f"{p}{i}" for p, i in rows], pa.string()),
            "prompt_id": pa.array([p for p, _ in rows], pa.string()),
            "prompt": pa.array([said("user", f"question {p}") for p, _ in rows], MESSAGES),
            "response": pa.array([said("assistant", text) for text in told], MESSAGES),
            "index": pa.array([i for _, i in rows], pa.int32()),
            "score": pa.array([scores[p][i] for p, i in rows], pa.float64()),
        }
        columns |= {name: column(name, values) for name, values in more.items()}
        return pa.table(columns)

    return build


@pytest.fixture(scope="session")
def make_pairs() -> Build:
    """Build pair rows from columns; ids, prompts and texts are made up where they are not given."""

    def build(count: int | None = None, **more: Sequence[Any]) -> pa.Table:
        count = len(next(iter(more.values()))) if count is None else count
        ids = more.pop("id", [f"r{i:03}" for i in range(count)])
        prompts = more.pop("prompt_id", [f"p{i}" for i in range(count)])
        chosen = more.pop("chosen", [f"good {i}" for i in range(count)])
        rejected = more.pop("rejected", [f"bad {i}" for i in range(count)])
        columns: dict[str, Any] = {
            "id": pa.array(ids, pa.string()),
            "prompt_id": pa.array(prompts, pa.string()),
            "prompt": pa.array([said("user", f"question {p}") for p in prompts], MESSAGES),
            "chosen": pa.array([said("assistant", text) for text in chosen], MESSAGES),
            "rejected": pa.array([said("assistant", text) for text in rejected], MESSAGES),
            "chosen_id": pa.array([f"{i}+" for i in ids], pa.string()),
            "rejected_id": pa.array([f"{i}-" for i in ids], pa.string()),
        }
        columns |= {name: column(name, values) for name, values in more.items()}
        return pa.table(columns)

    return build


@pytest.fixture(scope="session")
def ratings() -> Callable[..., pa.Array]:
    """Build a `ratings` column, one mapping from annotator to score a response."""
    return lambda *rows: pa.array([None if row is None else rated(**row) for row in rows], RATINGS)


@pytest.fixture(scope="session")
def votes() -> Callable[..., pa.Array]:
    """Build a `votes` column, one list of (judge, winner, p, strength) a pair."""
    return lambda *rows: pa.array([None if row is None else voted(*row) for row in rows], VOTES)
