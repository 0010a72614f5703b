"""Reading for a server: the tokens of a text, made here, and what they say about the numbers that come back.

A server tells neither its tokenizer nor its weights nor its number format, so the model's id must lead to a tokenizer
here: a folder, or a name on the hub. Its weights are those that the recipe names, as they are for every server.
"""

from collections.abc import Sequence

from prefkit.engines import Conversation, Failure, Model
from prefkit.engines.asked import too_long
from prefkit.engines.chat import encode_all, encode_whole, reference_fingerprint, vocabulary_fingerprint
from prefkit.engines.http_scored import Told
from prefkit.engines.vllm_ask import without_padding
from prefkit.engines.weights import folder_of, identity, load_tokenizer
from prefkit.errors import EngineError

__all__ = ["Reader"]


class Reader:
    """Reads for one model."""

    def __init__(self, model: Model) -> None:
        """Load the tokenizer. Raises EngineError if there is none."""
        try:
            self._tokenizer, context = load_tokenizer(model)
        except EngineError as error:
            what = f"a server's log-probs and rewards need the tokenizer of its model here: {error.what}"
            hint = "name the model by its folder or hub name, and as the server does behind '#': --engine NAME=http://host:8000/v1#model"
            raise EngineError(what, hint=hint) from error
        self._model, self._context = model, context

    def told(self, conversations: Sequence[Conversation]) -> list[Told | Failure]:
        """Return each conversation as a server is told it."""
        found: list[Told | Failure] = []
        for text in encode_all(self._tokenizer, conversations):
            if isinstance(text, Failure):
                found.append(text)
                continue
            ids = text.prompt_ids + text.response_ids
            if self._context and len(ids) > self._context:
                found.append(too_long(len(ids), self._context))
                continue
            readings = [self._tokenizer.decode(ids, skip_special_tokens=skip) for skip in (False, True)]
            found.append(Told(text, tuple(dict.fromkeys(readings))))
        return found

    def whole(self, conversations: Sequence[Conversation]) -> list[list[int] | Failure]:
        """Return each conversation as a reward model reads it, up to the token that its head looks at."""
        pad = _padding(self._model)
        return [
            text
            if isinstance(text, Failure)
            else too_long(len(text), self._context)
            if self._context and len(text) > self._context
            else without_padding(text, pad)
            for text in encode_whole(self._tokenizer, conversations)
        ]

    def fingerprint(self, dtype: str) -> str:
        """Return the identity of log-probs that are computed in `dtype`; "" is unknown, and like nothing else."""
        computed = f"torch.{dtype}" if dtype else "served"
        return reference_fingerprint(self._tokenizer, identity(self._model), computed)

    def vocabulary(self) -> str:
        """Return digests of the vocabulary and of the chat template, joined by `/`."""
        return vocabulary_fingerprint(self._tokenizer)


def _padding(model: Model) -> int | None:
    from transformers import AutoConfig

    folder = folder_of(model)
    where, revision = (str(folder), None) if folder else (model.id, model.revision)
    config = AutoConfig.from_pretrained(where, revision=revision, trust_remote_code=False)
    pad: int | None = config.get_text_config().pad_token_id
    return pad
