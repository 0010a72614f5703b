"""The verbs, put together, and what their ends mean as exit codes."""

import errno
import functools
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from prefkit.cli import comparing, keeping, looking, making
from prefkit.cli.lint import lint
from prefkit.cli.process import go_on
from prefkit.cli.verifying import verify
from prefkit.errors import PrefkitError

__all__ = ["STOPPED", "run"]

app = typer.Typer(
    help="Build preference datasets from a recipe, then train on them.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
STOPPED = "stopped; what was finished is kept: the same command goes on from there"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_INTERRUPTED = 130
"""What typer makes of Ctrl-C outside a verb."""
_VERBS: tuple[Callable[..., None], ...] = (
    keeping.new,
    making.plan,
    making.build,
    making.train,
    comparing.compare,
    comparing.ablate,
    looking.show,
    looking.why,
    looking.diff,
    lint,
    keeping.card,
    keeping.report,
    keeping.export,
    looking.stages,
    verify,
    keeping.gc,
)


def _help(verb: Callable[..., None]) -> str:
    """Return a verb's help: its sentence, and its command lines as they stand."""
    sentence, _, examples = (inspect.getdoc(verb) or "").partition("\n\n")
    return f"{sentence}\n\n\b\n{examples}"


class _StoppedError(Exception):
    """Somebody stopped us, and how to leave."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def _stoppable(verb: Callable[..., None]) -> Callable[..., None]:
    """Return the verb with what stops it told apart from errors, before typer turns it into exit codes of its own."""

    @functools.wraps(verb)
    def stoppable(*arguments: object, **options: object) -> None:
        try:
            go_on()
            verb(*arguments, **options)
            sys.stdout.flush()
        except KeyboardInterrupt as error:
            raise _StoppedError(2, STOPPED) from error
        except BrokenPipeError as error:
            _drop_output()  # whoever read it has seen enough: `prefkit show run | head`
            raise _StoppedError(0) from error
        except (MemoryError, SystemError) as error:
            # The latter comes where Python itself went without, and did not say so.
            hint = "fewer --jobs, or a machine with more memory; what is finished is kept"
            raise PrefkitError(f"out of memory: {_first_line(error)}", hint=hint) from error
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            _drop_output()
            what = f"cannot write: {error.strerror}"
            hint = "free space; what is finished is kept, so the same command goes on from there"
            raise PrefkitError(what, where=str(error.filename or "the output"), hint=hint) from error

    return stoppable


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200] or "an allocation failed"


def _drop_output() -> None:
    """If stdout is what cannot be written, send the rest of it nowhere: flushing it at exit would fail again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


for _verb in _VERBS:
    app.command(help=_help(_verb))(_stoppable(_verb))


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from prefkit import __version__

        print(__version__)
        raise typer.Exit


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. What is a bug of prefkit escapes as the exception it is."""
    try:
        command = typer.main.get_command(app)
        code = command.main(list(arguments) or ["--help"], prog_name="prefkit", standalone_mode=False)
    except PrefkitError as error:
        from prefkit.cli.out import show_error

        show_error(error)
        return 2
    except _Misuse as error:
        return _misused(error)
    except _StoppedError as error:
        if error.message:
            print(f"\n{error.message}", file=sys.stderr)
        return error.code
    if code == _INTERRUPTED:
        print(f"\n{STOPPED}", file=sys.stderr)
        return 2
    return code if isinstance(code, int) else 0


# typer brings its own click or uses the installed one, by version; what both raise for a wrong command line is the
# parent of the one such exception that typer names.
_Misuse: Any = typer.BadParameter.__base__


def _misused(error: Any) -> int:
    from prefkit.show import visible

    message = visible(error.format_message().rstrip("."))
    print(f"error: {message[:1].lower()}{message[1:]}", file=sys.stderr)
    if error.ctx is not None:
        print(f"  hint:  {error.ctx.command_path} --help", file=sys.stderr)
    return 2
