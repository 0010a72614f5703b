"""Confinement: what a process may no longer do, told to the kernel by the process itself.

Two steps, as two kinds of process need them. The server, which is trusted, leaves the machine's namespaces
(`set_apart`): it then has no network, sees no process but its children, and keeps its files in a small memory disk.
Each child, which is not trusted, then gives up for good what it will not need (`give_up`): its user, its
capabilities, all files but a few to read, and more than a little memory, processor time and processes.

Every step that the kernel refuses is reported, not assumed: containers and distributions forbid different ones. Only
the standard library is used, as nothing else is there inside. Kernel interfaces: namespaces(7), landlock(7),
capabilities(7), setrlimit(2).
"""

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "Apart",
    "Given",
    "Limits",
    "adopt",
    "can_drop_user",
    "children",
    "die_with_parent",
    "drop_disk",
    "give_up",
    "landlock_version",
    "new_disk",
    "set_apart",
]

_NEW_USER, _NEW_PID, _NEW_NET, _NEW_MOUNT = 0x10000000, 0x20000000, 0x40000000, 0x00020000
_NEW_IPC, _NEW_UTS = 0x08000000, 0x04000000
_ALL_NEW = _NEW_PID | _NEW_NET | _NEW_MOUNT | _NEW_IPC | _NEW_UTS
_SET_DEATH_SIGNAL, _SET_DUMPABLE, _SET_KEEP_CAPS, _ADOPT, _SET_NO_NEW_PRIVILEGES = 1, 4, 8, 36, 38
_NO_SUID, _NO_DEV, _RECURSIVE, _PRIVATE, _DETACH = 2, 4, 16384, 1 << 18, 2
_READ_ANYTHING = 1 << 2
"""CAP_DAC_READ_SEARCH: to read an interpreter that lies in root's home; Landlock says which files that means."""
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ, _READ_AND_WRITE_FILE = (1 << 0) | (1 << 2) | (1 << 3), (1 << 1) | (1 << 2) | (1 << 14)
_OF_FILES = (1 << 0) | (1 << 1) | (1 << 2) | (1 << 14) | (1 << 15)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime")
_NOBODY = 0x70000000
"""First of the user ids that nobody has: each jail takes its own, so that processes are counted apart."""


class Limits(NamedTuple):
    """How much one child may use."""

    seconds: float
    """Of processor time."""
    memory: int
    """Bytes of address space of each process."""
    processes: int
    file_size: int
    """Bytes of each file, and of all files together where the kernel grants a memory disk."""


class Apart(NamedTuple):
    """What the server got."""

    network: bool
    """Whether there is no network."""
    processes: bool
    """Whether it sees no process but its own children; its next child is then process 1."""
    disk: bool
    """Whether the working folder is a memory disk of its own."""
    user: bool
    """Whether it is in a user namespace, where processes are counted apart."""


class Given(NamedTuple):
    """What a child gave up."""

    files: bool
    """Whether files of the user can neither be written nor, but for programs and libraries, be read."""


@lru_cache
def _libc() -> ctypes.CDLL:
    # Loaded once, before any child: loading it takes a child five milliseconds.
    return ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Be killed when the parent ends, however it ends."""
    if sys.platform == "linux":
        _libc().prctl(_SET_DEATH_SIGNAL, 9, 0, 0, 0)


def adopt() -> None:
    """Become the parent of what outlives its own parent, so that it can be found and killed."""
    if sys.platform == "linux":
        _libc().prctl(_ADOPT, 1, 0, 0, 0)


def children() -> list[int]:
    """Return the processes that are children of this one. Not for process 1 of a namespace: /proc is not its own."""
    own = os.getpid()
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{own}/task/{own}/children").read_text("ascii").split()]
    return []


def set_apart(work: str, size: int) -> Apart:
    """Leave the machine's namespaces as far as the kernel lets us; `work` becomes a memory disk of `size` bytes."""
    if sys.platform != "linux":
        return Apart(network=False, processes=False, disk=False, user=False)
    libc, user, group = _libc(), os.geteuid(), os.getegid()
    plain = user == 0 and libc.unshare(_ALL_NEW) == 0
    mapped = not plain and libc.unshare(_NEW_USER | _ALL_NEW) == 0
    if mapped:
        with suppress(OSError):
            Path("/proc/self/setgroups").write_text("deny", "ascii")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1", "ascii")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1", "ascii")
    done = plain or mapped
    disk = done and libc.mount(b"none", b"/", None, _RECURSIVE | _PRIVATE, None) == 0 and new_disk(work, size)
    return Apart(network=done, processes=done, disk=disk, user=mapped)


def new_disk(work: str, size: int) -> bool:
    """Put an empty memory disk over a folder, and say whether that could be done."""
    options = f"size={size},nr_inodes=4096,mode=1777".encode()
    return bool(_libc().mount(b"tmpfs", work.encode(), b"tmpfs", _NO_SUID | _NO_DEV, options) == 0)


def drop_disk(work: str) -> None:
    """Take the memory disk off a folder, with all that is in it."""
    _libc().umount2(work.encode(), _DETACH)


def can_drop_user() -> bool:
    """Return whether this process may become another user."""
    if os.geteuid() != 0:
        return False
    child = os.fork()
    if child == 0:
        try:
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def landlock_version() -> int:
    """Return which version of Landlock the kernel has; 0 for none."""
    return max(0, int(_libc().syscall(_LANDLOCK_CREATE, None, 0, 1))) if sys.platform == "linux" else 0


def give_up(work: str, readable: Iterable[str], limits: Limits, *, apart: Apart, jail: int) -> Given:
    """Give up, for good, all that is not needed. `jail` is a number of its own for each jail at one time."""
    version = landlock_version()
    dropped = _drop_user(_NOBODY + jail % (1 << 20), keep_reading=version > 0)
    libc = _libc()
    if sys.platform == "linux":
        libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0)
        libc.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        if not dropped:
            _set_capabilities(0)
    locked = version > 0 and _landlock(version, work, readable)
    if dropped and not locked:
        _set_capabilities(0)
    _limit(limits, counted_apart=dropped or apart.user)
    return Given(files=locked or dropped)


def _drop_user(user: int, *, keep_reading: bool) -> bool:
    """Become a user who owns nothing, if we are root. Capabilities other than reading are gone thereafter."""
    if os.geteuid() != 0:
        return False
    with suppress(OSError):
        if keep_reading and sys.platform == "linux":
            _libc().prctl(_SET_KEEP_CAPS, 1, 0, 0, 0)
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        if keep_reading:
            _set_capabilities(_READ_ANYTHING)
        return True
    return False


def _set_capabilities(low: int) -> None:
    """Keep only these; none if we do not have them."""
    if sys.platform != "linux":
        return
    header = struct.pack("=Ii", 0x20080522, 0)
    for kept in (low, 0):
        if _libc().capset(header, struct.pack("=6I", kept, kept, 0, 0, 0, 0)) == 0:
            return


def _landlock(version: int, work: str, readable: Iterable[str]) -> bool:
    """Forbid all files but these: `work` for everything, the others and the system's programs to read."""
    rights = {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)
    handled = (1 << rights) - 1
    # From version 4 on also TCP, from 6 on also signals and sockets to processes outside.
    fields = [handled] + [3] * (version >= 4) + [3] * (version >= 6)
    libc = _libc()
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = libc.syscall(_LANDLOCK_CREATE, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    rules = [(path, _READ) for path in (*_SYSTEM, *readable)]
    rules += [(path, _READ_AND_WRITE_FILE) for path in _DEVICES] + [(work, handled)]
    for path, allowed in rules:
        with suppress(OSError):
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            fitting = handled if Path(path).is_dir() else handled & _OF_FILES
            rule = struct.pack("=Qi", allowed & fitting, place)
            libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0)
            os.close(place)
    done = libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0) == 0
    os.close(ruleset)
    return bool(done)


def _limit(limits: Limits, *, counted_apart: bool) -> None:
    import resource

    # Where processes of the user are counted with all others, only what they may add to these can be limited.
    others = 2 if counted_apart else _tasks()
    wanted = [
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_AS, limits.memory, limits.memory),
        (resource.RLIMIT_FSIZE, limits.file_size, limits.file_size),
        (resource.RLIMIT_NOFILE, 256, 256),
        (resource.RLIMIT_NPROC, others + limits.processes, others + limits.processes),
    ]
    if limits.seconds > 0:
        whole = int(limits.seconds) + 1
        wanted.append((resource.RLIMIT_CPU, whole, whole + 1))
    for what, soft, hard in wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(what, (soft, hard))


def _tasks() -> int:
    """Return how many tasks the machine has."""
    try:
        return int(Path("/proc/loadavg").read_text("ascii").split()[3].partition("/")[2])
    except (OSError, ValueError, IndexError):
        return 4096
