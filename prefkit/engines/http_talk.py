"""A talk with one server: how a question is put, tried again, and given up. What is asked is no business of it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic_core import to_json

from prefkit.engines import Failure
from prefkit.engines.http_answer import is_flagged, is_too_long, is_unpaid, read_json, retry_after, told
from prefkit.engines.http_pace import Pace, Patience
from prefkit.engines.http_parse import Broken, Reply, TooMuch
from prefkit.engines.http_wire import Unreachable, Untrusted, Wire
from prefkit.errors import EngineError
from prefkit.logs import WARNING, note

__all__ = ["Enough", "Known", "Plain", "Question", "Refused", "Talk", "Way"]

A = TypeVar("A")
Q = TypeVar("Q")
_BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, 529}
_AGAIN = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY}
_REFUSED = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}
_SHOWN = 200


class Enough(Exception):  # noqa: N818 - no error: it was asked for
    """No further request is to be sent."""


class Way(NamedTuple):
    """How fields are put that servers spell differently."""

    choices: str
    """Name of the field that holds the choices; "" to leave them out."""
    tops: bool
    """Whether log-probs are asked for."""


class Question(NamedTuple, Generic[A]):
    """What a server is asked, and how its answer is read."""

    payload: dict[str, Any]
    read: Callable[[Any], A | Failure | None]
    """From JSON values: an answer, why it has none, or None for what has not the shape of one."""
    shape: str
    """What the answer has to be, in words."""
    hint: str = "end the address in /v1, and name the model as the server does: --engine NAME=http://host:8000/v1#model"
    """What to do about a server that has no such path."""


class Refused(NamedTuple):
    """Why a server will not take a request as it is put."""

    failure: Failure


class Known:
    """What was found out about a server, kept from one shard to the next."""

    def __init__(self) -> None:
        """Know nothing."""
        self.ways: dict[tuple[bool, bool], Way] = {}
        """By whether a request has choices and whether it asks for log-probs."""
        self.in_vain = 0
        self.token_field = "max_tokens"  # noqa: S105 - of text
        self.answers_as = ""
        self.limit = 0.0
        self.tells_log_probs = False
        """Whether it gave log-probs of what it was told."""
        self.tells_raw_rewards = False
        """Whether it was seen to leave the outputs of a reward head as they are."""


class Plain(NamedTuple):
    """Texts to show a person: without the key, and short."""

    secrets: tuple[str, ...]

    def __call__(self, text: str) -> str:
        """Return a text as it may be shown."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."

    def are_in(self, text: str) -> bool:
        """Whether a text holds a secret that is long enough to stand in no text by chance."""
        return any(len(secret) >= 12 and secret in text for secret in self.secrets)


class _Again(NamedTuple):
    """Why an attempt is to be repeated."""

    reason: str
    is_unreachable: bool = False
    is_busy: bool = False


class Talk:
    """Answers requests, for one call of the engine."""

    def __init__(
        self, wire: Wire, name: str, shown: str, patience: Patience, pace: Pace, plain: Plain, known: Known
    ) -> None:
        """Talk to a server that calls the model `name`; `shown` is its address for people."""
        self._wire, self._name, self._shown = wire, name, shown
        self._patience, self._pace, self._plain, self._known = patience, pace, plain, known
        self._answered = self._silences = 0
        self._is_over = False
        self._asking: set[asyncio.Task[None]] = set()
        self._sent: set[asyncio.Task[None]] = set()

    async def work(
        self,
        rest: Iterator[tuple[int, Q]],
        answer: Callable[[Q], Awaitable[A | Failure]],
        put: Callable[[tuple[int, A | Failure]], None],
    ) -> EngineError | None:
        """Answer requests one after another until there are no more, or enough; return what stopped everything.

        What stops everything lets come what others have sent: it is paid for.
        """
        stopped: EngineError | None = None
        me = _this_task()
        self._asking.add(me)
        try:
            for position, request in rest:
                put((position, await answer(request)))
        except Enough:
            pass
        except EngineError as error:
            stopped = error
        finally:
            self._asking.discard(me)
        if stopped is not None:
            self.enough()
        return stopped

    def enough(self) -> None:
        """Send no further request. What was sent is still answered, and what waits for its turn never is."""
        self._is_over = True
        for task in self._asking - self._sent:
            task.cancel()

    async def ask(self, question: Question[A]) -> A | Failure | Refused:
        """Try until there is an answer, or patience is at its end. Raises EngineError where nothing can be answered."""
        answered, tried = self._answered, list[_Again]()
        failed = refused = 0
        body = to_json(question.payload)
        while failed < self._patience.attempts and refused < self._patience.refusals:
            outcome = await self._try(body, question)
            if not isinstance(outcome, _Again):
                return outcome
            tried.append(outcome)
            self._tell(
                "server busy" if outcome.is_busy else "request tried again", outcome.reason, len(tried)
            )
            if not (outcome.is_unreachable or outcome.is_busy):
                answered = self._answered
            refused, failed = refused + outcome.is_busy, failed + (not outcome.is_busy)
            if not outcome.is_busy and failed < self._patience.attempts:
                await asyncio.sleep(self._pace.pause(failed))
        self._check_alive(tried, nothing_since=self._answered == answered)
        self._tell("request failed", tried[-1].reason, len(tried))
        return Failure(f"{tried[-1].reason}, {len(tried)} times over")

    def _tell(self, event: str, reason: str, attempt: int) -> None:
        """Tell the log that an attempt came to nothing; `under_way` is how many requests the server gets at once."""
        where = {"model": self._plain(self._name), "server": self._shown}
        note(
            event,
            {**where, "reason": reason, "attempt": attempt, "under_way": int(self._pace.limit)},
            WARNING,
        )

    def _check_alive(self, tried: Sequence[_Again], nothing_since: bool) -> None:
        """Raise EngineError if it is the server that does not answer, and not this request that is not answered."""
        reason = tried[-1].reason
        # The first attempt may have been under way when the server went.
        if nothing_since and all(again.is_unreachable for again in tried[min(1, len(tried) - 1) :]):
            what = f"no server answers at {self._shown}: {reason}"
            raise EngineError(what, hint="start the server, or mend the address in --engine")
        if nothing_since and all(again.is_busy for again in tried):
            what = f"the server at {self._shown} is too busy for anything: {reason}, {len(tried)} times over"
            raise EngineError(what, hint="build again later: what was answered is kept")
        if not self._answered and self._silences >= max(16, 2 * self._pace.most):
            what = f"the server at {self._shown} answered none of {self._silences} requests within {self._patience.timeout:g} s"
            raise EngineError(what, hint="see whether it works; a slow one needs a longer timeout")

    async def _try(self, body: bytes, question: Question[A]) -> A | Failure | Refused | _Again:
        if self._is_over:
            raise Enough
        started, me = await self._pace.enter(), _this_task()
        self._sent.add(me)
        try:
            async with asyncio.timeout(self._patience.timeout):
                reply = await self._wire.post(body)
        except TimeoutError:
            self._silences += 1
            self._pace.strained(started)
            return _Again("no answer in time")
        except Unreachable as error:
            return _Again(f"connection failed ({self._plain(str(error))})", is_unreachable=True)
        except Untrusted as error:
            what = f"the server at {self._shown} cannot be trusted: {error}"
            hint = (
                "mend the address; if the certificate is your own, name its authority: SSL_CERT_FILE=ca.pem"
            )
            raise EngineError(what, hint=hint) from None
        except TooMuch as error:
            return Failure(str(error))
        except Broken as error:
            return _Again(str(error))
        finally:
            self._sent.discard(me)
            self._pace.leave()
        if reply.status == HTTPStatus.OK:
            self._pace.answered(started)
            return self._read(reply, question)
        if reply.status in _BUSY:
            return self._busy(reply, started)
        return self._other(reply, question.hint)

    def _read(self, reply: Reply, question: Question[A]) -> A | Failure | _Again:
        try:
            body = read_json(reply.body)
        except ValueError:
            return _Again("the answer is no valid JSON")
        outcome = question.read(body)
        if outcome is None:
            return _Again(f"the answer is no {question.shape}")
        self._answered += 1
        if isinstance(outcome, Failure):
            return Failure(self._plain(outcome.error))
        self._check_name(body.get("model"))
        return outcome

    def _check_name(self, name: object) -> None:
        """Raise EngineError if the server began to answer with another model.

        Servers name models as they like, but the same one by the same name; a dated name of the model that was asked
        for may change.
        """
        if not isinstance(name, str) or not name or name.startswith(self._name):
            return
        before = self._known.answers_as = self._known.answers_as or name
        if name != before:
            what = f"the server at {self._shown} answered as '{self._plain(before)}', and now as '{self._plain(name)}'"
            raise EngineError(what, hint="see which model it serves: answers of both would be taken for one")

    def _busy(self, reply: Reply, started: float) -> _Again:
        said = told(reply.body)
        if is_unpaid(reply.status, said):
            self._stop(
                "will not answer before it is paid", reply.status, said, "look at the account's billing"
            )
        in_ms = reply.headers.get("retry-after-ms", "")
        now = datetime.now(UTC)
        wait = retry_after(reply.headers.get("retry-after"), now)
        wait = float(in_ms) / 1000 if in_ms.isascii() and in_ms.isdigit() and len(in_ms) < 6 else wait
        self._pace.refused(started, wait)
        return _Again(f"the server answered with status {reply.status}", is_busy=True)

    def _other(self, reply: Reply, hint: str) -> Failure | Refused | _Again:
        status, said = reply.status, told(reply.body)
        if status in _AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return _Again(f"the server answered with status {status}")
        if is_unpaid(status, said):
            self._stop("will not answer before it is paid", status, said, "look at the account's billing")
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN} and not is_flagged(said):
            self._stop("refuses the key", status, said, "set PREFKIT_API_KEY in the environment")
        if status == HTTPStatus.NOT_FOUND or status < HTTPStatus.BAD_REQUEST:
            self._stop("has no such model or path", status, said, hint)
        what = f"the server refuses the request (status {status}): {self._plain(said)}"
        failure = Failure(what, is_too_long(status, said))
        return Refused(failure) if status in _REFUSED else failure

    def _stop(self, what: str, status: int, said: str, hint: str) -> None:
        told_so = f": {self._plain(said)}" if said else ""
        raise EngineError(f"the server at {self._shown} {what} (status {status}){told_so}", hint=hint)


def _this_task() -> "asyncio.Task[None]":
    task = asyncio.current_task()
    assert task is not None
    return task
