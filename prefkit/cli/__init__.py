"""The command line: a thin coat over the same calls that a notebook makes.

Verbs, no nesting; help that is plain text, so that it can be searched and tested. Each verb imports what it needs
when it runs, so that `prefkit --help` costs next to nothing and `plan`, `show` and `stages` never load torch. Exit
codes: 0, 1 for a bug of prefkit (with its traceback) and for errors that `lint` finds, 2 for what the user can mend,
and for Ctrl-C.

Nothing is imported here, so that Ctrl-C is met from the first moment on.
"""

import sys
from collections.abc import Sequence

__all__ = ["main", "run"]


def main() -> None:
    """Run the command line of this process."""
    code = 2
    try:
        from prefkit.cli.process import leave, prepare, settle

        prepare(sys.argv[1:])
        code = run(sys.argv[1:])
        settle()
        leave(code)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. What is a bug of prefkit escapes as the exception it is."""
    from prefkit.cli.app import run as run_app

    return run_app(arguments)
