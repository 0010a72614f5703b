"""Chat: the one place that knows where a prompt ends and its response begins, in tokens.

Everything that reads or writes tokens goes through here: sampling, reference log-probs, reward models and the trainer.
So the tokens a response is trained on are the tokens it would be sampled as: the prompt's tokens are exactly what the
model is given, no token straddles the boundary, special tokens come from the chat template alone and are never
doubled, and a response ends with its end-of-turn token exactly once, whatever line break a template puts behind it.
"""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from prefkit.engines import Conversation, Failure, Message
from prefkit.errors import EngineError
from prefkit.rng import child_id

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "Encoded",
    "Prompt",
    "check_template",
    "encode",
    "encode_all",
    "encode_prompts",
    "encode_whole",
    "end_ids",
    "offsets",
    "reference_fingerprint",
    "vocabulary_fingerprint",
]

_PROBE = "prefkit probe"


class Encoded(NamedTuple):
    """A conversation in token ids. The model is given the prompt and is asked about the response."""

    prompt_ids: list[int]
    """What a sampler would be given, generation prompt included."""
    response_ids: list[int]
    """What it would write, end-of-turn token included. Never empty."""


class Prompt(NamedTuple):
    """What a sampler is given."""

    messages: tuple[Message, ...]
    tools: str | None = None
    """JSON list, handed to the chat template."""


def encode(tokenizer: "PreTrainedTokenizerBase", conversation: Conversation) -> Encoded | Failure:
    """Encode one conversation; a Failure says why it has no boundary."""
    return encode_all(tokenizer, [conversation])[0]


def encode_all(
    tokenizer: "PreTrainedTokenizerBase", conversations: Sequence[Conversation]
) -> list[Encoded | Failure]:
    """Encode conversations, in their order.

    A Failure is a conversation that the chat template refuses, or whose prompt it rewrites once a response follows.
    """
    ends = end_ids(tokenizer)
    prompts = [_render_prompt(tokenizer, Prompt(one.prompt, one.tools)) for one in conversations]
    wholes = [_render_whole(tokenizer, one) for one in conversations]
    prompt_ids = _tokenize(tokenizer, prompts)
    whole_ids = _tokenize(tokenizer, wholes)
    return [
        _split(tokenizer, prompt, whole, ids, all_ids, ends)
        for prompt, whole, ids, all_ids in zip(prompts, wholes, prompt_ids, whole_ids, strict=True)
    ]


def offsets(
    tokenizer: "PreTrainedTokenizerBase", conversation: Conversation, encoded: Encoded
) -> "np.ndarray | Failure":
    """Return the characters that each token of an encoded response covers, int64 [tokens, 2]: start and end.

    They count from the start of the text of the response's last turn; a token outside of it has -1, -1.
    """
    import numpy as np

    whole, prompt = (
        _render_whole(tokenizer, conversation),
        _render_prompt(tokenizer, Prompt(conversation.prompt, conversation.tools)),
    )
    if isinstance(whole, Failure) or isinstance(prompt, Failure):
        return Failure("the conversation has no boundary")
    text = conversation.response[-1].content or ""
    at = whole.rfind(text.strip(), len(prompt))  # templates may strip what they write
    if at < 0 or not tokenizer.is_fast:
        return Failure("the tokens of the response cannot be told where they stand in its text")
    at -= len(text) - len(text.lstrip())
    told = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    size, found = len(encoded.prompt_ids), np.asarray(told["offset_mapping"], dtype=np.int64).reshape(-1, 2)
    if told["input_ids"][:size] == encoded.prompt_ids:
        found = found[size:]
    else:
        tail = tokenizer(
            whole[len(prompt) :], add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        found = np.asarray(tail["offset_mapping"], dtype=np.int64).reshape(-1, 2) + len(prompt)
    found = found[: len(encoded.response_ids)] - at
    found = np.where((found[:, 1:] > 0) & (found[:, :1] < len(text)), found.clip(0, len(text)), -1)
    missing = np.full((len(encoded.response_ids) - len(found), 2), -1)
    return np.concatenate([found, missing])


def encode_prompts(
    tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[Prompt]
) -> list[list[int] | Failure]:
    """Return the token ids a sampler is given, generation prompt included, in the order of `prompts`.

    A prompt that ends with an assistant turn is a prefill: the model goes on with that turn.
    """
    texts = [_render_prompt(tokenizer, prompt) for prompt in prompts]
    return [
        text if isinstance(text, Failure) else ids
        for text, ids in zip(texts, _tokenize(tokenizer, texts), strict=True)
    ]


def encode_whole(
    tokenizer: "PreTrainedTokenizerBase", conversations: Sequence[Conversation]
) -> list[list[int] | Failure]:
    """Return conversations as a reward model reads them: the chat template's text to its last character."""
    texts = [_render_whole(tokenizer, one) for one in conversations]
    return [
        text if isinstance(text, Failure) else ids
        for text, ids in zip(texts, _tokenize(tokenizer, texts), strict=True)
    ]


def end_ids(tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    """Return the token ids that end a turn; the first is the one the chat template writes.

    They differ for some models (Gemma closes a turn with `<end_of_turn>`, and its end-of-sequence token is another).
    """
    turn = (Message("user", _PROBE), Message("assistant", _PROBE))
    found: list[int] = []
    text = _render(tokenizer, turn, None, ask=False)
    if isinstance(text, str) and _PROBE in text:
        tail = text[text.rindex(_PROBE) + len(_PROBE) :]
        added = set(tokenizer.get_added_vocab().values())
        found = [token for token in _tokenize(tokenizer, [tail])[0] if token in added][:1]
    eos = tokenizer.eos_token_id
    return tuple(dict.fromkeys([*found, *([] if eos is None else [int(eos)])]))


def check_template(tokenizer: "PreTrainedTokenizerBase", model: str) -> None:
    """Raise EngineError unless the tokenizer can turn a conversation into text and end it."""
    if not tokenizer.chat_template:
        hint = "use an instruction-tuned model, or put a chat_template.jinja into its folder"
        raise EngineError(f"model '{model}' has no chat template", hint=hint)
    if not end_ids(tokenizer):
        hint = "set eos_token in its tokenizer_config.json"
        raise EngineError(f"model '{model}' has no end-of-turn token", hint=hint)


def reference_fingerprint(tokenizer: "PreTrainedTokenizerBase", weights: str, dtype: str) -> str:
    """Return the identity of log-probs: who would compute the same ones, up to rounding.

    `weights` is the content digest of a local folder or `id@revision` on the hub; `dtype` is what it computes in.
    Nothing is ever truncated, so truncation is no part of it.
    """
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    template = json.dumps(tokenizer.chat_template)
    return child_id("reference", weights, vocabulary, template, dtype)


def vocabulary_fingerprint(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return a digest of the vocabulary and one of the chat template, joined by `/`: who counts the same tokens."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    template = json.dumps(tokenizer.chat_template)
    return "/".join((child_id("vocabulary", vocabulary), child_id("template", template)))


def _split(
    tokenizer: "PreTrainedTokenizerBase",
    prompt: str | Failure,
    whole: str | Failure,
    prompt_ids: list[int],
    whole_ids: list[int],
    ends: tuple[int, ...],
) -> Encoded | Failure:
    if isinstance(prompt, Failure):
        return prompt
    if isinstance(whole, Failure):
        return whole
    if not whole.startswith(prompt):
        return Failure("the chat template writes the prompt differently once a response follows it")
    size = len(prompt_ids)
    body = whole_ids[size:]
    if whole_ids[:size] != prompt_ids:
        # A response that opens with a line break may share a token with the prompt's last one. A sampler could not
        # have written that token, so the response is read on its own, if that gives the same text.
        body = _tokenize(tokenizer, [whole[len(prompt) :]])[0]
        if tokenizer.decode(prompt_ids + body) != tokenizer.decode(whole_ids):
            return Failure("the prompt's tokens are no prefix of the conversation's tokens")
    return Encoded(prompt_ids, _close(tokenizer, body, ends))


def _close(tokenizer: "PreTrainedTokenizerBase", body: list[int], ends: tuple[int, ...]) -> list[int]:
    """End a response with its end-of-turn token exactly once."""
    last = max((at for at, token in enumerate(body) if token in ends), default=-1)
    if last >= 0 and not tokenizer.decode(body[last + 1 :]).strip():
        return body[: last + 1]
    return [*body, ends[0]]


def _render_prompt(tokenizer: "PreTrainedTokenizerBase", prompt: Prompt) -> str | Failure:
    return _render(tokenizer, prompt.messages, prompt.tools, ask=True)


def _render_whole(tokenizer: "PreTrainedTokenizerBase", conversation: Conversation) -> str | Failure:
    prompt, response, tools = conversation
    if prompt and response and prompt[-1].role == response[0].role == "assistant":
        joined = Message("assistant", (prompt[-1].content or "") + (response[0].content or ""))
        return _render(tokenizer, (*prompt[:-1], joined, *response[1:]), tools, ask=False)
    return _render(tokenizer, (*prompt, *response), tools, ask=False)


def _render(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], tools: str | None, *, ask: bool
) -> str | Failure:
    from jinja2 import TemplateError

    if not messages:
        return Failure("the conversation is empty")
    prefilled = ask and messages[-1].role == "assistant"
    turns = [{"role": role, "content": content or ""} for role, content in messages]
    try:
        text: str = tokenizer.apply_chat_template(
            turns,
            tools=json.loads(tools) if tools else None,
            add_generation_prompt=ask and not prefilled,
            continue_final_message=prefilled,
            tokenize=False,
        )
    except (TemplateError, TypeError, ValueError, RecursionError) as error:
        # Tools of a wrong shape raise any of these.
        return Failure(f"the chat template refuses the conversation: {error}")
    return text


def _tokenize(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str | Failure]) -> list[list[int]]:
    """Return the ids of each text, [] for a Failure; the chat template has written every special token."""
    known = [text for text in texts if isinstance(text, str)]
    if not known:
        return [[] for _ in texts]
    found: Iterator[list[int]] = iter(tokenizer(known, add_special_tokens=False, verbose=False)["input_ids"])
    return [next(found) if isinstance(text, str) else [] for text in texts]
