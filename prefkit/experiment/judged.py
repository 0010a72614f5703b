"""Judging answers of two arms against each other, by the `judge` stage of the settings.

Every answer of one arm meets that of the same number of the other.
"""

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.columns import MESSAGES
from prefkit.engines import Engines
from prefkit.experiment import table
from prefkit.experiment.ready import Ready, read_answers, run_folder
from prefkit.rng import child_ids
from prefkit.stage import Context
from prefkit.votes import tally

__all__ = ["as_pairs", "judged", "preferred"]


def judged(ready: Ready, engines: Engines, seed: int) -> None:
    """Judge the answers of every arm against those of the first with the same seed, unless that stands."""
    judge, first = ready.told.settings.judge, ready.arms[0]
    if judge is None:
        return
    theirs = read_answers(run_folder(ready, first, seed) / "answers.arrow")
    for arm in ready.arms[1:]:
        path = run_folder(ready, arm, seed) / "judged.arrow"
        if path.is_file():
            continue
        pairs = as_pairs(read_answers(run_folder(ready, arm, seed) / "answers.arrow"), theirs)
        told = judge(pairs, Context(seed=ready.seed, engines=engines, folder=ready.folder))
        frame = table.rows(
            "preferred",
            told["prompt_id"].to_pylist(),
            [str(number) for number in told["sample"].to_pylist()],
            preferred(told["votes"]),
            first.name,
        )
        names = pl.lit(arm.name).alias("arm"), pl.lit(seed, pl.Int64).alias("seed")
        frame = frame.with_columns(*names, pl.lit(ready.steps[arm.name], pl.Int64).alias("step"))
        table.write(frame.select(*table.COLUMNS), path)


def as_pairs(ours: pa.Table, theirs: pa.Table) -> pa.Table:
    """Return pair rows: our answer as chosen, theirs of the same prompt and number as rejected."""
    keys = ["prompt_id", "sample"]
    sides = [
        pl.DataFrame({name: pl.Series(side[name]) for name in (*keys, "id")}).with_row_index("at")
        for side in (ours, theirs)
    ]
    both = sides[0].join(sides[1], on=keys, suffix="_theirs", maintain_order="left")
    mine = ours.take(both["at"].to_arrow())
    other = theirs.take(both["at_theirs"].to_arrow())
    columns = {
        # Not from the ids of answers, which name the folder of the model that wrote them.
        "id": pa.array(child_ids("pair", both["prompt_id"].to_list(), map(str, both["sample"].to_list()))),
        "prompt_id": mine["prompt_id"],
        "prompt": mine["prompt"].cast(MESSAGES),
        "chosen": mine["response"].cast(MESSAGES),
        "rejected": other["response"].cast(MESSAGES),
        "chosen_id": mine["id"],
        "rejected_id": other["id"],
        "sample": mine["sample"],
    }
    return pa.table(columns)


def preferred(votes: pa.ChunkedArray) -> np.ndarray:
    """Return how far the chosen side is preferred, in [0, 1]; NaN without a vote that can be read.

    That is the votes' mean probability where they have one, else the share of votes, ties counting a half.
    """
    told = tally(votes)
    with np.errstate(invalid="ignore"):
        share = (told.wins + told.ties / 2) / (told.wins + told.ties + told.losses)
    return np.where(np.isnan(told.mean_p), share, told.mean_p)
