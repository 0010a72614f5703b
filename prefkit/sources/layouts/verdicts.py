"""Pairs whose direction is a verdict in a column of its own: alpaca_eval, PandaLM, PKU-SafeRLHF."""

from collections.abc import Iterator

from prefkit.sources.cells import number
from prefkit.sources.chunks import BadRowError, Row
from prefkit.sources.layouts.layout import Layout, required

__all__ = ["ALPACA_EVAL", "PANDALM", "PKU"]

_PEOPLE = ("annotator1", "annotator2", "annotator3")


def _unfold_alpaca(row: Row) -> Iterator[Row]:
    said = row.get("raw_completion")
    reason = said.get("concise_explanation") if isinstance(said, dict) else None
    yield {
        "prompt": row.get("instruction"),
        "first": row.get("output_1"),
        "second": row.get("output_2"),
        "first_model": row.get("generator_1"),
        "second_model": row.get("generator_2"),
        "domain": row.get("dataset"),
        "votes": [{"judge": row.get("annotator"), "verdict": row.get("preference"), "rationale": reason}],
    }


def _unfold_pandalm(row: Row) -> Iterator[Row]:
    models = str(row.get("cmp_key") or row.get("model_pair") or "").split("_")
    first, second = models if len(models) == 2 else (None, None)
    yield {
        "prompt": row.get("instruction"),
        "input": row.get("input"),
        "first": row.get("response1"),
        "second": row.get("response2"),
        "first_model": first,
        "second_model": second,
        "domain": row.get("motivation_app") or row.get("app"),
        "votes": [{"judge": person, "verdict": row.get(person)} for person in _PEOPLE],
    }


def _unfold_pku(row: Row) -> Iterator[Row]:
    required(row, "better_response_id")
    better, safer = (
        number(row.get(f"{what}_response_id"), f"{what}_response_id") for what in ("better", "safer")
    )
    if better not in {0, 1} or safer not in {0, 1, None}:
        raise BadRowError("response id is neither 0 nor 1")
    yield {
        "prompt": row.get("prompt"),
        "first": row.get("response_0"),
        "second": row.get("response_1"),
        "domain": row.get("prompt_source"),
        "votes": [{"judge": "helpfulness", "verdict": better}],
        "first_safer": None if safer is None else 1 - safer,
        "second_safer": safer,
        "first_safe": row.get("is_response_0_safe"),
        "second_safe": row.get("is_response_1_safe"),
    }


ALPACA_EVAL = Layout(
    name="alpaca-eval-annotations",
    level="pair",
    needs=(("instruction",), ("output_1",), ("output_2",), ("preference",)),
    unfold=_unfold_alpaca,
    gives=("prompt", "first", "second", "first_model", "second_model", "domain", "votes"),
)
"""A preference is 1 or 2, or 1 + P(second is better); ties are 1.5 or, by older judges, 0; null is a failed judge."""
PANDALM = Layout(
    name="pandalm",
    level="pair",
    needs=(("instruction",), ("response1",), ("response2",), *((person,) for person in _PEOPLE)),
    unfold=_unfold_pandalm,
    gives=("prompt", "input", "first", "second", "first_model", "second_model", "domain", "votes"),
)
"""Three people's votes: 0 is a tie."""
PKU = Layout(
    name="pku-saferlhf",
    level="pair",
    needs=(("prompt",), ("response_0",), ("response_1",), ("better_response_id",)),
    unfold=_unfold_pku,
    gives=("prompt", "first", "second", "domain", "votes"),
    scores=("safer", "safe"),
    coding="zero-one",
    hubs=("PKU-Alignment/PKU-SafeRLHF",),
)
"""The chosen side is the more helpful one; `chosen_safer` says whether it is also the safer one."""
