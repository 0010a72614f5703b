"""Requests in tokens, and completions out of what was written.

A request that names its choices is not sampled token by token. Each choice is read behind the prompt, which all of them
share, and the answer is drawn from the choices by their log-probs as wholes: softmax of logp / temperature, the
likeliest one at temperature 0. The end of the turn counts only where the tokens of one choice begin another, to tell
`A` from `A+`; else a model that likes to explain its verdict would be held to be unsure of it. `max_tokens`, `top_p`,
`top_k` and `stop` play no part.

Then `logp` is that of the choice among all texts, and `tops`, if log-probs are asked for, has a single place with
(choice, its log-prob among the choices), likeliest first: a judge's probability of each verdict. In all other answers
`tops` has a place a token, the end-of-turn token included, with tokens written as the tokenizer shows them.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from prefkit.engines import Completion, Conversation, Failure, Message, Request
from prefkit.engines.chat import Encoded, Prompt, encode_all, encode_prompts
from prefkit.engines.sampling import uniforms
from prefkit.engines.weights import Loaded
from prefkit.engines.writing import Likeliest, Row, Written

__all__ = ["Asked", "ask", "completions", "too_long", "wanted_rows"]

Tops = tuple[tuple[tuple[str, float], ...], ...]


class Asked(NamedTuple):
    """A request, ready to decode."""

    request: Request
    rows: tuple[Row, ...]
    """One; or one for each of the choices."""
    tokens: tuple[int, ...] = ()
    """Tokens of each choice, the end-of-turn token included."""


def ask(loaded: Loaded, requests: Sequence[Request]) -> list[Asked | Failure]:
    """Encode each distinct prompt once, and make the rows of each request."""
    free = [request for request in requests if not request.choices]
    prompts = [Prompt(request.messages, request.tools) for request in free]
    distinct = list(dict.fromkeys(prompts))
    encoded = dict(zip(distinct, encode_prompts(loaded.tokenizer, distinct), strict=True))
    written = iter(
        [_free(loaded, *both) for both in zip(free, (encoded[one] for one in prompts), strict=True)]
    )
    chosen = iter(_chosen(loaded, [request for request in requests if request.choices]))
    return [next(chosen if request.choices else written) for request in requests]


def wanted_rows(asked: Sequence[Asked | Failure]) -> list[Row]:
    """Return the rows to be written, equal ones once: votes of a judge differ only in what is drawn from them."""
    return list(dict.fromkeys(row for one in asked if isinstance(one, Asked) for row in one.rows))


def completions(
    loaded: Loaded, asked: Sequence[Asked | Failure], written: Iterable[tuple[Row, Written]]
) -> Iterator[tuple[int, Completion]]:
    """Yield the answer to each request, by its position, as the last of its rows is written."""
    owners: dict[Row, list[int]] = {}
    for at, one in enumerate(asked):
        for row in dict.fromkeys(one.rows if isinstance(one, Asked) else ()):
            owners.setdefault(row, []).append(at)
    found: dict[int, dict[Row, Written]] = {}
    for row, what in written:
        for at in owners.pop(row):
            one, theirs = asked[at], found.setdefault(at, {})
            theirs[row] = what
            if isinstance(one, Asked) and len(theirs) == len(set(one.rows)):
                yield at, _complete(loaded, one, [theirs[row] for row in one.rows])
                del found[at]


def too_long(tokens: int, context: int | None) -> Failure:
    """Return why a text of so many tokens has no answer."""
    return Failure(f"the text has {tokens} tokens, and the model reads at most {context}", too_long=True)


def _complete(loaded: Loaded, asked: Asked, written: Sequence[Written]) -> Completion:
    """Return the answer to a request, given what was written for each of its rows."""
    request, prompt_tokens = asked.request, len(asked.rows[0].ids)
    if request.choices:
        return _choice(asked, np.array([one.logp for one in written]), prompt_tokens)
    (only,) = written
    ids = only.ids[:-1] if only.ids and only.ids[-1] in loaded.ends else only.ids
    text: str = loaded.tokenizer.decode(ids, skip_special_tokens=True)
    cuts = [at for stop in request.stop if (at := text.find(stop)) >= 0]
    finish = "stop" if only.is_finished else "length"
    tops = None if only.tops is None else _shown(loaded, only.tops)
    return Completion(text[: min(cuts, default=None)], len(only.ids), finish, prompt_tokens, only.logp, tops)


def _free(loaded: Loaded, request: Request, ids: list[int] | Failure) -> Asked | Failure:
    if isinstance(ids, Failure):
        return ids
    room = request.max_tokens if loaded.context is None else loaded.context - len(ids)
    if room < 1:
        return too_long(len(ids), loaded.context)
    knobs = (
        request.temperature,
        request.top_p,
        request.top_k,
        request.seed,
        request.stop,
        request.top_logprobs,
    )
    return Asked(request, (Row(tuple(ids), min(request.max_tokens, room), *knobs),))


def _chosen(loaded: Loaded, requests: Sequence[Request]) -> list[Asked | Failure]:
    """Make a row of each choice."""
    texts = iter(
        encode_all(
            loaded.tokenizer,
            [
                Conversation(request.messages, (Message("assistant", choice),), request.tools)
                for request in requests
                for choice in request.choices
            ],
        )
    )
    return [_rows(loaded, request, [next(texts) for _ in request.choices]) for request in requests]


def _rows(loaded: Loaded, request: Request, texts: Sequence[Encoded | Failure]) -> Asked | Failure:
    known = [text for text in texts if isinstance(text, Encoded)]
    if len(known) < len(texts):
        return next(text for text in texts if isinstance(text, Failure))
    longest = max(len(text.prompt_ids) + len(text.response_ids) for text in known)
    if loaded.context is not None and longest > loaded.context:
        return too_long(longest, loaded.context)
    wholes = [tuple(text.response_ids) for text in known]
    bodies = [ids[:-1] if ids[-1] in loaded.ends else ids for ids in wholes]
    begins = any(one != other and one == other[: len(one)] for one in bodies for other in bodies)
    forced = wholes if begins or not all(bodies) else bodies
    rows = tuple(
        Row(tuple(text.prompt_ids), len(ids), temperature=0.0, forced=ids)
        for text, ids in zip(known, forced, strict=True)
    )
    return Asked(request, rows, tuple(map(len, wholes)))


def _choice(asked: Asked, logps: np.ndarray, prompt_tokens: int) -> Completion:
    """Draw one of the choices by their log-probs [choices]."""
    request = asked.request
    among = logps - np.logaddexp.reduce(logps)
    if request.temperature == 0:
        at = int(among.argmax())
    else:
        sums = np.exp((among - among.max()) / request.temperature).cumsum()
        drawn = uniforms(request.seed, 1)[0] * sums[-1]
        at = int(np.searchsorted(sums, min(drawn, np.nextafter(sums[-1], 0)), side="right"))
    tops: Tops | None = None
    if request.top_logprobs:
        order = np.argsort(-among, kind="stable")[: request.top_logprobs]
        tops = (tuple((request.choices[one], float(among[one])) for one in order),)
    return Completion(request.choices[at], asked.tokens[at], "stop", prompt_tokens, float(logps[at]), tops)


def _shown(loaded: Loaded, tops: Likeliest) -> Tops:
    """Return the likeliest tokens as text."""
    distinct, at = np.unique(tops.ids, return_inverse=True)
    texts = [str(loaded.tokenizer.decode([token])) for token in distinct.tolist()]
    named: list[list[str]] = [[texts[one] for one in place] for place in at.reshape(tops.ids.shape)]
    return tuple(tuple(zip(*place, strict=True)) for place in zip(named, tops.logps.tolist(), strict=True))
