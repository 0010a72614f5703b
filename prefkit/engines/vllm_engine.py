"""vLLM in this process, or in several: the engine for many requests on devices that are worth it.

A whole shard is handed over at once, so that vLLM's continuous batching keeps the device full. Texts are made into
tokens, and log-probs mean, exactly as in the transformers engine. Given its seed, a sample is the same each time on
one machine in the usual case; vLLM does not promise that it is whatever else is computed beside it, and prefkit
remembers answers and never makes them again.

It embeds nothing: what sentence-transformers makes of a text (default prompts, chat templates, further layers) is not
what vLLM makes of it, and two vectors of one text must not differ by where they were computed.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prefkit.engines import Answers, Completion, Conversation, LogProb, Model, Request, refuse_beams
from prefkit.engines import vllm_ask as ask
from prefkit.engines.chat import reference_fingerprint, vocabulary_fingerprint
from prefkit.engines.vllm_open import Opened, Work, close_llm, dtype_of, open_llm, vllm_version
from prefkit.engines.vllm_options import VllmOptions
from prefkit.engines.weights import identity, load_tokenizer

if TYPE_CHECKING:
    from prefkit.engines.vllm_pool import Pool

__all__ = ["METHODS", "VllmEngine"]

METHODS: Mapping[str, Callable[[Opened, Sequence[Any]], Answers[Any]]] = {
    "generate": ask.generate,
    "log_probs": ask.log_probs,
    "rewards": ask.rewards,
}
_WORK: Mapping[str, Work] = {"rewards": "reward"}


class VllmEngine:
    """Generates, LogProbs and Rewards, and says which tokens a model counts."""

    def __init__(self, options: VllmOptions | None = None, device: str = "auto", dtype: str = "auto") -> None:
        """Load nothing yet. Raises EngineError where vLLM is not installed.

        A model stays in memory until the engine is let go; so does another one beside it, if both fit.
        """
        vllm_version()
        self._options = options or VllmOptions()
        self._device, self._dtype = device, self._options.dtype or dtype
        self._opened: dict[tuple[Model, Work], Opened] = {}
        self._pools: dict[tuple[Model, Work], Pool] = {}
        weakref.finalize(self, _close, self._opened, self._pools)

    def generate(self, model: Model, requests: Sequence[Request]) -> Answers[Completion]:
        """Yield one completion per request, as each ends."""
        refuse_beams(model, requests)
        return self._ask("generate", model, requests)

    def log_probs(self, model: Model, conversations: Sequence[Conversation]) -> Answers[LogProb]:
        """Yield the log-prob of each response given its prompt, as each is known."""
        return self._ask("log_probs", model, conversations)

    def rewards(self, model: Model, conversations: Sequence[Conversation]) -> Answers[tuple[float, ...]]:
        """Yield the raw outputs of the reward head."""
        return self._ask("rewards", model, conversations)

    def fingerprint(self, model: Model) -> str:
        """Return the identity of the model's log-probs: weights, tokenizer, chat template and number format."""
        tokenizer, _ = load_tokenizer(model)
        dtype = dtype_of(model, self._device, self._dtype)
        return reference_fingerprint(tokenizer, identity(model), f"torch.{dtype}")

    def vocabulary(self, model: Model) -> str:
        """Return digests of the vocabulary and of the chat template, joined by `/`."""
        return vocabulary_fingerprint(load_tokenizer(model)[0])

    def _ask(self, method: str, model: Model, items: Sequence[Any]) -> Answers[Any]:
        if not items:
            return
        key = (model, _WORK.get(method, "language"))
        if self._options.data_parallel > 1:
            yield from self._pool(*key).ask(method, items)
        else:
            yield from METHODS[method](self._open(*key), items)

    def _open(self, model: Model, work: Work) -> Opened:
        if (model, work) not in self._opened:
            dtype = dtype_of(model, self._device, self._dtype)
            self._opened[model, work] = open_llm(model, work, self._options, dtype)
        return self._opened[model, work]

    def _pool(self, model: Model, work: Work) -> "Pool":
        from prefkit.engines.vllm_pool import Pool

        if (model, work) not in self._pools:
            dtype = dtype_of(model, self._device, self._dtype)
            self._pools[model, work] = Pool(model, work, self._options, dtype)
        return self._pools[model, work]


def _close(opened: dict[Any, Opened], pools: dict[Any, "Pool"]) -> None:
    """Let every model go: a device's memory is wanted by whoever comes next."""
    while pools:
        pools.popitem()[1].close()
    while opened:
        close_llm(opened.popitem()[1])
