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
from prefkit.engines.asked import Asked, ask, completions, too_long, wanted_rows
from prefkit.engines.batches import Shape, cut, shape_for
from prefkit.engines.chat import (
    Encoded,
    encode_all,
    encode_whole,
    reference_fingerprint,
    vocabulary_fingerprint,
)
from prefkit.engines.embedding import SentenceEmbeddings
from prefkit.engines.thinned import Thinned, by_pass, dropped
from prefkit.engines.weights import Loaded, Task, identity, load
from prefkit.engines.writing import Row, Written
from prefkit.errors import EngineError

if TYPE_CHECKING:
    import torch

__all__ = ["TransformersEngine"]

T = TypeVar("T")
_CPU_TOKENS, _GPU_TOKENS = 16384, 65536
_CPU_ROWS, _GPU_ROWS = 32, 256
_CPU_SCORED_TOKENS = 2048
"""A CPU is busy with that many already, and few rows have to be made up to fill the last batch of a length."""


class TransformersEngine:
    """Generates, LogProbs, NextTokens, Rewards and Embeds, in process."""

    def __init__(
        self,
        device: str = "auto",
        dtype: str = "auto",
        batch_tokens: int = 0,
        *,
        exact: bool = True,
        continuous: bool = False,
    ) -> None:
        """Load nothing yet.

        `dtype` "auto" is float32 on a CPU and the model's own elsewhere. `batch_tokens` 0 takes a default for the
        device. Without `exact`, batches are not filled up to a fixed shape: less work for a handful of requests, and
        answers that may depend on their company in the last bits. With `continuous`, samples are written by the library's
        continuous batching where it can: see `prefkit.engines.continuous`.
        """
        self._device, self._dtype, self._batch_tokens, self._exact = device, dtype, batch_tokens, exact
        self._continuous = continuous
        self._loaded: dict[tuple[Model, Task], Loaded] = {}
        self._embeddings = SentenceEmbeddings(device)

    def generate(self, model: Model, requests: Sequence[Request]) -> Answers[Completion]:
        """Yield one completion per request, as it is done."""
        if not requests:
            return
        loaded = self._open(model, "language")
        asked = ask(loaded, requests)
        beams = {at: one for at, one in enumerate(asked) if requests[at].beam is not None}
        if beams:
            from prefkit.engines.beams import searched

            yield from searched(loaded, beams)
        batch = self._for_the_library(requests, asked)
        if batch:
            from prefkit.engines.continuous import batched

            yield from batched(loaded, batch, self._batch_tokens or _CPU_TOKENS)
        drawn = [at for at in range(len(asked)) if at not in beams and at not in batch]
        only = [asked[at] for at in drawn]
        written = self._written(loaded, wanted_rows(only))
        yield from ((drawn[at], failure) for at, failure in _failures(only))
        yield from ((drawn[at], answer) for at, answer in completions(loaded, only, written))

    def log_probs(self, model: Model, conversations: Sequence[Conversation]) -> Answers[LogProb]:
        """Yield the log-prob of each response given its prompt, a batch at a time."""
        if not conversations:
            return
        from prefkit.engines.scoring import can_split_head, response_logps

        loaded = self._open(model, "language")
        head_apart = can_split_head(loaded.network)
        texts = _encoded(loaded, conversations)
        yield from _failures(texts)
        for work in self._batches(texts, lambda text: self._shape(_length(text), loaded.context)):
            with _enough_memory(_named(work.shape)):
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
        for work in self._batches(texts, lambda text: self._shape(_length(text), loaded.context)):
            mine = wanted if isinstance(wanted, int) else [wanted[at] for at in work.positions]
            with _enough_memory(_named(work.shape)):
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
        for work in self._batches(texts, lambda text: self._shape(len(text), loaded.context)):
            with _enough_memory(_named(work.shape)):
                outputs = reward_outputs(loaded.network, work.items, work.shape)
            yield from zip(work.positions, outputs, strict=True)

    def thinned_rewards(self, model: Model, passes: Sequence[Thinned]) -> Answers[tuple[float, ...]]:
        """Yield the raw outputs of the reward head with some units dropped, one smaller network at a time."""
        for (seed, head), places in by_pass(passes).items():
            network = self._open(model, "reward").network
            with dropped(network, model.id, seed, head):
                # all of a pass before the first is given out: no other call may come in between
                found = list(self.rewards(model, [passes[at].conversation for at in places]))
            for at, answer in found:
                yield places[at], answer

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

    def _for_the_library(
        self, requests: Sequence[Request], asked: Sequence[Asked | Failure]
    ) -> dict[int, Asked]:
        """Return the requests that continuous batching answers, by position."""
        if not self._continuous:
            return {}
        from prefkit.engines.continuous import suits

        both = enumerate(zip(requests, asked, strict=True))
        return {at: one for at, (request, one) in both if isinstance(one, Asked) and suits(request)}

    def _open(self, model: Model, task: Task) -> Loaded:
        if (model, task) not in self._loaded:
            device = _device(self._device)
            dtype = "float32" if self._dtype == "auto" and device.type == "cpu" else self._dtype
            self._loaded[model, task] = load(model, task, device, dtype)
        return self._loaded[model, task]

    def _written(self, loaded: Loaded, rows: Sequence[Row]) -> Iterator[tuple[Row, Written]]:
        from prefkit.engines.decode import Budget, decode

        tokens, most = (_CPU_TOKENS, _CPU_ROWS) if self._on_cpu() else (_GPU_TOKENS, _GPU_ROWS)
        budget = Budget(self._batch_tokens or tokens, most, self._exact)
        with _enough_memory(f"a batch of {budget.tokens} tokens"):
            for at, written in decode(loaded.network, loaded.tokenizer, loaded.ends, rows, budget):
                yield rows[at], written

    def _on_cpu(self) -> bool:
        return _device(self._device).type == "cpu"

    def _shape(self, tokens: int, context: int | None) -> Shape:
        usual = _CPU_SCORED_TOKENS if self._on_cpu() else _GPU_TOKENS
        shape = shape_for(tokens, self._batch_tokens or usual)
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


def _encoded(loaded: Loaded, conversations: Sequence[Conversation]) -> list[Encoded | Failure]:
    return [
        text if isinstance(text, Failure) else _fitting(loaded, text, _length(text))
        for text in encode_all(loaded.tokenizer, conversations)
    ]


def _of_size(text: Encoded | Failure, tokens: int) -> Encoded | Failure:
    if isinstance(text, Failure) or len(text.response_ids) == tokens:
        return text
    return Failure(f"the response has {len(text.response_ids)} tokens here, and {tokens} are asked about")


def _failures(items: Sequence[object]) -> Iterator[tuple[int, Failure]]:
    return ((position, item) for position, item in enumerate(items) if isinstance(item, Failure))


def _fitting(loaded: Loaded, text: T, tokens: int) -> T | Failure:
    if loaded.context is None or tokens <= loaded.context:
        return text
    return too_long(tokens, loaded.context)


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


def _named(shape: Shape) -> str:
    return f"a batch of {shape.rows} rows by {shape.length} tokens"


@contextmanager
def _enough_memory(batch: str) -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        what = f"{batch} does not fit into the device's memory"
        raise EngineError(what, hint="give the placement fewer batch_tokens") from error
