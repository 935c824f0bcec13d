"""How many packets a NAPI poll takes, and how long NET_RX softirqs run: the tracepoints napi:napi_poll, irq:softirq_entry and irq:softirq_exit.

A tick-sampled /proc/stat says nothing about softirqs of some microseconds; their entries and exits do. Keep it short: every poll and every softirq costs a little more meanwhile. What an
event costs is measured as well (`event_ns`), so that it can be taken off.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass

from calibration.collect.perf_ring import PerfRing, Reader, Tracepoint, tracepoints, watch

MOST = 64
"""A poll takes at most this (`NAPI_POLL_WEIGHT`)."""
_NET_RX, _FURTHER_RINGS = 3, 2


@dataclass(frozen=True)
class Polls:
    """Polls of one interface's NAPI instance during `seconds`; `batches[n]` polls took n packets. `lost` events are missing.

    `softirq_s`: time in NET_RX softirqs on the CPU asked for; None if events are missing or nobody asked. `softirq_events` were written in that time, as far as the trace itself goes: one a softirq (the
    second half of its entry, the first of its exit), and one a poll.
    """

    seconds: float
    batches: tuple[int, ...]
    lost: int
    softirq_s: float | None
    softirq_events: int | None


def time_inside(entries: list[int], exits: list[int], began: int, ended: int) -> int:
    """Time between entries and exits, in the unit of the times. What had begun before counts from `began`, what goes on counts until `ended`."""
    marks = sorted([(at, 1) for at in entries] + [(at, -1) for at in exits])
    inside = bool(marks) and marks[0][1] == -1
    since, total = began, 0
    for at, step in marks:
        if step == 1:
            since, inside = at, True
        elif inside:
            total, inside = total + at - since, False
    return total + (ended - since if inside else 0)


def watch_polls(cpus: tuple[int, ...], interface: str, seconds: float, softirq_cpu: int | None = None) -> Polls:
    """Collect events of all polls on some CPUs, and of NET_RX softirqs on one, for a while.

    Raises
    ------
    OSError
        If there is no tracefs, no such tracepoint, or no right to use it.
    """
    poll, entry, leave = tracepoints("napi/napi_poll", "irq/softirq_entry", "irq/softirq_exit")
    batches, entries, exits, polls_there = [0] * (MOST + 1), list[int](), list[int](), 0
    wanted = interface.encode()

    def on_poll(at: int, raw: bytes) -> None:
        del at
        name_at = struct.unpack_from("H", raw, poll.offsets["dev_name"])[0]
        if raw[name_at:].split(b"\0", 1)[0] == wanted:
            batches[min(MOST, struct.unpack_from("i", raw, poll.offsets["work"])[0])] += 1

    def marking(times: list[int], point: Tracepoint) -> Reader:
        def on_softirq(at: int, raw: bytes) -> None:
            if struct.unpack_from("I", raw, point.offsets["vec"])[0] == _NET_RX:
                times.append(at)

        return on_softirq

    def on_poll_there(at: int, raw: bytes) -> None:
        nonlocal polls_there
        polls_there += 1
        on_poll(at, raw)

    polls = [(poll, cpu, on_poll_there if cpu == softirq_cpu else on_poll) for cpu in cpus]
    softirqs = [] if softirq_cpu is None else [(p, softirq_cpu, marking(t, p)) for t, p in ((entries, entry), (exits, leave))]
    began, ended, missed = watch([*polls, *softirqs], seconds)
    lost, softirqs_lost = sum(missed[: len(polls)]), sum(missed[len(polls) :])
    whole = softirq_cpu is not None and not softirqs_lost
    marks = [[at for at in times if began <= at <= ended] for times in (entries, exits)]
    spent = time_inside(marks[0], marks[1], began, ended) / 1e9 if whole else None
    events = None if spent is None else len(marks[1]) + polls_there
    return Polls((ended - began) / 1e9, tuple(batches), lost, spent, events)


def event_ns(cpu: int, call: Callable[[], float]) -> float:
    """What one traced event costs, in ns: how much slower a system call gets with each further ring on its tracepoint.

    The first ring is not counted, because it also makes the kernel take its slow way into system calls.

    Parameters
    ----------
    cpu
        The CPU that the caller is bound to.
    call
        Times one getppid(2), in ns.

    Raises
    ------
    OSError
        If there is no tracefs, no such tracepoint, or no right to use it.
    """
    (point,) = tracepoints("syscalls/sys_enter_getppid")
    with ExitStack() as stack:
        times = []
        for _ in range(1 + _FURTHER_RINGS):
            stack.enter_context(closing(PerfRing(point, cpu))).switch(on=True)
            times.append(call())
    return max(times[-1] - times[0], 0.0) / _FURTHER_RINGS
