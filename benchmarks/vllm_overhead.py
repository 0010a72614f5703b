"""What prefkit costs on top of vLLM: its engine beside `LLM.generate` and `LLM.chat` on the same requests.

One vLLM in one process on a CPU, a random Llama, every request with a seed of its own and its log-prob asked for, as a
build asks. Four ways, in turn, again and again:

- `generate`: `LLM.generate` given token ids and settings that were made beforehand, and no text asked back: all that
  the library cannot do without;
- `chat`: `LLM.chat` given messages, and text asked back: the work that prefkit's engine does;
- `engine`: `VllmEngine.generate`, from messages to text;
- `memo`: the same with every answer remembered, in a new file each time.

Last, prefkit's own time is taken directly: all but what is spent inside of the library's calls.

What counts is the time of the process (single-threaded, so what others do on the machine matters little); the ratio is
the median over the rounds of one way by another in the same round, with the middle 95 % of its bootstrap.

    OMP_NUM_THREADS=1 python benchmarks/vllm_overhead.py --requests 256 --rounds 12
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"

import numpy as np

from prefkit.engines import Completion, Message, Model, Request
from prefkit.engines.memo import Memo, Remembering
from prefkit.engines.placement import Placement, open_engines

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WORDS = [
    "the",
    "answer",
    "of",
    "a",
    "model",
    "to",
    "a",
    "long",
    "question",
    "about",
    "preference",
    "data",
    "and",
    "how",
    "to",
    "make",
    "it",
    "well",
]
Way = Callable[[], int]


def make_model(folder: Path, hidden: int, layers: int) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    core.train_from_iterator([" ".join(WORDS)] * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<|pad|>", eos_token="<|end|>")
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 32,
        max_position_embeddings=512,
        pad_token_id=0,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_requests(count: int, new: int) -> list[Request]:
    """Return four samples of each prompt, prompts of 20 to 80 words."""
    chance = np.random.default_rng(0)
    texts = [" ".join(chance.choice(WORDS, chance.integers(20, 80))) for _ in range(count // 4)]
    return [
        Request((Message("user", text),), new, top_p=0.95, seed=seed) for text in texts for seed in range(4)
    ]


def ways(folder: Path, requests: Sequence[Request], store: Path) -> tuple[Any, dict[str, Way]]:
    """Return the vLLM that is asked, and the ways to ask it."""
    from vllm import SamplingParams

    from prefkit.engines.chat import Prompt, encode_prompts
    from prefkit.engines.vllm_engine import VllmEngine

    model = Model(id=str(folder))
    options = "enforce_eager=true&kv_cache_memory_bytes=256MiB&max_num_seqs=64"
    engines = open_engines({"m": model}, Placement({"m": f"vllm?{options}"}))
    engine = engines.serving[model.id]
    assert isinstance(engine, VllmEngine)
    opened = engine._open(model, "language")  # noqa: SLF001 - the very vLLM that the engine asks
    ids = encode_prompts(opened.tokenizer, [Prompt(one.messages, None) for one in requests])
    prompts: list[Any] = [{"prompt_token_ids": one} for one in ids]
    turns: list[Any] = [[turn._asdict() for turn in one.messages] for one in requests]

    def params(*, text: bool) -> list[Any]:
        return [
            SamplingParams(
                max_tokens=one.max_tokens,
                temperature=one.temperature,
                top_p=one.top_p,
                seed=one.seed,
                logprobs=0,
                flat_logprobs=not text,
                detokenize=text,
                stop_token_ids=list(opened.ends),
            )
            for one in requests
        ]

    bare, full = params(text=False), params(text=True)

    def generate() -> int:
        made = opened.llm.generate(prompts, bare, use_tqdm=False)
        return sum(len(one.outputs[0].token_ids) for one in made)

    def chat() -> int:
        return sum(len(one.outputs[0].token_ids) for one in opened.llm.chat(turns, full, use_tqdm=False))

    def plain() -> int:
        return written(engine.generate(model, requests))

    def remembered() -> int:
        memo = Memo(store / f"{time.perf_counter_ns()}.sqlite")
        return written(Remembering(engine, memo, engines.spend, lambda _: "m").generate(model, requests))

    return opened.llm, {"generate": generate, "chat": chat, "engine": plain, "memo": remembered}


def timed(call: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def go(*arguments: Any, **more: Any) -> Any:
        started = time.process_time()
        try:
            return call(*arguments, **more)
        finally:
            spent.append(time.process_time() - started)

    return go


def own_shares(llm: Any, asked: dict[str, Way], rounds: int) -> dict[str, list[float]]:
    """Return prefkit's own process seconds by the library's, each round: what is left outside of its two calls."""
    spent: list[float] = []
    llm.enqueue, llm.llm_engine.step = timed(llm.enqueue, spent), timed(llm.llm_engine.step, spent)
    found: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(rounds):
        for name, way in asked.items():
            spent.clear()
            started = time.process_time()
            way()
            found[name].append((time.process_time() - started) / sum(spent) - 1)
    return found


def written(answers: Any) -> int:
    return sum(answer.tokens for _, answer in answers if isinstance(answer, Completion))


def measure(ways: dict[str, Way], rounds: int) -> dict[str, np.ndarray]:
    """Return process seconds and wall seconds of each way: [rounds, 2]. The first round warms up and is not kept."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    tokens = set()
    chance = np.random.default_rng(0)
    for _ in range(rounds + 1):
        for name in chance.permutation(list(ways)).tolist():
            started, clock = time.process_time(), time.perf_counter()
            tokens.add(ways[name]())
            seconds[name].append((time.process_time() - started, time.perf_counter() - clock))
    assert len(tokens) == 1, f"the ways wrote different numbers of tokens: {tokens}"
    print(f"{tokens.pop()} tokens written in every round, by each way")
    return {name: np.array(times[1:]) for name, times in seconds.items()}


def ratio(one: np.ndarray, other: np.ndarray) -> str:
    """Return the median ratio of two columns and the middle 95 % of its bootstrap."""
    found = one / other
    draws = np.random.default_rng(0).integers(0, len(found), (4000, len(found)))
    low, high = np.percentile(np.median(found[draws], axis=1), [2.5, 97.5])
    return f"{np.median(found):.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        make_model(Path(root), asked.hidden, asked.layers)
        llm, known = ways(Path(root), make_requests(asked.requests, asked.new), Path(root))
        found = measure(known, asked.rounds)
        own = own_shares(llm, {name: known[name] for name in ("engine", "memo")}, 5)
    for name, times in found.items():
        process, wall = np.median(times, axis=0)
        print(
            f"{name:9} {process:7.3f} s of process, {wall:7.3f} s of wall, {asked.requests / wall:7.1f} requests/s"
        )
    for one, other in (("engine", "generate"), ("memo", "generate"), ("engine", "chat"), ("memo", "chat")):
        process, wall = (ratio(found[one][:, column], found[other][:, column]) for column in (0, 1))
        print(f"{one:7} by {other:9} {process} of process, {wall} of wall")
    for name, shares in own.items():
        print(f"{name:7} own time by the library's {np.median(shares):.2%}, at most {max(shares):.2%}")


if __name__ == "__main__":
    main()
