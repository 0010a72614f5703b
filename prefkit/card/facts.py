"""Facts: everything a card is written from: the manifests of a run, its recipe, and its training report if there is one."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from prefkit.card.reports import load_report
from prefkit.manifest import Manifest
from prefkit.statistics import Summary
from prefkit.store import Store
from prefkit.train.report import Report

__all__ = ["Facts", "Step", "collect"]


class Step(NamedTuple):
    """One step of the run."""

    name: str
    """`05-pair`."""
    manifest: Manifest


class Facts(NamedTuple):
    """What is known of a dataset without looking at a row."""

    run: str
    recipe: Mapping[str, Any]
    """As it was run, `--set` applied."""
    steps: tuple[Step, ...]
    """Up to the step that is described."""
    summary: Summary
    """Of the rows of the last step."""
    report: Report | None
    """What training on the run said of it."""

    @property
    def last(self) -> Manifest:
        """The manifest of the rows that are described."""
        return self.steps[-1].manifest

    @property
    def stages(self) -> set[str]:
        """The stages that were run."""
        return {step.manifest.stage for step in self.steps}

    def models(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the models of the recipe by the name it gives them."""
        found = self.recipe.get("models")
        return found if isinstance(found, dict) else {}

    def sources(self) -> list[Mapping[str, Any]]:
        """Return the settings of each source."""
        data = self.steps[0].manifest.config.get("data", [])
        return [source for source in data if isinstance(source, dict)]

    def splits(self) -> list[str]:
        """Return the names of the splits as files are named: `train` alone where the rows have none."""
        return list(dict.fromkeys(split_name(split.name) for split in self.summary.splits)) or ["train"]


def split_name(name: str | None) -> str:
    """Return a split's name as `datasets` takes it: rows without a split belong to `train`."""
    plain = "".join(
        mark if (mark.isalnum() and mark.isascii()) or mark == "_" else "_" for mark in name or "train"
    )
    return plain or "train"


def collect(store: Store, ref: str) -> Facts:
    """Gather the facts of `run`, or of `run/05-pair` and what led to it. Raises StoreError if a manifest is gone."""
    run, _, wanted = ref.partition("/")
    described = store.resolve(ref)
    steps = list[Step]()
    for each in store.refs(run):
        steps.append(Step(each.step, store.manifest(each)))
        if wanted and each.key == described.key and wanted in (each.step, each.step.partition("-")[2]):
            break
    last = steps[-1].manifest
    known = last.statistics or {"level": last.level, "rows": sum(shard.rows for shard in last.shards)}
    report = load_report(store, run, last.digest)
    return Facts(run, store.recipe(run), tuple(steps), Summary.model_validate(known), report)
