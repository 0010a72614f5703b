"""Train a model of a real size with random weights: each technique switched off in turn, other trainers beside.

    python benchmarks/train_gpu.py --shape 1.5b [--lora] [--rows prefkit no-cache plain] [--steps 8]
    python benchmarks/train_gpu.py --shape tiny --device cpu

Nothing is fetched. Each row is a process of its own: it builds the model from its configuration, does two steps to warm
up and times the others. MFU is the least work that the pairs need (every token forward and backward once, prompts
shared, the head on scored tokens only, nothing computed again) over the time and the rate of a large product, which is
measured in the same run; `--peak` takes another rate, in TFLOP/s. So it falls for a row that does more work than it
has to. Under LoRA the gradient of frozen weights is not needed, and two thirds of the work count.

The switches are knobs of this benchmark, not of the product: a row replaces one part of the trainer by a plain one.
TRL runs where it is installed, in its default configuration and in its best.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from knobs import BETA, ROWS, Mark, Setup
from sides import PEERS
from workload import Shape, config_of, draw_pairs, text_of, write_tokenizer

SHAPES = {
    "tiny": Shape(hidden=32, layers=2, heads=4, kv_heads=2, inner=64, vocab=512, tied=True),
    "0.5b": Shape(hidden=896, layers=24, heads=14, kv_heads=2, inner=4864, vocab=151_936, tied=True),
    "1.5b": Shape(hidden=1536, layers=28, heads=12, kv_heads=2, inner=8960, vocab=151_936, tied=True),
    "8b": Shape(hidden=4096, layers=32, heads=32, kv_heads=8, inner=14_336, vocab=128_256),
}
"""The sizes of Qwen2.5 0.5B and 1.5B and of Llama 3 8B; all are built as Llamas."""
BESIDE = ("trl-default", "trl-grouped")
WARM = 2
"""Steps before the clock starts."""


def build(options: argparse.Namespace) -> Setup:
    """Make model and pairs."""
    import torch
    from transformers import LlamaForCausalLM

    shape, steps = SHAPES[options.shape], WARM + options.steps
    torch.manual_seed(0)
    with torch.device(options.device):
        model = wrapped = LlamaForCausalLM(config_of(shape))
    if options.lora:
        from prefkit.train.adapters import Lora, wrap

        wrapped = wrap(model, Lora(), 0)
    words = draw_pairs(options.batch * steps, shape, low=options.low, high=options.high)
    batches = [range(step * options.batch, (step + 1) * options.batch) for step in range(steps)]
    return Setup(model, wrapped, words, batches, options)


def run_trl(setup: Setup, mark: Mark, side: str) -> None:
    """Train by TRL on the same pairs in the same batches, but where it groups them by length."""
    from copy import deepcopy

    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    options, shape = setup.options, SHAPES[setup.options.shape]
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    rows = [
        {name: [{"role": roles[name], "content": text_of(part)}] for name, part in pair._asdict().items()}
        | {"length": sum(pair.tokens())}
        for pair in setup.words
    ]

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            mark(float("nan"))  # TRL keeps its losses to itself

    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder), shape.vocab)
        settings = DPOConfig(
            output_dir=folder,
            use_cpu=options.device == "cpu",
            bf16=options.device != "cpu",
            per_device_train_batch_size=options.micro_pairs,
            gradient_accumulation_steps=options.batch // options.micro_pairs,
            max_steps=len(setup.batches),
            learning_rate=options.rate,
            lr_scheduler_type="constant",
            beta=BETA,
            max_length=None,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            **{"train_sampling_strategy": "sequential", **PEERS[side]},
        )
        live = "precompute_ref_log_probs" not in PEERS[side] and not options.lora
        DPOTrainer(
            model=setup.wrapped,
            ref_model=deepcopy(setup.model) if live else None,
            args=settings,
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(folder),
            callbacks=[Clock()],
        ).train()


def measure(row: str, options: argparse.Namespace) -> dict[str, float]:
    """Train one row in this process: seconds of the timed steps, peak memory in MiB, and the last loss."""
    import torch
    from counting import clock, rates

    kind = torch.device(options.device).type
    if row == "rates":
        dtype = torch.float32 if kind == "cpu" else torch.bfloat16
        return rates(options.device, dtype)._asdict()
    setup = build(options)
    marks: list[float] = []
    losses: list[float] = []

    def mark(loss: float) -> None:
        losses.append(loss)
        marks.append(clock(kind))

    if kind == "cuda":
        torch.cuda.reset_peak_memory_stats()
    if row in PEERS:
        run_trl(setup, mark, row)
    else:
        ROWS[row](setup, mark)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if kind == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    return {"seconds": marks[-1] - marks[WARM - 1], "peak": peak, "loss": losses[-1]}


def in_process(row: str, given: list[str]) -> dict[str, float] | None:
    """Measure a row in a process of its own; None, and its last words, if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "measured.json"
        command = [sys.executable, __file__, *given, "--row", row, "--into", str(into)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"  {row:12} failed: {done.stderr.strip().splitlines()[-1][:160]}", flush=True)
            return None
        found: dict[str, float] = json.loads(into.read_text())
        return found


def compare(options: argparse.Namespace, given: list[str]) -> None:
    """Print the table."""
    shape = SHAPES[options.shape]
    peak = in_process("rates", given)
    if peak is None:
        sys.exit(1)
    rate = options.peak * 1e12 if options.peak else peak["flops"]
    words = draw_pairs(options.batch * (WARM + options.steps), shape, low=options.low, high=options.high)
    timed = words[options.batch * WARM :]
    least = sum(shape.least_flops(*pair.tokens()) for pair in timed) * (2 / 3 if options.lora else 1)
    tokens = sum(sum(pair.tokens()) for pair in timed)
    print(
        f"{options.shape}{', LoRA' if options.lora else ''}: {shape}, {shape.body / 1e6:,.0f} M weights in layers"
    )
    print(f"  {options.device}: {rate / 1e12:.2f} TFLOP/s, copies {peak['bytes'] / 1e9:,.0f} GB/s", end="; ")
    print(f"{len(timed)} pairs, {tokens} tokens with each prompt once, at least {least / 1e12:.3g} TFLOP")
    base = None
    beside = BESIDE if find_spec("trl") else ()
    for row in options.rows or [*ROWS, *beside]:
        found = in_process(row, given)
        if found is None:
            continue
        base = base or found["seconds"]
        print(
            f"  {row:12} {len(timed) / found['seconds']:8.2f} pairs/s {tokens / found['seconds']:10,.0f} tokens/s"
            f"  {base / found['seconds']:5.2f}x  MFU {least / found['seconds'] / rate:.3f}"
            f"  peak {found['peak']:9,.0f} MiB  last loss {found['loss']:.4f}",
            flush=True,
        )


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--shape", choices=list(SHAPES), default="1.5b")
    options.add_argument("--lora", action="store_true")
    options.add_argument("--device", default="cuda")
    options.add_argument("--rows", nargs="*", choices=[*ROWS, *BESIDE])
    options.add_argument("--steps", type=int, default=8, help="timed steps")
    options.add_argument("--batch", type=int, default=64, help="pairs a step")
    options.add_argument("--micro-tokens", type=int, default=16_384)
    options.add_argument(
        "--micro-pairs", type=int, default=8, help="pairs in memory at once, in the other trainers"
    )
    options.add_argument("--low", type=int, default=50, help="tokens of the shortest prompt and answer")
    options.add_argument("--high", type=int, default=800)
    options.add_argument("--rate", type=float, default=1e-6, help="learning rate")
    options.add_argument("--peak", type=float, help="TFLOP/s to hold the runs against")
    options.add_argument("--row", help=argparse.SUPPRESS)
    options.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    return options


def main() -> None:
    """Print the table, or measure one row of it."""
    given = parser().parse_args()
    if given.row:
        given.into.write_text(json.dumps(measure(given.row, given)))
    else:
        compare(given, sys.argv[1:])


if __name__ == "__main__":
    main()
