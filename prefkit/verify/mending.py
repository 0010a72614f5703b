"""Mending: what making a damaged step again takes: from which rows, which files, and whose answers."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from prefkit.manifest import Manifest
from prefkit.verify.answers import Memory
from prefkit.verify.inventory import Inventory

__all__ = ["Mend", "Mender"]


class Mend(NamedTuple):
    """What to do, and how many answers of models would be asked for again, at most."""

    how: str
    asked_again: int = 0


class Mender:
    """Say what would mend a step, given what else of the store is sound."""

    def __init__(self, found: Inventory, damaged: Collection[str], memory: Memory) -> None:
        """`damaged` are the keys of manifests that have an object that is not sound, or are not sound themselves."""
        self._found, self._damaged, self._memory = found, damaged, memory
        self._by_digest: dict[str, list[Manifest]] = {}
        for manifest in found.steps.values():
            self._by_digest.setdefault(manifest.digest, []).append(manifest)

    def step(self, key: str, *, remove: str = "") -> Mend:
        """Say how a step is made again. `remove` is a file that a build would take for sound, and that must go."""
        manifest = self._found.steps[key]
        names = self._found.names(key)
        first = f"remove {remove}, then " if remove else ""
        if not names:
            return Mend(f"{first}nothing: no run names it; `prefkit gc --yes` removes what is left of it")
        made, origin = self._chain(manifest)
        answers = sum(each.made.calls + each.made.remembered for each in made)
        steps = "it" if len(made) == 1 else f"{len(made)} steps"
        command = f"`prefkit build` with the recipe of '{names[0].partition('/')[0]}'"
        told, again = self._asked(answers)
        return Mend(f"{first}{command} makes {steps} again {origin}; {told}", again)

    def manifest(self, key: str) -> Mend:
        """Say how a manifest that cannot be believed is made again."""
        names = self._found.names(key)
        if not names:
            return Mend("remove it: no run names it")
        run = names[0].partition("/")[0]
        parts = "from its parts where they stand, else from the step before"
        return Mend(
            f"`prefkit build` with the recipe of '{run}' makes it again {parts}; {self._remembered()}"
        )

    def ref(self, run: str) -> Mend:
        """Say how a name is given again."""
        told = "`prefkit build` with its recipe writes it again, and makes nothing that stands"
        return Mend(told if run in self._found.refs else f"{told} (run '{run}')")

    def _chain(self, manifest: Manifest) -> tuple[list[Manifest], str]:
        """Return the steps to make again, the last first, and where they begin."""
        made, seen = [manifest], {manifest.key}
        while made[-1].kind != "source":
            before = [each for each in self._by_digest.get(made[-1].input or "", []) if each.key not in seen]
            sound = [each for each in before if each.key not in self._damaged]
            if sound:
                return made, f"from {self._named(sound)}, whose rows are here"
            if not before:
                return made, "from the data on: the rows it was made from are not in the store"
            made.append(self._preferred(before))
            seen.add(made[-1].key)
        return made, f"from {_sources(made[-1].config)}"

    def _preferred(self, manifests: list[Manifest]) -> Manifest:
        return max(manifests, key=lambda each: len(self._found.names(each.key)))

    def _named(self, manifests: list[Manifest]) -> str:
        names = [name for each in manifests for name in self._found.names(each.key)]
        return f"step {names[0]}" if names else f"the step with key {manifests[0].key}"

    def _asked(self, answers: int) -> tuple[str, int]:
        if not answers:
            return "no model is asked", 0
        models = f"{answers:,} answers of models went into it"
        memory = self._memory
        if not memory.remembers:
            state = "damaged" if memory.is_there else "not here"
            return f"{models} and the memo is {state}: all of them are asked, and paid for, again", answers
        if not memory.answers:
            return f"{models} and the memo is empty: all of them are asked, and paid for, again", answers
        told = f"the memo is sound and holds {memory.answers:,}, which are not asked for again"
        return f"{models}: {told}", 0

    def _remembered(self) -> str:
        if not self._memory.is_there:
            return "the memo is not here: what models answered is asked, and paid for, again"
        if not self._memory.remembers:
            return "the memo is damaged: what models answered is asked, and paid for, again"
        return f"the memo is sound, and its {self._memory.answers:,} answers are not asked for again"


def _sources(config: Mapping[str, Any]) -> str:
    """Say where a source step read, as far as its manifest says."""
    named: list[str] = []
    for source in config.get("data", []):
        if not isinstance(source, dict):
            continue
        if source.get("ref"):
            named.append(f"'{source['ref']}' of this store")
        elif source.get("file"):
            named.append(f"the file '{source['file']}', which is not in the store")
        elif source.get("hub"):
            named.append(f"the hub dataset '{source['hub']}', which is not in the store")
    return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "") or "its sources"
