"""How vLLM is placed: `--engine 'policy=vllm?tensor_parallel_size=2&data_parallel=4'`.

Options say where and how fast, and never what is answered, so none is part of a result's identity. What would change
answers (quantisation, another number format of the cache) is no option. Names are vLLM's own, so that its
documentation holds; `data_parallel` is prefkit's: so many processes, each with the whole model on devices of its own.
"""

from importlib.util import find_spec
from typing import Annotated, Any
from urllib.parse import parse_qsl

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError

from prefkit.catalog import suggest
from prefkit.errors import EngineError

__all__ = ["VllmOptions", "is_installed", "read_options"]

_HINT = "for instance --engine 'policy=vllm?tensor_parallel_size=2&gpu_memory_utilization=0.8'"


class VllmOptions(BaseModel):
    """Settings behind the question mark of `vllm?name=value&name=value`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_parallel: Annotated[int, Field(ge=1)] = 1
    """Processes that share the work, each with the whole model on its own devices; 1 is this process."""
    tensor_parallel_size: Annotated[int, Field(ge=1)] = 1
    """Devices that each layer is split over."""
    pipeline_parallel_size: Annotated[int, Field(ge=1)] = 1
    """Devices that the layers are dealt to."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of a device's memory for weights and cache; lower it where two models share a device."""
    kv_cache_memory_bytes: ByteSize | None = None
    """Memory of the key-value cache, a device: `4GiB`. Takes the place of the share."""
    max_model_len: Annotated[int, Field(ge=1)] | None = None
    """Tokens of prompt and answer together; the model's own number where none is given."""
    max_num_seqs: Annotated[int, Field(ge=1)] | None = None
    """Requests computed together."""
    max_num_batched_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens computed together; log-probs of prompts need memory for as many times the vocabulary."""
    enforce_eager: bool | None = None
    """Whether to leave compilation out: a quicker start and slower tokens."""
    dtype: str = ""
    """`float32`, `bfloat16`, `float16`; like every other engine where none is given."""

    @property
    def devices(self) -> int:
        """Return how many devices one process takes."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    def engine_arguments(self) -> dict[str, Any]:
        """Return those that vLLM is to be told: only what was chosen, since its names come and go."""
        return self.model_dump(exclude={"data_parallel", "dtype"}, exclude_defaults=True)


def read_options(text: str) -> VllmOptions:
    """Read what stands behind the question mark. Raises EngineError for anything that is no option."""
    if not text:
        return VllmOptions()
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True)
    except ValueError as error:
        raise _wrong(f"'{text}' is not name=value&name=value", _HINT) from error
    known = list(VllmOptions.model_fields)
    names = [name for name, _ in pairs]
    for name in names:
        if name not in known:
            raise _wrong(
                f"vllm has no option '{name}'", suggest(name, known) or f"one of: {', '.join(known)}"
            )
        if names.count(name) > 1:
            raise _wrong(f"option '{name}' is given twice", _HINT)
    try:
        return VllmOptions.model_validate(dict(pairs))
    except ValidationError as error:
        wrong = error.errors()[0]
        what = f"'{wrong['input']}' is no value of option '{wrong['loc'][0]}': {wrong['msg'].lower()}"
        raise _wrong(what, _HINT) from error


def is_installed() -> bool:
    """Return whether there is a vLLM, without importing it."""
    return find_spec("vllm") is not None


def _wrong(what: str, hint: str) -> EngineError:
    return EngineError(what, where="--engine", hint=hint)
