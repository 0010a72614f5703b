"""What a step is, in one small page: how many rows, where the others went, what failed, what the columns mean."""

from typing import NamedTuple

from prefkit.card.facts import Facts, collect
from prefkit.card.limits import check
from prefkit.manifest import Manifest
from prefkit.opened.pages import page
from prefkit.show import columns
from prefkit.store import Store

__all__ = ["overview"]


class _Step(NamedTuple):
    name: str
    level: str
    kept: int
    dropped: int
    failed: int
    reasons: list[tuple[str, int]]
    here: bool


def overview(store: Store, name: str, manifest: Manifest) -> str:
    """Return the page of a step."""
    facts = collect(store, name)
    checks = [each for each in check(facts) if each.then != "off"]
    failed = [
        {"name": each.name.replace("`", ""), "found": each.found, "wanted": each.wanted}
        for each in checks
        if not each.passed
    ]
    return page(
        "opened.html",
        name=name,
        level=manifest.level,
        rows=manifest.rows.kept,
        prompts=facts.summary.prompts,
        splits=[(split.name or "without a split", split.rows) for split in facts.summary.splits],
        stage=f"{manifest.stage} v{manifest.version}",
        made=manifest.made,
        digest=manifest.digest,
        checks=len(checks),
        failed=failed,
        steps=_steps(facts),
        columns=columns(manifest),
    )


def _steps(facts: Facts) -> list[_Step]:
    found = []
    for at, (name, manifest) in enumerate(facts.steps, start=1):
        rows, reasons = manifest.rows, sorted(manifest.drops.items(), key=lambda item: (-item[1], item[0]))
        found.append(
            _Step(name, manifest.level, rows.kept, rows.dropped, rows.failed, reasons, at == len(facts.steps))
        )
    return found
