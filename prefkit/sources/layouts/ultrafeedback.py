"""UltraFeedback: four completions a prompt, each rated in four aspects and overall by a model."""

from collections.abc import Iterator

from prefkit.sources.cells import number
from prefkit.sources.chunks import BadRowError, Cell, Row
from prefkit.sources.layouts.layout import Layout, listed, required

__all__ = ["ULTRAFEEDBACK"]

_ASPECTS = ("helpfulness", "honesty", "instruction_following", "truthfulness")


def _rating(annotations: Cell, aspect: str) -> float | None:
    """Return an aspect's rating; upstream writes `N/A` where there is none, and lists of one in an older release."""
    entry = annotations.get(aspect) if isinstance(annotations, dict) else None
    if isinstance(entry, list):
        entry = entry[0] if entry else None
    value = entry.get("Rating") if isinstance(entry, dict) else entry
    try:
        return number(value, aspect)
    except BadRowError:
        return None


def _mean(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def _unfold(row: Row) -> Iterator[Row]:
    prompt = required(row, "instruction")
    for completion in listed(row, "completions"):
        aspects = {aspect: _rating(completion.get("annotations"), aspect) for aspect in _ASPECTS}
        fine = number(completion.get("fine-grained_score"), "fine-grained_score")
        overall = number(completion.get("overall_score"), "overall_score")
        yield {
            "prompt": prompt,
            "response": completion.get("response"),
            "model": completion.get("model"),
            "domain": row.get("source"),
            "score": _mean(list(aspects.values())) if fine is None else fine,
            "overall_score": overall,
            "ratings": [{"annotator": "gpt-4", "score": overall, "comment": completion.get("critique")}],
            **aspects,
        }


ULTRAFEEDBACK = Layout(
    name="ultrafeedback",
    level="response",
    needs=(("instruction",), ("completions",)),
    unfold=_unfold,
    gives=("prompt", "response", "model", "domain", "score", "ratings"),
    scores=("overall_score", *_ASPECTS),
    hubs=("openbmb/UltraFeedback",),
)
"""The score is the mean of the aspects: `overall_score` was 10 where 1 was meant in 2,628 completions upstream."""
