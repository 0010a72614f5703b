"""How well wrong labels are counted and found: real labels of which a fifth is turned round, and what prefkit says of them.

    python benchmarks/noise.py FOLDER [--draws 20]

FOLDER holds one folder a public set. Of each pair one label is the recorded one; other votes on it, or a score, are what
the label is doubted by:

    wmt        a professional's label; two other professionals' votes, and the mean of their penalties
    pandalm    a person's label; the votes of two other people and two models, and their lead
    llmbar     the gold label; the votes of 130 language-model judges, and their lead
    repeats    a judge's label from its third score; its two earlier scores as votes, and their mean
    wildbench  GPT-4o's label; GPT-4-turbo's scores
    hh         the label as published; a linear model of words, fitted to the labels of the other folds as recorded

`noise` reads the score (its scale found on half of the prompts, whose labels as they were are known), `noise by votes` how often
votes differ, a fifth of every vote being turned round, and `from-judges` the votes beside the recorded label as one more
judge. Pairs whose recorded label is a tie are left out.

Each is asked about the labels as they are and with a fifth turned round. Planted is what is turned round of those; found
is (with - without) / (1 - 2 without), since a label that was wrong before is right when it is turned. The interval is
that of the op where it has one; where not, it is a bootstrap of 1 - `p_chosen` over prompts. The curve is the share of labels
that were not turned round among the rows with the lowest `flip_prob`.
"""

import argparse
import gzip
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.columns import MESSAGES, VOTES
from prefkit.errors import EstimateError
from prefkit.estimators.mixture import fit_groups
from prefkit.stage import Context
from prefkit.stages.label import Label

FIRST, TIE, SECOND = range(3)
SIGNS = np.array([1, 0, -1])
RATE, KNOWN, KEPT = 0.2, 0.5, (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
WORDS = 512


class Set(NamedTuple):
    """Labels and what speaks for or against them. Verdicts are FIRST, TIE or SECOND; a lead is positive for the first."""

    name: str
    label: np.ndarray
    """FIRST or SECOND, int64 [pairs]."""
    prompt: np.ndarray
    """int64 [pairs]."""
    lead: Callable[[np.ndarray], np.ndarray]
    """What a scorer says, from the labels as they are recorded: float64 [pairs]."""
    pair: np.ndarray
    """Of votes, int64 [votes], as are the following."""
    judge: np.ndarray
    order: np.ndarray
    """0 first answer shown first, 1 second one first, 2 not known."""
    verdict: np.ndarray


def codes(values: object) -> np.ndarray:
    return np.unique(np.asarray(values, dtype=str), return_inverse=True)[1].astype(np.int64)


def of_scores(name: str, rows: pl.DataFrame, judges: list[str], with_votes: bool = True) -> Set:
    """Make pairs of the answers to a prompt: columns `prompt`, `answer`, `label` and one a judge, higher being better."""
    pairs = rows.join(rows, on="prompt", suffix="_2").filter(pl.col("answer") < pl.col("answer_2"))
    pairs = pairs.filter(pl.col("label") != pl.col("label_2")).sort("prompt", "answer", "answer_2")
    gaps = {one: (pairs[one] - pairs[f"{one}_2"]).to_numpy().astype(np.float64) for one in ("label", *judges)}
    said = [1 - np.sign(gaps[one]).astype(np.int64) for one in judges] if with_votes else []
    count = len(pairs)
    return Set(
        name,
        np.where(gaps["label"] > 0, FIRST, SECOND),
        codes(pairs["prompt"].to_list()),
        lambda _: np.mean([gaps[one] for one in judges], axis=0),
        np.tile(np.arange(count), len(said)),
        np.repeat(np.arange(len(said)), count),
        np.full(count * len(said), 2),
        np.concatenate([*said, np.zeros(0, np.int64)]),
    )


def wmt(folder: Path) -> Set:
    rows = pl.read_parquet(folder / "ratings.parquet").sort("prompt_id", "rater", "system")
    place = pl.col("rater").rank("dense").over("prompt_id").cast(pl.Int64) - 1
    rows = rows.with_columns(place=place, score=-pl.col("mqm").log1p())
    wide = rows.pivot(on="place", index=["prompt_id", "system"], values=["score", "rater"])
    wide = wide.rename({"prompt_id": "prompt", "system": "answer", "score_0": "label"})
    found = of_scores("wmt", wide.drop("rater_0", "rater_1", "rater_2"), ["score_1", "score_2"])
    # Judges are people, not places.
    who = wide.unique("prompt").sort("prompt")
    people = codes([*who["rater_1"].to_list(), *who["rater_2"].to_list()])
    return found._replace(judge=people[found.judge * len(who) + found.prompt[found.pair]])


def pandalm(folder: Path) -> Set:
    pairs = pl.read_parquet(folder / "pairs.parquet").filter(pl.col("annotator3") > 0)
    of_votes = {0: TIE, 1: FIRST, 2: SECOND}
    names = ("annotator1", "annotator2", "gpt35_verdict", "pandalm7b_verdict")
    votes = [
        (row, judge, of_votes[vote])
        for judge, name in enumerate(names)
        for row, vote in enumerate(pairs[name].cast(pl.Int64, strict=False).to_list())
        if vote in of_votes
    ]
    pair, judge, verdict = np.array(votes).T
    label = np.where(pairs["annotator3"].to_numpy() == 1, FIRST, SECOND)
    lead = np.bincount(pair, SIGNS[verdict], len(label))
    prompt = codes(pairs["prompt_id"].to_list())
    return Set("pandalm", label, prompt, lambda _: lead, pair, judge, np.full(len(pair), 2), verdict)


def llmbar(folder: Path) -> Set:
    items = pl.read_parquet(folder / "items.parquet").with_row_index("pair")
    votes = pl.read_parquet(folder / "votes.parquet").drop_nulls("vote").join(items, on="item_id")
    judge = codes((votes["base_model"] + "/" + votes["strategy"]).to_list())
    pair, order = (votes[name].to_numpy().astype(np.int64) for name in ("pair", "swapped"))
    verdict = np.where(votes["vote"].to_numpy() == 1, FIRST, SECOND)
    label = np.where(items["label"].to_numpy() == 1, FIRST, SECOND)
    lead = np.bincount(pair, SIGNS[verdict]) / np.bincount(pair)
    return Set("llmbar", label, np.arange(len(label)), lambda _: lead, pair, judge, order, verdict)


def repeats(folder: Path) -> Set:
    rows = pl.read_parquet(folder / "scored.parquet")
    scores = {f"score_{at}": pl.col("scores").list.get(at) for at in (0, 1)}
    rows = rows.select("prompt_id", "model", label=pl.col("scores").list.get(2), **scores).rename(
        {"prompt_id": "prompt", "model": "answer"}
    )
    return of_scores("repeats", rows, list(scores))


def wildbench(folder: Path) -> Set:
    rows = pl.read_parquet(folder / "judgements.parquet")
    wide = rows.pivot(on="judge", index=["session_id", "model"], values="score", aggregate_function="mean")
    turbo, four = sorted(wide.columns[2:], key=lambda name: "4o" in name)
    wide = wide.rename(
        {"session_id": "prompt", "model": "answer", four: "label", turbo: "score"}
    ).drop_nulls()
    return of_scores("wildbench", wide, ["score"], with_votes=False)


def hh(folder: Path) -> Set:
    lines = gzip.decompress((folder / "harmless-base.test.jsonl.gz").read_bytes()).decode().splitlines()
    rows = [json.loads(line) for line in lines]
    draw = np.random.default_rng(0)
    label = draw.integers(0, 2, len(rows)) * 2
    chosen, rejected = (
        np.stack([words(row[side].rpartition("Assistant:")[2]) for row in rows])
        for side in ("chosen", "rejected")
    )
    features = (chosen - rejected) * SIGNS[label][:, None]  # of the first less the second
    fold = draw.integers(0, 5, len(rows))

    def lead(recorded: np.ndarray) -> np.ndarray:
        told = np.zeros(len(rows))
        for at in range(5):
            seen = features[fold != at] * SIGNS[recorded[fold != at]][:, None]
            head = fit_groups(seen, np.zeros(len(seen), np.int64), 1, ridge=3.0).heads[0]
            told[fold == at] = features[fold == at] @ head
        return told

    prompt = codes([row["chosen"].rpartition("Assistant:")[0] for row in rows])
    none = np.zeros(0, np.int64)
    return Set("hh", label, prompt, lead, none, none, none, none)


def words(text: str) -> np.ndarray:
    """Return which of some hundred hashed words a text has."""
    found = np.zeros(WORDS)
    for word in set(re.findall(r"[a-z']+", text.lower())):
        found[int.from_bytes(word.encode(), "little") % 2**61 % 8191 % WORDS] = 1.0
    return found


SETS = {
    "wmt": ("wmt_mqm_3raters", wmt),
    "pandalm": ("pandalm_human", pandalm),
    "llmbar": ("llmbar", llmbar),
    "repeats": ("judge_repeats_vicuna", repeats),
    "wildbench": ("wildbench_judges", wildbench),
    "hh": ("hh_rlhf_harmless_raw", hh),
}
OPS: dict[str, tuple[object, ...]] = {
    "noise": ({"noise": {"calibrate_on": "people"}},),
    "noise by votes": ({"noise": {"by": "votes"}},),
    "from-judges, orders": ("from-judges",),
    "from-judges, orders, ties said": ({"from-judges": {"ties": "said"}},),
    "from-judges, dawid-skene": ({"from-judges": {"model": "dawid-skene"}},),
    "from-judges, one-coin": ({"from-judges": {"model": "one-coin"}},),
}


def table_of(given: Set, op: str, turned: np.ndarray, draw: np.random.Generator) -> pa.Table:
    """Return the pairs as they would be read: chosen is what the recorded label, which may be turned round, prefers."""
    recorded = np.where(turned, SECOND - given.label, given.label)
    count, second = len(recorded), recorded == SECOND
    pair, judge, order, verdict = given.pair, given.judge, given.order, given.verdict
    if op == "noise by votes":
        wrong = draw.random(len(verdict)) < RATE * turned.any()
        verdict = np.where(wrong, SECOND - verdict, verdict)
    pair, judge = (
        np.append(pair, np.arange(count)),
        np.append(judge, np.full(count, judge.max(initial=0) + 1)),
    )
    order, verdict = np.append(order, np.full(count, 2)), np.append(verdict, recorded)
    against = second[pair]
    verdict = np.where(against, SECOND - verdict, verdict)
    order = np.where((order < 2) & against, 1 - order, order)
    at = np.argsort(pair, kind="stable")
    names = {
        "judge": pa.array(judge[at].astype(str)),
        "order": pa.array(["chosen-first", "rejected-first", None]).take(pa.array(order[at])),
        "winner": pa.array(["chosen", "tie", "rejected"]).take(pa.array(verdict[at])),
    }
    fields = [names.get(field.name, pa.nulls(len(at), field.type)) for field in VOTES.value_type]
    entries = pa.StructArray.from_arrays(fields, fields=list(VOTES.value_type))
    offsets = np.append(0, np.cumsum(np.bincount(pair, minlength=count))).astype(np.int32)
    lead = given.lead(recorded) * SIGNS[recorded]
    known = draw.random(given.prompt.max() + 1)[given.prompt] < KNOWN
    ids = pa.array(np.arange(count).astype(str))
    turn = pa.array([[{"role": "user", "content": "x"}]] * count, MESSAGES)
    return pa.table(
        {
            "id": ids,
            "prompt_id": pa.array(given.prompt.astype(str)),
            "prompt": turn,
            "chosen": turn,
            "rejected": turn,
            "votes": pa.ListArray.from_arrays(pa.array(offsets), entries).cast(VOTES),
            "p_chosen": pa.array(1 / (1 + np.exp(-lead / np.abs(lead).max()))),
            "people": pa.array((~turned).astype(np.float64), mask=~known),
        }
    )


class Told(NamedTuple):
    """What an op says of labels."""

    rate: float
    low: float
    high: float
    flip: np.ndarray


def ask(given: Set, op: str, turned: np.ndarray, draw: np.random.Generator) -> Told:
    context = Context()
    out = Label.model_validate({"ops": OPS[op]})(table_of(given, op, turned, draw), context)
    flip, p = (np.array(out[name].to_numpy(), dtype=np.float64) for name in ("flip_prob", "p_chosen"))
    for note in context.notes:
        if found := re.fullmatch(r"label/noise found: (\S+) \((\S+) to (\S+)\)", note):
            rate, low, high = map(float, found.groups())
            return Told(rate, low, high, flip)
    totals, counts = (
        np.bincount(given.prompt, 1 - p),
        np.bincount(given.prompt),
    )  # of a tie either label is half wrong
    picks = draw.integers(0, len(counts), (400, len(counts)))
    means = totals[picks].sum(axis=1) / counts[picks].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975)).tolist()
    return Told(float(1 - p.mean()), low, high, flip)


def measure(given: Set, op: str, draws: int) -> None:
    """Print a line of the table: what is found with and without the flips, and how right the labels kept are."""
    count = len(given.label)
    try:
        found, planted, curves = [], [], []
        for seed in range(draws):
            turned = np.random.default_rng([seed, 0]).random(count) < RATE
            both = [
                ask(given, op, rows, np.random.default_rng([seed, 1])) for rows in (turned & False, turned)
            ]
            found.append(both)
            planted.append(RATE if op == "noise by votes" else turned.mean())
            order = np.argsort(both[1].flip, kind="stable")
            curves.append([(~turned[order[: round(kept * count)]]).mean() for kept in KEPT])
    except EstimateError as error:
        print(f"| {given.name} | `{op}` | {count:,} | {error.what} |" + " |" * (3 + len(KEPT)))
        return
    rates = np.array([[one[:3] for one in both] for both in found])  # [draws, as they are and with flips, 3]
    before = rates[:, 0, :1]
    gained = (rates[:, 1] - before) / (1 - 2 * before)
    covers = np.mean([low <= true <= high for (_, low, high), true in zip(gained, planted, strict=True)])
    off = np.mean(np.abs(gained[:, 0] - planted) <= 0.02)
    middle = gained.mean(axis=0)
    curve = " | ".join(f"{share:.3f}" for share in np.mean(curves, axis=0))
    print(
        f"| {given.name} | `{op}` | {count:,} | {before.mean():.3f} | {rates[:, 1, 0].mean():.3f} |"
        f" {middle[0]:.3f} ({middle[1]:.3f} to {middle[2]:.3f}) | {covers:.0%}, {off:.0%} | {curve} |",
        flush=True,
    )


def tasks(folder: Path) -> Iterator[tuple[Set, str]]:
    for place, load in SETS.values():
        if (folder / place).is_dir():
            given = load(folder / place)
            for op in OPS:  # of many judges that share their mistakes, two differ more than they are wrong
                if op == "noise" or (len(given.pair) and (op != "noise by votes" or given.name != "llmbar")):
                    yield given, op


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("folder", type=Path)
    options.add_argument("--draws", type=int, default=20)
    given = options.parse_args()
    kept = " | ".join(f"{share:.0%}" for share in KEPT)
    print(
        f"| labels | op | pairs | as they are | with flips | found of .200 (interval) | covers, within 2 | {kept} |"
    )
    print("| --- | --- | ---: | ---: | ---: | --- | ---: |" + " ---: |" * len(KEPT))
    for one, op in tasks(given.folder):
        measure(one, op, given.draws)


if __name__ == "__main__":
    main()
