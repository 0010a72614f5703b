"""Do groups of annotators predict people better than one reward does: fitted to half of the texts, asked about the other.

    python benchmarks/annotator_groups.py FOLDER

FOLDER holds `wmt_mqm_3raters`: 18 professionals, three to a text, and their penalties of its ten translations, compared pair
by pair; ties are left out. The features are which system translated and how long the translation is beside the source, so
that a group is a ranking of systems and a taste for length. The second table is the same people with two groups planted: every
other one has half of the labels, drawn, replaced by the shorter translation.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from label_models import codes, tell

from prefkit.estimators.mixture import fit_groups, heterogeneity
from prefkit.estimators.preference import logistic
from prefkit.estimators.prototypes import fit_prototypes, ideal_margin, ideal_points
from prefkit.estimators.routed import fit_routed, predict


class Given(NamedTuple):
    """Labels of people. Arrays are [labels]."""

    better: np.ndarray
    """Features of the answer that was preferred, [labels, dims]."""
    worse: np.ndarray
    who: np.ndarray
    prompt: np.ndarray
    context: np.ndarray
    """One for every label, and which language, [labels, 2]."""


def read(folder: Path) -> Given:
    texts = pl.read_parquet(folder / "responses.parquet")
    length = (pl.col("response").str.len_chars() / pl.col("source").str.len_chars()).log()
    texts = texts.select("prompt_id", "system", "lang_pair", length=length - length.mean().over("lang_pair"))
    rows = pl.read_parquet(folder / "ratings.parquet").join(texts, on=["prompt_id", "system"])
    pairs = rows.join(rows, on=["prompt_id", "rater"], suffix="_2").filter(pl.col("mqm") < pl.col("mqm_2"))
    pairs = pairs.sort("prompt_id", "rater", "system", "system_2")
    systems = np.unique(rows["system"].to_numpy().astype(str))
    better, worse = (
        np.column_stack(
            [
                pairs[f"system{end}"].to_numpy().astype(str)[:, None] == systems,
                5 * pairs[f"length{end}"].to_numpy(),  # its spread is a fifth of that of the others
            ]
        ).astype(np.float64)
        for end in ("", "_2")
    )
    context = np.column_stack([np.ones(len(pairs)), codes(pairs["lang_pair"].to_list())])
    return Given(better, worse, codes(pairs["rater"].to_list()), codes(pairs["prompt_id"].to_list()), context)


def planted(given: Given) -> Given:
    """Have every other person prefer the shorter answer half of the time, whatever else they think."""
    rows = (given.who % 2 == 1) & (np.random.default_rng(0).random(len(given.who)) < 0.5)
    turn = (rows & (given.better[:, -1] > given.worse[:, -1]))[:, None]
    better, worse = np.where(turn, given.worse, given.better), np.where(turn, given.better, given.worse)
    return given._replace(better=better, worse=worse)


def predictions(given: Given, test: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what each model believes of the labels that it has not seen."""
    features, train = given.better - given.worse, ~test
    for name, count, rule in (("one reward", 1, "soft"), ("two, soft", 2, "soft"), ("two, hard", 2, "hard")):
        found = fit_groups(features[train], given.who[train], count, rule=rule)
        share = found.responsibility[given.who[test]]
        yield name, (share * logistic(features[test] @ found.heads.T)).sum(axis=1)
    points = fit_prototypes(given.better[train], given.worse[train], given.who[train], 2, restarts=1)
    ideal = ideal_points(points.share, points.points)[given.who[test]]
    yield (
        "two prototypes",
        logistic(points.scale * ideal_margin(given.better[test], given.worse[test], ideal)),
    )
    routed = fit_routed(features[train], given.context[train], 2)
    yield "two, routed by language", predict(routed, features[test], given.context[test])


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("folder", type=Path)
    given = read(options.parse_args().folder / "wmt_mqm_3raters")
    test = np.random.default_rng(0).random(given.prompt.max() + 1)[given.prompt] < 0.5
    flip = np.random.default_rng(1).random(len(test)) < 0.5  # else the first would always be the better one
    print("| labels | model | pairs | accuracy (95 %) | log-loss | calibration error |")
    print("| --- | --- | ---: | --- | ---: | ---: |")
    for name, one in (("wmt", given), ("wmt, groups planted", planted(given))):
        for model, p in predictions(one, test):
            turned = np.where(flip[test], 1 - p, p)
            tell(name, model, turned, ~flip[test], given.prompt[test])
        found = heterogeneity(one.better - one.worse, one.who, test, permutations=19)
        print(f"{name}: gain {found.gain:.4f} nats a label, p = {found.p_value:.2f}")


if __name__ == "__main__":
    main()
