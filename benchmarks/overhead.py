"""What prefkit's in-process engines cost beside the library itself, on the same requests in batches of the same shape.

    OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 python benchmarks/overhead.py [--shape 19m] [--requests 32] [--rounds 3]

Random models, one process, CPU seconds. Three ways to do each kind of work, in turn:

- `library`: `model.generate`, a forward pass and log_softmax, a forward pass of a reward model, `SentenceTransformer.encode`,
  from messages to texts or numbers, in padded batches, as one would write it by hand;
- `engine`: prefkit's engine, which also gives each request a seed and a log-prob of its own;
- `memo`: the same with every answer remembered in a new SQLite file, as a build has it.

What counts is the time outside of the networks, as hooks on them tell: what they compute is the same, and varies more than
all the rest. The overhead is what a way spends outside beyond what the library does, by all the library's time.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from generate import SHAPES, prepare
from workload import SPECIAL, Shape, text_of, write_tokenizer

from prefkit.engines import Answers, Conversation, Engine, Failure, Message, Model, Request
from prefkit.engines.embedding import SentenceEmbeddings
from prefkit.engines.memo import Memo, Remembering
from prefkit.engines.spend import Spend
from prefkit.engines.transformers_engine import TransformersEngine

PROMPT, RESPONSE, LIMIT = 58, 34, 32
"""Words. With the template's marks, a text is one token short of the 96 places that the engine gives it."""
SCORED_ROWS, WRITTEN_ROWS, EMBEDDED_ROWS, SAMPLES = 16, 32, 64, 4
Way = Callable[[], int]


class Outside(NamedTuple):
    """CPU seconds of one run."""

    outside: float
    inside: float


class Kind(NamedTuple):
    """One kind of work: the networks whose time is not counted, and the ways to do it."""

    networks: list[Any]
    ways: dict[str, Way]


class Clock:
    """CPU seconds inside any of some networks, one of which may call another."""

    def __init__(self, networks: list[Any]) -> None:
        self.seconds, self._depth, self._began = 0.0, 0, 0.0
        self._hooks = [one.register_forward_pre_hook(self._before) for one in networks]
        self._hooks += [one.register_forward_hook(self._after) for one in networks]

    def _before(self, *_: object) -> None:
        if self._depth == 0:
            self._began = time.process_time()
        self._depth += 1

    def _after(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.seconds += time.process_time() - self._began

    def stop(self) -> None:
        for hook in self._hooks:
            hook.remove()


def draw_conversations(requests: int) -> list[Conversation]:
    draw = np.random.default_rng(0)

    def words(size: int) -> str:
        return text_of(draw.integers(len(SPECIAL), 400, size))

    return [
        Conversation((Message("user", words(PROMPT)),), (Message("assistant", words(RESPONSE)),))
        for _ in range(requests)
    ]


def write_models(folder: Path, shape: Shape) -> None:
    """Write a policy, a reward model and an embedder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, LlamaForSequenceClassification
    from workload import config_of

    prepare(folder / "policy", shape, even=True)
    config = config_of(shape)
    config.num_labels = 1
    torch.manual_seed(0)
    LlamaForSequenceClassification(config).save_pretrained(folder / "reward")
    write_tokenizer(folder / "reward", shape.vocab)
    plain = BertConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.hidden,
    )
    BertModel(plain).save_pretrained(folder / "encoder")
    write_tokenizer(folder / "encoder", shape.vocab)
    encoder = Transformer(str(folder / "encoder"))
    SentenceTransformer(modules=[encoder, Pooling(shape.hidden)], device="cpu").save(str(folder / "embedder"))


def turns(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in messages]


def cut(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def done(answers: Answers[Any]) -> int:
    """Take all answers, none of which may be a failure."""
    found = [answer for _, answer in answers]
    assert not any(isinstance(answer, Failure) for answer in found)
    return len(found)


def kinds_of_work(folder: Path, requests: int) -> dict[str, Kind]:
    """Return each kind of work, with its models loaded once for all ways."""
    talks, engine = draw_conversations(requests), TransformersEngine(device="cpu")
    policy, reward = Model(id=str(folder / "policy")), Model(id=str(folder / "reward"))
    writes, scores = engine._open(policy, "language"), engine._open(reward, "reward")  # noqa: SLF001 - the same networks
    embedder, embeds = Model(id=str(folder / "embedder")), SentenceEmbeddings("cpu")
    encoder = embeds._open(embedder)  # noqa: SLF001 - the same network
    asked = [
        Request(talk.prompt, LIMIT, seed=seed)
        for talk in talks[: requests // SAMPLES]
        for seed in range(SAMPLES)
    ]
    texts = [talk.response[0].content for talk in talks]

    def ways(library: Way, plain: Engine, ask: Callable[[Any], Answers[Any]]) -> dict[str, Way]:
        files = (folder / f"{type(plain).__name__}-{id(ask)}-{number}.sqlite" for number in count())

        def remembered() -> int:
            return done(ask(Remembering(plain, Memo(next(files)), Spend(), lambda one: one.id)))

        return {"library": library, "engine": lambda: done(ask(plain)), "memo": remembered}

    parts = [writes.network, writes.network.base_model, writes.network.get_output_embeddings()]
    return {
        "generate": Kind(
            parts, ways(lambda: generate(writes, asked), engine, lambda one: one.generate(policy, asked))
        ),
        "log_probs": Kind(
            parts, ways(lambda: log_probs(writes, talks), engine, lambda one: one.log_probs(policy, talks))
        ),
        "rewards": Kind(
            [scores.network],
            ways(lambda: rewards(scores, talks), engine, lambda one: one.rewards(reward, talks)),
        ),
        "embed": Kind(
            [encoder[0]],
            ways(
                lambda: len(encoder.encode(texts, batch_size=EMBEDDED_ROWS, show_progress_bar=False)),
                embeds,
                lambda one: one.embed(embedder, texts),
            ),
        ),
    }


def generate(loaded: Any, asked: list[Request]) -> int:
    """Sample with `model.generate`, all samples of a prompt in one batch."""
    import torch

    network, tokenizer, texts = loaded.network, loaded.tokenizer, list[str]()
    for some in cut(asked[::SAMPLES], WRITTEN_ROWS // SAMPLES):
        ids = tokenizer.apply_chat_template(
            [turns(one.messages) for one in some], add_generation_prompt=True, return_dict=True
        )
        padded = tokenizer.pad(ids, padding_side="left", return_tensors="pt")
        with torch.inference_mode():
            written = network.generate(
                **padded,
                do_sample=True,
                top_k=0,
                max_new_tokens=LIMIT,
                num_return_sequences=SAMPLES,
            )
        texts += tokenizer.batch_decode(written[:, padded["input_ids"].shape[1] :], skip_special_tokens=True)
    return len(texts)


def log_probs(loaded: Any, talks: list[Conversation]) -> int:
    """Sum the log-probs of responses from the logits of whole texts."""
    import torch

    found = list[float]()
    for some in cut(talks, SCORED_ROWS):
        whole, sizes = padded(loaded, some), list[int]()
        for talk in some:
            ids = loaded.tokenizer.apply_chat_template(turns(talk.prompt), add_generation_prompt=True)
            sizes.append(len(ids["input_ids"]))
        with torch.inference_mode():
            logits = loaded.network(**whole, use_cache=False).logits[:, :-1].float().log_softmax(-1)
        logps = logits.gather(-1, whole["input_ids"][:, 1:, None])[..., 0] * whole["attention_mask"][:, 1:]
        found += [float(row[size - 1 :].sum()) for row, size in zip(logps, sizes, strict=True)]
    return len(found)


def rewards(loaded: Any, talks: list[Conversation]) -> int:
    """Run a reward model over whole texts."""
    import torch

    found = list[list[float]]()
    for some in cut(talks, SCORED_ROWS):
        with torch.inference_mode():
            found += loaded.network(**padded(loaded, some)).logits.tolist()
    return len(found)


def padded(loaded: Any, talks: list[Conversation]) -> Any:
    texts = loaded.tokenizer.apply_chat_template(
        [turns((*talk.prompt, *talk.response)) for talk in talks], return_dict=True
    )
    return loaded.tokenizer.pad(texts, padding_side="right", return_tensors="pt")


def measure(kind: Kind, rounds: int) -> dict[str, list[Outside]]:
    """Run the ways in turn; the first round sets up what is made on first use, and is not kept."""
    found: dict[str, list[Outside]] = {name: [] for name in kind.ways}
    for _ in range(rounds + 1):
        for name, way in kind.ways.items():
            clock, began = Clock(kind.networks), time.process_time()
            way()
            found[name].append(Outside(time.process_time() - began - clock.seconds, clock.seconds))
            clock.stop()
    return {name: runs[1:] for name, runs in found.items()}


def tell(name: str, found: dict[str, list[Outside]], requests: int) -> None:
    outside = {way: median(run.outside for run in runs) for way, runs in found.items()}
    whole = outside["library"] + median(run.inside for run in found["library"])
    cells = [f"{1e3 * spent / requests:.3f}" for spent in outside.values()]
    more = [f"{100 * (outside[way] - outside['library']) / whole:+.2f} %" for way in ("engine", "memo")]
    print("| " + " | ".join([name, f"{1e3 * whole / requests:.2f}", *cells, *more]) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare prefkit's engines with calling the library.")
    parser.add_argument("--shape", choices=SHAPES, default="19m")
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_models(folder, SHAPES[options.shape])
        print(f"{options.shape}, {options.requests} requests; CPU ms a request, outside of the network")
        print("| | library, all of it | library | engine | memo | engine's overhead | memo's |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        for kind, work in kinds_of_work(folder, options.requests).items():
            tell(kind, measure(work, options.rounds), options.requests)


if __name__ == "__main__":
    main()
