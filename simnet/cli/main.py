"""The command line as a shell sees it: exit status, Ctrl-C, an output that nobody takes. What there is to say stands in `simnet.cli.parser`, imported only then."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
from collections.abc import Sequence

EXIT_USER, EXIT_INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0 for success, 1 for a failed check or cell, 2 for a mistake of the user's, 130 after Ctrl-C.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # nothing here multiplies matrices; starting its threads costs time
    gc.set_threshold(100_000)  # importing makes many objects and hardly any garbage
    try:
        return _run(arguments)
    except KeyboardInterrupt as stop:
        _leave(": ".join(["interrupted", *map(str, stop.args)]), EXIT_INTERRUPTED)
    return EXIT_INTERRUPTED


def _run(arguments: Sequence[str] | None) -> int:
    """Run a command; its output is written when this returns."""
    from simnet.errors import UserError

    try:
        status = _command(arguments)
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"simnet: {error}", file=sys.stderr)
    except BrokenPipeError:
        _close_output()
    except OSError as error:
        _close_output()
        print(f"simnet: standard output: {error.strerror}", file=sys.stderr)
    return EXIT_USER


def _command(arguments: Sequence[str] | None) -> int:
    """Do what the arguments say."""
    from simnet.cli.parser import build_parser

    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.version:
        from importlib.metadata import version

        print(version("simnet-rx"))
        return 0
    if options.command is None:
        parser.print_help()
        return EXIT_USER
    return int(options.act(options))


def _close_output() -> None:
    """Nobody takes the output: do not try again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave(message: str, status: int) -> None:
    """Leave at once: threads that compute or compile are not waited for. Files are written whole or not at all, so nothing is lost."""
    print(f"simnet: {message}", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    if threading.active_count() > 1:
        os._exit(status)
