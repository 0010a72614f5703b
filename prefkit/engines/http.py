"""A client for any OpenAI-compatible server: vLLM, SGLang, TGI, llama.cpp, or a hosted one.

Many requests are under way at once, as many as the server bears, up to a bound. Each is tried again, with growing
pauses and jitter, when the server is busy or broken or answers in a shape that no server should, and becomes a
Failure when that does not help. A refused key, a wrong address and a server that never answers are an EngineError: no
row can succeed. What comes back is checked and not trusted, since some servers ignore parts of a request without a word.

The key comes from the environment, goes into one header, and appears nowhere else.
"""

import asyncio
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import SplitResult, quote, unquote, urldefrag, urlsplit

from prefkit.engines import Answers, Completion, Conversation, Failure, LogProb, Model, Request, refuse_beams
from prefkit.engines.http_answer import read_completion, retry_after
from prefkit.engines.http_chat import Chat
from prefkit.engines.http_pace import Pace, Patience
from prefkit.engines.http_scored import HeadOutputs, PromptLogProbs, Vectors
from prefkit.engines.http_talk import Known, Plain, Talk
from prefkit.engines.http_wire import open_wire
from prefkit.errors import EngineError

if TYPE_CHECKING:
    from prefkit.engines.http_reading import Reader

__all__ = ["HttpEngine", "Patience", "key_for", "read_completion", "retry_after"]

A = TypeVar("A")
Q = TypeVar("Q")
T = TypeVar("T")
_KEY = "PREFKIT_API_KEY"


class HttpEngine:
    """Generates, LogProbs, Rewards and Embeds, over HTTP, as far as the server does.

    `http://host:8000/v1#name` asks the server for the model it calls `name`. For log-probs and rewards, the model's id
    has to lead to its tokenizer. No server tells what it computes in: `#name?dtype=bfloat16` does, and only then are its
    log-probs taken for those of the same model in the same number format elsewhere, as in training.
    """

    def __init__(
        self, url: str, key: str = "", concurrency: int = 32, patience: Patience | None = None
    ) -> None:
        """Connect to nothing yet. Raises EngineError for an address that is none, or a key that no header can hold."""
        address, name = urldefrag(url)
        self._served, _, self._dtype = name.partition("?dtype=")
        self._parts = _split(address)
        if not (key.isascii() and key.isprintable()):
            raise EngineError(
                "the key of a server has characters that no header can hold",
                hint=f"set {_KEY} again, without line breaks",
            )
        parts = self._parts
        self._shown = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
        self._headers, secrets = _authorization(parts, key)
        self._plain = Plain(tuple(_forms(secrets)))
        self._concurrency, self._patience = concurrency, patience or Patience()
        self._known = Known()
        self._talks: dict[Talk, asyncio.AbstractEventLoop] = {}
        self._readers: dict[Model, Reader] = {}

    def generate(self, model: Model, requests: Sequence[Request]) -> Answers[Completion]:
        """Yield one completion per request, as they arrive. Closing the iterator ends what is under way."""
        refuse_beams(model, requests)
        asked = list(enumerate(requests))
        return self._ask(
            model,
            "/chat/completions",
            asked,
            lambda talk, name: Chat(talk, name, self._plain, self._known).answer,
        )

    def log_probs(self, model: Model, conversations: Sequence[Conversation]) -> Answers[LogProb]:
        """Yield the log-prob of each response given its prompt, as they arrive."""
        if not conversations:
            return
        texts = list(enumerate(self._reader(model).told(conversations)))
        yield from ((at, text) for at, text in texts if isinstance(text, Failure))
        asked = [(at, text) for at, text in texts if not isinstance(text, Failure)]
        yield from self._ask(
            model,
            "/completions",
            asked,
            lambda talk, name: PromptLogProbs(talk, name, self._shown, self._known).answer,
        )

    def rewards(self, model: Model, conversations: Sequence[Conversation]) -> Answers[tuple[float, ...]]:
        """Yield the raw outputs of the reward head, as they arrive."""
        if not conversations:
            return
        texts = list(enumerate(self._reader(model).whole(conversations)))
        yield from ((at, text) for at, text in texts if isinstance(text, Failure))
        asked = [(at, text) for at, text in texts if not isinstance(text, Failure)]
        yield from self._ask(
            model,
            "/../pooling",
            asked,
            lambda talk, name: HeadOutputs(talk, name, self._shown, self._known).answer,
        )

    def embed(self, model: Model, texts: Sequence[str]) -> Answers[tuple[float, ...]]:
        """Yield one vector per text, as they arrive."""
        asked = list(enumerate(texts))
        return self._ask(model, "/embeddings", asked, lambda talk, name: Vectors(talk, name).answer)

    def fingerprint(self, model: Model) -> str:
        """Return the identity of the model's log-probs, in a number format that may be unknown."""
        return self._reader(model).fingerprint(self._dtype)

    def vocabulary(self, model: Model) -> str:
        """Return digests of the vocabulary and of the chat template, joined by `/`."""
        return self._reader(model).vocabulary()

    def _reader(self, model: Model) -> "Reader":
        from prefkit.engines.http_reading import Reader

        if model not in self._readers:
            self._readers[model] = Reader(model)
        return self._readers[model]

    def _ask(
        self,
        model: Model,
        path: str,
        asked: Sequence[tuple[int, Q]],
        asking: Callable[[Talk, str], Callable[[Q], Awaitable[A | Failure]]],
    ) -> Answers[A]:
        if not asked:
            return iter(())
        name = self._served or model.id
        return _from_thread(lambda put: self._ask_all(name, self._address(path), asked, asking, put))

    def _address(self, path: str) -> str:
        """Return the address of a path under that of the server; `/..` leaves its `/v1`."""
        root = self._parts.path.rstrip("/")
        if path.startswith("/.."):
            root, path = root.removesuffix("/v1"), path.removeprefix("/..")
        return self._parts._replace(path=root + path).geturl()

    async def _ask_all(
        self,
        name: str,
        address: str,
        asked: Sequence[tuple[int, Q]],
        asking: Callable[[Talk, str], Callable[[Q], Awaitable[A | Failure]]],
        put: Callable[[tuple[int, A | Failure]], None],
    ) -> None:
        headers = {
            **self._headers,
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "prefkit",
        }
        wire = open_wire(address, headers)
        pace = Pace(self._concurrency, self._patience, self._known.limit)
        talk = Talk(wire, name, self._shown, self._patience, pace, self._plain, self._known)
        self._talks[talk] = asyncio.get_running_loop()
        rest, answer = iter(asked), asking(talk, name)
        try:
            async with asyncio.TaskGroup() as group:
                workers = min(self._concurrency, len(asked))
                tasks = [group.create_task(talk.work(rest, answer, put)) for _ in range(workers)]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            del self._talks[talk]
            self._known.limit = pace.limit
            await wire.close()
        for task in tasks:
            if not task.cancelled() and (stopped := task.result()) is not None:
                raise stopped

    def enough(self) -> None:
        """Start no further request of the calls under way; those that were started are still answered."""
        for talk, loop in list(self._talks.items()):
            _call(loop, talk.enough)


def key_for(url: str, environment: Mapping[str, str]) -> str:
    """Return the key for a server, "" if there is none.

    `PREFKIT_API_KEY_HOST_PORT` or `PREFKIT_API_KEY_HOST`, in capitals and with `_` for every other character, is for
    one server; `PREFKIT_API_KEY` is for all others. OPENAI_API_KEY goes to OpenAI alone: a key must not reach a server
    it was not meant for.
    """
    parts = _split(urldefrag(url)[0])
    host = parts.hostname or ""
    for name in (f"{host}_{parts.port}", host):
        if key := environment.get(f"{_KEY}_{re.sub('[^A-Z0-9]', '_', name.upper())}"):
            return key
    is_openai = host == "openai.com" or host.endswith(".openai.com")
    return environment.get(_KEY) or (environment.get("OPENAI_API_KEY", "") if is_openai else "")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number
        usable = False
    if not usable:
        shown = url.rpartition("@")[2]
        raise EngineError(
            f"'{shown}' is no address of a server", hint="for instance http://localhost:8000/v1"
        )
    return parts


def _authorization(parts: SplitResult, key: str) -> tuple[Mapping[str, str], list[str]]:
    """Return the header that says who asks, and what of it no one may see."""
    hidden = [parts.query] if parts.query else []
    login = ":".join(unquote(part) for part in (parts.username, parts.password) if part is not None)
    if parts.password:
        hidden += [parts.password, unquote(parts.password)]
    if key:
        return {"Authorization": f"Bearer {key}"}, [*hidden, key]
    if login:
        token = b64encode(login.encode()).decode()
        return {"Authorization": f"Basic {token}"}, [*hidden, token]
    return {}, hidden


def _forms(secrets: Sequence[str]) -> list[str]:
    """Return the ways in which a server may repeat secrets, the longest first."""
    forms = {
        form
        for secret in secrets
        for form in (secret, quote(secret, safe=""), b64encode(secret.encode()).decode())
        if len(form) >= 4
    }
    return sorted(forms, key=len, reverse=True)


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
            _call(loop, task.cancel)
        thread.join()
    if item.error is not None:
        raise item.error


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    """Call a function in the thread of a loop, unless it ended."""
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:
        return  # it closed the loop just now
