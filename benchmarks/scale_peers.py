"""The work of `scale.py` done with other libraries, timed by step in the same way.

    python benchmarks/scale_peers.py datasets DATA WORK      pair, label, exact duplicates, order, export
    python benchmarks/scale_peers.py datatrove DATA WORK     near-duplicates alone, of as many texts as there are pairs

`datasets` works as its documentation shows: batched `map` over columns, `filter`, a Python set for duplicates (it has
no near ones), `sort`, `to_parquet`. datatrove takes its texts from `texts.jsonl` in WORK, which `scale.py` writes, and
its own defaults: 14 bands of 8 hashes, runs of five words; words are what stands between spaces, which is all there is.
"""

import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any


def tell(step: str, rows: int = 0) -> None:
    """Print where the process stands."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(each.ru_utime + each.ru_stime for each in used)
    print(json.dumps({"step": step, "at": time.time(), "cpu": cpu, "rows": rows}), flush=True)


def pairs(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Pair the best response of each prompt with the worst, the second best with the second worst."""
    made: dict[str, list[Any]] = {name: [] for name in ("prompt", "chosen", "rejected", *_SIDED)}
    for _, rows in groupby(range(len(batch["prompt"])), batch["prompt"].__getitem__):
        ranked = sorted(rows, key=lambda row: -batch["score"][row])
        for best, worst in zip(ranked, reversed(ranked[(len(ranked) + 1) // 2 :]), strict=False):
            if batch["score"][best] == batch["score"][worst]:
                continue
            made["prompt"].append([{"role": "user", "content": batch["prompt"][best]}])
            for side, row in (("chosen", best), ("rejected", worst)):
                made[side].append([{"role": "assistant", "content": batch["response"][row]}])
                made[f"{side}_score"].append(batch["score"][row])
                made[f"{side}_model"].append(batch["model"][row])
    return made


_SIDED = tuple(f"{side}_{what}" for side in ("chosen", "rejected") for what in ("score", "model"))


def label(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Label each pair from its scores."""
    gaps = [a - b for a, b in zip(batch["chosen_score"], batch["rejected_score"], strict=True)]
    return {"p_chosen": [1 / (1 + math.exp(-gap)) for gap in gaps], "tie": [gap <= 0.05 for gap in gaps]}


def run_datasets(data: Path, work: Path) -> None:
    """Do the same work with `datasets`, but for near-duplicates."""
    from datasets import load_dataset

    seen: set[str] = set()

    def fresh(batch: dict[str, list[Any]]) -> list[bool]:
        keys = [" ".join(chosen[0]["content"].split()).lower() for chosen in batch["chosen"]]
        first = [key not in seen and not seen.add(key) for key in keys]
        return [bool(one) for one in first]

    tell("00-data")
    rows = load_dataset(
        "parquet", data_files=str(data / "*.parquet"), split="train", cache_dir=str(work / "cache")
    )
    tell("01-pair")
    made = rows.map(pairs, batched=True, batch_size=1000, remove_columns=rows.column_names)
    tell("02-label", len(made))
    made = made.map(label, batched=True)
    tell("03-dedup")
    made = made.filter(fresh, batched=True)
    tell("04-order")
    made = made.sort("chosen_score", reverse=True)
    made = made.add_column("rank", list(range(len(made))))
    tell("export")
    made.to_parquet(str(work / "out.parquet"))
    tell("rows", len(made))
    tell("end")


def run_datatrove(data: Path, work: Path) -> None:  # noqa: ARG001 - its texts are in `work`
    """Find near-duplicates."""
    import numpy as np
    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Spaces(WordTokenizer):
        """The words here have spaces between them."""

        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        def sent_tokenize(self, text: str) -> list[str]:
            return [text]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]

    tell("03-dedup")
    places = [str(work / name) for name in ("sketches", "buckets", "dropped")]
    with (work / "texts.jsonl").open() as lines:
        documents = (Document(text=json.loads(line), id=str(row)) for row, line in enumerate(lines))
        MinhashDedupSignature(places[0], language=Spaces("english")).run(documents)
    for bucket in range(14):
        MinhashDedupBuckets(places[0], places[1]).run(None, bucket, 14)
    MinhashDedupCluster(places[1], places[2]).run(None, 0, 1)
    dropped = [np.fromfile(file, "<u4") for file in Path(places[2]).glob("*.remove")]
    tell("rows", sum(map(len, dropped)))
    tell("end")


SIDES: dict[str, Callable[[Path, Path], None]] = {"datasets": run_datasets, "datatrove": run_datatrove}


def main() -> None:
    """Run a side, on one core."""
    side, data, work = sys.argv[1:]
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    tell("start")
    SIDES[side](Path(data), Path(work))


if __name__ == "__main__":
    main()
