"""Judges: how far the models that judged can be believed, from what their own answers say of them.

Every figure was counted when the step was made, over all that the judge was asked there. Canaries are questions with
a known answer; how they are made stands in `prefkit.judging.canaries`.
"""

from collections.abc import Mapping

from prefkit.card.facts import Facts, Step
from prefkit.card.markdown import code, count, rate, table
from prefkit.judging.canaries import KINDS, expected
from prefkit.judging.measures import MEASURES, share_of
from prefkit.statistics.figures import Share

__all__ = ["is_of_judges", "judges"]

_MEASURE, _CANARY, _FLAW = "judge/measure/", "judge/canary/", "judge/flaw/"
_WON = ("original", "copy", "tie", "unread", "failed")


def is_of_judges(note: str) -> bool:
    """Return whether a note is shown here, and not among what the steps counted besides."""
    return note.startswith((_MEASURE, _CANARY))


def judges(facts: Facts) -> str:
    """Show what the answers of each judge say of it; empty where nobody judged."""
    return "\n\n".join(_judge(step) for step in facts.steps if step.manifest.stage == "judge")


def _judge(step: Step) -> str:
    config, notes = step.manifest.config, step.manifest.notes
    model = config.get("model")
    name = model.get("id") if isinstance(model, Mapping) else None
    lines = [f"{code(step.name)}: {code(name)}, kind {code(config.get('kind'))}."]
    measures = _under(notes, _MEASURE)
    shares = [(told, share_of(measures, measure)) for measure, told in MEASURES.items()]
    found = "\n".join(f"- {told}: {rate(share)}" for told, share in shares if share.n)
    flaws = "\n".join(f"- {code(flaw)}: {count(n)}" for flaw, n in _under(notes, _FLAW).items())
    lines += [found, f"Answers that could not be read, before asking again:\n\n{flaws}" if flaws else ""]
    return "\n\n".join(line for line in [*lines, *_canaries(_under(notes, _CANARY))] if line)


def _canaries(notes: Mapping[str, int]) -> list[str]:
    """Show how often the judge was right where the answer is known."""
    if not notes:
        return []
    cells = []
    for kind in KINDS:
        won = {each: notes.get(f"{kind}/{each}", 0) for each in _WON}
        read = won["original"] + won["copy"] + won["tie"]
        if sum(won.values()):
            right = sum(won[each] for each in expected(kind))
            shares = (
                Share(count=n, n=read, effective=read or None) for n in (right, won["tie"], won["copy"])
            )
            cells.append(
                (kind, *(rate(share) for share in shares), count(won["unread"]), count(won["failed"]))
            )
    head = ("canary", "right", "said to be a tie", "the copy wins", "unread:", "failed:")
    decided = notes.get("first", 0) + notes.get("second", 0)
    first = rate(Share(count=notes.get("first", 0), n=decided, effective=decided or None))
    return [table(head, cells), *([f"- what is shown first wins, of canaries: {first}"] if decided else [])]


def _under(notes: Mapping[str, int], head: str) -> dict[str, int]:
    return {name.removeprefix(head): n for name, n in notes.items() if name.startswith(head)}
