"""Pairs with a known direction: what trainers read. TRL, LLaMA-Factory, axolotl, Orca, Tulu and their many copies."""

from collections.abc import Iterator, Mapping
from itertools import takewhile

from prefkit.sources.carried import CARRIED
from prefkit.sources.chunks import BadRowError, Cell, Row
from prefkit.sources.conversations import has_turns, speaker, split_ends, turns_of
from prefkit.sources.layouts.layout import Head, Layout, required

__all__ = [
    "ALPACA_RANKING",
    "AXOLOTL",
    "EXPLICIT",
    "IMPLICIT",
    "IMPLICIT_TEXT",
    "ORCA",
    "SHAREGPT",
    "TULU",
    "ULTRA_BINARIZED",
]

_SIDES: Mapping[str, tuple[str, ...]] = {
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "chosen_score": ("chosen_score", "score_chosen", "chosen_rating", "chosen-rating"),
    "rejected_score": ("rejected_score", "score_rejected", "rejected_rating", "rejected-rating"),
    "chosen_model": ("chosen_model", "chosen-model"),
    "rejected_model": ("rejected_model", "rejected-model"),
}
_PROMPT: Mapping[str, tuple[str, ...]] = {
    "system": ("system",),
    "tools": ("tools",),
    "reference_answer": ("reference_answer",),
    "domain": ("domain", "category", "subset"),
    "margin": ("margin",),
}


def _is_text(value: Cell) -> bool:
    return isinstance(value, str)


def _is_one_turn(value: Cell) -> bool:
    return isinstance(value, dict)


def _holds_prompt(value: Cell) -> bool:
    return has_turns(value) and speaker(value[0]) != "assistant"


def _whole_conversations(head: Head) -> bool:
    return head.has("chosen", _holds_prompt) and head.has("rejected", _holds_prompt)


def _unfold_conversations(row: Row) -> Iterator[Row]:
    chosen = turns_of(required(row, "chosen"), "chosen")
    halves = split_ends(chosen, turns_of(required(row, "rejected"), "rejected"))
    yield {**row, "prompt": halves.prompt, "chosen": halves.chosen, "rejected": halves.rejected}


def _shared(one: str, other: str) -> str:
    same = takewhile(lambda marks: marks[0] == marks[1], zip(one, other, strict=False))
    return one[: sum(1 for _ in same)]


def _unfold_texts(row: Row) -> Iterator[Row]:
    chosen, rejected = required(row, "chosen"), required(row, "rejected")
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        raise BadRowError("chosen and rejected are not both text")
    # Texts part at a word: the space that ends the shared beginning belongs to both responses.
    shared = _shared(chosen, rejected)
    at = len(shared) if shared.endswith((" ", "\n")) else max(shared.rfind(" "), shared.rfind("\n"))
    at = len(shared[: max(at, 0)].rstrip())
    if not at:
        raise BadRowError("chosen and rejected share no beginning")
    yield {**row, "prompt": shared[:at], "chosen": chosen[at:].strip(), "rejected": rejected[at:].strip()}


EXPLICIT = Layout(
    name="trl-explicit",
    level="pair",
    needs=(("prompt",), ("chosen",), ("rejected",)),
    columns={"prompt": ("prompt",), **_SIDES, **_PROMPT, **{name: (name,) for name in CARRIED["pair"]}},
)
IMPLICIT = Layout(
    name="trl-implicit",
    level="pair",
    needs=(("chosen",), ("rejected",)),
    columns={**_SIDES, **{target: names for target, names in _PROMPT.items() if target != "system"}},
    matches=_whole_conversations,
    unfold=_unfold_conversations,
    gives=("prompt", "chosen", "rejected"),
)
IMPLICIT_TEXT = Layout(
    name="trl-implicit-text",
    level="pair",
    needs=(("chosen",), ("rejected",)),
    columns={**_SIDES, **_PROMPT},
    matches=lambda head: head.has("chosen", _is_text) and head.has("rejected", _is_text),
    unfold=_unfold_texts,
    gives=("prompt", "chosen", "rejected"),
)
ULTRA_BINARIZED = Layout(
    name="ultrafeedback-binarized",
    level="pair",
    needs=(
        ("chosen",),
        ("rejected",),
        ("score_chosen", "chosen-rating"),
        ("score_rejected", "rejected-rating"),
    ),
    columns=IMPLICIT.columns,
    matches=_whole_conversations,
    unfold=_unfold_conversations,
    gives=("prompt", "chosen", "rejected"),
    hubs=("HuggingFaceH4/ultrafeedback_binarized", "trl-lib/ultrafeedback_binarized"),
)
TULU = Layout(
    name="tulu-preference",
    level="pair",
    needs=(("chosen",), ("rejected",), ("source",), ("id", "prompt_id")),
    columns={**IMPLICIT.columns, "domain": ("source",)},
    matches=_whole_conversations,
    unfold=_unfold_conversations,
    gives=("prompt", "chosen", "rejected"),
    hubs=(
        "allenai/llama-3.1-tulu-3-8b-preference-mixture",
        "allenai/llama-3.1-tulu-3-70b-preference-mixture",
    ),
)
SHAREGPT = Layout(
    name="sharegpt-ranking",
    level="pair",
    needs=(("conversations",), ("chosen",), ("rejected",)),
    columns={"prompt": ("conversations",), **_SIDES, **_PROMPT},
    matches=lambda head: head.has("chosen", _is_one_turn) and head.has("rejected", _is_one_turn),
)
AXOLOTL = Layout(
    name="axolotl-chat",
    level="pair",
    needs=(("messages",), ("chosen",), ("rejected",)),
    columns={"prompt": ("messages",), **_SIDES, **_PROMPT},
    matches=lambda head: head.has("chosen", _is_one_turn) and head.has("rejected", _is_one_turn),
)
ORCA = Layout(
    name="orca-pairs",
    level="pair",
    needs=(("question",), ("chosen",), ("rejected",)),
    columns={"prompt": ("question",), **_SIDES, **_PROMPT},
    hubs=("Intel/orca_dpo_pairs",),
)
ALPACA_RANKING = Layout(
    name="alpaca-ranking",
    level="pair",
    needs=(("instruction",), ("chosen",), ("rejected",)),
    columns={"prompt": ("instruction",), "input": ("input",), **_SIDES, **_PROMPT},
)
