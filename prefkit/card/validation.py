"""What training on the dataset showed, from the report that the trainer leaves beside the run's refs."""

from collections.abc import Iterator, Mapping

from prefkit.card.markdown import code, count, number, table
from prefkit.train.report import Change, HeldOut, Interval, Report, Samples

__all__ = ["validation"]


def validation(report: Report) -> str:
    """Show what a training run made of the dataset, with intervals over held-out prompts."""
    run = (
        f"{code(report.model)} was trained on {count(report.pairs)} pairs for {count(report.steps)} steps"
        f" (objective: {code(report.objective)}). Loss: {number(report.first_loss)} at the first step,"
        f" {number(report.last_loss)} over the last tenth of the steps."
    )
    lines = [run]
    if report.notes:
        cells = [(code(name), count(n)) for name, n in sorted(report.notes.items())]
        lines.append(table(("pairs not trained on as they are", "pairs:"), cells))
    lines += _held_out(report.held_out)
    lines += _samples(report.samples)
    lines.append(
        "Intervals are 95 %, over held-out prompts; n is their number. They do not cover the seed of training:"
        " one run shows that the pairs can be learned from, not by how much they are better than others."
    )
    return "\n\n".join(lines)


def _held_out(found: HeldOut | None) -> Iterator[str]:
    if found is None:
        yield "No pairs were held out."
        return
    rows = {
        "chosen is preferred (accuracy)": found.accuracy,
        "loss": found.loss,
        "reward margin": found.reward_margin,
        "log-prob of chosen, nats": found.chosen_logp,
        "log-prob of rejected, nats": found.rejected_logp,
    }
    yield f"On {count(found.pairs)} held-out pairs:"
    yield _changes(rows)


def _samples(found: Samples | None) -> Iterator[str]:
    if found is None:
        return
    rows = (
        {"characters": found.chars}
        if found.score is None
        else {"score": found.score, "characters": found.chars}
    )
    yield (
        f"Fresh samples on {count(found.prompts)} held-out prompts, {found.samples} each,"
        f" temperature {number(found.temperature)}:"
    )
    yield _changes(rows)
    yield f"Distance to the reference, nats a response: {_shown(found.kl)} (k1), {_shown(found.kl_k3)} (k3)."
    failed = sum(found.failed.values())
    if failed:
        yield f"Samples that could not be drawn or scored: {count(failed)}"


def _changes(rows: Mapping[str, Change]) -> str:
    cells = [
        (name, _shown(row.before), _shown(row.after), _shown(row.difference)) for name, row in rows.items()
    ]
    return table(("", "before", "after", "difference"), cells)


def _shown(found: Interval) -> str:
    bounds = "" if found.low is None else f"; 95 %: {number(found.low)} to {number(found.high)}"
    return f"{number(found.mean)} (n {count(found.prompts)}{bounds})"
