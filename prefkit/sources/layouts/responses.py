"""Responses, one a row: alpaca_eval outputs, unpaired (KTO) rows, conversations, GSM8K solutions, and plain columns."""

from collections.abc import Iterator, Mapping

from prefkit.sources.chunks import BadRowError, Cell, Row
from prefkit.sources.conversations import has_turns, speaker, turns_of
from prefkit.sources.layouts.layout import Head, Layout, required

__all__ = ["ALPACA_OUTPUTS", "CONVERSATION", "GSM8K", "KTO", "RESPONSES", "UNPAIRED"]

_PROMPT: Mapping[str, tuple[str, ...]] = {
    "system": ("system",),
    "input": ("input",),
    "tools": ("tools",),
    "reference_answer": ("reference_answer",),
    "domain": ("domain", "category", "subset"),
    "model": ("model", "generator"),
}


def _is_truth(value: Cell) -> bool:
    return isinstance(value, bool | int | float) and value in {0, 1}


def _speaks_last(value: Cell) -> bool:
    return has_turns(value) and speaker(value[-1]) == "assistant"


def _unfold_conversation(row: Row) -> Iterator[Row]:
    turns = turns_of(row.get("messages") or row.get("conversations"), "messages")
    if len(turns) < 2 or turns[-1]["role"] != "assistant":
        raise BadRowError("messages do not end with a response")
    label = row.get("label", row.get("kto_tag"))
    yield {**row, "prompt": turns[:-1], "response": turns[-1:], "score": label}


def _unfold_gsm8k(row: Row) -> Iterator[Row]:
    truth = required(row, "ground_truth")
    shared = {"prompt": row.get("question"), "reference_answer": str(truth).rsplit("A:", 1)[-1].strip()}
    yield {**shared, "response": truth, "model": "ground_truth", "origin": "human", "score": 1.0}
    for name, solution in row.items():
        if isinstance(solution, dict):
            right = required(solution, "is_correct")
            yield {
                **shared,
                "response": solution.get("solution"),
                "model": name,
                "origin": "dataset",
                "score": right,
            }


def _is_gsm8k(head: Head) -> bool:
    return any(
        isinstance(value, dict) and "is_correct" in value for row in head.rows[:5] for value in row.values()
    )


ALPACA_OUTPUTS = Layout(
    name="alpaca-eval-outputs",
    level="response",
    needs=(("instruction",), ("output",), ("generator",)),
    columns={"prompt": ("instruction",), "response": ("output",), **_PROMPT, "domain": ("dataset",)},
)
UNPAIRED = Layout(
    name="trl-unpaired",
    level="response",
    needs=(("prompt",), ("completion",), ("label",)),
    columns={"prompt": ("prompt",), "response": ("completion",), "score": ("label",), **_PROMPT},
    matches=lambda head: head.has("label", _is_truth),
    hubs=("trl-lib/kto-mix-14k",),
)
"""The score of an unpaired response is its label: 1 for desirable."""
KTO = Layout(
    name="kto",
    level="response",
    needs=(("messages", "conversations"), ("label", "kto_tag")),
    columns=_PROMPT,
    matches=lambda head: head.has("label", _is_truth) or head.has("kto_tag", _is_truth),
    unfold=_unfold_conversation,
    gives=("prompt", "response", "score"),
)
CONVERSATION = Layout(
    name="conversation",
    level="response",
    needs=(("messages", "conversations"),),
    columns=_PROMPT,
    matches=lambda head: head.has("messages", _speaks_last) or head.has("conversations", _speaks_last),
    unfold=_unfold_conversation,
    gives=("prompt", "response"),
)
GSM8K = Layout(
    name="gsm8k-solutions",
    level="response",
    needs=(("question",), ("ground_truth",)),
    matches=_is_gsm8k,
    unfold=_unfold_gsm8k,
    gives=("prompt", "reference_answer", "response", "model", "origin", "score"),
)
"""Model solutions of grade-school problems, 1 where the final answer is right, beside the human one."""
RESPONSES = Layout(
    name="responses",
    level="response",
    needs=(("prompt", "instruction"), ("response", "completion", "output")),
    columns={
        "prompt": ("prompt", "instruction"),
        "response": ("response", "completion", "output"),
        "score": ("score", "reward", "rating"),
        "ratings": ("ratings",),
        "win_rate": ("win_rate",),
        **_PROMPT,
    },
)
