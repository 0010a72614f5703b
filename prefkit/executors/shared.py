"""What a worker shares with the others of its run: the memory of answers and the counts, through the hub.

Answers are sent within a few milliseconds, many in one message where they come fast, by a thread of their own: a
message takes about a millisecond, which a model's answer is worth and a fake one is not. So a worker that is killed
loses what it was waiting for, and the answers of the last few milliseconds. Where there is a budget, counts are sent
with every answer, so that all workers stop when together they have spent it.
"""

from collections.abc import Mapping, Sequence
from threading import Condition, Thread
from typing import Any, final
from uuid import uuid4

from prefkit.engines import Spend
from prefkit.engines.answers import Claim
from prefkit.engines.spend import Tally
from prefkit.executors.hub import SILENCE_SECONDS, Counts, added, told

__all__ = ["Shared", "asked"]

_GATHER_SECONDS = 0.002
_MOST = 1000
"""Answers that wait to be sent; then the engine waits."""


@final
class Shared:
    """A Keeps whose answers are in the hub, and the counts of this worker's Spend beside those of the others."""

    def __init__(self, hub: Any, spend: Spend, scope: str = "", silence: float = SILENCE_SECONDS) -> None:
        """Speak to a hub, a handle of a Ray actor. Within a `scope`, only answers given within it are remembered."""
        self._hub, self._spend, self._scope = hub, spend, scope
        self._name = uuid4().hex
        self._waiting: list[tuple[bytes, bytes]] = []
        self._others: Counts = {}
        self._failed: Exception | None = None
        self._woken = Condition()
        self._sending = Condition()
        self._often = silence / 8
        spend.elsewhere = self._elsewhere
        Thread(target=self._send_on, name="prefkit-answers", daemon=True).start()

    def find(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Return the remembered answers of those keys that have one, as JSON."""
        self.flush()
        found: dict[bytes, bytes] = asked(self._hub.find.remote(list(keys), self._scope))
        return found

    def claim(self, keys: Sequence[bytes]) -> Claim:
        """Return what is known and what is to be asked; wait where others are asking all of the rest."""
        self.flush()
        return Claim(*asked(self._hub.claim.remote(self._name, list(keys), self._scope)))

    def release(self, keys: Sequence[bytes]) -> None:
        """Let others ask what has no answer."""
        self.flush()
        asked(self._hub.release.remote(self._name, list(keys)))

    def remember(self, key: bytes, answer: bytes, *, instead: bool = False) -> bool:  # noqa: ARG002 - the scope says it
        """Send an answer soon. It is the first: nobody else asks what was claimed."""
        self._raise_failed()
        with self._woken:
            self._waiting.append((key, answer))
            full = len(self._waiting) >= _MOST
            self._woken.notify()
        if full:
            self.flush()
        return True

    def flush(self) -> None:
        """Send what waits to be sent, and the counts."""
        with self._sending:
            with self._woken:
                answers, self._waiting = self._waiting, []
            counts = told(self._spend.snapshot())
            self._others = asked(self._hub.tell.remote(self._name, answers, counts, self._scope))
        self._raise_failed()

    def _elsewhere(self) -> Mapping[str, Tally]:
        self.flush()
        return added(self._others)

    def _raise_failed(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _send_on(self) -> None:
        while True:
            with self._woken:
                if self._woken.wait_for(lambda: self._waiting, self._often):  # more may come within a moment
                    self._woken.wait_for(lambda: len(self._waiting) >= _MOST, _GATHER_SECONDS)
            try:
                self.flush()
            except Exception as error:  # noqa: BLE001 - raised where the next answer comes
                self._failed = error
                return


def asked(reference: Any) -> Any:
    """Return what the hub says. Raises the error it raised, as what it is.

    Not by `ray.get`, which lends this worker's processor to others while it waits: one of them would be started for it.
    """
    import ray

    try:
        return reference.future().result()
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
