"""What commands write besides their text: one JSON object on standard output, a progress bar on standard error."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simnet.experiment.replicate import Progress

WHOLE_RUN_S = 1e9


def print_json(content: Any) -> None:
    """Print one object."""
    import json

    json.dump(content, sys.stdout, indent=1, allow_nan=False)
    print()


@contextmanager
def progress_bar(what: str, left: bool = False, compiles: bool = True) -> Iterator[Progress | None]:
    """A progress bar on standard error, if that is a terminal; with the time that is `left`, or else the time that has passed."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from simnet import compiled

    time_column = TimeRemainingColumn() if left else TimeElapsedColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), time_column)
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=WHOLE_RUN_S) as bar:
        first = "compiling the mechanisms (once, about a minute)" if compiles and compiled.is_fresh() else what
        task = bar.add_task(first, total=None if first != what else 1.0)

        def show(doing: str, share: float) -> None:
            if not (compiles and compiled.is_fresh()):
                bar.update(task, description=f"{what}: {doing}", completed=share, total=1.0)

        yield show


@contextmanager
def resumable_progress(what: str, part: str, out: str, compiles: bool = True) -> Iterator[Progress]:
    """A progress bar for work that --resume goes on with: Ctrl-C says which parts are kept in `out`."""
    kept = f"before another {part} was finished"
    with progress_bar(what, left=True, compiles=compiles) as show:

        def note(doing: str, share: float) -> None:
            nonlocal kept
            kept = f"{doing} are kept in {out}; --resume goes on"
            if show is not None:
                show(doing, share)

        try:
            yield note
        except KeyboardInterrupt:
            raise KeyboardInterrupt(kept) from None
