"""The default engine: transformers in this process.

Samples, scores and embeds with whatever device there is. Requests are put into batches of a fixed shape (see
`prefkit.engines.batches`) and each draws from its own seed (see `prefkit.engines.decode`), so an answer does not
depend on the batch it was computed in. Models are loaded when first asked, and stay until the engine is let go.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np

from prefkit.engines import Answers, Candidates, Completion, Conversation, Failure, LogProb, Model, Request
from prefkit.engines.batches import Shape, cut, shape_for
from prefkit.engines.chat import (
    Encoded,
    Prompt,
    encode_all,
    encode_prompts,
    encode_whole,
    reference_fingerprint,
    vocabulary_fingerprint,
)
from prefkit.engines.embedding import SentenceEmbeddings
from prefkit.engines.weights import Loaded, Task, identity, load
from prefkit.errors import EngineError

if TYPE_CHECKING:
    import torch

    from prefkit.engines.decode import Row, Written

__all__ = ["TransformersEngine"]

T = TypeVar("T")
_CPU_TOKENS, _GPU_TOKENS = 16384, 65536
_CPU_SCORED_TOKENS = 2048
"""A CPU is busy with that many already, and few rows have to be made up to fill the last batch of a length."""


class TransformersEngine:
    """Generates, LogProbs, NextTokens, Rewards and Embeds, in process."""

    def __init__(
        self, device: str = "auto", dtype: str = "auto", batch_tokens: int = 0, *, exact: bool = True
    ) -> None:
        """Load nothing yet.

        `dtype` "auto" is float32 on a CPU and the model's own elsewhere. `batch_tokens` 0 takes a default for the
        device. Without `exact`, batches are not filled up to a fixed shape: less work for a handful of requests, and
        answers that may depend on their company in the last bits.
        """
        self._device, self._dtype, self._batch_tokens, self._exact = device, dtype, batch_tokens, exact
        self._loaded: dict[tuple[Model, Task], Loaded] = {}
        self._embeddings = SentenceEmbeddings(device)

    def generate(self, model: Model, requests: Sequence[Request]) -> Answers[Completion]:
        """Yield one completion per request, a batch at a time."""
        if not requests:
            return
        from prefkit.engines.decode import decode

        loaded = self._open(model, "language")
        rows = _rows(loaded, requests)
        yield from _failures(rows)
        for work in self._batches(rows, lambda row: self._shape(len(row.ids), row.limit)):
            with _enough_memory(work.shape):
                written = decode(loaded.network, loaded.tokenizer, loaded.ends, work.items, work.shape)
            for position, row, answer in zip(work.positions, work.items, written, strict=True):
                yield position, _completion(loaded, row, answer)

    def log_probs(self, model: Model, conversations: Sequence[Conversation]) -> Answers[LogProb]:
        """Yield the log-prob of each response given its prompt, a batch at a time."""
        if not conversations:
            return
        from prefkit.engines.scoring import can_split_head, response_logps

        loaded = self._open(model, "language")
        head_apart = can_split_head(loaded.network)
        texts = _encoded(loaded, conversations)
        yield from _failures(texts)
        for work in self._batches(texts, lambda text: self._shape(_length(text), 0, loaded.context)):
            with _enough_memory(work.shape):
                logps = response_logps(loaded.network, work.items, work.shape, head_apart=head_apart)
            for position, text, logp in zip(work.positions, work.items, logps, strict=True):
                yield position, LogProb(logp, len(text.response_ids))

    def next_tokens(
        self, model: Model, conversations: Sequence[Conversation], wanted: int | Sequence[np.ndarray]
    ) -> Answers[Candidates]:
        """Yield the candidates at every token of each response, a batch at a time."""
        if not conversations:
            return
        from prefkit.engines.scoring import can_split_head, next_token_logps

        loaded = self._open(model, "language")
        head_apart, words = can_split_head(loaded.network), len(loaded.tokenizer)
        texts = _encoded(loaded, conversations)
        if not isinstance(wanted, int):
            texts = [_of_size(text, len(ids)) for text, ids in zip(texts, wanted, strict=True)]
        yield from _failures(texts)
        for work in self._batches(texts, lambda text: self._shape(_length(text), 0, loaded.context)):
            mine = wanted if isinstance(wanted, int) else [wanted[at] for at in work.positions]
            with _enough_memory(work.shape):
                found = next_token_logps(
                    loaded.network, work.items, work.shape, mine, words, head_apart=head_apart
                )
            yield from zip(work.positions, found, strict=True)

    def rewards(self, model: Model, conversations: Sequence[Conversation]) -> Answers[tuple[float, ...]]:
        """Yield the raw outputs of the reward head, a batch at a time."""
        if not conversations:
            return
        from prefkit.engines.scoring import reward_outputs

        loaded = self._open(model, "reward")
        texts = [
            text if isinstance(text, Failure) else _fitting(loaded, text, len(text))
            for text in encode_whole(loaded.tokenizer, conversations)
        ]
        yield from _failures(texts)
        for work in self._batches(texts, lambda text: self._shape(len(text), 0, loaded.context)):
            with _enough_memory(work.shape):
                outputs = reward_outputs(loaded.network, work.items, work.shape)
            yield from zip(work.positions, outputs, strict=True)

    def embed(self, model: Model, texts: Sequence[str]) -> Answers[tuple[float, ...]]:
        """Yield one vector per text."""
        return self._embeddings.embed(model, texts)

    def fingerprint(self, model: Model) -> str:
        """Return the identity of the model's log-probs: weights, tokenizer, chat template and number format."""
        loaded = self._open(model, "language")
        return reference_fingerprint(loaded.tokenizer, identity(model), str(loaded.network.dtype))

    def vocabulary(self, model: Model) -> str:
        """Return digests of the vocabulary and of the chat template, joined by `/`."""
        return vocabulary_fingerprint(self._open(model, "language").tokenizer)

    def _open(self, model: Model, task: Task) -> Loaded:
        if (model, task) not in self._loaded:
            device = _device(self._device)
            dtype = "float32" if self._dtype == "auto" and device.type == "cpu" else self._dtype
            self._loaded[model, task] = load(model, task, device, dtype)
        return self._loaded[model, task]

    def _shape(self, tokens: int, new_tokens: int, context: int | None = None) -> Shape:
        on_cpu = _device(self._device).type == "cpu"
        usual = (_CPU_TOKENS if new_tokens else _CPU_SCORED_TOKENS) if on_cpu else _GPU_TOKENS
        budget = self._batch_tokens or usual
        shape = shape_for(tokens, new_tokens, budget)
        # Learned positions end with the context, so a padded text must too.
        return shape if context is None else Shape(shape.rows, max(tokens, min(shape.length, context)))

    def _batches(self, items: Sequence[T | Failure], shape_of: Callable[[T], Shape]) -> Iterator["_Work[T]"]:
        shapes = [None if isinstance(item, Failure) else shape_of(item) for item in items]
        for batch in cut(shapes):
            together = [item for at in batch.positions if not isinstance(item := items[at], Failure)]
            shape = batch.shape if self._exact else Shape(len(together), batch.shape.length)
            yield _Work(batch.positions, together, shape)


class _Work(NamedTuple, Generic[T]):
    """Items to be computed together, and where they were asked."""

    positions: tuple[int, ...]
    items: list[T]
    shape: Shape


def _rows(loaded: Loaded, requests: Sequence[Request]) -> list["Row | Failure"]:
    """Encode each distinct prompt once and make the rows of the requests."""
    from prefkit.engines.decode import Row

    prompts = [Prompt(request.messages, request.tools) for request in requests]
    distinct = list(dict.fromkeys(prompts))
    encoded = dict(zip(distinct, encode_prompts(loaded.tokenizer, distinct), strict=True))
    rows: list[Row | Failure] = []
    for request, prompt in zip(requests, prompts, strict=True):
        ids = encoded[prompt]
        if isinstance(ids, Failure):
            rows.append(ids)
            continue
        room = request.max_tokens if loaded.context is None else loaded.context - len(ids)
        if room < 1:
            rows.append(_too_long(len(ids), loaded.context))
            continue
        limit = min(request.max_tokens, room)
        knobs = (request.temperature, request.top_p, request.top_k, request.seed, request.stop)
        rows.append(Row(tuple(ids), limit, *knobs))
    return rows


def _encoded(loaded: Loaded, conversations: Sequence[Conversation]) -> list[Encoded | Failure]:
    return [
        text if isinstance(text, Failure) else _fitting(loaded, text, _length(text))
        for text in encode_all(loaded.tokenizer, conversations)
    ]


def _of_size(text: Encoded | Failure, tokens: int) -> Encoded | Failure:
    if isinstance(text, Failure) or len(text.response_ids) == tokens:
        return text
    return Failure(f"the response has {len(text.response_ids)} tokens here, and {tokens} are asked about")


def _completion(loaded: Loaded, row: "Row", written: "Written") -> Completion:
    ids = written.ids[:-1] if written.ids and written.ids[-1] in loaded.ends else written.ids
    text: str = loaded.tokenizer.decode(ids, skip_special_tokens=True)
    cuts = [at for stop in row.stop if (at := text.find(stop)) >= 0]
    finish = "stop" if written.is_finished else "length"
    return Completion(text[: min(cuts, default=None)], len(written.ids), finish, len(row.ids), written.logp)


def _failures(items: Sequence[object]) -> Iterator[tuple[int, Failure]]:
    return ((position, item) for position, item in enumerate(items) if isinstance(item, Failure))


def _fitting(loaded: Loaded, text: T, tokens: int) -> T | Failure:
    if loaded.context is None or tokens <= loaded.context:
        return text
    return _too_long(tokens, loaded.context)


def _too_long(tokens: int, context: int | None) -> Failure:
    return Failure(f"the text has {tokens} tokens, and the model reads at most {context}", too_long=True)


def _length(text: Encoded) -> int:
    return len(text.prompt_ids) + len(text.response_ids)


def _device(name: str) -> "torch.device":
    import torch

    if name != "auto":
        try:
            return torch.device(name)
        except RuntimeError as error:
            what = f"no device is called '{name}'"
            raise EngineError(what, where="--device", hint="cpu, cuda, cuda:1, or auto") from error
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def _enough_memory(shape: Shape) -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        what = f"a batch of {shape.rows} rows by {shape.length} tokens does not fit into the device's memory"
        raise EngineError(what, hint="give the placement fewer batch_tokens") from error
