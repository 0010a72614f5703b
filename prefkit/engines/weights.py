"""Weights: where a model's files are, which content they have, and how they are loaded, or averaged with others.

A model is a hub name, a local folder or a toy model that comes with prefkit. No code from a model's repository is ever
run, and weights are read as safetensors only: a pickle could run code too.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from prefkit.engines import Model
from prefkit.engines.chat import check_template, end_ids
from prefkit.engines.soup import blend, check_alike
from prefkit.errors import EngineError
from prefkit.rng import child_id

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "CRITIC",
    "TOYS",
    "Loaded",
    "Task",
    "folder_of",
    "identity",
    "load",
    "load_tokenizer",
    "model_fingerprint",
]

Task = Literal["language", "reward"]
CRITIC = "prefkit/toy-critic"
"""Writes rationales by rule: it has code and no weights."""
_CRITIC_VERSION = "1"
TOYS: Mapping[str, Literal["policy", "reward"]] = {
    "prefkit/toy-policy": "policy",
    "prefkit/toy-reward": "reward",
}
_CONTENT = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
_CHUNK = 1 << 20


class Loaded(NamedTuple):
    """A model ready to be asked."""

    network: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    ends: tuple[int, ...]
    """Token ids that end a turn; the first is the one the chat template writes."""
    context: int | None
    """Tokens it can read, prompt and response together; None if its config does not say."""


def folder_of(model: Model) -> Path | None:
    """Return the folder of a local or toy model; None for one on the hub.

    Raises EngineError for a path that leads nowhere.
    """
    if model.id in TOYS:
        return _toy_folder(TOYS[model.id])
    path = Path(model.id).expanduser()
    if path.is_dir():
        return path
    if model.id.startswith((".", "/", "~")):
        what = f"model '{model.id}' is a path, and there is no such folder"
        raise EngineError(what, hint="give a folder with config.json and *.safetensors, or a hub name")
    return None


def model_fingerprint(model: Model) -> str | None:
    """Return the content digest of a local folder or toy model; None for one on the hub, which its revision pins.

    A soup has the digest of both identities and the share of the second.
    """
    if model.id == CRITIC:
        return child_id("critic", _CRITIC_VERSION)
    if model.soup is not None:
        one, other = (identity(each) for each in _ingredients(model))
        return child_id("soup", one, other, repr(model.soup.weight))
    folder = folder_of(model)
    if folder is None:
        return None
    paths = sorted({path for pattern in _CONTENT for path in folder.glob(pattern)})
    if not paths:
        what = f"folder '{model.id}' holds no model"
        raise EngineError(what, hint="a model's folder has config.json and *.safetensors")
    parts = [part for path in paths for part in (path.name, _digest_as_of(path))]
    return child_id("weights", *parts)


def identity(model: Model) -> str:
    """Return what a model's answers are filed under: content where it is local, name and revision on the hub."""
    return model_fingerprint(model) or f"{model.id}@{model.revision}"


def load(model: Model, task: Task, device: "torch.device", dtype: str) -> Loaded:
    """Load a model and its tokenizer. Raises EngineError with what to do about it."""
    if model.soup is not None:
        return _load_soup(model, task, device, dtype)
    folder = folder_of(model)
    try:
        with _no_progress_bar():
            network, tokenizer = _load(model, folder, task, device, dtype)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise _not_loaded(model, folder, error) from error
    check_template(tokenizer, model.id)
    told = network.generation_config.eos_token_id if task == "language" else None
    more = [] if told is None else [told] if isinstance(told, int) else list(told)
    ends = tuple(dict.fromkeys([*end_ids(tokenizer), *more]))
    return Loaded(network, tokenizer, ends, _context(network.config))


def load_tokenizer(model: Model) -> tuple["PreTrainedTokenizerBase", int | None]:
    """Load a model's tokenizer alone, and say how many tokens the model reads, None if no config does.

    Raises EngineError as `load` does.
    """
    from transformers import AutoConfig, AutoTokenizer

    folder = folder_of(model)
    where, revision = (str(folder), None) if folder else (model.id, model.revision)
    has_config = folder is None or (folder / "config.json").is_file()
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, revision=revision, trust_remote_code=False)
        config = (
            AutoConfig.from_pretrained(where, revision=revision, trust_remote_code=False)
            if has_config
            else None
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise _not_loaded(model, folder, error) from error
    check_template(tokenizer, model.id)
    return tokenizer, _context(config) if config else None


def _context(config: "PretrainedConfig") -> int | None:
    """Return how many tokens a model reads; None if its config does not say, as where positions have no bound."""
    text = config.get_text_config()
    # Configs write it under names of their own, as GPT-2's `n_positions`, which `attribute_map` resolves.
    name = text.attribute_map.get("max_position_embeddings", "max_position_embeddings")
    context: int | None = text.to_dict().get(name)
    return context


def _ingredients(soup: Model) -> tuple[Model, Model]:
    assert soup.soup is not None
    return Model(id=soup.id, revision=soup.revision), Model(id=soup.soup.id, revision=soup.soup.revision)


def _load_soup(model: Model, task: Task, device: "torch.device", dtype: str) -> Loaded:
    """Load two models and average the second into the first; both are in memory meanwhile."""
    assert model.soup is not None
    one, other = (load(each, task, device, dtype) for each in _ingredients(model))
    names = f"'{model.id}' and '{model.soup.id}'"
    check_alike(one.network, other.network, (one.tokenizer, other.tokenizer), names)
    blend(one.network, other.network, model.soup.weight)
    return one


def _load(
    model: Model, folder: Path | None, task: Task, device: "torch.device", dtype: str
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    kind = AutoModelForCausalLM if task == "language" else AutoModelForSequenceClassification
    where, revision = (str(folder), None) if folder else (model.id, model.revision)
    tokenizer = AutoTokenizer.from_pretrained(where, revision=revision, trust_remote_code=False)
    network = kind.from_pretrained(
        where, revision=revision, dtype=dtype, use_safetensors=True, trust_remote_code=False
    )
    return network.to(device).eval(), tokenizer


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keep the library's bars off the terminal: prefkit has its own progress display."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def _not_loaded(model: Model, folder: Path | None, error: Exception) -> EngineError:
    text = str(error)
    first = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    if "trust_remote_code" in text:
        hint = "prefkit runs no code from model repositories: choose a model that transformers knows"
    elif folder is not None:
        hint = "its folder needs config.json, a tokenizer and weights as *.safetensors"
    else:
        hint = f"check the name and the network, or fetch it first: hf download {model.id}"
    return EngineError(f"model '{model.id}' could not be loaded: {first}", hint=hint)


def _toy_folder(name: Literal["policy", "reward"]) -> Path:
    from prefkit.toy import weights

    folder = weights(name)
    if not folder.is_dir():
        what = f"the toy model '{name}' is not where it was installed"
        raise EngineError(what, hint="install prefkit again: pip install --force-reinstall prefkit")
    return folder


def _digest_as_of(path: Path) -> str:
    stat = path.stat()
    return _digest(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1024)
def _digest(path: str, size: int, changed: int) -> str:  # noqa: ARG001 - size and time are the cache's key
    """Digest a file's content; unchanged files are read once a process."""
    hasher = blake2b(digest_size=16)
    with Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()
