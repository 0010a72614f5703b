"""Several processes, each with a whole model on devices of its own, that share the requests of a shard.

Requests are dealt by how much text they are, and those with one prompt stay together, so that its prefill is shared. A
process that dies is started again once and asked for what it still owes; what was answered stands, and if it dies
again, the build stops with its last words and goes on from there the next time.
"""

import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from heapq import heapify, heapreplace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import IO, Any, NamedTuple

from prefkit.engines import Answers, Conversation, Model, Request
from prefkit.engines.vllm_open import QUIET, Work
from prefkit.engines.vllm_options import VllmOptions
from prefkit.engines.vllm_worker import Answer, Setup, pack, pack_items, read_answer, unpack
from prefkit.errors import EngineError

__all__ = ["Pool", "deal", "devices_for"]

_CHARACTERS_PER_TOKEN = 4
_PATIENCE_SECONDS = 10.0
_SHOWN = 300


class _Worker(NamedTuple):
    """One process, the pipe to it, and what it writes."""

    process: subprocess.Popen[bytes]
    pipe: Connection
    log: IO[bytes]


class Pool:
    """One model in several processes, started when first asked."""

    def __init__(self, model: Model, work: Work, options: VllmOptions, dtype: str) -> None:
        self._setup = Setup(model, work, options.model_copy(update={"data_parallel": 1}), dtype)
        self._environments = _environments(options)
        self._workers: dict[int, _Worker] = {}
        weakref.finalize(self, _end_all, self._workers)

    def ask(self, method: str, items: Sequence[Any]) -> Answers[Any]:
        """Yield the answer to each item, as each arrives. Raises EngineError for a process that keeps dying."""
        shares = {at: share for at, share in enumerate(deal(items, len(self._environments))) if share}
        owed = {at: dict.fromkeys(share) for at, share in shares.items()}
        revived: set[int] = set()
        try:
            for at in owed:
                self._begin(at)  # all load at once: an order is read only after that
            for at, share in shares.items():
                self._order(at, method, items, share)
            while owed:
                for at in self._speaking(owed):
                    message = self._receive(at)
                    if message is None:
                        self._revive(at, revived)
                        shares[at] = list(owed[at])
                        self._begin(at)
                        self._order(at, method, items, shares[at])
                    elif message.kind == "error":
                        raise EngineError(message.value, hint=message.hint)
                    elif message.kind == "end":
                        del owed[at]
                    else:
                        position = shares[at][message.position]
                        del owed[at][position]
                        yield position, read_answer(method, message)
        finally:
            if owed:  # nobody waits for them any more, and they would come in front of the next answers
                self.close()

    def close(self) -> None:
        """End all processes; they are started again if they are asked again."""
        _end_all(self._workers)

    def pids(self) -> list[int]:
        """Return the ids of the processes that run."""
        return [worker.process.pid for worker in self._workers.values()]

    def _begin(self, at: int) -> None:
        if at not in self._workers:
            self._workers[at] = _start(self._environments[at])
            self._send(at, pack(self._setup))

    def _order(self, at: int, method: str, items: Sequence[Any], share: Sequence[int]) -> None:
        self._send(at, pack_items(method, [items[position] for position in share]))

    def _send(self, at: int, message: bytes) -> None:
        try:
            self._workers[at].pipe.send_bytes(message)
        except OSError:
            return  # it is dead, which the next look at the pipe finds out

    def _speaking(self, owed: Mapping[int, object]) -> list[int]:
        ready = wait([self._workers[at].pipe for at in owed])
        return [at for at in owed if self._workers[at].pipe in ready]

    def _receive(self, at: int) -> Answer | None:
        """Return what a process says, None if it is dead."""
        try:
            answer: Answer = unpack(Answer, self._workers[at].pipe.recv_bytes())
        except (EOFError, OSError):
            return None
        return answer

    def _revive(self, at: int, revived: set[int]) -> None:
        """Make room for a new process in the place of a dead one. Raises EngineError the second time."""
        worker = self._workers.pop(at)
        code = _end(worker)
        if at in revived:
            what = f"a vllm process ended with code {code}, twice over: {_last_words(worker.log)}"
            hint = "build again: answered requests are kept; less memory is 'gpu_memory_utilization' or 'max_num_seqs'"
            raise EngineError(what, hint=hint)
        revived.add(at)


def deal(items: Sequence[Any], workers: int) -> list[list[int]]:
    """Return the positions of each worker's items: about as much text each, equal prompts together."""
    together: dict[object, list[int]] = {}
    for position, item in enumerate(items):
        key: object = (item.messages, item.tools) if isinstance(item, Request) else position
        together.setdefault(key, []).append(position)
    weights = {key: sum(_tokens(items[position]) for position in some) for key, some in together.items()}
    shares: list[list[int]] = [[] for _ in range(workers)]
    heap = [(0.0, worker) for worker in range(workers)]
    heapify(heap)
    for key in sorted(together, key=lambda key: -weights[key]):
        load, worker = heap[0]
        shares[worker] += together[key]
        heapreplace(heap, (load + weights[key], worker))
    return shares


def devices_for(options: VllmOptions, visible: Sequence[str]) -> list[str]:
    """Return CUDA_VISIBLE_DEVICES for each process. Raises EngineError if there are too few devices."""
    each, wanted = options.devices, options.data_parallel * options.devices
    if len(visible) < wanted:
        what = f"data_parallel={options.data_parallel} times {each} devices is {wanted}, and there are {len(visible)}"
        raise EngineError(
            what, where="--engine", hint="lower data_parallel, or show more in CUDA_VISIBLE_DEVICES"
        )
    return [",".join(visible[at * each : (at + 1) * each]) for at in range(options.data_parallel)]


def _environments(options: VllmOptions) -> list[dict[str, str]]:
    """Return what each process finds in its environment, beside what this one has."""
    from vllm.platforms import current_platform

    if current_platform.device_type == "cpu":
        # Each would bind its threads to the first cores, all to the same ones.
        return [{"VLLM_CPU_OMP_THREADS_BIND": os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "nobind")}] * (
            options.data_parallel
        )
    import torch

    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = [str(at) for at in range(torch.cuda.device_count())] if told is None else told.split(",")
    return [{"CUDA_VISIBLE_DEVICES": some} for some in devices_for(options, visible)]


def _tokens(item: Any) -> float:
    """Return about how many tokens an item is, read and written."""
    turns = item.prompt + item.response if isinstance(item, Conversation) else item.messages
    written = item.max_tokens if isinstance(item, Request) else 0
    return sum(len(turn.content or "") for turn in turns) / _CHARACTERS_PER_TOKEN + written


def _start(more: Mapping[str, str]) -> _Worker:
    mine, its = Pipe()
    log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
    process = subprocess.Popen(
        [sys.executable, "-m", "prefkit.engines.vllm_worker", str(its.fileno())],
        pass_fds=[its.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env={**QUIET, **os.environ, **more},
    )
    its.close()
    return _Worker(process, mine, log)


def _end(worker: _Worker) -> int:
    """End a process and return its exit code; its pipe's end is the sign to go."""
    worker.pipe.close()
    try:
        return worker.process.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        worker.process.kill()
        return worker.process.wait()


def _end_all(workers: dict[int, _Worker]) -> None:
    ended = list(workers.values())
    workers.clear()
    for worker in ended:
        worker.pipe.close()
    for worker in ended:
        _end(worker)
        worker.log.close()


def _last_words(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    log.close()
    return lines[-1][:_SHOWN] if lines else "it said nothing"
