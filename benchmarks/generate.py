"""Sample from the same Llama for the same prompts with prefkit and with transformers' own ways, one thread each.

    python benchmarks/generate.py [--shape 19m] [--prompts 16] [--rounds 2] [--sides prefkit option prompts padded continuous]

- `prefkit`: the transformers engine, one request a sample, each with its own seed.
- `option`: the same with `batching=continuous`.
- `prompts`: `model.generate` for one prompt after another, all samples of a prompt at once.
- `padded`: `model.generate` for batches of prompts in the order they come, padded on the left.
- `continuous`: `model.generate_batch`, the library's continuous batching, with a cache of the size prefkit may use.

Every run is a process of its own, the sides take turns, and figures are CPU seconds of sampling, from token ids or
messages to texts, and the peak memory of the process less what it held with the model loaded. Lengths differ: prompts
have 10 to 200 tokens, and each token is an end of turn with a chance of one in 80, since the model knows nothing and
so many tokens are declared to end a turn. So texts differ between sides, and rates are of tokens written.

`--even` makes a batch of prompts of one length, none of which ends early: then `padded` computes what prefkit does, and
the ratio is what the engine costs beside the library. The share outside the network is the time not spent in calls of
the model, as hooks on it tell.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from workload import SPECIAL, Shape, text_of, write_model

SHAPES = {
    "tiny": Shape(hidden=32, layers=2, heads=2, kv_heads=1, inner=64, vocab=400),
    "19m": Shape(hidden=512, layers=8, heads=8, kv_heads=8, inner=832, vocab=400),
    "wide": Shape(hidden=512, layers=4, heads=8, kv_heads=2, inner=832, vocab=32_000),
}
SAMPLES, LIMIT, MEAN = 4, 256, 80
EVEN_TOKENS, EVEN_LIMIT = 60, 64
AT_ONCE = 64
"""Rows of a padded batch."""
THREADS = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Measured(NamedTuple):
    """What one side says of itself."""

    tokens: int
    """Written, ends of turns included."""
    seconds: float
    """CPU seconds."""
    outside: float
    """Share of the time outside calls of the network."""
    calls: int
    peak: float
    """MiB beyond what the process held with the model loaded."""


class Work(NamedTuple):
    """A loaded model and what it is asked."""

    network: Any
    tokenizer: Any
    prompts: list[str]
    limit: int
    folder: Path

    def ids(self, text: str) -> list[int]:
        turn = [{"role": "user", "content": text}]
        found: list[int] = self.tokenizer.apply_chat_template(turn, add_generation_prompt=True)["input_ids"]
        return found

    def settings(self) -> dict[str, Any]:
        plain = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
        return {**plain, "max_new_tokens": self.limit, "num_return_sequences": SAMPLES}


class Clock:
    """CPU seconds inside the network's calls."""

    def __init__(self, network: Any) -> None:
        self.calls, self.seconds, self._began = 0, 0.0, 0.0
        network.register_forward_pre_hook(self._before)
        network.register_forward_hook(self._after)

    def _before(self, *_: object) -> None:
        self._began = time.process_time()

    def _after(self, *_: object) -> None:
        self.calls += 1
        self.seconds += time.process_time() - self._began


def draw_prompts(count: int, *, even: bool) -> list[str]:
    draw = np.random.default_rng(0)
    sizes = [EVEN_TOKENS] * count if even else draw.integers(10, 200, count)
    return [text_of(draw.integers(len(SPECIAL), 400, size)) for size in sizes]


def prepare(folder: Path, shape: Shape, *, even: bool) -> None:
    """Write the model; so many of its tokens end a turn that answers have MEAN tokens, unless all are to be as long."""
    from transformers import GenerationConfig

    write_model(folder, shape)
    end = SPECIAL.index("<end>")
    ends = [end, *range(len(SPECIAL), len(SPECIAL) + (0 if even else shape.vocab // MEAN - 1))]
    GenerationConfig(eos_token_id=ends, pad_token_id=SPECIAL.index("<pad>")).save_pretrained(folder)


def run_prefkit(work: Work, *, continuous: bool = False) -> int:
    from prefkit.engines import Completion, Message, Model, Request
    from prefkit.engines.transformers_engine import TransformersEngine
    from prefkit.engines.weights import Loaded

    engine, model = TransformersEngine("cpu", continuous=continuous), Model(id=str(work.folder))
    ends = tuple(work.network.generation_config.eos_token_id)
    engine._loaded[model, "language"] = Loaded(work.network, work.tokenizer, ends, 4096)  # noqa: SLF001 - loaded once
    requests = [
        Request((Message("user", text),), work.limit, seed=seed)
        for text in work.prompts
        for seed in range(SAMPLES)
    ]
    return sum(
        answer.tokens for _, answer in engine.generate(model, requests) if isinstance(answer, Completion)
    )


def run_option(work: Work) -> int:
    return run_prefkit(work, continuous=True)


def run_padded(work: Work, at_once: int = AT_ONCE // SAMPLES) -> int:
    import torch

    ends = torch.tensor(work.network.generation_config.eos_token_id)
    tokens = 0
    for start in range(0, len(work.prompts), at_once):
        texts = [{"input_ids": work.ids(text)} for text in work.prompts[start : start + at_once]]
        padded = work.tokenizer.pad(texts, padding_side="left", return_tensors="pt")
        with torch.inference_mode():
            written = work.network.generate(**padded, **work.settings())[:, padded["input_ids"].shape[1] :]
        work.tokenizer.batch_decode(written, skip_special_tokens=True)
        is_end = torch.isin(written, ends)
        tokens += int(((is_end.cumsum(-1) - is_end.int()) == 0).sum())
    return tokens


def run_prompts(work: Work) -> int:
    return run_padded(work, 1)


def run_continuous(work: Work) -> int:
    from transformers import ContinuousBatchingConfig, GenerationConfig

    known = work.network.generation_config.to_dict()
    settings = GenerationConfig(**{**known, **work.settings()})
    sizes = ContinuousBatchingConfig(page_size=32, num_blocks=AT_ONCE * 16, max_batch_tokens=512, seed=0)
    found = work.network.generate_batch(
        [work.ids(text) for text in work.prompts],
        generation_config=settings,
        continuous_batching_config=sizes,
        warmup=False,
    )
    written = [output.generated_tokens for output in found.values()]
    work.tokenizer.batch_decode(written, skip_special_tokens=True)
    return sum(map(len, written))


SIDES: dict[str, Callable[[Work], int]] = {
    "prefkit": run_prefkit,
    "option": run_option,
    "prompts": run_prompts,
    "padded": run_padded,
    "continuous": run_continuous,
}


def measure(side: str, folder: Path, prompts: Sequence[str], limit: int) -> Measured:
    """Run one side in this process."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    work = Work(network, AutoTokenizer.from_pretrained(folder), list(prompts), limit, folder)
    SIDES[side](work._replace(prompts=work.prompts[:1], limit=2))  # what is set up on first use
    clock, before = Clock(network), peak_memory()
    began = time.process_time()
    tokens = SIDES[side](work)
    seconds = time.process_time() - began
    return Measured(tokens, seconds, 1 - clock.seconds / seconds, clock.calls, peak_memory() - before)


def peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_apart(side: str, folder: Path, options: argparse.Namespace) -> Measured:
    """Run one side in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder), *options.passed]
    done = subprocess.run(command, env={**os.environ, **THREADS}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return Measured(*json.loads(done.stdout.splitlines()[-1]))


def compare(options: argparse.Namespace) -> None:
    """Run all sides in turn and print what they cost."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, SHAPES[options.shape], even=options.even)
        runs: dict[str, list[Measured]] = {side: [] for side in options.sides}
        for _ in range(options.rounds):
            for side, mine in runs.items():
                mine.append(run_apart(side, folder, options))
                print(f"{side}: {mine[-1].tokens / mine[-1].seconds:,.0f}", file=sys.stderr, flush=True)
    kind = "one length" if options.even else "mixed lengths"
    print(f"{options.shape}, {options.prompts} prompts of {kind}, {SAMPLES} samples each")
    rates = {side: [one.tokens / one.seconds for one in mine] for side, mine in runs.items()}
    for side, mine in runs.items():
        ratio = median(rates[options.sides[0]]) / median(rates[side])
        print(
            f"  {side:10} {median(rates[side]):9,.0f} tokens per CPU second "
            f"({min(rates[side]):,.0f} to {max(rates[side]):,.0f}), {ratio:5.2f}x slower than {options.sides[0]}, "
            f"{100 * median(one.outside for one in mine):5.1f} % outside the network, "
            f"{mine[0].calls:,} calls, {mine[0].tokens:,} tokens, {median(one.peak for one in mine):5.0f} MiB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare ways to sample.")
    parser.add_argument("--shape", choices=SHAPES, default="19m")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--even", action="store_true")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.passed = ["--shape", options.shape, "--prompts", str(options.prompts)]
    options.passed += ["--even"] if options.even else []
    if options.side is None:
        compare(options)
        return
    prompts = draw_prompts(options.prompts, even=options.even)
    limit = EVEN_LIMIT if options.even else LIMIT
    print(json.dumps(measure(options.side, options.folder, prompts, limit)))


if __name__ == "__main__":
    main()
