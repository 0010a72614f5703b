"""A client for any OpenAI-compatible chat server: vLLM, SGLang, TGI, llama.cpp, or a hosted one.

Many requests are under way at once, up to a bound. Each is tried again, with growing pauses and jitter, when the server
is busy or broken or answers in a shape that no chat server should, and becomes a Failure when that does not help. A
refused key, a wrong address and a server that never answers are an EngineError at once: no row can succeed. What comes
back is checked and not trusted, since some servers ignore parts of a request without a word.

The key comes from the environment, goes into one header, and appears nowhere else.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from json import loads
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urldefrag, urlsplit

from prefkit.engines import Answers, Completion, Failure, Model, Request
from prefkit.errors import EngineError

if TYPE_CHECKING:
    import httpx2

__all__ = ["HttpEngine", "Patience", "key_for", "read_completion", "retry_after"]

T = TypeVar("T")
_BUSY = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
_NO_WAY = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_CONNECT_SECONDS = 10.0
_SHOWN = 200
_LONGEST_ASKED_SECONDS = 300.0


class Patience(NamedTuple):
    """How long to wait and how often to try."""

    attempts: int = 6
    first_pause: float = 0.5
    """Seconds before the second attempt, on average; doubles with every attempt."""
    longest_pause: float = 30.0
    """Seconds. A server's own Retry-After is honoured up to 300 s."""
    timeout: float = 600.0
    """Seconds for one answer."""


class HttpEngine:
    """Generates, over HTTP. `http://host:8000/v1#name` asks the server for the model it calls `name`."""

    def __init__(
        self, url: str, key: str = "", concurrency: int = 32, patience: Patience | None = None
    ) -> None:
        """Connect to nothing yet. Raises EngineError for an address that is none."""
        self._url, self._served = urldefrag(url)
        parts = urlsplit(self._url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise EngineError(
                f"'{url}' is no address of a server", hint="for instance http://localhost:8000/v1"
            )
        self._shown = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
        self._key, self._concurrency, self._patience = key, concurrency, patience or Patience()

    def generate(self, model: Model, requests: Sequence[Request]) -> Answers[Completion]:
        """Yield one completion per request, as they arrive."""
        if not requests:
            return iter(())
        payloads = [_payload(self._served or model.id, request) for request in requests]
        return _from_thread(lambda put: self._ask_all(payloads, put))

    async def _ask_all(
        self, payloads: Sequence[Mapping[str, Any]], put: Callable[[tuple[int, Completion | Failure]], None]
    ) -> None:
        import httpx2

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        timeout = httpx2.Timeout(
            self._patience.timeout, connect=min(_CONNECT_SECONDS, self._patience.timeout)
        )
        limits = httpx2.Limits(max_connections=self._concurrency)
        rest = iter(enumerate(payloads))
        async with httpx2.AsyncClient(headers=headers, timeout=timeout, limits=limits) as client:
            talk = _Talk(client, self._url.rstrip("/") + "/chat/completions", self._shown, self._key)

            async def work() -> None:
                for position, payload in rest:
                    put((position, await _persist(talk, payload, self._patience, random.Random(position))))  # noqa: S311

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(self._concurrency, len(payloads))):
                        group.create_task(work())
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None


def key_for(url: str, environment: Mapping[str, str]) -> str:
    """Return the key for a server, "" if there is none.

    OPENAI_API_KEY goes to OpenAI alone: a key must not reach a server it was not meant for.
    """
    host = urlsplit(url).hostname or ""
    is_openai = host == "openai.com" or host.endswith(".openai.com")
    return environment.get("PREFKIT_API_KEY") or (environment.get("OPENAI_API_KEY", "") if is_openai else "")


def read_completion(body: object) -> Completion | Failure | None:
    """Read a chat completion with one choice; None if it has not that shape.

    A Failure is a well-formed answer that has no text to keep.
    """
    match body:
        case {"choices": [{"message": {"content": str(text)}, "finish_reason": reason}], **rest}:
            usage = rest.get("usage")
        case {"choices": [{"message": {"tool_calls": [_, *_]}}]}:
            return Failure("the answer is a tool call and has no text")
        case _:
            return None
    if reason not in {"stop", "length", "eos", None}:
        return Failure(f"the server ended the answer for the reason '{reason}'")
    counts = usage if isinstance(usage, dict) else {}
    read, written = counts.get("prompt_tokens"), counts.get("completion_tokens")
    return Completion(
        text,
        written if isinstance(written, int) else 0,
        "length" if reason == "length" else "stop",
        read if isinstance(read, int) else 0,
    )


def retry_after(value: str | None, now: datetime) -> float | None:
    """Read a Retry-After header, seconds or a date, as seconds from `now`; None if there is none."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - now).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), _LONGEST_ASKED_SECONDS)


class _Talk(NamedTuple):
    """A conversation with one server."""

    client: "httpx2.AsyncClient"
    address: str
    shown: str
    """The address without user and password."""
    key: str


class _Again(NamedTuple):
    """Why an attempt is to be repeated."""

    reason: str
    wait: float | None = None
    """Seconds, if the server said."""
    is_unreachable: bool = False


async def _persist(
    talk: _Talk, payload: Mapping[str, Any], patience: Patience, chance: random.Random
) -> Completion | Failure:
    """Try until there is an answer, or patience is at its end."""
    tried: list[_Again] = []
    for attempt in range(patience.attempts):
        outcome = await _try(talk, payload)
        if not isinstance(outcome, _Again):
            return outcome
        tried.append(outcome)
        if attempt + 1 < patience.attempts:
            pause = min(patience.longest_pause, patience.first_pause * 2**attempt)
            await asyncio.sleep(pause * (0.5 + chance.random()) if outcome.wait is None else outcome.wait)
    if all(again.is_unreachable for again in tried):
        what = f"no server answers at {talk.shown}: {tried[-1].reason}"
        raise EngineError(what, hint="start the server, or mend the address in --engine")
    return Failure(f"{tried[-1].reason}, {len(tried)} times over")


async def _try(talk: _Talk, payload: Mapping[str, Any]) -> Completion | Failure | _Again:
    import httpx2

    try:
        response = await talk.client.post(talk.address, json=payload)
    except httpx2.ConnectError as error:
        return _Again(f"connection failed ({_without(talk.key, str(error))})", is_unreachable=True)
    except httpx2.TimeoutException:
        return _Again("no answer in time")
    except httpx2.TransportError as error:
        return _Again(f"the connection broke ({type(error).__name__})")
    status = response.status_code
    if status in _NO_WAY:
        hint = "set PREFKIT_API_KEY in the environment"
        raise EngineError(f"the server at {talk.shown} refuses the key (status {status})", hint=hint)
    if status == HTTPStatus.NOT_FOUND or 300 <= status < 400:
        hint = "end the address in /v1, and name the model as the server does: --engine NAME=http://host:8000/v1#model"
        told = _message(response, talk.key)
        raise EngineError(
            f"the server at {talk.shown} has no such model or path (status {status}): {told}", hint=hint
        )
    if status in _BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        wait = retry_after(response.headers.get("retry-after"), datetime.now(UTC))
        return _Again(f"the server answered with status {status}", wait)
    if status != HTTPStatus.OK:
        return Failure(f"the server refuses the request (status {status}): {_message(response, talk.key)}")
    return _read(response)


def _read(response: "httpx2.Response") -> Completion | Failure | _Again:
    try:
        body = loads(response.content)
    except (ValueError, RecursionError):
        return _Again("the answer is no valid JSON")
    return read_completion(body) or _Again("the answer is no chat completion with one choice")


def _message(response: "httpx2.Response", key: str) -> str:
    return _without(key, response.text[: 4 * _SHOWN])[:_SHOWN]


def _without(key: str, text: str) -> str:
    return text.replace(key, "***") if key else text


def _payload(name: str, request: Request) -> Mapping[str, Any]:
    payload: dict[str, Any] = {
        "model": name,
        "messages": [{"role": role, "content": content or ""} for role, content in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "stream": False,
    }
    # Not part of the protocol everywhere, so sent only when they say something.
    if request.top_k:
        payload["top_k"] = request.top_k
    if request.stop:
        payload["stop"] = list(request.stop)
    if request.tools:
        payload["tools"] = loads(request.tools)
    return payload


class _End(NamedTuple):
    error: BaseException | None


def _from_thread(start: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]]) -> Iterator[T]:
    """Yield what a coroutine puts, while it runs in a thread with an event loop of its own.

    A thread, because the caller may have a running loop already, as notebooks do. Closing the iterator cancels it.
    """
    items: SimpleQueue[T | _End] = SimpleQueue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(start(items.put))

    def run() -> None:
        error: BaseException | None = None
        try:
            loop.run_until_complete(task)
        except BaseException as raised:  # noqa: BLE001 - handed over to the thread that waits
            error = raised
        loop.close()
        items.put(_End(error))

    thread = Thread(target=run, name="prefkit-http", daemon=True)
    thread.start()
    try:
        while not isinstance(item := items.get(), _End):
            yield item
    finally:
        if thread.is_alive():
            _cancel(loop, task)
        thread.join()
    if item.error is not None:
        raise item.error


def _cancel(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None]") -> None:
    try:
        loop.call_soon_threadsafe(task.cancel)
    except RuntimeError:
        return  # it closed the loop just now
