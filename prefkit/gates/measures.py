"""What gates measure: figures of a run, each from the manifests of its steps alone.

Figures of rows were counted when a step was made (`prefkit.statistics`); figures of judges stand in its notes
(`prefkit.judging.measures`). A rule may have several figures, one for each score or judge, or none where nothing of the
kind is there.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from prefkit.manifest import Manifest
from prefkit.statistics import Summary
from prefkit.statistics.figures import Estimate, Share, share_interval, wilson

__all__ = ["MEASURES", "Figure", "Ran", "ran"]

_SCORERS = ("score", "judge", "combine")
_CONTAMINATED = "contaminated/"


class Figure(NamedTuple):
    """A measured value with its 95 % interval."""

    title: str
    """What it is, with `{}` for the subject."""
    subject: str
    """A score, a step or a benchmark. It may come from anywhere: escape it."""
    value: float
    low: float
    high: float
    found: str
    """The value as a person reads it, with what it is of."""
    step: str
    """Where to look: `05-pair`."""


class Ran(NamedTuple):
    """The steps of a run, up to the one that is judged."""

    steps: Mapping[str, Manifest]
    summary: Summary
    """Of the rows of the last of them."""

    @property
    def last(self) -> str:
        """The name of the last step."""
        return list(self.steps)[-1]

    def of(self, stage: str) -> Iterator[tuple[str, Manifest]]:
        """Yield the steps of a stage."""
        return ((name, made) for name, made in self.steps.items() if made.stage == stage)


def ran(steps: Mapping[str, Manifest]) -> Ran:
    """Return the run that consists of these steps, in order."""
    return Ran(steps, _summary(list(steps.values())[-1]))


def _summary(manifest: Manifest) -> Summary:
    known = manifest.statistics or {"level": manifest.level, "rows": sum(s.rows for s in manifest.shards)}
    return Summary.model_validate(known)


# figures


def _count(title: str, count: int, step: str, subject: str = "", more: str = "") -> Figure:
    return Figure(title, subject, count, count, count, f"{count:,}{more}", step)


def _share(title: str, part: Share, step: str, subject: str = "") -> Iterator[Figure]:
    """Yield a share, unless it is one of nothing."""
    rate = part.rate
    if rate is None:
        return
    low, high = wilson(rate, part.effective or part.n)
    bounds = share_interval(part)
    inside = "" if bounds is None else f"; 95 %: {100 * bounds.low:.1f} to {100 * bounds.high:.1f}"
    found = f"{100 * rate:.1f} % ({part.count:,} of {part.n:,}{inside})"
    yield Figure(title, subject, rate, low, high, found, step)


def _estimate(title: str, figure: Estimate, step: str) -> Iterator[Figure]:
    """Yield an estimate in [0, 1], if it is known.

    Its interval is widened to that of a share of as many: where every value is the same, a normal one has no width.
    """
    if figure.value is None:
        return
    low, high = wilson(figure.value, figure.n)
    low, high = min(low, figure.low or 0.0), max(high, 1.0 if figure.high is None else figure.high)
    found = f"{figure.value:.3f} (n {figure.n:,}; 95 %: {low:.2f} to {high:.2f})"
    yield Figure(title, "", figure.value, low, high, found, step)


# what each rule measures


def _contamination(ran: Ran) -> Iterator[Figure]:
    looked = list(ran.of("decontaminate"))
    if not looked:
        return
    left = {name: made for at, (name, made) in enumerate(looked) if not _is_repeated(made, looked[at + 1 :])}
    for name, made in left.items():
        for note, count in made.notes.items():
            if note.startswith(_CONTAMINATED):
                yield _count("rows with items of {}", count, name, note.removeprefix(_CONTAMINATED))
    if not any(note.startswith(_CONTAMINATED) for made in left.values() for note in made.notes):
        levels = {made.level for _, made in looked}
        only = levels == {"prompt"} and ran.summary.level != "prompt"
        more = " in prompts; responses were not looked at" if only else ""
        yield _count("rows with items of benchmarks", 0, looked[-1][0], more=more)


def _is_repeated(made: Manifest, later: list[tuple[str, Manifest]]) -> bool:
    """Say whether a later step looked for the same benchmarks again: what it found is what is left."""
    wanted = made.config.get("against", [])
    return any(all(one in again.config.get("against", []) for one in wanted) for _, again in later)


def _identical_sides(ran: Ran) -> Iterator[Figure]:
    if ran.summary.pairs is not None:
        yield from _share("pairs with identical sides", ran.summary.pairs.identical, ran.last)


def _split_leakage(ran: Ran) -> Iterator[Figure]:
    splits = [made.config.get("by", "prompt") for _, made in ran.of("split")]
    if ran.summary.splits and splits[-1:] != ["annotator"]:
        yield _count("prompts in two splits", ran.summary.straddling, ran.last)


def _reversed_labels(ran: Ran) -> Iterator[Figure]:
    pairs = ran.summary.pairs
    if pairs is not None and pairs.labels.reversed is not None:
        title = "pairs with p_chosen below one half and no tie"
        yield from _share(title, pairs.labels.reversed, ran.last)


def _null_scores(ran: Ran) -> Iterator[Figure]:
    needed = {_plain(str(made.config["by"])) for made in ran.steps.values() if made.config.get("by")}
    for step, made in ran.steps.items():
        if made.stage not in _SCORERS:
            continue
        names = _written(made.config)
        needed |= names
        scored = _summary(made).responses
        for name in sorted(names & set(scored.scores if scored is not None else ())):
            assert scored is not None
            spread = scored.scores[name]
            yield from _missing("responses without score {}", spread.missing, spread.n, step, name)
    if ran.summary.pairs is not None:
        for name, both in ran.summary.pairs.scores.items():
            if name in needed:
                yield from _missing("pairs without score {}", both.gap.missing, both.gap.n, ran.last, name)


def _missing(title: str, missing: int, known: int, step: str, name: str) -> Iterator[Figure]:
    return _share(title, Share(count=missing, n=known + missing), step, name)


def _written(config: Mapping[str, Any]) -> set[str]:
    """Return the names of the scores that a step writes."""
    return set(config.get("heads") or [config.get("as") or config.get("into") or "score"])


def _plain(name: str) -> str:
    return name.removeprefix("chosen_").removeprefix("rejected_")


def _judged(ran: Ran, measure: str) -> Iterator[tuple[str, Share]]:
    from prefkit.judging.measures import share_of

    head = "judge/measure/"
    for step, made in ran.of("judge"):
        counts = {name.removeprefix(head): n for name, n in made.notes.items() if name.startswith(head)}
        yield step, share_of(counts, measure)


def _parse_failures(ran: Ran) -> Iterator[Figure]:
    for step, part in _judged(ran, "unread"):
        yield from _share("answers of {} that cannot be read", part, step, step)


def _order_inconsistency(ran: Ran) -> Iterator[Figure]:
    for step, same in _judged(ran, "orders"):
        other = same.model_copy(update={"count": same.n - same.count})
        yield from _share("pairs on which {} changes its verdict with the order", other, step, step)


def _first_wins(ran: Ran) -> Iterator[Figure]:
    for step, part in _judged(ran, "first"):
        yield from _share("verdicts of {} in which what it saw first wins", part, step, step)


def _rows_failed(ran: Ran) -> Iterator[Figure]:
    failed = {step: made.rows.failed for step, made in ran.steps.items()}
    yield _count("rows that failed", sum(failed.values()), max(failed, key=lambda step: failed[step]))


def _longer_chosen(ran: Ran) -> Iterator[Figure]:
    if ran.summary.pairs is not None:
        yield from _share(
            "pairs whose chosen side is the longer one", ran.summary.pairs.lengths.longer, ran.last
        )


def _length_auc(ran: Ran) -> Iterator[Figure]:
    if ran.summary.pairs is not None:
        yield from _estimate("AUC of length alone", ran.summary.pairs.lengths.auc, ran.last)


def _pairs(ran: Ran) -> Iterator[Figure]:
    if ran.summary.level == "pair":
        yield _count("pairs", ran.summary.rows, ran.last)


def _prompts(ran: Ran) -> Iterator[Figure]:
    if ran.summary.prompts is not None:
        yield _count("prompts", ran.summary.prompts, ran.last)


def _kept_share(ran: Ran) -> Iterator[Figure]:
    before, after = _summary(next(iter(ran.steps.values()))).prompts, ran.summary.prompts
    if before and after is not None:
        yield from _share("prompts of the data that are kept", Share(count=after, n=before), ran.last)


def _drop_share(ran: Ran) -> Iterator[Figure]:
    shares = {step: made.rows.dropped / made.rows.read for step, made in ran.steps.items() if made.rows.read}
    if shares:
        most = max(shares, key=lambda step: shares[step])
        rows = ran.steps[most].rows
        yield from _share("rows that {} drops", Share(count=rows.dropped, n=rows.read), most, most)


def _tie_rate(ran: Ran) -> Iterator[Figure]:
    if ran.summary.pairs is not None and ran.summary.pairs.labels.tie is not None:
        yield from _share("pairs that are a tie", ran.summary.pairs.labels.tie, ran.last)


def _agreement(ran: Ran) -> Iterator[Figure]:
    votes = None if ran.summary.pairs is None else ran.summary.pairs.votes
    if votes is not None and votes.agreement is not None:
        yield from _estimate("agreement of votes", votes.agreement, ran.last)


MEASURES: Mapping[str, Callable[[Ran], Iterator[Figure]]] = {
    "contamination": _contamination,
    "identical-sides": _identical_sides,
    "split-leakage": _split_leakage,
    "reversed-labels": _reversed_labels,
    "null-scores": _null_scores,
    "parse-failures": _parse_failures,
    "order-inconsistency": _order_inconsistency,
    "rows-failed": _rows_failed,
    "longer-chosen": _longer_chosen,
    "length-auc": _length_auc,
    "pairs": _pairs,
    "prompts": _prompts,
    "kept-share": _kept_share,
    "drop-share": _drop_share,
    "tie-rate": _tie_rate,
    "agreement": _agreement,
    "first-wins": _first_wins,
}
