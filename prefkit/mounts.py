"""Mounts: whether a folder is on a disk of this machine, or on a file system that other machines share."""

import re
from pathlib import Path

__all__ = ["is_shared", "kind_of"]

_TABLE = Path("/proc/self/mountinfo")
_SHARED = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
    }
    | {"orangefs", "panfs", "smb3", "smbfs", "wekafs"}
)


def is_shared(path: Path) -> bool:
    """Say whether other machines may have the same file system, as with NFS; a mounted bucket counts as one."""
    kind = kind_of(path)
    return kind in _SHARED or kind.startswith("fuse.")


def kind_of(path: Path, table: str | None = None) -> str:
    """Return the kind of file system a path is on, `ext4` or `nfs4`; "" where the system does not tell, as on macOS.

    `table` is in the form of /proc/self/mountinfo.
    """
    try:
        lines = (
            _TABLE.read_text(encoding="utf-8", errors="replace") if table is None else table
        ).splitlines()
    except OSError:
        return ""
    place, found, depth = path.absolute().resolve(), "", -1
    for line in lines:
        before, sign, after = line.partition(" - ")
        fields = before.split(" ")
        if not sign or len(fields) < 5:
            continue
        mount = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4]))
        if (
            place.is_relative_to(mount) and len(mount.parts) >= depth
        ):  # of two on one folder the later one shows
            found, depth = after.split(" ")[0], len(mount.parts)
    return found
