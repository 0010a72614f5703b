"""Memo: remember every answer by the request that asked for it, so that nothing is paid for twice.

Any engine can be wrapped. An answer is committed to one SQLite file before the next one is asked for, so a build that
is killed loses at most the batch it was waiting for. Two processes may use one file at once: where both ask the same
thing, the first answer stands for both. Answers are plain JSON. Failures are never remembered.

The key is a hash of the model's identity, the method and the request; which engine answered is placement and no part
of it.
"""

import sqlite3
import time
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from pydantic_core import from_json, to_json

from prefkit.engines import (
    Answers,
    Candidates,
    Completion,
    Conversation,
    Drains,
    Embeds,
    Engine,
    Failure,
    Fingerprints,
    Generates,
    LogProb,
    LogProbs,
    Model,
    NextTokens,
    Request,
    Rewards,
    Spend,
    Vocabularies,
)
from prefkit.engines.filing import filed
from prefkit.engines.spend import Tokens
from prefkit.engines.thinned import Thinned, ThinnedRewards
from prefkit.errors import EngineError, StoreError

__all__ = ["Memo", "Remembering"]

A = TypeVar("A")
Q = TypeVar("Q")
_FORMAT = 1
_PATIENCE_SECONDS = 60.0
_CHECKPOINT_PAGES = 8000
"""Of 4 KiB; each checkpoint waits for the disk."""
_TABLE = "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer BLOB) WITHOUT ROWID"
_KEEP = "INSERT OR IGNORE INTO answers VALUES (?, ?)"
_REPLACE = "INSERT OR REPLACE INTO answers VALUES (?, ?)"
_AT_ONCE = 500
"""Keys looked up in one statement; SQLite takes at most 999 by default in old versions."""


class Memo:
    """Answers by key, in one SQLite file."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open or make the file. Raises StoreError if it cannot be used.

        With `read_only`, nothing is written, and a file that is not there is an empty memo.
        """
        self._path = path
        try:
            self._db = _connect_to_read(path) if read_only else _connect(path)
            self._format = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        except (sqlite3.Error, OSError) as error:
            raise self._error("opened", error) from error
        weakref.finalize(self, self._db.close)
        if self._format > _FORMAT:
            what = f"the memo of engine answers has format {self._format}, and this prefkit knows up to {_FORMAT}"
            raise StoreError(what, where=str(path), hint="upgrade prefkit, or give another --store")

    def find(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the remembered answers of those keys that have one, as JSON."""
        found: dict[bytes, bytes] = {}
        try:
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                statement = f"SELECT key, answer FROM answers WHERE key IN ({marks})"  # noqa: S608 - only marks
                found.update(self._db.execute(statement, some).fetchall())
        except sqlite3.Error as error:
            raise self._error("read", error) from error
        return found

    def remember(self, key: bytes, answer: bytes, *, instead: bool = False) -> bool:
        """Keep an answer; return False if another one is already kept and `instead` does not replace it."""
        statement = _REPLACE if instead else _KEEP
        try:
            done = self._db.execute(statement, (key, answer))
        except sqlite3.Error as error:
            raise self._error("written", error) from error
        return done.rowcount > 0

    def _error(self, verb: str, error: Exception) -> StoreError:
        hint = "make room on the disk, or move the file away: its answers are then asked for again"
        what = f"the memo of engine answers cannot be {verb}: {error}"
        return StoreError(what, where=str(self._path), hint=hint)


class Method(NamedTuple):
    """How one kind of request is filed."""

    name: str
    read: Callable[[Any], Any]
    """From JSON values to an answer."""
    tokens: Callable[[Any], Tokens]
    """What an answer took."""


def _took(answer: Completion) -> Tokens:
    """Return the tokens of an answer. A prompt has at least one, and so has a text; an engine may tell neither."""
    told = answer.prompt_tokens > 0 and (answer.tokens > 0 or not answer.text)
    return Tokens(answer.prompt_tokens, answer.tokens, told)


_UNTOLD = Tokens(0, 0, told=False)
_GENERATE = Method("generate", lambda value: _completion(*value), _took)
_LOG_PROBS = Method("log-probs", lambda value: LogProb(*value), lambda answer: Tokens(sum(answer[1:]), 0))
_REWARDS = Method("rewards", tuple, lambda _: _UNTOLD)
_THINNED = Method("thinned-rewards", tuple, lambda _: _UNTOLD)
_EMBED = Method("embed", tuple, lambda _: _UNTOLD)


class Remembering:
    """Any engine, remembered. What the engine cannot do, it cannot do either."""

    def __init__(
        self,
        engine: Engine,
        memo: Memo,
        spend: Spend,
        identity: Callable[[Model], str],
        *,
        refresh: bool = False,
        apart: str = "",
    ) -> None:
        """Wrap an engine.

        `identity` says under which name a model's answers are filed. With `refresh`, answers from before this object
        was made are ignored and overwritten. Answers `apart` are filed under that name too, and no others found.
        """
        self._engine, self._memo, self._spend, self._identity = engine, memo, spend, identity
        self._refresh, self._apart = refresh, apart
        self._fresh: set[bytes] = set()

    def afresh(self, name: str) -> "Remembering":
        """Return the same engine with a memory of its own, which knows nothing of what this one was asked."""
        engine, memo, spend, identity = self._engine, self._memo, self._spend, self._identity
        return Remembering(engine, memo, spend, identity, refresh=self._refresh, apart=name)

    def recalled(self, model: Model, requests: Sequence[Request]) -> list[bool]:
        """Return which requests for text are answered from memory."""
        known = self._find(keys := self._keys(model, _GENERATE, requests))
        return [key in known for key in keys]

    def generate(self, model: Model, requests: Sequence[Request]) -> Answers[Completion]:
        """Yield one completion per request: remembered ones first."""
        if not isinstance(self._engine, Generates):
            raise _unable(model, "generate text")
        return self._ask(model, _GENERATE, requests, self._engine.generate)

    def log_probs(self, model: Model, conversations: Sequence[Conversation]) -> Answers[LogProb]:
        """Yield one log-prob per conversation: remembered ones first."""
        if not isinstance(self._engine, LogProbs):
            raise _unable(model, "give log-probs")
        # Log-probs depend on the number format too, which a device may decide.
        where = self.fingerprint(model) if conversations else ""
        return self._ask(model, _LOG_PROBS, conversations, self._engine.log_probs, where)

    def rewards(self, model: Model, conversations: Sequence[Conversation]) -> Answers[tuple[float, ...]]:
        """Yield the reward head's outputs per conversation: remembered ones first."""
        if not isinstance(self._engine, Rewards):
            raise _unable(model, "score responses")
        return self._ask(model, _REWARDS, conversations, self._engine.rewards)

    def thinned_rewards(self, model: Model, passes: Sequence[Thinned]) -> Answers[tuple[float, ...]]:
        """Yield the reward head's outputs per pass with dropout: remembered ones first."""
        if not isinstance(self._engine, ThinnedRewards):
            raise _unable(model, "score with dropout")
        return self._ask(model, _THINNED, passes, self._engine.thinned_rewards)

    def embed(self, model: Model, texts: Sequence[str]) -> Answers[tuple[float, ...]]:
        """Yield one vector per text: remembered ones first."""
        if not isinstance(self._engine, Embeds):
            raise _unable(model, "embed texts")
        return self._ask(model, _EMBED, texts, self._engine.embed)

    def next_tokens(
        self, model: Model, conversations: Sequence[Conversation], wanted: int | Sequence[np.ndarray]
    ) -> Answers[Candidates]:
        """Yield the candidates at every token of each response, as they are: counted, and never remembered.

        They are as large as the column they become, which a build keeps shard by shard.
        """
        if not isinstance(self._engine, NextTokens):
            raise _unable(model, "give the likeliest next tokens")
        answers = self._engine.next_tokens(model, conversations, wanted)
        for at, answer in self._within_budget(model, answers, len(conversations)):
            if isinstance(answer, Failure):
                self._spend.failed(model.served_as)
            else:
                self._spend.answered(model.served_as, Tokens(len(answer.ids), 0))
            yield at, answer

    def vocabulary(self, model: Model) -> str:
        """Return digests of a model's vocabulary and chat template."""
        if not isinstance(self._engine, Vocabularies):
            raise _unable(model, "give the likeliest next tokens, nor say which it counts")
        return self._engine.vocabulary(model)

    def fingerprint(self, model: Model) -> str:
        """Return the identity of the model's log-probs."""
        if not isinstance(self._engine, Fingerprints):
            raise _unable(model, "say what its log-probs depend on")
        return self._engine.fingerprint(model)

    def _ask(
        self,
        model: Model,
        method: Method,
        asked: Sequence[Q],
        ask: Callable[[Model, Sequence[Q]], Answers[A]],
        where: str = "",
    ) -> Answers[A]:
        places: dict[bytes, list[int]] = {}
        for position, key in enumerate(self._keys(model, method, asked, where)):
            places.setdefault(key, []).append(position)
        known = self._find(list(places))
        for key, text in known.items():
            answer = method.read(from_json(text))
            self._spend.remembered(model.served_as, method.tokens(answer), len(places[key]))
            for position in places[key]:
                yield position, answer
        missing = [key for key in places if key not in known]
        if not missing:
            return
        self._spend.check(model.served_as)
        answers = ask(model, [asked[places[key][0]] for key in missing])
        for at, given in self._within_budget(model, answers, len(missing)):
            key = missing[at]
            kept: A | Failure = given
            if isinstance(given, Failure):
                self._spend.failed(model.served_as)
            else:
                again = len(places[key]) - 1
                self._spend.answered(model.served_as, method.tokens(given), again=again)
                kept = self._keep(key, given, method)
            for position in places[key]:
                yield position, kept

    def _keys(self, model: Model, method: Method, asked: Sequence[Q], where: str = "") -> list[bytes]:
        """Return under which key each answer is filed."""
        named = (self._identity(model), method.name, where, *([self._apart] if self._apart else []))
        head = to_json(named)
        # A loop over requests: hashing has no vectorised form, 5 microseconds each.
        return [blake2b(head + _to_json(request), digest_size=16).digest() for request in asked]

    def _within_budget(self, model: Model, answers: Answers[A], wanted: int) -> Answers[A]:
        """Yield an engine's answers as long as a budget allows, and time them.

        Once it is spent, no request is started any more. Answers under way are taken, where the engine can tell them
        apart; then BudgetError is raised, unless all that was wanted has come.
        """
        started, came, stop = time.perf_counter(), 0, None
        try:
            for answer in answers:
                came += 1
                yield answer
                if stop is None and came < wanted and (stop := self._spend.reached(model.served_as)):
                    if not isinstance(self._engine, Drains):
                        break
                    self._engine.enough()
        finally:
            self._spend.waited(model.served_as, time.perf_counter() - started)
            if isinstance(answers, Generator):
                answers.close()
        if stop is not None and came < wanted:
            raise stop

    def _find(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        return self._memo.find([key for key in keys if key in self._fresh] if self._refresh else keys)

    def _keep(self, key: bytes, answer: A, method: Method) -> A:
        """Remember an answer; if another process was first, return what it was given."""
        if not self._memo.remember(key, _to_json(answer), instead=self._refresh):
            first: A = method.read(from_json(self._memo.find([key])[key]))
            return first
        self._fresh.add(key)
        return answer


def _completion(*fields: Any) -> Completion:
    answer = Completion(*fields)
    if answer.tops is None:
        return answer
    return answer._replace(tops=tuple(tuple((token, logp) for token, logp in place) for place in answer.tops))


def _to_json(value: object) -> bytes:
    """Return a value as JSON: tuples as lists, floats to the last bit, NaN and infinity by name."""
    return to_json(filed(value), inf_nan_mode="constants")


def _connect_to_read(path: Path) -> sqlite3.Connection:
    if path.is_file():
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_PATIENCE_SECONDS)
    db = sqlite3.connect(":memory:")
    db.execute(_TABLE)
    return db


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=_PATIENCE_SECONDS, isolation_level=None, check_same_thread=False)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            # A commit survives a killed process, which is what happens; a power cut may take the last few.
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            if not db.execute("PRAGMA user_version").fetchone()[0]:
                db.execute(_TABLE)
                db.execute(f"PRAGMA user_version = {_FORMAT}")
        except sqlite3.OperationalError as error:
            # Switching to WAL does not wait for another process that does the same.
            if "locked" not in str(error) or time.monotonic() > deadline:
                db.close()
                raise
            time.sleep(0.05)
        else:
            return db


def _unable(model: Model, task: str) -> EngineError:
    hint = "place the model on another engine: --engine NAME=transformers"
    return EngineError(f"the engine of model '{model.id}' cannot {task}", hint=hint)
