"""Run all cells of a design, each once, whatever happens in between."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from simnet.errors import UserError
from simnet.experiment.cells import Cell, expand
from simnet.experiment.design import Design, Label, load_design
from simnet.experiment.executors import Executor, Outcome, Task, dask_cluster, on_this_machine
from simnet.experiment.replicate import Progress, silent
from simnet.experiment.store import SCHEMA, Store, manifest_of
from simnet.experiment.tables import Row, cell_row, replication_rows, write_parquet
from simnet.files import write_whole


@dataclass(frozen=True)
class Failure:
    """A cell without a result, and why."""

    key: str
    factors: Mapping[str, Label]
    error: str


@dataclass(frozen=True)
class Sweep:
    """What a sweep left in its folder: `rows` is cells.parquet, `kept` the number of cells that an earlier run had finished, `seconds` the worker
    time of all of them."""

    design: str
    title: str
    seed: int
    out: Path
    factors: tuple[str, ...]
    cells: int
    kept: int
    seconds: float
    rows: list[Row]
    failed: tuple[Failure, ...]

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {
            "schema": SCHEMA,
            "design": self.design,
            "title": self.title,
            "seed": self.seed,
            "out": str(self.out),
            "cells": self.cells,
            "kept": self.kept,
            "failed": [{"cell": f.key, "factors": dict(f.factors), "error": f.error} for f in self.failed],
            "results": self.rows,
        }


def _compute(todo: list[Cell], outcomes: Iterable[Outcome], store: Store, progress: Progress) -> tuple[Failure, ...]:
    """Keep outcomes as they come. Progress is counted in simulated seconds, because cells differ."""
    cells = {cell.key: cell for cell in todo}
    whole, done, failed = sum(cell.seconds for cell in todo), 0.0, []
    for number, outcome in enumerate(outcomes, 1):
        cell = cells[outcome.key]
        error = store.keep(outcome)
        if error:
            failed.append(Failure(cell.key, cell.factors, error))
        done += cell.seconds
        progress(f"{number} of {len(todo)} cells", done / whole)
    return tuple(sorted(failed, key=lambda failure: failure.key))


def _write_tables(store: Store, factors: tuple[str, ...]) -> list[Row]:
    """Write both tables. Returns the rows of the one with a row a cell."""
    cells, replications = [], []
    for stored in store.results():
        cells.append(cell_row(stored))
        replications += replication_rows(stored)
    for name, rows in (("cells.parquet", cells), ("results.parquet", replications)):
        write_whole(store.directory / name, partial(write_parquet, rows, factors))
    return cells


def sweep(
    design: Design | str,
    *,
    out: Path | str,
    seed: int = 1,
    jobs: int | None = None,
    resume: bool = False,
    dask: str | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Run all cells of a design and leave the results in a folder.

    The bytes of the results depend on design and seed alone: not on the number of processes, on where they run, or on how often the
    sweep was stopped and resumed.

    Parameters
    ----------
    design
        A built-in name, the path of a .yaml file, or a design that was loaded.
    out
        The folder: `design.json` (what was asked), `cells/` (a result each), `failed/`, `cells.parquet`, `results.parquet`.
    seed
        Of every cell.
    jobs
        Processes; the number of processors if not given. A program that calls this must protect its main module, as all that use
        `multiprocessing` (``if __name__ == "__main__":``).
    resume
        Go on with what an earlier run left in `out`.
    dask
        Address of a Dask scheduler, whose workers then compute the cells.
    progress
        Called after each cell with what was done and its share.

    Raises
    ------
    UserError
        Before anything runs: if the design or one of its cells is wrong, or `out` cannot be used.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs {jobs}: at least 1")
    if isinstance(design, str):
        design = load_design(design)
    cells = expand(design)
    with ExitStack() as stack:
        here: Executor = partial(on_this_machine, jobs=jobs or os.cpu_count() or 1)
        executor = here if dask is None else stack.enter_context(dask_cluster(dask))
        store = stack.enter_context(closing(Store(Path(out), manifest_of(design, cells, seed), resume)))
        finished = store.finished()
        todo = sorted((cell for cell in cells if cell.key not in finished), key=lambda cell: -cell.seconds)
        tasks = [Task(cell.key, cell.scenario, seed) for cell in todo]
        outcomes = stack.enter_context(closing(executor(tasks)))
        failed = _compute(todo, outcomes, store, progress or silent)
        factors = tuple(dict.fromkeys(name for cell in cells for name in cell.factors))
        rows, seconds = _write_tables(store, factors), store.seconds()
    kept = len(cells) - len(todo)
    return Sweep(design.name, design.title, seed, Path(out), factors, len(cells), kept, seconds, rows, failed)
