"""A process with one vLLM: asked over a pipe by `prefkit.engines.vllm_pool`, in JSON.

Started as `python -m prefkit.engines.vllm_worker FD`, and not by forking: the parent has threads, and devices are
chosen by the environment before anything is imported. It ends when the pipe does.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from pydantic import TypeAdapter
from pydantic_core import to_json

from prefkit.engines import Completion, Conversation, Failure, LogProb, Model, Request
from prefkit.engines.vllm_open import Work, close_llm, open_llm
from prefkit.engines.vllm_options import VllmOptions
from prefkit.errors import EngineError

__all__ = ["Answer", "Setup", "pack", "pack_items", "read_answer", "serve", "unpack"]


class Setup(NamedTuple):
    """What a worker opens."""

    model: Model
    work: Work
    options: VllmOptions
    dtype: str


class Order(NamedTuple):
    """What it is asked. `items` is their JSON."""

    method: str
    items: str


class Answer(NamedTuple):
    """One line of what it says: an answer, the end of them, or why it cannot work."""

    kind: str
    """`answer`, `failure`, `end` or `error`."""
    position: int = -1
    value: str = ""
    """JSON of the answer."""
    hint: str = ""


_ITEMS: Mapping[str, Any] = {
    "generate": list[Request],
    "log_probs": list[Conversation],
    "rewards": list[Conversation],
}
_ANSWER: Mapping[str, Any] = {
    "generate": Completion,
    "log_probs": LogProb,
    "rewards": tuple[float, ...],
}


def pack(value: object) -> bytes:
    """Return a message as bytes."""
    return to_json(value)


def unpack(kind: Any, message: bytes | str) -> Any:
    """Return a message as what it was."""
    return _reader(kind).validate_json(message)


def pack_items(method: str, items: Sequence[Any]) -> bytes:
    """Return an order as bytes."""
    return pack(Order(method, to_json(list(items)).decode()))


def read_answer(method: str, answer: Answer) -> Any:
    """Return the answer of a worker as an engine gives it."""
    return unpack(Failure if answer.kind == "failure" else _ANSWER[method], answer.value)


def serve(pipe: Connection) -> None:
    """Open a model and answer orders until the pipe ends."""
    from prefkit.engines.vllm_engine import METHODS

    opened = None
    try:
        setup: Setup = unpack(Setup, pipe.recv_bytes())
        opened = open_llm(*setup)
        while True:
            order: Order = unpack(Order, pipe.recv_bytes())
            items = unpack(_ITEMS[order.method], order.items)
            for position, answer in METHODS[order.method](opened, items):
                kind = "failure" if isinstance(answer, Failure) else "answer"
                pipe.send_bytes(pack(Answer(kind, position, to_json(answer).decode())))
            pipe.send_bytes(pack(Answer("end")))
    except EngineError as error:
        pipe.send_bytes(pack(Answer("error", value=error.what, hint=error.hint)))
    except (EOFError, BrokenPipeError):
        return  # nobody asks any more
    finally:
        if opened is not None:
            close_llm(opened)


@lru_cache(maxsize=32)
def _reader(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
    sys.stdout.flush()
    os._exit(
        0
    )  # what the library tidies up after this took longer than the patience for it, and holds nothing
