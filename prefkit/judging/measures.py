"""Measures: what a judge's own answers say of the judge, as counts that add up over shards.

Each measure is a share: so many of so many. Verdicts on one pair, or on the pairs of one prompt, are not independent,
so beside the two sums over all groups stand the sums of their squares and products. From these follow the standard
error of the share (the linearised variance of a ratio of sums over groups) and from it an interval.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from prefkit.judging.tasks import Ask, Outcome
from prefkit.statistics.figures import Share

__all__ = ["MEASURES", "measured", "share_of"]

MEASURES: Mapping[str, str] = {
    "first": "the answer shown first wins, of verdicts that are no tie",
    "orders": "both orders of a pair give the same verdict",
    "repeats": "two samples of one question give the same verdict",
    "ties": "verdicts that are a tie",
    "longer": "the longer answer wins, of verdicts that are no tie on answers of different length",
    "unread": "questions whose answer could not be read in the end",
}
_SUMS = ("count", "of", "count*count", "count*of", "of*of", "groups")


class _Verdict(NamedTuple):
    """A verdict on two responses in the order shown."""

    group: int
    first: str
    second: str
    sample: int
    value: str
    longer: str


class _Tally:
    """So many of so many, by group."""

    def __init__(self) -> None:
        self.ones: Counter[int] = Counter()
        self.all: Counter[int] = Counter()

    def add(self, group: int, *, is_one: bool) -> None:
        self.all[group] += 1
        self.ones[group] += is_one

    def sums(self) -> dict[str, int]:
        pairs = [(self.ones[group], of) for group, of in self.all.items()]
        return {
            "count": sum(count for count, _ in pairs),
            "of": sum(of for _, of in pairs),
            "count*count": sum(count * count for count, _ in pairs),
            "count*of": sum(count * of for count, of in pairs),
            "of*of": sum(of * of for _, of in pairs),
            "groups": len(pairs),
        }


def measured(outcomes: Sequence[Outcome]) -> Counter[str]:
    """Return the counts of every measure, by `<measure>/<sum>`."""
    tallies = {name: _Tally() for name in MEASURES}
    for outcome in outcomes:
        tallies["unread"].add(outcome.ask.group, is_one=outcome.value is None)
    verdicts = [verdict for outcome in outcomes for verdict in _verdicts(outcome)]
    for verdict in verdicts:
        tallies["ties"].add(verdict.group, is_one=verdict.value == "tie")
        if verdict.value == "tie":
            continue
        tallies["first"].add(verdict.group, is_one=verdict.value == "first")
        if verdict.longer:
            tallies["longer"].add(verdict.group, is_one=verdict.value == verdict.longer)
    _compare(verdicts, tallies["orders"], tallies["repeats"])
    found: Counter[str] = Counter()
    for name, tally in tallies.items():
        found.update({f"{name}/{what}": value for what, value in tally.sums().items() if value})
    return found


def share_of(counts: Mapping[str, int], measure: str) -> Share:
    """Return a measure from its counts, with as many independent verdicts as would be as uncertain."""
    count, of, squares, crossed, sizes, groups = (counts.get(f"{measure}/{what}", 0) for what in _SUMS)
    if not of:
        return Share()
    rate = count / of
    alone = rate * (1 - rate) / of
    if not alone or groups < 2:
        return Share(count=count, n=of, effective=float(groups))
    error = max(squares - 2 * rate * crossed + rate * rate * sizes, 0.0) / of**2 * groups / (groups - 1)
    return Share(count=count, n=of, effective=of / max(1.0, error / alone))


def _verdicts(outcome: Outcome) -> Iterable[_Verdict]:
    """Yield the verdict on two responses; of a ranking, one on every two of its members."""
    ask, value = outcome.ask, outcome.value
    if isinstance(value, str):
        yield _verdict(ask, 0, 1, value)
    elif isinstance(value, tuple):
        place = {at: order for order, at in enumerate(value)}
        for one in range(len(value)):
            for other in range(one + 1, len(value)):
                yield _verdict(ask, one, other, "first" if place[one] < place[other] else "second")


def _verdict(ask: Ask, one: int, other: int, value: str) -> _Verdict:
    first, second = ask.sides[one], ask.sides[other]
    gap = len(first.text) - len(second.text)
    longer = "first" if gap > 0 else "second" if gap < 0 else ""
    return _Verdict(ask.group, first.id, second.id, ask.sample, value, longer)


def _compare(verdicts: Sequence[_Verdict], orders: _Tally, repeats: _Tally) -> None:
    """Compare each sample in one order with the same sample in the other, and each sample with the one before."""
    found: dict[tuple[int, str, str], dict[int, str]] = defaultdict(dict)
    for verdict in verdicts:
        found[verdict.group, verdict.first, verdict.second][verdict.sample] = verdict.value
    turned = {"first": "second", "second": "first", "tie": "tie"}
    for (group, first, second), samples in found.items():
        other = found.get((group, second, first), {}) if first < second else {}
        for sample in samples.keys() & other.keys():
            orders.add(group, is_one=samples[sample] == turned[other[sample]])
        said = [samples[sample] for sample in sorted(samples)]
        for before, after in pairwise(said):
            repeats.add(group, is_one=before == after)
