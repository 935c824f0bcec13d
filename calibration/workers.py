"""Processes of the lab: pinned, in a namespace, dying with their parent, counting in a page that both see.

A worker runs `work(page, **arguments)` of a module. It is a Python of its own, not a fork, so that no thread, lock or import of the parent's
comes along. Words 0 and 1 of the page are the same for all: ready, and packets.
"""

from __future__ import annotations

import gc
import importlib
import json
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO, Any

from calibration import syscalls
from calibration.lab.namespaces import Namespace
from simnet.errors import UserError

READY, PACKETS, FIRST_FREE = 0, 1, 2
PAGE_BYTES = mmap.PAGESIZE
_LONGEST_START_S = 10.0


class Worker:
    """A process that runs `work` of `module` on one CPU.

    Parameters
    ----------
    module
        Name of the module, such as `calibration.capture.recv`.
    cpu
        The CPU it may run on.
    namespace
        Where it lives; the caller's if None.
    descriptors
        Open files it needs under the same numbers.
    arguments
        Keyword arguments of `work`; plain JSON.

    Raises
    ------
    UserError
        If it ends before it is ready.
    """

    def __init__(
        self, module: str, cpu: int, namespace: Namespace | None = None, descriptors: Sequence[int] = (), **arguments: Any
    ) -> None:
        self.name = module.rpartition(".")[2]
        shared = os.memfd_create("page")
        errors = os.memfd_create("errors")
        try:
            os.ftruncate(shared, PAGE_BYTES)
            self._memory = mmap.mmap(shared, PAGE_BYTES)
            self.page = memoryview(self._memory).cast("Q")
            room = -1 if namespace is None else namespace.descriptor
            call = json.dumps([module, os.getpid(), shared, cpu, room, arguments])
            self._process = subprocess.Popen(
                [sys.executable, "-m", "calibration.workers", call],
                pass_fds=(shared, *descriptors, *(() if room < 0 else (room,))),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
            self.pid = self._process.pid
            self._wait_until_ready(os.fdopen(os.dup(errors), "rb"))
        finally:
            os.close(shared)
            os.close(errors)

    def _wait_until_ready(self, errors: IO[bytes]) -> None:
        limit = time.monotonic() + _LONGEST_START_S
        with errors:
            while not self.page[READY]:
                if self._process.poll() is None and time.monotonic() < limit:
                    time.sleep(0.001)
                    continue
                self._process.kill()
                self._process.wait()
                errors.seek(0)
                words = errors.read().decode(errors="replace").strip().splitlines()
                raise UserError(f"the lab's {self.name} process did not start: {words[-1] if words else 'it gave no reason'}")

    @property
    def packets(self) -> int:
        """What it has counted so far."""
        return self.page[PACKETS]

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def interrupt(self, seconds: float) -> bool:
        """Send it SIGINT and wait for some time; whether it has ended."""
        if self.alive:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """End it, and wait for that."""
        self._process.kill()
        self._process.wait()
        self.page.release()
        self._memory.close()


def main(call: str) -> None:
    """Be a worker."""
    module, parent, shared, cpu, namespace, arguments = json.loads(call)
    syscalls.die_with_parent(parent)
    os.sched_setaffinity(0, {cpu})
    if namespace >= 0:
        syscalls.setns(namespace)
    work = importlib.import_module(module).work
    page = memoryview(mmap.mmap(shared, PAGE_BYTES)).cast("Q")
    gc.disable()
    work(page, **arguments)


if __name__ == "__main__":
    main(sys.argv[1])
