"""Uploads: objects and parts on their way to object storage while a build goes on making the next.

Each upload waits for the storage and does nothing meanwhile, so a few go side by side. What a record names is there
before the record is: a part is sent only once the objects sent before it are there, and whoever writes a manifest or a
ref waits for everything first. An upload that fails is told to whoever sends or waits next, and from then on no record
is written. Outside a build everything is done at once, by whoever asks for it.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Lock

__all__ = ["Uploads"]

_AT_ONCE = 8
_WAITING = 24
"""Uploads under way or waiting: of a build that is killed, so many parts at most are made again."""


class Uploads:
    """What is under way, the oldest first."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._under_way: deque[Future[None]] = deque()
        self._error: Exception | None = None
        self._lock = Lock()

    def begin(self) -> None:
        """Let uploads go on beside the work from now on."""
        self.end()
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="prefkit-upload")

    def end(self) -> None:
        """Wait for what is under way, and do all that comes at once. What failed is told no more: no record names it."""
        with suppress(Exception):
            self.wait()
        pool, self._pool, self._error = self._pool, None, None
        if pool is not None:
            pool.shutdown()

    def send(self, upload: Callable[[], None]) -> None:
        """Do an upload, by and by. Raises StoreError, of this one or of one before."""
        self._submit(upload)

    def send_after(self, upload: Callable[[], None]) -> None:
        """Do an upload once all those before it are done; not at all if one of them fails. Raises StoreError."""
        with self._lock:
            before = list(self._under_way)

        def follow() -> None:
            for each in before:
                each.result()
            upload()

        self._submit(follow)

    def wait(self) -> None:
        """Wait until everything is done. Raises StoreError if something failed."""
        with self._lock:
            self._leave(0)

    def _submit(self, upload: Callable[[], None]) -> None:
        if self._pool is None:
            upload()
            return
        with self._lock:
            self._leave(_WAITING - 1)
            self._under_way.append(self._pool.submit(upload))

    def _leave(self, most: int) -> None:
        """Wait until no more than so many are under way, the oldest first."""
        while self._under_way and (len(self._under_way) > most or self._under_way[0].done()):
            try:
                self._under_way.popleft().result()
            except Exception as error:  # noqa: BLE001 - raised below, and again for every record
                self._error = self._error or error
        if self._error is not None:
            raise self._error
