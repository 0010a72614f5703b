"""Joining a Ray cluster quietly, and saying what is wrong where that fails."""

import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from prefkit import __version__
from prefkit.errors import PrefkitError

__all__ = ["failure", "got", "join", "quiet", "story"]

_FLAG = "--ray-address"
_KNOCK_SECONDS = 10.0
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # What Ray's core and its nodes say goes to the terminal, the answers' stdout included, and to Ray's logs: there it
    # is of use, and here it can be kept out in no other way.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",
}


def join(address: str) -> bool:
    """Connect to a cluster: by address, else by what Ray finds, else one is started on this machine.

    Return False if this process is connected already. Raises PrefkitError if there is no cluster at the address, or if it
    is of another version of Ray or Python.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return False
    if address.startswith("ray://"):
        what = "a build is a part of the cluster, and Ray's client is none"
        hint = "run prefkit on a node of the cluster, or as a job: ray job submit -- prefkit build ..."
        raise PrefkitError(what, where=f"{_FLAG} {address}", hint=hint)
    _knock(address or os.environ.get("RAY_ADDRESS", ""))
    with _caught() as said:
        try:
            ray.init(
                address=address or None,
                include_dashboard=False if not address else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
            said.seek(0)
            raise _unreachable(error, address, said.read().decode(errors="replace")) from error
    return True


def _knock(address: str) -> None:
    """Raise PrefkitError if nobody listens at HOST:PORT: Ray itself tries for a quarter of an hour."""
    host, sign, port = address.rpartition(":")
    if not sign or not port.isdecimal():
        if address in ("", "auto", "local"):
            return
        raise PrefkitError(f"'{address}' is not HOST:PORT", where=_FLAG, hint=f"{_FLAG} 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_SECONDS).close()
    except (OSError, OverflowError) as error:
        hint = "`ray status` on the head node says whether the cluster runs, and at which address"
        what = f"no Ray cluster answers: {error}"
        raise PrefkitError(what, where=f"{_FLAG} {address}", hint=hint) from error


@contextmanager
def _caught() -> Iterator[BinaryIO]:
    """Keep what this process and its libraries write to the terminal while Ray starts."""
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with TemporaryFile() as file:
            os.dup2(file.fileno(), 2)
            try:
                yield file
            finally:
                os.dup2(terminal, 2)
    finally:
        os.close(terminal)


def quiet() -> Any:
    """Return a context of Ray Data that draws no bars and prints no plans."""
    from ray.data import DataContext

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context = DataContext.get_current().copy()  # which sets what Ray itself has deprecated
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return context


def story() -> str:
    """Say which cluster this is: `2 nodes, 16 CPUs, 4 GPUs at 10.0.0.1:6379`."""
    import ray

    nodes = sum(node["Alive"] for node in ray.nodes())
    found = ray.cluster_resources()
    parts = [_many(nodes, "node"), _many(int(found.get("CPU", 0)), "CPU")]
    parts += [_many(int(found["GPU"]), "GPU")] if found.get("GPU") else []
    return f"{', '.join(parts)} at {ray.get_runtime_context().gcs_address}"


def got(reference: Any) -> Any:
    """Return what a task returned. Raises what `failure` makes of what went wrong."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        raise failure(error) from error


def failure(error: Any) -> BaseException:
    """Return what to raise for what Ray raised: a bug of a stage is raised as what it is."""
    import ray

    cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else None
    if "No module named 'prefkit" in str(error):
        hint = f"on every node: pip install 'prefkit[ray]=={__version__}'"
        return PrefkitError("a worker has no prefkit", hint=hint)
    if isinstance(cause, BaseException):
        return cause
    hint = "the logs of the cluster have more: `ray logs`; what is finished is kept"
    text = " ".join(str(error).split())[:300]
    return PrefkitError(f"Ray cannot make a part: {text}", hint=hint)


def _many(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"


def _unreachable(error: Exception, address: str, said: str) -> PrefkitError:
    """Return what to say, from the error and from what Ray wrote before it."""
    text = " ".join(str(error).split())
    where = f"{_FLAG} {address}" if address else os.environ.get("RAY_ADDRESS", "")
    if "mismatch" in text.lower():
        hint = "the build and every node need the same versions of Python, Ray and prefkit"
        return PrefkitError(f"the cluster has other versions: {text[:300]}", where=where, hint=hint)
    if "AuthToken" in said or "token" in text.lower():
        hint = "RAY_AUTH_MODE=token, and the cluster's token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        return PrefkitError("the Ray cluster asks for its token", where=where, hint=hint)
    hint = "`ray status` on the head node says whether it runs; prefkit must run on a node of the cluster"
    return PrefkitError(f"no Ray cluster can be joined: {text[:200]}", where=where, hint=hint)
