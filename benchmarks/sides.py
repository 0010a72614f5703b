"""The sides of the CPU benchmark, each run by a process of its own: `python sides.py SIDE FOLDER`.

The folder holds the model, the pairs and the settings; what was measured is written beside them. Nothing heavy is
imported before it is known which side this is: the process that compares the sides imports this file too, and the
kernel counts what a parent holds as its child's peak.
"""

import hashlib
import json
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from workload import Shape, draw_pairs, read_pairs, write_model, write_pairs

CACHED = {"precompute_ref_log_probs": True, "gradient_checkpointing": False}
GROUPED = {**CACHED, "train_sampling_strategy": "group_by_length"}
PEERS: Mapping[str, Mapping[str, Any]] = {
    "trl-default": {},
    "trl-cached": CACHED,
    "trl-grouped": GROUPED,
    "trl-compact": GROUPED,
}
"""The last scores only the tokens of answers, which TRL does on GPUs and has no option for on a CPU."""
BATCH, RATE, BETA, LONGEST = 8, 1e-4, 0.1, 1024


class Given(NamedTuple):
    """What all sides are told."""

    shape: Shape
    steps: int
    dtype: str
    profiled: bool


class Rates(NamedTuple):
    """What the machine does on its own, one thread."""

    float32: float
    """FLOPs per CPU second of a product of two 1024 x 1024 matrices."""
    bfloat16: float
    bytes: float
    """Bytes read and written per CPU second by a copy of 256 MiB."""


class Measured(NamedTuple):
    """What one side says of itself."""

    side: str
    seconds: float
    """CPU seconds of the training loop."""
    reference: float
    """CPU seconds of reference log-probs, where they are computed once."""
    peak: float
    """Peak memory of the process, MiB."""
    start: float
    """Its peak before training, MiB: imports, weights, tokens, and the reference where it is computed once."""
    losses: list[float]
    flops: float
    bytes: float
    families: dict[str, float]
    """Share of the time by family of operations; empty unless it was profiled."""
    versions: dict[str, str]
    seen: str
    """Digest of the token ids it was given, in their order in the table."""


class Meter:
    """Clock and counters of a training loop."""

    def __init__(self, profiled: bool) -> None:
        import torch
        from counting import Counted

        self._counted = Counted()
        self._profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
        self._profiled = profiled
        self.losses: list[float] = []
        self._start = self._seconds = self._began = 0.0

    def begin(self) -> None:
        self._start = peak_memory()
        if self._profiled:
            self._profile.start()
        self._counted.__enter__()
        self._began = time.process_time()

    def end(self) -> None:
        self._seconds = time.process_time() - self._began
        self._counted.__exit__(None, None, None)
        if self._profiled:
            self._profile.stop()

    def result(self, side: str, reference: float, ids: list[Any]) -> Measured:
        from importlib.metadata import version

        from counting import families

        names = ["torch", "transformers", "prefkit" if side == "prefkit" else "trl"]
        return Measured(
            side,
            self._seconds,
            reference,
            peak_memory(),
            self._start,
            self.losses,
            self._counted.flops,
            self._counted.bytes,
            families(self._profile, "cpu") if self._profiled else {},
            {name: version(name) for name in names},
            hashlib.sha256(json.dumps(ids).encode()).hexdigest(),
        )


def peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def prepare(folder: Path, given: Given) -> Rates:
    """Write the model and the pairs, and measure the machine."""
    import torch
    from counting import rates

    write_model(folder / "model", given.shape)
    write_pairs(folder / "pairs.jsonl", draw_pairs(given.steps * BATCH, given.shape))
    single, half = (rates("cpu", dtype) for dtype in (torch.float32, torch.bfloat16))
    return Rates(single.flops, half.flops, single.bytes)


def run_prefkit(folder: Path, given: Given) -> Measured:
    """Compute the reference log-probs by the `reference` stage and train by `prefkit.train`, as its users do."""
    import pyarrow as pa

    from prefkit.columns import COLUMNS
    from prefkit.engines import Engines, Model
    from prefkit.engines.transformers_engine import TransformersEngine
    from prefkit.objectives.presets import make
    from prefkit.stage import Context
    from prefkit.stages.reference import Reference
    from prefkit.train import TrainPlacement, TrainSettings, train
    from prefkit.train.tokenise import tokenise

    model = Model(id=str(folder / "model"))
    rows = [
        {"id": f"pair{at}", "prompt_id": f"prompt{at}", "source": "bench", "rank": at, **row}
        for at, row in enumerate(read_pairs(folder / "pairs.jsonl"))
    ]
    table = pa.Table.from_pylist(rows, pa.schema([(name, COLUMNS[name].type) for name in rows[0]]))
    engine = TransformersEngine("cpu")
    engine.fingerprint(model)  # loads it
    began = time.process_time()
    table = Reference(model=model)(table, Context(engines=Engines({model.id: engine})))
    reference = time.process_time() - began
    settings = TrainSettings(
        model=model,
        objective=make("dpo", {"beta": BETA}),
        steps=given.steps,
        batch=BATCH,
        learning_rate=RATE,
        schedule="constant",
        warmup=0,
        betas=(0.9, 0.999),
        max_length=LONGEST,
    )
    meter = Meter(given.profiled)

    def told(event: Any) -> None:
        if event.phase == "evaluate before":
            meter.begin()
        if event.phase == "train":
            meter.losses.append(event.metrics["loss"])
            if event.done == event.total:
                meter.end()

    placement = TrainPlacement(device="cpu", dtype=given.dtype, threads=1)
    train(settings, table, out=folder / "prefkit", placement=placement, progress=told)
    pairs = tokenise(table, tokenizer_of(folder), settings).pairs
    return meter.result("prefkit", reference, [[pair.prompt, pair.chosen, pair.rejected] for pair in pairs])


def run_trl(folder: Path, given: Given, side: str) -> Measured:
    """Train by TRL, in one of its configurations."""
    import torch
    import trl.trainer.utils
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import DPOConfig, DPOTrainer

    if side == "trl-compact":
        trl.trainer.utils._use_triton = lambda device: True  # noqa: ARG005, SLF001 - chooses the rows it scores
    rows = read_pairs(folder / "pairs.jsonl")
    for row in rows:
        sizes = [len(turn[0]["content"].split()) for turn in row.values()]
        row["length"] = sizes[0] + max(sizes[1:])
    meter, reference = Meter(given.profiled), [0.0]

    class Timed(DPOTrainer):  # type: ignore[misc]
        def _precompute_ref_logps(self, *args: Any) -> Any:
            began = time.process_time()
            found = super()._precompute_ref_logps(*args)
            reference[0] += time.process_time() - began
            return found

        def compute_loss(self, *args: Any, **settings: Any) -> Any:
            loss = super().compute_loss(*args, **settings)
            meter.losses.append(float(loss.detach()))
            return loss

    class Loop(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            meter.begin()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            meter.end()

    settings = DPOConfig(
        output_dir=str(folder / side),
        use_cpu=True,
        bf16=given.dtype == "bfloat16",
        per_device_train_batch_size=BATCH,
        max_steps=given.steps,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        beta=BETA,
        max_length=LONGEST,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        **{"train_sampling_strategy": "sequential", **PEERS[side]},
    )
    torch.set_num_threads(1)
    trainer = Timed(
        model=str(folder / "model"),
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer_of(folder),
        callbacks=[Loop()],
    )
    trainer.train()
    data = trainer.train_dataset
    ids = zip(data["prompt_ids"], data["chosen_ids"], data["rejected_ids"], strict=True)
    return meter.result(side, reference[0], list(ids))


def tokenizer_of(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder / "model")


def main(side: str, folder: Path) -> None:
    """Run one side and write what it measured."""
    import torch

    torch.set_num_threads(1)
    told = json.loads((folder / "given.json").read_text())
    given = Given(**{**told, "shape": Shape(*told["shape"])})
    if side in PEERS:
        found: Measured | Rates = run_trl(folder, given, side)
    else:
        found = {"prepare": prepare, "prefkit": run_prefkit}[side](folder, given)
    (folder / "measured.json").write_text(json.dumps(found._asdict()))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
