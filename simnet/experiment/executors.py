"""Where the cells of a sweep are computed: processes on this machine, or a Dask cluster. Outcomes come in the order in which they are ready."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from typing import Any

from simnet import compiled
from simnet.errors import UserError
from simnet.experiment.run import run
from simnet.scenario.schema import Scenario

ATTEMPTS = 3
"""How often a cell may take its process down with it; Dask's own default is the same."""
DASK_TIMEOUT_S = 10


@dataclass(frozen=True)
class Task:
    """A cell to compute: `scenario` is JSON."""

    key: str
    scenario: str
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What became of a task: the result as JSON has it, or what went wrong."""

    key: str
    result: dict[str, Any] | None
    error: str = ""


Outcomes = Generator[Outcome, None, None]
Executor = Callable[[Sequence[Task]], Outcomes]
"""Computes tasks, which come longest first; closing what it returns stops it."""


def compute(task: Task) -> Outcome:
    """Compute one cell, by one thread."""
    try:
        scenario = Scenario.model_validate_json(task.scenario)
        return Outcome(task.key, run(scenario, seed=task.seed, workers=1).as_json())
    except UserError as error:
        return Outcome(task.key, None, str(error))
    except Exception:
        return Outcome(task.key, None, traceback.format_exc())


def _end_with_parent() -> None:
    """However the parent ends, nobody wants this process's results any more."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _serve(connection: Connection) -> None:
    """The life of a worker process: a task in, its outcome out."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send(compute(connection.recv()))


class _Worker:
    """A process and the task it works on. Ctrl-C is the parent's business, so the process starts with the signal blocked."""

    def __init__(self, context: SpawnContext, task: Task) -> None:
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        resource_tracker.ensure_running()  # the first start would do it, and unblock the signal
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        theirs.close()
        self.give(task)

    def give(self, task: Task) -> None:
        """Start on a task. If the process is dead, the connection will say so."""
        self.task = task
        with contextlib.suppress(OSError):
            self.connection.send(task)

    def take(self) -> Outcome | None:
        """The outcome, when the connection is ready; None if the process has died."""
        try:
            outcome: Outcome = self.connection.recv()
        except (EOFError, OSError):
            return None
        return outcome

    def end(self) -> None:
        """Stop at once."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve_all(tasks: Sequence[Task], jobs: int) -> Outcomes:
    """Compute tasks in the given order by a number of processes. A process that dies is replaced and its task tried again."""
    context = multiprocessing.get_context("spawn")
    waiting = deque(tasks)
    deaths: Counter[str] = Counter()
    workers: list[_Worker] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < jobs:
                workers.append(_Worker(context, waiting.popleft()))
            ready = wait([worker.connection for worker in workers])
            for worker in [worker for worker in workers if worker.connection in ready]:
                task, outcome = worker.task, worker.take()
                if outcome is not None and waiting:
                    worker.give(waiting.popleft())
                else:
                    workers.remove(worker)
                    worker.end()
                if outcome is not None:
                    yield outcome
                    continue
                deaths[task.key] += 1
                if deaths[task.key] < ATTEMPTS:
                    waiting.appendleft(task)
                else:
                    yield Outcome(task.key, None, f"its process died {ATTEMPTS} times, with status {worker.process.exitcode}")
    finally:
        for worker in workers:
            worker.end()


def on_this_machine(tasks: Sequence[Task], jobs: int) -> Outcomes:
    """Compute tasks by processes of this machine.

    While the mechanisms are not compiled yet, the last task goes first and alone: one process compiles, all others load the result.
    """
    if tasks and compiled.is_fresh():
        yield from _serve_all(tasks[-1:], 1)
        tasks = tasks[:-1]
    yield from _serve_all(tasks, jobs)


@contextlib.contextmanager
def dask_cluster(address: str) -> Iterator[Executor]:
    """The workers of a Dask cluster, where simnet must be installed in the same version.

    Raises
    ------
    UserError
        If Dask is not installed, or the scheduler does not answer or goes away.
    """
    try:
        distributed: Any = import_module("distributed")
    except ImportError:
        raise UserError("--dask needs Dask, which is not installed: pip install 'simnet-rx[dask]'") from None
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # if the scheduler goes away, one message says so
    try:
        client = distributed.Client(address, timeout=DASK_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(f"--dask {address}: no scheduler answers there: {error}") from None

    def executor(tasks: Sequence[Task]) -> Outcomes:
        futures = {client.submit(compute, task, pure=False, priority=-number): task for number, task in enumerate(tasks)}
        try:
            for future in distributed.as_completed(list(futures), loop=client.loop):
                task = futures.pop(future)
                if future.status == "cancelled":
                    raise UserError(f"--dask {address}: the scheduler went away; --resume goes on with what is missing")
                yield future.result() if future.status == "finished" else Outcome(task.key, None, str(future.exception()))
        finally:
            client.cancel(list(futures))

    with client:
        yield executor
