"""The YAML block at the head of a card, as the hub and `datasets` read it: what it is, and which file is which split."""

from typing import Any

import yaml

from prefkit.card.facts import Facts
from prefkit.card.markdown import text

__all__ = ["front_matter"]

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGER = ((10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"))
_MADE_BY_MODELS = {"sample", "rationale"}


def front_matter(facts: Facts) -> str:
    """Return the metadata block, its fences included."""
    block = yaml.safe_dump(_metadata(facts), sort_keys=False, allow_unicode=True, width=110)
    return f"---\n{block}---"


def _metadata(facts: Facts) -> dict[str, Any]:
    metadata: dict[str, Any] = {"pretty_name": text(facts.run)}
    if "language" in facts.recipe:
        metadata["language"] = [text(name) for name in facts.recipe["language"]]
    metadata["license"] = text(facts.recipe.get("license", "unknown"))
    metadata["tags"] = _tags(facts)
    metadata["size_categories"] = [size_category(facts.summary.rows)]
    metadata["configs"] = [
        {
            "config_name": "default",
            "data_files": [{"split": name, "path": f"data/{name}-*.parquet"} for name in facts.splits()],
        }
    ]
    return metadata


def _tags(facts: Facts) -> list[str]:
    tags = ["prefkit"]
    if facts.summary.pairs is not None:
        tags = ["preference", "dpo", *tags]
    return [*tags, "synthetic"] if facts.stages & _MADE_BY_MODELS else tags


def size_category(rows: int) -> str:
    """Return the hub's word for a number of rows."""
    return next((word for below, word in (*_SIZES, *_LARGER) if rows < below), "n>10B")
