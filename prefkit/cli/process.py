"""What the command line may do to a process of its own, and a library must not."""

import os
import signal
import sys
import time
from _thread import interrupt_main
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from pathlib import Path
from threading import Timer
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

__all__ = ["go_on", "leave", "prepare", "settle"]

_MOMENT_SECONDS = 0.005
_ONE_PRESS_SECONDS = 0.3
"""Within this, two signals are one Ctrl-C: a wrapper such as `uv run` passes on what the terminal sent already."""
_AT_ONCE = "\nstopped at once; what was finished is kept: the same command goes on from there\n"


def prepare(arguments: Sequence[str]) -> None:
    """Set up this process for a command."""
    _open_streams()
    _spare_warnings()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored, as after nohup
        signal.signal(signal.SIGINT, _Interrupts())
    sys.unraisablehook = _raise_again
    if arguments and {"-h", "--help", "--version"}.isdisjoint(arguments):
        _spare_memory()


def go_on() -> None:
    """Raise KeyboardInterrupt if there was a Ctrl-C that never arrived: libraries lose some while they load."""
    handler = signal.getsignal(signal.SIGINT)
    if isinstance(handler, _Interrupts) and handler.seen:
        raise KeyboardInterrupt


class _Interrupts:
    """What Python does on Ctrl-C, remembered. The second one ends the process, whatever it waits for.

    Workers end with it. Nothing of the store is half written then, but for temporary files, which `gc` removes.
    """

    def __init__(self) -> None:
        self.seen = False
        self._at = 0.0
        self._is_repeated = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now, again = time.monotonic(), self._is_repeated
        self._is_repeated = False
        if self.seen and not again:
            if now - self._at < _ONE_PRESS_SECONDS:
                return
            os.write(2, _AT_ONCE.encode())
            os._exit(2)
        self.seen, self._at = True, self._at if again else now
        signal.default_int_handler(number, frame)

    def repeat(self) -> None:
        """Interrupt the main thread once more for a Ctrl-C that was lost."""
        self._is_repeated = True
        interrupt_main()


def _spare_warnings() -> None:
    """Let the process that Python starts beside workers clear up after them without a word, however they ended."""
    wanted, before = "ignore:resource_tracker:UserWarning", os.environ.get("PYTHONWARNINGS", "")
    if wanted not in before:
        os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [before, wanted]))


def _open_streams() -> None:
    """Give closed streams somewhere to go (`>&-`): else the next file that is opened takes their number."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        continue
    os.close(handle)
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def settle() -> None:
    """Let the end of the process pass undisturbed: all is done, and Ctrl-C could only spoil the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def leave(code: int) -> None:
    """End a process of several that trained together; one that is alone goes on to its ordinary end.

    Threads of torch's collectives may outlive the group, and one that asks for the interpreter while that ends takes the
    process down after all its work is done: torchrun would call the run failed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _raise_again(lost: "UnraisableHookArgs") -> None:
    """Repeat a Ctrl-C that came where nothing can be raised: in a finaliser or a callback, where Python drops it.

    A moment later and from a thread, because here it would be dropped once more.
    """
    if lost.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(lost)
        return
    handler = signal.getsignal(signal.SIGINT)
    again = Timer(_MOMENT_SECONDS, handler.repeat if isinstance(handler, _Interrupts) else interrupt_main)
    again.daemon = True
    with suppress(RuntimeError):  # no thread starts while the interpreter ends: nothing is left to stop then
        again.start()


def _spare_memory() -> None:
    """Keep what prefkit does not use out of this process.

    pyarrow looks for pandas at the first array it makes: 0.4 s and 40 MiB for nothing we use. Its default allocator
    keeps freed pages; the system's gives them back: 25 MiB less at the peak of a build. Whoever uses prefkit as a
    library keeps both.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    sys.meta_path.insert(0, _NoPandas())
    import pyarrow as pa

    pa.array([0])
    sys.meta_path.pop(0)


class _NoPandas(MetaPathFinder):
    """Say that there is no pandas."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:  # noqa: ARG002 - as Python calls it
        if name == "pandas":
            raise ModuleNotFoundError("pandas is kept out of the command line", name=name)
