"""Embeddings by sentence-transformers, in this process."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prefkit.engines import Answers, Model
from prefkit.engines.weights import folder_of
from prefkit.errors import EngineError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["SentenceEmbeddings"]

_BATCH = 64


class SentenceEmbeddings:
    """Embeds. Vectors are as the model gives them: whether they have length 1 is the model's affair."""

    def __init__(self, device: str = "auto") -> None:
        """Load nothing yet."""
        self._device = device
        self._loaded: dict[Model, SentenceTransformer] = {}

    def embed(self, model: Model, texts: Sequence[str]) -> Answers[tuple[float, ...]]:
        """Yield one vector per text, a batch of similar lengths at a time."""
        if not texts:
            return
        network = self._open(model)
        order = sorted(range(len(texts)), key=lambda position: (-len(texts[position]), position))
        for start in range(0, len(order), _BATCH):
            positions = order[start : start + _BATCH]
            together = [texts[position] for position in positions]
            vectors = network.encode(together, batch_size=_BATCH, show_progress_bar=False)
            yield from zip(positions, map(tuple, vectors.tolist()), strict=True)

    def _open(self, model: Model) -> "SentenceTransformer":
        if model not in self._loaded:
            self._loaded[model] = _load(model, self._device)
        return self._loaded[model]


def _load(model: Model, device: str) -> "SentenceTransformer":
    from sentence_transformers import SentenceTransformer

    folder = folder_of(model)
    try:
        return SentenceTransformer(
            str(folder) if folder else model.id,
            revision=None if folder else model.revision,
            device=None if device == "auto" else device,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        hint = "give a sentence-transformers model: a folder with modules.json, or a hub name"
        raise EngineError(f"model '{model.id}' could not be loaded to embed: {first}", hint=hint) from error
