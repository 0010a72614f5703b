"""Leases: who works on a store in object storage, where there are no locks.

A build writes `leases/build-….json` and writes it again every half minute; `gc` does the same under its own name. Both
write theirs first and look at the others' then, so of two that begin at once at least one sees the other: `gc` refuses
while a build's lease is fresh, and a build waits while one of `gc` is. How old a lease is, is the difference of two times
that the storage itself gave, so no machine's clock matters.

A lease that was not renewed for five minutes is stale: its holder was killed, or sleeps. Whoever goes on in spite of it
writes `….revoked` beside it first, and a holder that wakes up finds that before it files a step or a ref.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from prefkit.disk import Entry
from prefkit.errors import StoreError
from prefkit.remote import Remote
from prefkit.remote_errors import is_refused
from prefkit.threads import every

__all__ = ["BEAT_SECONDS", "STALE_SECONDS", "Lease", "leased"]

BEAT_SECONDS = 30.0
STALE_SECONDS = 300.0
_POLL_SECONDS = 2.0
_FOLDER = "leases"
_SUFFIX = ".json"
_REVOKED = ".revoked"
_FORGOTTEN_SECONDS = 30 * 86400.0
"""After which a revoked lease is no longer told from one that never was: its holder is long gone."""


class Lease(NamedTuple):
    """A lease that this process holds."""

    remote: Remote
    name: str

    def renew(self) -> None:
        """Say that its holder is alive."""
        self.remote.write(self.name + _SUFFIX, b"{}\n")

    def check(self) -> None:
        """Raise StoreError if the lease was revoked: what this holder relies on may have been collected since."""
        self.remote.uploads.wait()  # which may take long, and what is filed next is filed right after the look
        if self.remote.read(self.name + _REVOKED) is not None:
            what = f"this build was not heard of for {STALE_SECONDS / 60:.0f} minutes, and others went on without it"
            hint = "run it again: what was filed before is used"
            raise StoreError(what, where=self.remote.where(self.name + _SUFFIX), hint=hint)


@contextmanager
def leased(remote: Remote, *, exclusive: bool, beat: Callable[[], None]) -> Iterator[Lease | None]:
    """Hold a lease, and do `beat` with each renewal. Raises StoreError if it is exclusive and builds are running.

    Where this machine may only read, it holds none: it files nothing, and reads what it finds.
    """
    kind = "gc" if exclusive else "build"
    lease = Lease(remote, f"{_FOLDER}/{kind}-{secrets.token_hex(8)}")
    try:
        lease.renew()
    except StoreError as error:
        if exclusive or not is_refused(error.__cause__):
            raise
        yield None
        return
    try:
        _make_way(lease, exclusive=exclusive)
        with _beating(lease, beat):
            yield lease
    finally:
        with suppress(StoreError):  # it goes stale by itself
            remote.remove([lease.name + _SUFFIX])


def _make_way(lease: Lease, *, exclusive: bool) -> None:
    """Wait for, refuse because of, or revoke the leases that this one cannot stand beside."""
    while True:
        found = lease.remote.listed(_FOLDER)
        now = _now(found, lease)
        others = [name for name in found if _stands(name, found, lease, exclusive=exclusive)]
        fresh = [name for name in others if not _is_stale(found[name], now, lease)]
        for name in set(others) - set(fresh):
            lease.remote.write(name.removesuffix(_SUFFIX) + _REVOKED, b"{}\n")
        if exclusive and fresh:
            what = "a build is running on this store, or was killed less than five minutes ago"
            raise StoreError(what, where=lease.remote.shown, hint="run it again when the build has finished")
        if exclusive:
            _forget(found, now, lease.remote)
        if not fresh:
            return
        time.sleep(_POLL_SECONDS)
        lease.renew()


def _now(found: dict[str, Entry], lease: Lease) -> float:
    """Return the storage's time: that of the lease, which was written just now."""
    entry = found.get(lease.name + _SUFFIX)
    if entry is None:
        what = "the storage does not list what was written to it just now, so nobody sees who works on it"
        raise StoreError(what, where=lease.remote.shown, hint="give a --store whose listings are not delayed")
    return entry.at


def _stands(name: str, found: dict[str, Entry], lease: Lease, *, exclusive: bool) -> bool:
    """Say whether a name is another's lease that this one has to heed: `gc` heeds all, a build those of `gc`."""
    if name == lease.name + _SUFFIX or not name.endswith(_SUFFIX):
        return False
    if name.removesuffix(_SUFFIX) + _REVOKED in found:
        return False
    return exclusive or name.startswith(f"{_FOLDER}/gc-")


def _is_stale(entry: Entry, now: float, lease: Lease) -> bool:
    age = now - entry.at
    if age != age:  # noqa: PLR0124 - NaN: the storage does not say when files were written
        what = "the storage does not say when a file was written, so nobody knows whether builds are running"
        raise StoreError(
            what, where=lease.remote.shown, hint="collect garbage on a copy, or with its own tools"
        )
    return age > STALE_SECONDS


def _forget(found: dict[str, Entry], now: float, remote: Remote) -> None:
    old = [name for name in found if name.endswith(_REVOKED) and now - found[name].at > _FORGOTTEN_SECONDS]
    remote.remove([*old, *(name.removesuffix(_REVOKED) + _SUFFIX for name in old)])


@contextmanager
def _beating(lease: Lease, beat: Callable[[], None]) -> Iterator[None]:
    """Renew the lease while this process works. What else is done may take long, so each has a thread of its own."""

    def trying(act: Callable[[], None]) -> Callable[[], None]:
        def tried() -> None:
            with suppress(StoreError):  # said when something is filed; until then it is tried again
                act()

        return tried

    with (
        every(BEAT_SECONDS, trying(lease.renew), "prefkit-lease"),
        every(BEAT_SECONDS, trying(beat), "prefkit-lease"),
    ):
        yield
