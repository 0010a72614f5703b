"""Placement: which engine serves which model, where, and how fast. Nothing here is part of a result's identity.

A recipe names models; the command line says where they run: `--engine judge=http://localhost:8000/v1`. What is not
placed runs in this process, through transformers. Engines of other packages are entry points of the group
`prefkit.engines`: a class that is called with a Placement.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefkit.catalog import Catalog, suggest
from prefkit.engines import (
    Embeds,
    Engine,
    Engines,
    Generates,
    LogProbs,
    Model,
    NextTokens,
    Rewards,
    Spend,
)
from prefkit.engines.answers import Keeps, Memo
from prefkit.engines.memo import Remembering
from prefkit.engines.weights import CRITIC, identity, model_fingerprint
from prefkit.errors import EngineError
from prefkit.rng import child_id

if TYPE_CHECKING:
    from prefkit.engines.vllm_options import VllmOptions

__all__ = ["ENGINES", "Placement", "billed", "model_fingerprint", "open_engines"]

ENGINES: Catalog[Any] = Catalog(
    "engine",
    "prefkit.engines",
    {
        "transformers": "prefkit.engines.transformers_engine:TransformersEngine",
        "vllm": "prefkit.engines.vllm_engine:VllmEngine",
        "sentence-transformers": "prefkit.engines.embedding:SentenceEmbeddings",
        "fake": "prefkit.engines.fake:FakeEngine",
        "toy-critic": "prefkit.engines.toy:ToyCritic",
    },
)


_AVERAGING = ("transformers", "fake")
"""Engines that can serve the average of two models' weights."""


@dataclass(frozen=True)
class Placement:
    """Where models run and how fast."""

    engines: Mapping[str, str] = field(default_factory=dict)
    """A name of the recipe's `models:`, or a model's id, to `transformers`, `vllm?name=value`, `auto`, `fake`, or a server's address."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto` takes a GPU if there is one."""
    dtype: str = "auto"
    """`float32`, `bfloat16`; `auto` is float32 on a CPU and the model's own elsewhere."""
    batch_tokens: int = 0
    """Tokens in a batch of an in-process model, padding included; 0 takes a default for the device."""
    exact: bool = True
    """Whether batches have a fixed shape, so that answers do not depend on their company in any bit."""
    concurrency: int = 64
    """Requests under way at once, per server, at most: fewer while it is busy or slow."""
    timeout: float = 600.0
    """Seconds for one answer of a server."""


def open_engines(
    models: Mapping[str, Model],
    placement: Placement,
    memo_path: Path | None = None,
    *,
    refresh: bool = False,
    environment: Mapping[str, str] | None = None,
    spend: Spend | None = None,
    memo: Keeps | None = None,
) -> Engines:
    """Return the engines of a recipe's models, each remembered in one memo. Loads no model yet.

    `models` maps a recipe's names to models. With `refresh`, remembered answers are ignored and overwritten. Instead of
    the memo's path there may be what keeps the answers.
    Raises EngineError for a placement of something that is no model, or on something that is no engine, and for a
    budget in dollars over a model without a price.
    """
    environment = os.environ if environment is None else environment
    kinds = _kinds(models, placement.engines)
    opened = {kind: _open(kind, placement, environment) for kind in sorted(set(kinds.values()))}
    serving: dict[str, Engine] = {model_id: opened[kind] for model_id, kind in kinds.items()}
    described = {model_id: _described(kind) for model_id, kind in kinds.items()}
    spend = Spend() if spend is None else spend
    spend.serve(billed(models, placement))
    kept = memo if memo is not None or memo_path is None else Memo(memo_path)
    if kept is not None:
        serving = {
            model_id: Remembering(engine, kept, spend, _identity(kinds[model_id]), refresh=refresh)
            for model_id, engine in serving.items()
        }
    return Engines(serving, spend, described)


def billed(models: Mapping[str, Model], placement: Placement) -> list[str]:
    """Return the models, by what they are served as, that are on somebody else's machine, or may lead there."""
    return [model_id for model_id, kind in _kinds(models, placement.engines).items() if _may_bill(kind)]


def _kinds(models: Mapping[str, Model], placed: Mapping[str, str]) -> dict[str, str]:
    """Return which engine serves each model, by what it is served as."""
    known = [*models, *(model.served_as for model in models.values())]
    for name in placed:
        if name not in known:
            hint = suggest(name, known) or f"models of the recipe: {', '.join(models) or 'none'}"
            raise EngineError(f"--engine places '{name}', and the recipe has no such model", hint=hint)
    kinds: dict[str, str] = {}
    for name, model in models.items():
        default = "toy-critic" if model.id == CRITIC else "transformers"
        kind = placed.get(name) or placed.get(model.served_as) or default
        if kind == "auto":
            kind = default if model.soup or default != "transformers" else _automatic()
        if kinds.setdefault(model.served_as, kind) != kind:
            what = f"model '{model.id}' is placed on both '{_shown(kinds[model.id])}' and '{_shown(kind)}'"
            raise EngineError(what, hint="one model has one engine; place it by its id")
        if model.soup is not None and kind.partition("?")[0] not in _AVERAGING:
            what = f"model '{name}' is a soup, which engine '{_shown(kind)}' cannot make"
            raise EngineError(what, hint=f"place it on transformers: --engine {name}=transformers")
    return kinds


def _open(kind: str, placement: Placement, environment: Mapping[str, str]) -> Engine:
    if _is_address(kind):
        from prefkit.engines.http import HttpEngine, Patience, key_for

        key = key_for(kind, environment)
        return HttpEngine(kind, key, placement.concurrency, Patience(timeout=placement.timeout))
    name, _, options = kind.partition("?")
    known = ENGINES.get(name)
    if options and name not in ("vllm", "transformers"):
        what = f"engine '{name}' takes no options, and is given '{options}'"
        raise EngineError(what, where="--engine", hint=f"--engine NAME={name}")
    makers: Mapping[str, Callable[[], Engine]] = {
        "transformers": lambda: known(
            placement.device,
            placement.dtype,
            placement.batch_tokens,
            exact=placement.exact,
            continuous=_is_continuous(options),
        ),
        "vllm": lambda: known(_vllm_options(options), placement.device, placement.dtype),
        "sentence-transformers": lambda: known(placement.device),
        "fake": lambda: known(*_of_the_fake(environment)),
        "toy-critic": known,
    }
    if name in makers:
        return makers[name]()
    engine: Engine = known(placement)
    if not isinstance(engine, Generates | LogProbs | Rewards | Embeds | NextTokens):
        raise EngineError(f"engine '{kind}' has none of the methods of an engine", hint=ENGINES.origin(name))
    return engine


def _automatic() -> str:
    """Return the engine that suits this machine: vLLM where it is installed and there is a GPU."""
    from prefkit.engines.vllm_options import is_installed

    if not is_installed():
        return "transformers"
    import torch

    return "vllm" if torch.cuda.is_available() else "transformers"


def _is_continuous(options: str) -> bool:
    """Read the options of `transformers`: `batching=continuous`, or `fixed`, which is the default."""
    name, _, value = options.partition("=")
    if options and (name != "batching" or value not in ("fixed", "continuous")):
        hint = "batching=fixed, the default, or batching=continuous"
        raise EngineError(f"engine 'transformers' has no option '{options}'", where="--engine", hint=hint)
    return value == "continuous"


def _vllm_options(text: str) -> "VllmOptions":
    from prefkit.engines.vllm_options import read_options

    return read_options(text)


def _of_the_fake(environment: Mapping[str, str]) -> tuple[Path | None, str]:
    log = environment.get("PREFKIT_FAKE_LOG")
    return Path(log) if log else None, environment.get("PREFKIT_FAKE_FAILING", "")


def _identity(kind: str) -> Callable[[Model], str]:
    """Return how a model's answers are filed: a fake answer is never one of the real model."""
    return (lambda model: child_id("fake", model.served_as, model.revision)) if kind == "fake" else identity


def _described(kind: str) -> str:
    """Return the name and version of an engine, without where it is."""
    if _is_address(kind):
        return "openai-compatible server"
    if kind.partition("?")[0] == "vllm":
        from prefkit.engines.vllm_open import vllm_version

        return f"vllm {vllm_version()}"
    name, _, options = kind.partition("?")
    try:
        return f"{name} {version(name)}{options and f', {options}'}"
    except PackageNotFoundError:
        return kind


def _may_bill(kind: str) -> bool:
    """Say whether an engine is, or may lead to, somebody else's machine."""
    return _is_address(kind) or ENGINES.origin(kind.partition("?")[0]) != "prefkit"


def _is_address(kind: str) -> bool:
    return kind.startswith(("http://", "https://"))


def _shown(kind: str) -> str:
    return kind.rpartition("@")[2] if _is_address(kind) else kind
