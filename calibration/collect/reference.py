"""How fast the machine is at this moment, whatever it is asked to do: small benchmarks beside every window.

On a shared host the same point can move by half within minutes. Dividing a window by these brings it back to the host's ordinary speed, as
far as that is possible at all.
"""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections.abc import Callable

from calibration.collect.tracepoints import event_ns
from calibration.workers import READY, Worker

_ROUNDS = 5
_BLOCK = 1 << 20
_SPINS, _CALLS, _COPIES, _PINGS = 20_000, 4_000, 8, 100


def _best_ns(function: Callable[[], object], operations: int) -> float:
    """Nanoseconds an operation takes when nobody interferes: the fastest of a few rounds."""
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter_ns()
        function()
        times.append(time.perf_counter_ns() - began)
    return min(times) / operations


def _spin() -> None:
    for _ in range(_SPINS):
        pass


def _system_calls() -> None:
    call = os.getppid
    for _ in range(_CALLS):
        call()


class Reference:
    """The benchmarks on one CPU; the wake-ups go to a process on another one and back."""

    def __init__(self, cpu: int, other_cpu: int) -> None:
        self._cpu = cpu
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._echo = Worker(__name__, other_cpu, None, (theirs.fileno(),), descriptor=theirs.fileno())
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        """Process id of the one that answers."""
        return self._echo.pid

    def measure(self) -> dict[str, float | None]:
        """Run all of them, some 100 ms; columns of a record. Without tracepoints no event of a trace is measured."""
        everywhere = os.sched_getaffinity(0)
        source, target = bytearray(_BLOCK), bytearray(_BLOCK)

        def copy() -> None:
            for _ in range(_COPIES):
                target[:] = source

        os.sched_setaffinity(0, {self._cpu})
        try:
            return {
                "reference_spin_ns": _best_ns(_spin, _SPINS),
                "reference_system_call_ns": _best_ns(_system_calls, _CALLS),
                "reference_memcpy_ns_per_kib": _best_ns(copy, _COPIES * _BLOCK // 1024),
                "reference_wake_up_us": statistics.median(self._ping() for _ in range(_PINGS)),
                "reference_event_ns": self._event_ns(),
            }
        finally:
            os.sched_setaffinity(0, everywhere)

    def _event_ns(self) -> float | None:
        try:
            return event_ns(self._cpu, lambda: _best_ns(_system_calls, _CALLS))
        except OSError:
            return None

    def _ping(self) -> float:
        """Microseconds to wake the other process, or to be woken: half a round trip."""
        began = time.perf_counter_ns()
        self._socket.send(b".")
        self._socket.recv(1)
        return (time.perf_counter_ns() - began) / 2e3

    def close(self) -> None:
        """End the process that answers."""
        self._echo.close()
        self._socket.close()


def work(page: memoryview, descriptor: int) -> None:
    """Answer until killed."""
    answering = socket.socket(fileno=descriptor)
    page[READY] = 1
    while answering.recv(1):
        answering.send(b".")
