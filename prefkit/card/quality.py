"""What the rows are worth: composition, scores, length, labels, curriculum, reference."""

from collections.abc import Iterable, Mapping
from typing import Any

from prefkit.card.facts import Facts
from prefkit.card.markdown import code, count, estimate, mean, number, rate, spread_table, table
from prefkit.card.origin import prompts
from prefkit.statistics.figures import Estimate, Share
from prefkit.statistics.records import Counts, Couple, PairSummary, ResponseSummary, Votes

__all__ = [
    "composition",
    "curriculum",
    "is_without_length",
    "labels",
    "length",
    "margin_of",
    "quality",
    "reference",
]


def composition(facts: Facts) -> str:
    """Show what the rows consist of."""
    found = facts.summary
    lines = []
    if found.splits:
        cells = [
            (code(each.name or "no split"), count(each.rows), count(each.prompts)) for each in found.splits
        ]
        lines += [table(("split", "rows:", "prompts:"), cells)]
        lines += [f"Prompts with rows in more than one split: {count(found.straddling)}"]
    lines += [_counts("source", found.sources), _counts("domain", found.domains), prompts(facts)]
    if found.pairs is not None:
        lines += [_matrix("Who wrote the sides", found.pairs.models, found.rows)]
        lines += [_matrix("Where the sides come from", found.pairs.origins, found.rows)]
    if found.responses is not None:
        lines += [_counts("model", found.responses.models), _counts("origin", found.responses.origins)]
        lines += [_counts("finish", found.responses.finish)]
    return _joined(lines)


def _counts(what: str, counts: Counts | None) -> str:
    if counts is None or counts.distinct == 0:
        return ""
    n = sum(each.rows for each in counts.top) + counts.others + counts.missing
    cells = [(code(each.name), rate(Share(count=each.rows, n=n))) for each in counts.top]
    if counts.others:
        cells.append(
            (f"{count(counts.distinct - len(counts.top))} others", rate(Share(count=counts.others, n=n)))
        )
    if counts.missing:
        cells.append(("not known", rate(Share(count=counts.missing, n=n))))
    return table((what, "rows"), cells)


def _matrix(title: str, couples: tuple[Couple, ...], n: int) -> str:
    if not any(couple.chosen or couple.rejected for couple in couples):
        return ""
    cells = [
        (code(couple.chosen), code(couple.rejected), rate(Share(count=couple.rows, n=n)))
        for couple in couples
    ]
    others = n - sum(couple.rows for couple in couples)
    if others:
        cells.append(("others", "others", rate(Share(count=others, n=n))))
    return f"{title}:\n\n" + table(("chosen", "rejected", "pairs"), cells)


def quality(facts: Facts) -> str:
    """Show the scores of either side and the gap between them."""
    found = facts.summary
    if found.responses is not None:
        return _responses(found.responses)
    if found.pairs is None or not found.pairs.scores:
        return "The rows carry no scores."
    lines = []
    for name, scores in found.pairs.scores.items():
        sides = (
            ("chosen", scores.chosen),
            ("rejected", scores.rejected),
            ("chosen less rejected", scores.gap),
        )
        lines += [f"Score {code(name)}:", spread_table(sides) or "No value."]
        if scores.higher.n:
            lines += [
                f"- chosen has the higher score: {rate(scores.higher)}\n- both the same: {rate(scores.equal)}"
            ]
    return _joined(lines)


def _responses(found: ResponseSummary) -> str:
    lines = [spread_table([(f"score {code(name)}", spread) for name, spread in found.scores.items()])]
    return _joined(lines) or "The rows carry no scores."


def length(facts: Facts) -> str:
    """Show how long the sides are, and whether length gives the label away."""
    found = facts.summary
    if found.responses is not None:
        return spread_table([("characters of the response", found.responses.chars)])
    if found.pairs is None:
        return "The rows carry no responses."
    lengths = found.pairs.lengths
    sides = [
        ("chosen, characters", lengths.chosen),
        ("rejected, characters", lengths.rejected),
        ("chosen less rejected, characters", lengths.gap),
        ("chosen, tokens", lengths.chosen_tokens),
        ("rejected, tokens", lengths.rejected_tokens),
    ]
    lines = [
        f"- chosen is the longer side: {rate(lengths.longer)}",
        f"- both sides are equally long: {rate(lengths.equal)}",
        f"- how well the length difference alone tells chosen from rejected (AUC, 0.5 is not at all): {_auc(lengths.auc)}",
    ]
    if lengths.with_worth is not None and lengths.with_worth.value is not None:
        what = f"- rank correlation of {_worth(found.pairs)} and length difference (Spearman)"
        known = (
            "; the margin is without what length explains, so this is no evidence"
            if is_without_length(facts)
            else ""
        )
        lines.append(f"{what}: {estimate(lengths.with_worth)}{known}")
    return _joined([spread_table(sides), "\n".join(lines)])


def _auc(figure: Estimate) -> str:
    """Return an AUC to two decimals: more than its interval would bear says nothing."""
    if figure.value is None:
        return "–"
    ends = (
        "" if figure.low is None or figure.high is None else f"; 95 %: {figure.low:.2f} to {figure.high:.2f}"
    )
    return f"{figure.value:.2f} (n {count(figure.n)}{ends})"


_FROM = {
    "votes": "the mean strength of the votes for chosen",
    "scores": "score of chosen less score of rejected",
}
_MADE = {
    "residual-length": "with what the length difference explains taken out, so that it can be below 0",
    "standardise": "in units of its spread over the dataset",
    "log-odds": "on the scale of log-odds",
}


def margin_of(facts: Facts) -> str:
    """Return what `margin` is under this recipe, by the settings of the step that wrote it; empty where none did. Markdown."""
    config = _margin_step(facts)
    if config is None:
        return ""
    made = _MADE.get(str(config.get("transform")), "")
    clip = config.get("clip")
    parts = [_FROM.get(str(config.get("source")), ""), made, f"cut at {number(float(clip))}" if clip else ""]
    return ", ".join(part for part in parts if part)


def is_without_length(facts: Facts) -> bool:
    """Return whether the margin is what is left of it once length is taken out."""
    return (_margin_step(facts) or {}).get("transform") == "residual-length"


def _margin_step(facts: Facts) -> Mapping[str, Any] | None:
    found = [step.manifest.config for step in facts.steps if step.manifest.stage == "margin"]
    return found[-1] if found else None


def _worth(pairs: PairSummary) -> str:
    return "margin" if pairs.labels.margin is not None and pairs.labels.margin.n else "score gap"


def labels(facts: Facts) -> str:
    """Show what is believed of the labels."""
    pairs = facts.summary.pairs
    if pairs is None:
        return "The rows carry no labels."
    found = pairs.labels
    lines = [
        f"- {what}: {rate(each)}"
        for what, each in (
            ("pairs too close to call (`tie`)", found.tie),
            ("pairs whose stored direction was reversed (`flipped`)", found.flipped),
            ("pairs with a graded label (`p_chosen` is not 1)", found.graded),
            ("pairs with `p_chosen` below one half that are no tie", found.reversed),
            ("pairs that may be mislabelled (`flip_prob` above 0)", found.doubted),
            ("pairs with a weight other than 1", found.weighted),
            ("pairs with identical sides", pairs.identical),
        )
        if each is not None and each.n
    ]
    spreads = [("`margin`", found.margin), ("`p_chosen`", found.p_chosen), ("`flip_prob`", found.flip_prob)]
    graded = found.p_chosen if found.graded is not None and found.graded.count else None
    bars = "" if graded is None else _bars(graded.bars, graded.low or 0.0, graded.high or 1.0)
    meant = margin_of(facts) if found.margin is not None else ""
    said = f"`margin` is {meant}." if meant else ""
    parts = ["\n".join(lines), spread_table([*spreads, ("`weight`", found.weight)]), said, bars]
    return _joined([*parts, _votes(pairs.votes)])


def _bars(bars: Iterable[int], low: float, high: float) -> str:
    fine = list(bars)
    coarse = [sum(fine[at : at + 2]) for at in range(0, len(fine), 2)]
    step = (high - low) / len(coarse)
    cells = [
        (f"{number(low + at * step)} to {number(low + (at + 1) * step)}", count(rows))
        for at, rows in enumerate(coarse)
    ]
    return "How `p_chosen` lies:\n\n" + table(("`p_chosen`", "pairs:"), cells)


def _votes(votes: Votes | None) -> str:
    if votes is None:
        return ""
    total = votes.chosen + votes.rejected + votes.tie
    lines = [
        f"- votes: {count(total)} on {count(votes.pairs)} pairs, from {count(votes.judges.distinct)} judges",
        f"- votes for the side stored as chosen: {rate(Share(count=votes.chosen, n=total))}",
        f"- votes for a tie: {rate(Share(count=votes.tie, n=total))}",
    ]
    if votes.unread:
        lines.append(
            f"- votes that say none of these: {rate(Share(count=votes.unread, n=total + votes.unread))}"
        )
    if votes.agreement is not None:
        by_chance = f"by chance {number(votes.chance)}, so Fleiss' kappa is {number(votes.kappa)}"
        lines.append(f"- how often two votes on one pair agree: {estimate(votes.agreement)}; {by_chance}")
    return _joined(["\n".join(lines), _counts("judge", votes.judges)])


def curriculum(facts: Facts) -> str:
    """Show the phases and the order of training; empty where there is none."""
    order = facts.summary.pairs.order if facts.summary.pairs is not None else None
    if order is None:
        return ""
    cells = [
        (str(phase.phase), count(phase.rows), mean(phase.worth), mean(phase.chars)) for phase in order.phases
    ]
    pairs = facts.summary.pairs
    worth = "margin" if pairs is None else _worth(pairs)
    head = ("phase:", "pairs:", f"mean {worth} (95 %)", "mean characters of chosen (95 %)")
    lines = [table(head, cells)] if cells else []
    if order.whole is not None:
        whole = "every pair has its own place" if order.whole else "places are missing or taken twice"
        lines.append(f"Order of training (`rank`): {count(order.ranked)} pairs are ranked; {whole}.")
    return _joined(lines)


def reference(facts: Facts) -> str:
    """Show the log-probs under the reference model; empty where there are none."""
    found = facts.summary.pairs.reference if facts.summary.pairs is not None else None
    if found is None:
        return ""
    sides = (("log-prob of chosen, nats", found.chosen), ("log-prob of rejected, nats", found.rejected))
    prefers = f"The reference already finds chosen more likely than rejected: {rate(found.prefers)}"
    return _joined([spread_table(sides), prefers])


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part)
