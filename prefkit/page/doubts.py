"""What somebody with a minute must not miss: uneven losses, how sure labels are, which model the log-probs are of.

Each is an answer of the opening, and is there only where there is something to say.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from prefkit.card.facts import Facts, Step
from prefkit.card.markdown import code, number, rate
from prefkit.columns import VOTES
from prefkit.page.answer import Answer
from prefkit.page.derived import disagreement
from prefkit.statistics import Summary
from prefkit.statistics.figures import Estimate, Share
from prefkit.statistics.records import Counts, Scores, Votes

__all__ = ["Uneven", "labels", "reference", "unanimous", "uneven", "unevenness"]

_FEWEST = 30
"""Rows of a value before the step: below, its share of losses is chance."""
_APART = 0.2
"""Shares of losses that differ by less are not spoken of, and neither are those less than twice as large."""
_TOY = "prefkit/toy-"


# losses


class Uneven(NamedTuple):
    """One step that lost one value of a category far more often than another."""

    step: str
    field: str
    """`domain` or `source`."""
    most: str
    least: str
    lost_most: Share
    lost_least: Share
    before: Share
    """Rows with `least`, of all, before the step."""
    after: Share


def unevenness(facts: Facts) -> list[Uneven]:
    """Return where a step lost one value far more often than another, by the counts in the manifests, worst first."""
    found = [
        each for one, other in zip(facts.steps, facts.steps[1:], strict=False) for each in _of(one, other)
    ]
    return sorted(found, key=lambda each: -_gap(each))


def uneven(facts: Facts) -> Iterator[Answer]:
    """Say which kind of row was lost far more often than another."""
    found = unevenness(facts)
    if not found:
        return
    first = found[0]
    short = f"{code(first.step)} took {_percent(first.lost_most)} of {code(first.most)}, {_percent(first.lost_least)} of {code(first.least)}"
    told = " ".join(_told(each) for each in found)
    yield Answer("Was one kind of row lost more than another?", short, told, "bad")


def _told(each: Uneven) -> str:
    return (
        f"At {code(each.step)} rows whose {each.field} is {code(each.most)} lost {rate(each.lost_most)}, those whose"
        f" {each.field} is {code(each.least)} {rate(each.lost_least)}. So {code(each.least)} is"
        f" {_percent(each.after)} of what is left; it was {_percent(each.before)} before."
    )


def _of(one: Step, other: Step) -> Iterator[Uneven]:
    if one.manifest.level != other.manifest.level or not other.manifest.rows.dropped:
        return
    before, after = _summary(one), _summary(other)
    if before is None or after is None or after.rows > before.rows:
        return
    for field, was, left in (
        ("domain", before.domains, after.domains),
        ("source", before.sources, after.sources),
    ):
        if was is not None and left is not None:
            yield from _compared(other.name.partition("-")[2], field, was, left)


def _compared(step: str, field: str, was: Counts, left: Counts) -> Iterator[Uneven]:
    if was.others or left.others:
        return  # which of the values that are not named were lost cannot be told
    rows, stayed = _rows(was), _rows(left)
    lost = {
        name: Share(count=max(0, n - stayed.get(name, 0)), n=n) for name, n in rows.items() if n >= _FEWEST
    }
    if len(lost) < 2:
        return
    order = sorted(lost, key=lambda name: (lost[name].rate or 0.0, name))
    least, most = order[0], order[-1]
    low, high = (lost[name].rate or 0.0 for name in (least, most))
    if high - low < _APART or high < 2 * low:
        return
    total, kept = sum(rows.values()), sum(stayed.values())
    after = Share(count=stayed.get(least, 0), n=kept)
    yield Uneven(step, field, most, least, lost[most], lost[least], Share(count=rows[least], n=total), after)


def _rows(counts: Counts) -> Mapping[str, int]:
    return {each.name: each.rows for each in counts.top if each.name is not None}


def _gap(each: Uneven) -> float:
    return (each.lost_most.rate or 0.0) - (each.lost_least.rate or 0.0)


def _summary(step: Step) -> Summary | None:
    known = step.manifest.statistics
    return Summary.model_validate(known) if known else None


def _percent(share: Share) -> str:
    return f"{100 * (share.rate or 0.0):.0f} %"


# labels


def unanimous(table: pa.Table) -> Share | None:
    """Return the share of the pairs with several votes on which all say the same; None without such a pair."""
    if "votes" not in table.column_names or table.schema.field("votes").type != VOTES:
        return None
    differ = disagreement(table["votes"])
    known = len(differ) - differ.null_count
    return Share(count=known - (pc.sum(differ).as_py() or 0), n=known) if known else None


def labels(facts: Facts, agreed: Share | None = None) -> Iterator[Answer]:
    """Say how sure the labels are: whether raters agree, how many pairs are close, how many may be wrong."""
    pairs = facts.summary.pairs
    if pairs is None:
        return
    question, found = "How sure are the labels?", pairs.labels
    told = [*_of_votes(pairs.votes, agreed)]
    if found.tie is not None and found.tie.n:
        told.append(f"Too close to call (`tie`), and still in the data: {rate(found.tie)}.")
    if found.doubted is not None and found.doubted.n and found.flip_prob is not None:
        told.append(
            f"May be mislabelled (`flip_prob` above 0): {rate(found.doubted)}; mean {number(found.flip_prob.mean)}."
        )
    told += _of_scores(pairs.scores)
    if not told:
        why = "No votes, no ties and no estimate of mislabelling: every label is taken as certain."
        yield Answer(question, "Not known", why, "unknown")
        return
    yield Answer(question, _short(agreed, found.tie), " ".join(told))


def _short(agreed: Share | None, tie: Share | None) -> str:
    if agreed is not None:
        return f"All raters agree on {_percent(agreed)} of pairs"
    return "No votes to tell by" if tie is None else f"{_percent(tie)} are too close to call"


def _of_votes(votes: Votes | None, agreed: Share | None) -> Iterator[str]:
    if agreed is not None:
        yield f"Of the pairs with several votes, all say the same on {rate(agreed)}."
    if votes is not None and votes.agreement is not None:
        kappa = "" if votes.kappa is None else f"; Fleiss' kappa {votes.kappa:.2f}"
        chance = "" if votes.chance is None else f" ({votes.chance:.2f} by chance{kappa})"
        yield f"Two votes on one pair agree with a chance of {_two(votes.agreement)}{chance}."


def _of_scores(scores: Mapping[str, Scores]) -> Iterator[str]:
    for name, each in scores.items():
        lower = each.higher.n - each.higher.count - each.equal.count
        if lower > 0:
            part = Share(count=lower, n=each.higher.n)
            yield f"Chosen has the lower {code(name)} in {rate(part)}."


def _two(figure: Estimate) -> str:
    if figure.value is None:
        return "–"
    ends = (
        "" if figure.low is None or figure.high is None else f" (95 %: {figure.low:.2f} to {figure.high:.2f})"
    )
    return f"{figure.value:.2f}{ends}"


# the reference


def reference(facts: Facts) -> Iterator[Answer]:
    """Say which model the log-probs are of, and that a toy or fake model's mean nothing."""
    step = next((each for each in reversed(facts.steps) if each.manifest.stage == "reference"), None)
    if step is None:
        return
    manifest = step.manifest
    model = manifest.config.get("model")
    name = str(model.get("id", "")) if isinstance(model, dict) else ""
    is_fake = any(how.startswith("fake") for how in manifest.made.engines.values())
    is_toy = name.startswith(_TOY) or is_fake
    told = [f"`ref_chosen_logp` and `ref_rejected_logp` are the log-probs of both sides under {code(name)}."]
    if is_toy:
        what = "a stand-in that no model answers for" if is_fake else "the toy model that ships with prefkit"
        told.append(
            f"It is {what}: its log-probs mean nothing to another model. Compute them again before training one."
        )
    else:
        told.append("Training a model that starts from another one needs them computed again.")
    if dropped := manifest.drops.get("too-long", 0):
        told.append(
            f"It also decided what is here: {dropped:,} of {manifest.rows.read:,} pairs had a side longer than it reads, and were"
            " dropped (`too-long`). How many tokens it reads is not recorded."
        )
    yield Answer("Which model is the reference?", code(name), " ".join(told), "bad" if is_toy else "plain")
