"""NAPI: the poll list of a core and the rules of net_rx_action (net/core/dev.c, Linux 3.2).

Each entry is polled for at most its weight. One that returns its full weight goes to the tail; one that returns less has left the list itself
(napi_complete). What a poll returns counts against the budget. ixgbe returns 0 when it is done and its weight when it is not, so completed polls
cost it no budget; igb and virtio_net return the number of packets.

A context may have a thread of its own instead (threaded NAPI, Linux 5.12: `napi_threaded_poll`): it is woken where the softirq would have been raised, polls with softirqs off, lets pending ones in after
each poll (local_bh_enable) and may be preempted between two.
"""

from __future__ import annotations

from typing import Protocol

from simnet.compiled import cold_jit, jit
from simnet.kernel.core import (
    BLOCKED,
    COMPLETIONS,
    FRAMES,
    MAX_POLLED,
    NAPI_THREAD,
    NET_RX_SOFTIRQ,
    NOBODY,
    POLLS,
    HasCores,
    SoftirqRun,
)
from simnet.kernel.sched import wake_up
from simnet.kernel.softirq import LEAVE, NET_RX, POLL, raise_softirq
from simnet.records import Array, Record, many

BATCH_BINS = 257
POLL_OVER = -6


class Napi(Record):
    """One NAPI context. `thread`: the task that polls it, or NOBODY; `holds_frame`: the frame at the head of its ring is being paid for; `completing`: so is napi_complete."""

    kind: int
    thread: int
    queue: int
    handler: int
    scheduled: int
    subject: int
    weight: int
    returns_work_done: int
    work: int
    begun: int
    holds_frame: int
    completing: int
    polls: int
    packets: int
    batches: Array[int] = many(int, BATCH_BINS)


class HasNapi(HasCores, Protocol):
    """What NAPI code may touch."""

    napis: Array[Napi]


@jit
def napi_schedule(m: HasNapi, c: int, n: int, now: int) -> int:
    """Put a context at the tail of core `c`'s poll list and raise NET_RX, or wake its thread. Returns what waking it costs."""
    napi = m.napis[n]
    if napi.scheduled:  # napi_schedule_prep
        return 0
    napi.scheduled = 1
    if napi.thread != NOBODY:
        return wake_up(m, napi.thread, c, now)
    append(m.cores[c].softirq, n)
    raise_softirq(m, c, NET_RX_SOFTIRQ)
    return 0


@jit
def append(run: SoftirqRun, n: int) -> None:
    """Add to the tail of a poll list."""
    at = run.polled_head + run.polled_count
    if at >= MAX_POLLED:
        at -= MAX_POLLED
    run.polled[at] = n
    run.polled_count += 1


@jit
def take_first(run: SoftirqRun) -> int:
    """Take the head of a poll list away."""
    n = run.polled[run.polled_head]
    run.polled_count -= 1
    run.polled_head += 1
    if run.polled_head == MAX_POLLED:
        run.polled_head = 0
    return n


@jit
def poll_returns(m: HasNapi, c: int, complete: bool) -> None:
    """The poll of the core's current context is over: charge the budget, keep or remove it, back to net_rx_action."""
    run = m.cores[c].softirq
    napi = m.napis[run.napi]
    if complete:
        napi.scheduled = 0
    if run.runner == NAPI_THREAD:
        run.phase = LEAVE
    else:
        run.phase = NET_RX
        n = take_first(run)
        if not complete:
            append(run, n)
        run.budget -= napi.weight if not complete else napi.work if napi.returns_work_done else 0
    napi.polls += 1
    napi.packets += napi.work
    m.cores[c].events[POLLS] += 1
    m.cores[c].events[FRAMES] += napi.work
    napi.batches[min(napi.work, BATCH_BINS - 1)] += 1
    napi.work = 0
    napi.begun = 0
    napi.completing = 0


@cold_jit
def napi_thread_step(m: HasNapi, i: int) -> int:
    """Thread `i` polls its context, if that is scheduled, or sleeps. The caller looks for a reschedule between polls (cond_resched)."""
    task = m.tasks[i]
    if not m.napis[task.subject].scheduled:
        return BLOCKED
    run = m.cores[task.core].softirq
    run.runner, run.phase, run.napi = NAPI_THREAD, POLL, task.subject
    return 0


@jit
def no_more_frames(m: HasNapi, c: int) -> int:
    """The weight of the core's current context is used up, and it stays on the list, or its ring is empty, and it completes. Returns POLL_OVER or a cost."""
    napi = m.napis[m.cores[c].softirq.napi]
    if napi.work >= napi.weight:
        poll_returns(m, c, False)
        return POLL_OVER
    napi.completing = 1
    m.cores[c].events[COMPLETIONS] += 1
    return m.costs.napi_complete_ps
