"""Find near-duplicates in the same documents with prefkit and with rensa, datasketch and datatrove, one thread each.

    python benchmarks/dedup.py [--peer-python PYTHON] [--documents 200000] [--sides prefkit rensa ...]
    python benchmarks/dedup.py --decontaminate [--documents 100000]

Documents are words drawn by Zipf's law, 120 of them in the median. To one in ten a second one is planted that has some
words replaced, so that both share a known part of their runs of five words; it is counted, not estimated. Rows are
shuffled. All sides get texts in memory (prefkit as a table, the others as a list), look for a Jaccard similarity of
0.7 with up to 128 hashes (datatrove: its own default, 14 bands of 8), and say which rows they would drop. Every run is
a fresh process, prefkit's before and after each peer's, so that a machine that slows down slows both.

Figures are CPU seconds from texts to rows, the share of planted pairs that are found by their similarity, rows dropped
that are not like any other, and by how much the run raised the process's peak. Peers that take runs of words get them
from plain Python, whose seconds stand apart. `rensa-flags` is rensa's fastest way over the whole set of runs: it flags
both rows of a pair, without looking whether they are alike.

`--peer-python` is an interpreter that has rensa, datasketch, and datatrove with regex, tokenizers and xxhash below 4;
without one only prefkit runs. The texts themselves are left out of the peak; the rows that prefkit keeps are not.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
THRESHOLD, HASHES, RUN = 0.7, 128, 5
SHARES = (0.5, 0.6, 0.65, 0.72, 0.75, 0.8, 0.85, 0.9, 0.95)
EDGES = (0.7, 0.75, 0.8, 0.9, 1.01)
WORDS = 30_000


class Documents(NamedTuple):
    """Texts, and which of them were made from another."""

    texts: list[str]
    pairs: np.ndarray
    """Rows, int64 [pairs, 2]."""
    similarity: np.ndarray
    """Of the runs of five words of each pair, counted: float64 [pairs]."""


class Measured(NamedTuple):
    """What one side says of one run."""

    side: str
    seconds: float
    """From texts to rows."""
    shingling: float
    """How many of them plain Python took to make runs of words."""
    memory: float
    """MiB."""
    version: str


def draw(count: int, seed: int) -> Documents:
    """Draw documents, and plant near-duplicates."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    names = np.array(["".join(rng.choice(letters, size)) for size in rng.integers(2, 11, WORDS)])
    chances = np.cumsum(1 / np.arange(1, WORDS + 1))
    documents: list[np.ndarray] = []
    pairs = []
    while len(documents) < count:
        length = int(np.clip(np.exp(rng.normal(4.8, 0.6)), 20, 1500))
        documents.append(np.searchsorted(chances, rng.random(length) * chances[-1]))
        if rng.random() < 0.1 and len(documents) < count:
            documents.append(changed(documents[-1], float(rng.choice(SHARES)), rng))
            pairs.append((len(documents) - 2, len(documents) - 1))
    similarity = [similar(documents[one], documents[other]) for one, other in pairs]
    order = rng.permutation(count)
    texts = [" ".join(names[documents[at]].tolist()) for at in order]
    return Documents(texts, np.argsort(order)[np.array(pairs)], np.array(similarity))


def changed(words: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Replace words here and there, each of which breaks up to five runs, so that about this share stays."""
    broken = (len(words) - RUN + 1) * (1 - share) / (1 + share)
    places = rng.choice(len(words), max(1, round(broken / RUN)), replace=False)
    other = words.copy()
    other[places] = rng.integers(0, WORDS, len(places))
    return other


def similar(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Jaccard similarity of two documents' runs."""
    sets = [{tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1)} for words in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


class Ran(NamedTuple):
    """What a side found."""

    dropped: np.ndarray
    """bool [documents]"""
    shingling: float = 0.0


def conversations(texts: list[str]) -> Any:
    """Return texts as a table of responses to short prompts, which is what prefkit's stages are given."""
    import pyarrow as pa

    ids = pa.array(np.arange(len(texts)).astype(str))
    columns = {"prompt": turns(["Go on."] * len(texts), "user"), "response": turns(texts, "assistant")}
    return pa.table({"id": ids, "prompt_id": ids, **columns})


def turns(texts: list[str], role: str) -> Any:
    """Return conversations of one turn each."""
    import pyarrow as pa

    from prefkit.columns import MESSAGES

    said = [pa.array([role] * len(texts)), pa.array(texts)]
    turn = pa.StructArray.from_arrays(said, fields=list(MESSAGES.value_type))
    return pa.ListArray.from_arrays(pa.array(np.arange(len(texts) + 1), pa.int32()), turn).cast(MESSAGES)


def run_prefkit(table: Any) -> Ran:
    from prefkit.stages.dedup import Dedup

    stage = Dedup(kind="minhash", threshold=THRESHOLD, by="response", within="dataset")
    kept = stage(table)["id"].to_numpy().astype(np.int64)
    dropped = np.ones(table.num_rows, dtype=bool)
    dropped[kept] = False
    return Ran(dropped)


def shingles(texts: list[str]) -> tuple[list[list[str]], float]:
    """Return the runs of words of each text, and the CPU seconds that took."""
    start = time.process_time()
    words = [text.lower().split() for text in texts]
    runs = [[" ".join(one[at : at + RUN]) for at in range(max(len(one) - RUN + 1, 1))] for one in words]
    return runs, time.process_time() - start


def run_rensa(texts: list[str]) -> Ran:
    import rensa

    runs, seconds = shingles(texts)
    deduplicator = rensa.RMinHashDeduplicator(threshold=THRESHOLD, num_perm=HASHES, use_lsh=True)
    kept = deduplicator.add_pairs((str(row), of) for row, of in enumerate(runs))
    return Ran(~np.array(kept), seconds)


def run_rensa_flags(texts: list[str]) -> Ran:
    import rensa

    runs, seconds = shingles(texts)
    sketches = rensa.RMinHash.digest_matrix_from_token_sets(runs, HASHES, 42)
    index = rensa.RMinHashLSH(threshold=THRESHOLD, num_perm=HASHES, num_bands=HASHES // 4)
    return Ran(np.array(index.query_duplicate_flags_matrix_one_shot(sketches), dtype=bool), seconds)


def run_datasketch(texts: list[str]) -> Ran:
    from datasketch import MinHash, MinHashLSH

    runs, seconds = shingles(texts)
    index = MinHashLSH(threshold=THRESHOLD, num_perm=HASHES)
    dropped = np.zeros(len(texts), dtype=bool)
    sketches = MinHash.generator(([run.encode() for run in of] for of in runs), num_perm=HASHES)
    for row, sketch in enumerate(sketches):
        dropped[row] = bool(index.query(sketch))
        if not dropped[row]:
            index.insert(row, sketch)
    return Ran(dropped, seconds)


def run_datatrove(texts: list[str]) -> Ran:
    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Spaces(WordTokenizer):
        """The words here have spaces between them, which is all that the other sides look for."""

        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        def sent_tokenize(self, text: str) -> list[str]:
            return [text]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]

    dropped = np.zeros(len(texts), dtype=bool)
    with tempfile.TemporaryDirectory() as folder:
        places = [f"{folder}/{name}" for name in ("sketches", "buckets", "dropped")]
        documents = (Document(text=text, id=str(row)) for row, text in enumerate(texts))
        MinhashDedupSignature(places[0], language=Spaces("english")).run(documents)
        for bucket in range(14):
            MinhashDedupBuckets(places[0], places[1]).run(None, bucket, 14)
        MinhashDedupCluster(places[1], places[2]).run(None, 0, 1)
        for file in Path(places[2]).glob("*.remove"):  # none where nothing is to be dropped
            dropped[np.fromfile(file, "<u4")] = True
    return Ran(dropped)


SIDES: dict[str, Callable[[Any], Ran]] = {
    "prefkit": run_prefkit,
    "rensa": run_rensa,
    "rensa-flags": run_rensa_flags,
    "datasketch": run_datasketch,
    "datatrove": run_datatrove,
}


def run_side(side: str, folder: Path) -> Measured:
    """Run a side in this process, whose interpreter has what it needs."""
    from importlib.metadata import version

    texts = json.loads((folder / "texts.json").read_text())
    given = conversations(texts) if side == "prefkit" else texts
    SIDES[side](given[:200])  # whatever the first call loads
    forget_peak()
    before, start = peak(), time.process_time()
    ran = SIDES[side](given)
    seconds = time.process_time() - start
    np.save(folder / f"{side}.npy", ran.dropped)
    return Measured(side, seconds, ran.shingling, peak() - before, version(side.removesuffix("-flags")))


def forget_peak() -> None:
    """Let the kernel count the peak anew from what is held now."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> float:
    """Return the most memory held since, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the kernel does not say how much memory was held")


def measure(side: str, folder: Path, peer_python: str | None) -> Measured:
    """Run a side in a process of its own; exit with its log if it fails."""
    python = sys.executable if side == "prefkit" else str(peer_python)
    command = [python, __file__, "--side", side, "--folder", str(folder)]
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def tell(run: Measured, drawn: Documents, dropped: np.ndarray) -> None:
    """Print one run."""
    hit = dropped[drawn.pairs].any(axis=1)
    real = drawn.similarity >= THRESHOLD
    lone = np.ones(len(dropped), dtype=bool)
    lone[drawn.pairs[real]] = False
    bands = pairwise(EDGES)
    shares = [hit[(drawn.similarity >= low) & (drawn.similarity < high)].mean() for low, high in bands]
    python = f" ({run.shingling:.1f} of them for the runs)" if run.shingling else ""
    print(
        f"  {run.side:11} {run.version:8} {run.seconds:7.1f} CPU-s{python}  {run.memory:5.0f} MiB  "
        f"found {hit[real].mean():.2%} [{' '.join(f'{share:.3f}' for share in shares)}]  "
        f"wrongly dropped {int(dropped[lone].sum()):,}",
        flush=True,
    )


def compare(count: int, sides: Sequence[str], peer_python: str | None) -> None:
    """Print what each side costs and finds, and the ratios."""
    drawn = draw(count, seed=0)
    bands = ", ".join(f"{low:g} to {min(high, 1):g}" for low, high in pairwise(EDGES))
    below = int((drawn.similarity < THRESHOLD).sum())
    print(
        f"{count:,} documents, {len(drawn.pairs) - below:,} planted pairs at 0.7 and above, {below:,} below"
    )
    print(f"  found: of all planted pairs at 0.7 and above, and of those from {bands}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "texts.json").write_text(json.dumps(drawn.texts))
        mine: list[Measured] = []
        for side in ["prefkit", *(each for peer in sides for each in (peer, "prefkit"))]:
            run = measure(side, folder, peer_python)
            tell(run, drawn, np.load(folder / f"{side}.npy"))
            if side == "prefkit":
                mine.append(run)
                continue
            around = mine[-1]
            print(
                f"    prefkit / {side}: {around.seconds / run.seconds:.2f} of its CPU seconds, "
                f"{around.memory / run.memory:.2f} of its memory",
                flush=True,
            )


def decontaminate(count: int, items: int) -> None:
    """Print how many rows a second are held against a benchmark, and whether what was planted is found."""
    from prefkit.stages.decontaminate import Decontaminate

    rng = np.random.default_rng(1)
    rows = draw(count, seed=1).texts
    asked = [" ".join(text.split()[:60]) for text in draw(items, seed=2).texts]
    planted = rng.choice(count, count // 100, replace=False)
    for at in planted.tolist():
        words = asked[int(rng.integers(items))].split()
        rows[at] += " " + " ".join(words[: max(len(words) * 2 // 3, 8)])  # two thirds of an item
    table = conversations(rows)
    size = sum(map(len, rows)) / 2**20
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "exam.jsonl")
        file.write_text("".join(json.dumps({"question": text}) + "\n" for text in asked))
        stage = Decontaminate(against=str(file))
        forget_peak()
        before, start = peak(), time.process_time()
        stage(table.slice(0, 1))
        ready = time.process_time()
        kept: Any = stage(table)["id"].to_numpy().astype(np.int64)
        seconds = time.process_time() - ready
    gone = np.setdiff1d(np.arange(count), kept)
    print(
        f"{count:,} rows ({size:.0f} MiB) against {items:,} items: {count / seconds:,.0f} rows/CPU-s, "
        f"{size / seconds:.0f} MiB/CPU-s; items read in {ready - start:.2f} CPU-s; {peak() - before:.0f} MiB; "
        f"{np.isin(planted, gone).mean():.2%} of {len(planted):,} planted found, "
        f"{len(np.setdiff1d(gone, planted))} others dropped"
    )


def main() -> None:
    """Print the table, or run one side of it."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--documents", type=int, default=200_000)
    options.add_argument("--peer-python")
    options.add_argument("--sides", nargs="*", choices=list(SIDES)[1:], default=list(SIDES)[1:])
    options.add_argument("--decontaminate", action="store_true")
    options.add_argument("--items", type=int, default=5_000)
    options.add_argument("--side", choices=SIDES, help="run only this one, on the texts in --folder")
    options.add_argument("--folder", type=Path)
    given = options.parse_args()
    if given.side:
        print(json.dumps(run_side(given.side, given.folder)._asdict()))
    elif given.decontaminate:
        decontaminate(given.documents, given.items)
    else:
        compare(given.documents, given.sides if given.peer_python else (), given.peer_python)


if __name__ == "__main__":
    main()
