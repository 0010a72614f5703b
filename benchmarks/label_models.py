"""Which label model predicts people best: fit to some votes, asked about those of people it has not seen.

    python benchmarks/label_models.py FOLDER [--peer-python PYTHON]

FOLDER holds one folder a public set, as tables: `llmbar` (votes of language models in both orders; the gold label is
predicted), `pandalm_human` (three people and two models; each person in turn is predicted from the others) and
`wmt_mqm_3raters` (three professionals' penalties of each translation, compared pair by pair; each rater of a text in
turn is predicted from the other two). A set that is not there is left out.

Strengths need responses that are compared with several others, so LLMBar has none; Plackett and Luce's ranks a rater's
penalties, equal ones in an order drawn. `unanimous` speaks of the pairs alone on which all votes agree. `--peer-python` is
an interpreter that has crowd-kit.

Held-out ties are left out, since no side is right. A prediction is the probability that the first answer is better,
kept within [0.001, 0.999]; without it, no log-loss would be finite. Intervals are bootstraps over prompts.
"""

import argparse
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from prefkit.errors import EstimateError
from prefkit.estimators.bradley_terry import PER_PROMPT, fit_bradley_terry
from prefkit.estimators.counting import win_rates
from prefkit.estimators.dawid_skene import fit_dawid_skene, fit_one_coin
from prefkit.estimators.elo import expected_score, fit_elo
from prefkit.estimators.graph import count_matches
from prefkit.estimators.hetero import correct_margins, variance_of_cells
from prefkit.estimators.judge_order import fit_judges
from prefkit.estimators.noise import rate_from_votes
from prefkit.estimators.plackett_luce import Rankings, fit_plackett_luce, rankings_of
from prefkit.estimators.preference import logistic, vote_share
from prefkit.estimators.ties import fit_davidson, fit_rao_kupper, predict_outcomes

FIRST, TIE, SECOND = range(3)
MIRROR = np.array([SECOND, TIE, FIRST])
VOTES = ("majority", "unanimous", "people differ", "rate of votes")
JUDGES = ("one-coin", "dawid-skene", "orders", "orders, ties said")
STRENGTHS = ("bradley-terry", "davidson", "rao-kupper", "elo", "win-rate", "plackett-luce")
PEERS = ("crowd-kit, one-coin", "crowd-kit, dawid-skene")


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
    sides: tuple[np.ndarray, np.ndarray] | None = None
    """Number of the first and the second answer, int64 [pairs], where answers are in several pairs."""
    rankings: Rankings | None = None


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
        names = [
            f"{of}|{text}"
            for side in (1, 2)
            for of, text in zip(prompt, pairs[f"response{side}"], strict=True)
        ]
        first, second = np.split(codes(names), 2)
        yield Task(
            "pandalm: a person",
            pair,
            codes(judge),
            np.full(len(pair), 2),
            verdict,
            truth,
            prompt,
            (first, second),
        )


def wmt(folder: Path) -> Iterator[Task]:
    ratings = pl.read_parquet(folder / "ratings.parquet").sort("prompt_id", "rater", "system")
    rows = []
    for (prompt,), text in ratings.group_by(["prompt_id"], maintain_order=True):
        for place, ((rater,), one) in enumerate(text.group_by(["rater"], maintain_order=True)):
            mqm = dict(zip(one["system"], one["mqm"], strict=True))
            for a, b in combinations(sorted(mqm), 2):
                verdict = FIRST if mqm[a] < mqm[b] else SECOND if mqm[a] > mqm[b] else TIE
                sides = f"{prompt}|{a}", f"{prompt}|{b}"
                rows.append(("|".join(sides), *sides, prompt, rater, place, verdict))
    names = ["pair", "one", "other", "prompt", "rater", "place", "verdict"]
    table = pl.DataFrame(rows, names, orient="row")
    table = table.with_columns(pair=pl.Series(codes(table["pair"].to_list())))
    for out in range(3):
        seen = table.filter(pl.col("place") != out)
        asked = table.filter(pl.col("place") == out).sort("pair")
        pair = np.searchsorted(asked["pair"].to_numpy(), seen["pair"].to_numpy())
        first, second = np.split(codes([*asked["one"].to_list(), *asked["other"].to_list()]), 2)
        yield Task(
            "wmt mqm: a rater",
            pair,
            codes(seen["rater"].to_list()),
            np.full(len(pair), 2),
            seen["verdict"].to_numpy(),
            asked["verdict"].to_numpy(),
            codes(asked["prompt"].to_list()),
            (first, second),
            rankings(ratings, out),
        )


def rankings(ratings: pl.DataFrame, out: int) -> Rankings:
    """Return how each rater but one of a text orders its translations, which are numbered as `codes` does."""
    draw = pl.Series("draw", np.random.default_rng(out).random(len(ratings)))
    place = pl.col("rater").rank("dense").over("prompt_id") - 1
    seen = ratings.with_columns(draw, place=place, item=pl.col("prompt_id") + "|" + pl.col("system"))
    seen = seen.with_columns(item=pl.Series(codes(seen["item"].to_list()))).filter(pl.col("place") != out)
    return rankings_of(
        [
            one["item"].to_list()
            for _, one in seen.sort("mqm", "draw").group_by(["prompt_id", "rater"], maintain_order=True)
        ]
    )


def predict(model: str, task: Task, peer_python: str | None) -> np.ndarray:
    """Return P(first is better) of each pair, ties as halves; where nobody voted, a half. NaN is not asked."""
    rows, pair = np.unique(task.pair, return_inverse=True)
    p = np.full(len(task.truth), 0.5)
    if model in STRENGTHS:
        return by_strengths(model, task)
    if model in VOTES:
        found = by_votes(model, task, pair)
    elif model in PEERS:
        found = by_peer(model.rsplit(maxsplit=1)[-1], task, pair, str(peer_python))
    elif model.startswith("orders"):
        ties = "said" if model.endswith("said") else "true"
        found = fit_judges(pair, task.judge, task.order, task.verdict, ties=ties).p_left
    else:
        fit = fit_one_coin if model == "one-coin" else fit_dawid_skene
        more = {} if model == "one-coin" else {"mirror": MIRROR}
        posterior = fit(pair, task.judge, task.verdict, 3, **more).posterior
        found = posterior[:, FIRST] + posterior[:, TIE] / 2
    p[rows] = found
    return p


def by_votes(model: str, task: Task, pair: np.ndarray) -> np.ndarray:
    """Predict each pair from its own votes."""
    wins, ties, losses = (np.bincount(pair, task.verdict == verdict) for verdict in range(3))
    share = vote_share(wins, ties, losses, 0.5)
    if model == "majority":
        return share
    if model == "unanimous":
        total = wins + ties + losses
        told = np.where(wins == total, share, np.where(losses == total, share, np.nan))
        return np.where(total > 1, told, np.nan)
    if model == "rate of votes":
        rate = max(rate_from_votes(wins, losses).rate, 1e-9)
        return logistic((wins - losses) * (np.log1p(-rate) - np.log(rate)))
    said = task.verdict != TIE
    cell, entry = np.unique(pair[said] * (task.judge.max() + 1) + task.judge[said], return_inverse=True)
    where = cell // (task.judge.max() + 1)
    won = np.bincount(entry, task.verdict[said] == FIRST)
    variance = variance_of_cells(where, won, np.bincount(entry), len(share))
    return correct_margins(share, np.minimum(variance, share * (1 - share))).p


def by_peer(model: str, task: Task, pair: np.ndarray, python: str) -> np.ndarray:
    """Predict with crowd-kit, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        votes, out = Path(folder, "votes.npz"), Path(folder, "out.npy")
        np.savez(votes, item=pair, annotator=task.judge, label=task.verdict)
        script = Path(__file__).with_name("crowd_peer.py")
        subprocess.run([python, script, votes, model, out], check=True)
        told: np.ndarray = np.load(out)
    return told


def by_strengths(model: str, task: Task) -> np.ndarray:
    """Predict each pair from how both its answers did against all."""
    assert task.sides is not None
    first, second = task.sides
    if model == "plackett-luce":
        assert task.rankings is not None
        return logistic(gap(fit_plackett_luce(task.rankings, ridge=PER_PROMPT).strength, first, second))
    one, other, lost = first[task.pair], second[task.pair], task.verdict == SECOND
    items = int(max(first.max(), second.max())) + 1
    if model == "elo":
        rating = fit_elo(one, other, 1 - task.verdict / 2, seed=0, items=items).rating
        return expected_score(rating, first, second)
    sides = np.where(lost, other, one), np.where(lost, one, other)
    matches = count_matches(*sides, tie=task.verdict == TIE, items=items)
    if model == "win-rate":
        return 0.5 + gap(np.nan_to_num(win_rates(matches, 0.5), nan=0.5), first, second) / 2
    if model == "bradley-terry":
        return logistic(gap(fit_bradley_terry(matches, PER_PROMPT).strength, first, second))
    fit = fit_davidson if model == "davidson" else fit_rao_kupper
    ends = predict_outcomes(fit(matches, "auto", PER_PROMPT), first, second)
    return ends.win + ends.tie / 2


def gap(strength: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return strength[first] - strength[second]


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


def asked(p: np.ndarray, task: Task) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the predictions of pairs on which people decided, whether the first won, and the prompts."""
    rows = (task.truth != TIE) & np.isfinite(p)
    return p[rows], (task.truth == FIRST)[rows], task.prompt[rows]


def report(tasks: Sequence[Task], peer_python: str | None) -> None:
    """Print one line a model, over all folds of a set."""
    peers = PEERS if peer_python else ()
    strengths = STRENGTHS if tasks[0].sides is not None else ()
    for model in (*VOTES, *JUDGES, *peers, *strengths):
        if model == "plackett-luce" and tasks[0].rankings is None:
            continue
        try:
            found = [asked(predict(model, task, peer_python), task) for task in tasks]
        except EstimateError as error:
            print(f"| {tasks[0].name} | {model} | {error.what} | | | |")
            continue
        p, first, prompt = (np.concatenate(parts) for parts in zip(*found, strict=True))
        tell(tasks[0].name, model, p, first, prompt)


def tell(name: str, model: str, p: np.ndarray, first: np.ndarray, prompt: np.ndarray) -> None:
    """Print one line of the table."""
    scores = score(p, first)
    low, high = interval(scores.accuracy, prompt)
    print(
        f"| {name} | {model} | {len(p):,} | {scores.accuracy.mean():.3f} ({low:.3f} to {high:.3f}) |"
        f" {scores.log_loss.mean():.3f} | {calibration(p, first):.3f} |",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("folder", type=Path)
    options.add_argument("--peer-python")
    given = options.parse_args()
    print("| predicted | model | pairs | accuracy (95 %) | log-loss | calibration error |")
    print("| --- | --- | ---: | --- | ---: | ---: |")
    for name, load in (("llmbar", llmbar), ("pandalm_human", pandalm), ("wmt_mqm_3raters", wmt)):
        if (given.folder / name).is_dir():
            report(list(load(given.folder / name)), given.peer_python)


if __name__ == "__main__":
    main()
