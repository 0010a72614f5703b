"""Judges: how far the models that judged or scored can be believed, from what their own answers say of them.

Every figure was counted when the step was made, over all that the model was asked there. Canaries are questions with
a known answer; how they are made stands in `prefkit.judging.canaries`.
"""

from collections.abc import Mapping

from prefkit.card.facts import Facts, Step
from prefkit.card.markdown import code, count, rate, table
from prefkit.judging.canaries import KINDS, Kind, expected
from prefkit.judging.measures import MEASURES, share_of
from prefkit.statistics.figures import Share

__all__ = ["is_of_judges", "judges"]

_MEASURE, _CANARY, _FLAW = "judge/measure/", "judge/canary/", "judge/flaw/"
_SCORED = "score/canary/"
_WON = ("original", "copy", "tie", "unread", "failed")


def is_of_judges(note: str) -> bool:
    """Return whether a note is shown here, and not among what the steps counted besides."""
    return note.startswith((_MEASURE, _CANARY, _SCORED))


def judges(facts: Facts) -> str:
    """Show what the answers of each judge say of it, and the canaries of each scorer; empty where there is neither."""
    told = [_judge(step) for step in facts.steps if step.manifest.stage == "judge"]
    return "\n\n".join([*told, *(text for step in facts.steps if (text := _scorer(step)))])


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


def _scorer(step: Step) -> str:
    """Show how a scorer did where it is known which of two responses is better; empty without canaries."""
    notes, told = _under(step.manifest.notes, _SCORED), []
    for column in dict.fromkeys(name.partition("/")[0] for name in notes):
        own = _under(notes, f"{column}/")
        alike, padded = (_read(own, kind) for kind in ("identical", "padded"))
        rows = [
            ("right, of all canaries", sum(_right(own, kind) for kind in KINDS), _read(own)),
            ("an identical copy scores the same", own.get("identical/tie", 0), alike),
            ("a copy that is longer and says nothing more scores higher", own.get("padded/copy", 0), padded),
        ]
        shares = "\n".join(f"- {what}: {rate(_of(n, of))}" for what, n, of in rows if of)
        told += [f"{code(step.name)}: canaries of {code(column)}.", shares]
        told += _canaries(own, ("right", "scores the same", "the copy scores higher"))
    return "\n\n".join(text for text in told if text)


def _read(notes: Mapping[str, int], *kinds: str) -> int:
    """Return how many canaries of some kinds, or of all, were answered."""
    return sum(
        notes.get(f"{kind}/{each}", 0) for kind in kinds or KINDS for each in ("original", "copy", "tie")
    )


def _right(notes: Mapping[str, int], kind: Kind) -> int:
    return sum(notes.get(f"{kind}/{each}", 0) for each in expected(kind))


def _of(count_: int, of: int) -> Share:
    return Share(count=count_, n=of, effective=of or None)


def _canaries(
    notes: Mapping[str, int], titles: tuple[str, str, str] = ("right", "said to be a tie", "the copy wins")
) -> list[str]:
    """Show how often the judge was right where the answer is known."""
    if not notes:
        return []
    cells = []
    for kind in KINDS:
        won = {each: notes.get(f"{kind}/{each}", 0) for each in _WON}
        read = _read(notes, kind)
        if sum(won.values()):
            right = _right(notes, kind)
            shares = (_of(n, read) for n in (right, won["tie"], won["copy"]))
            cells.append(
                (kind, *(rate(share) for share in shares), count(won["unread"]), count(won["failed"]))
            )
    head = ("canary", *titles, "unread:", "failed:")
    decided = notes.get("first", 0) + notes.get("second", 0)
    first = rate(_of(notes.get("first", 0), decided))
    return [table(head, cells), *([f"- what is shown first wins, of canaries: {first}"] if decided else [])]


def _under(notes: Mapping[str, int], head: str) -> dict[str, int]:
    return {name.removeprefix(head): n for name, n in notes.items() if name.startswith(head)}
