"""Which label model predicts people best: fit to some votes, asked about those of people it has not seen.

    python benchmarks/label_models.py FOLDER

FOLDER holds one folder a public set, as tables: `llmbar` (votes of language models in both orders; the gold label is
predicted), `pandalm_human` (three people and two models; each person in turn is predicted from the others) and
`wmt_mqm_3raters` (three professionals' penalties of each translation, compared pair by pair; each rater of a text in
turn is predicted from the other two). A set that is not there is left out.

Held-out ties are left out, since no side is right. A prediction is the probability that the first answer is better,
kept within [0.001, 0.999]; without it, no log-loss would be finite. Intervals are bootstraps over prompts.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from prefkit.errors import EstimateError
from prefkit.estimators.dawid_skene import fit_dawid_skene, fit_one_coin
from prefkit.estimators.judge_order import fit_judges
from prefkit.estimators.preference import vote_share

FIRST, TIE, SECOND = range(3)
MIRROR = np.array([SECOND, TIE, FIRST])
MODELS = ("majority", "one-coin", "dawid-skene", "orders", "orders, ties said")


class Task(NamedTuple):
    """Votes to fit to, and what to predict. All but `name` are [votes] or [pairs], integers."""

    name: str
    pair: np.ndarray
    judge: np.ndarray
    order: np.ndarray
    verdict: np.ndarray
    truth: np.ndarray
    """[pairs] FIRST or SECOND; TIE where nothing is asked."""
    prompt: np.ndarray


def codes(values: Sequence[object]) -> np.ndarray:
    return np.unique(np.asarray(values, dtype=str), return_inverse=True)[1].astype(np.int64)


def llmbar(folder: Path) -> Iterator[Task]:
    items = pl.read_parquet(folder / "items.parquet").with_row_index("pair")
    votes = pl.read_parquet(folder / "votes.parquet").drop_nulls("vote").join(items, on="item_id")
    judge = codes((votes["base_model"] + "/" + votes["strategy"]).to_list())
    yield Task(
        "llmbar: gold",
        votes["pair"].to_numpy().astype(np.int64),
        judge,
        votes["swapped"].to_numpy().astype(np.int64),
        np.where(votes["vote"].to_numpy() == 1, FIRST, SECOND),
        np.where(items["label"].to_numpy() == 1, FIRST, SECOND),
        np.arange(len(items)),
    )


def pandalm(folder: Path) -> Iterator[Task]:
    pairs = pl.read_parquet(folder / "pairs.parquet")
    people = [f"annotator{number}" for number in (1, 2, 3)]
    of_votes = {0: TIE, 1: FIRST, 2: SECOND}
    said = {
        name: pairs[name].cast(pl.Int64, strict=False).to_list()
        for name in (*people, "gpt35_verdict", "pandalm7b_verdict")
    }
    for out in people:
        rows = [
            (at, judge, of_votes[vote])
            for judge, votes in said.items()
            if judge != out
            for at, vote in enumerate(votes)
            if vote in of_votes
        ]
        pair, judge, verdict = (np.asarray(column) for column in zip(*rows, strict=True))
        truth = np.asarray([of_votes[vote] for vote in said[out]])
        prompt = codes(pairs["prompt_id"].to_list())
        yield Task("pandalm: a person", pair, codes(judge), np.full(len(pair), 2), verdict, truth, prompt)


def wmt(folder: Path) -> Iterator[Task]:
    ratings = pl.read_parquet(folder / "ratings.parquet").sort("prompt_id", "rater", "system")
    rows = []
    for (prompt,), text in ratings.group_by(["prompt_id"], maintain_order=True):
        for place, ((rater,), one) in enumerate(text.group_by(["rater"], maintain_order=True)):
            mqm = dict(zip(one["system"], one["mqm"], strict=True))
            for a, b in combinations(sorted(mqm), 2):
                verdict = FIRST if mqm[a] < mqm[b] else SECOND if mqm[a] > mqm[b] else TIE
                rows.append((f"{prompt}|{a}|{b}", prompt, rater, place, verdict))
    table = pl.DataFrame(rows, ["pair", "prompt", "rater", "place", "verdict"], orient="row")
    table = table.with_columns(pair=pl.Series(codes(table["pair"].to_list())))
    for out in range(3):
        seen = table.filter(pl.col("place") != out)
        asked = table.filter(pl.col("place") == out).sort("pair")
        pair = np.searchsorted(asked["pair"].to_numpy(), seen["pair"].to_numpy())
        yield Task(
            "wmt mqm: a rater",
            pair,
            codes(seen["rater"].to_list()),
            np.full(len(pair), 2),
            seen["verdict"].to_numpy(),
            asked["verdict"].to_numpy(),
            codes(asked["prompt"].to_list()),
        )


def predict(model: str, task: Task) -> np.ndarray:
    """Return P(first is better) of each pair, ties as halves; where nobody voted, a half."""
    rows, pair = np.unique(task.pair, return_inverse=True)
    if model == "majority":
        counts = [np.bincount(pair, task.verdict == verdict) for verdict in range(3)]
        found = vote_share(*counts, 0.5)
    elif model.startswith("orders"):
        ties = "said" if model.endswith("said") else "true"
        found = fit_judges(pair, task.judge, task.order, task.verdict, ties=ties).p_left
    else:
        fit = fit_one_coin if model == "one-coin" else fit_dawid_skene
        more = {} if model == "one-coin" else {"mirror": MIRROR}
        posterior = fit(pair, task.judge, task.verdict, 3, **more).posterior
        found = posterior[:, FIRST] + posterior[:, TIE] / 2
    p = np.full(len(task.truth), 0.5)
    p[rows] = found
    return p


class Scores(NamedTuple):
    """How good predictions are, both [pairs]."""

    accuracy: np.ndarray
    log_loss: np.ndarray


def score(p: np.ndarray, first: np.ndarray) -> Scores:
    kept = np.clip(p, 0.001, 0.999)
    accuracy = np.where(np.isclose(p, 0.5), 0.5, (p > 0.5) == first)
    return Scores(accuracy, -np.log(np.where(first, kept, 1 - kept)))


def calibration(p: np.ndarray, first: np.ndarray) -> float:
    """Return the expected calibration error over ten bins of confidence in the likelier side."""
    sure, right = np.maximum(p, 1 - p), np.where(p >= 0.5, first, ~first)
    bins = np.minimum(((sure - 0.5) * 20).astype(int), 9)
    gaps = [abs(sure[bins == b].sum() - right[bins == b].sum()) for b in range(10)]
    return float(sum(gaps) / len(p))


def interval(values: np.ndarray, prompt: np.ndarray) -> tuple[float, float]:
    draw, names = np.random.default_rng(0), np.unique(prompt, return_inverse=True)[1]
    totals, counts = np.bincount(names, values), np.bincount(names)
    picks = draw.integers(0, len(counts), (1000, len(counts)))
    means = totals[picks].sum(1) / counts[picks].sum(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def report(tasks: Sequence[Task]) -> None:
    """Print one line a model, over all folds of a set."""
    for model in MODELS:
        try:
            found = [(predict(model, task), task) for task in tasks]
        except EstimateError as error:
            print(f"| {tasks[0].name} | {model} | {error.what} | | | |")
            continue
        p, first, prompt = (
            np.concatenate(parts)
            for parts in zip(
                *(
                    (p[t.truth != TIE], (t.truth == FIRST)[t.truth != TIE], t.prompt[t.truth != TIE])
                    for p, t in found
                ),
                strict=True,
            )
        )
        scores = score(p, first)
        low, high = interval(scores.accuracy, prompt)
        print(
            f"| {tasks[0].name} | {model} | {len(p):,} | {scores.accuracy.mean():.3f} ({low:.3f} to {high:.3f}) |"
            f" {scores.log_loss.mean():.3f} | {calibration(p, first):.3f} |",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folder", type=Path)
    folder = options.parse_args().folder
    print("| predicted | model | pairs | accuracy (95 %) | log-loss | calibration error |")
    print("| --- | --- | ---: | --- | ---: | ---: |")
    for name, load in (("llmbar", llmbar), ("pandalm_human", pandalm), ("wmt_mqm_3raters", wmt)):
        if (folder / name).is_dir():
            report(list(load(folder / name)))


if __name__ == "__main__":
    main()
