"""NAPI: the poll list of a core and the rules of net_rx_action (net/core/dev.c, Linux 3.2).

Each entry is polled for at most its weight. One that returns its full weight goes to the tail; one that returns less has left the list itself
(napi_complete). What a poll returns counts against the budget. ixgbe returns 0 when it is done and its weight when it is not, so completed polls
cost it no budget; igb and virtio_net return the number of packets.
"""

from __future__ import annotations

from typing import Protocol

from simnet.compiled import jit
from simnet.kernel.core import COMPLETIONS, FRAMES, MAX_POLLED, NET_RX_SOFTIRQ, POLLS, HasCores, SoftirqRun
from simnet.kernel.softirq import NET_RX, raise_softirq
from simnet.records import Array, Record, many

BATCH_BINS = 257
POLL_OVER = -6


class Napi(Record):
    """One NAPI context. `holds_frame`: the frame at the head of its ring is being paid for; `completing`: so is napi_complete."""

    kind: int
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
def napi_schedule(m: HasNapi, c: int, n: int) -> None:
    """Put a context at the tail of core `c`'s poll list and raise NET_RX."""
    if m.napis[n].scheduled:  # napi_schedule_prep
        return
    m.napis[n].scheduled = 1
    append(m.cores[c].softirq, n)
    raise_softirq(m, c, NET_RX_SOFTIRQ)


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
    n = take_first(run)
    returned = napi.work
    if not complete:
        append(run, n)
        returned = napi.weight
    else:
        napi.scheduled = 0
        returned = napi.work if napi.returns_work_done else 0
    run.budget -= returned
    napi.polls += 1
    napi.packets += napi.work
    m.cores[c].events[POLLS] += 1
    m.cores[c].events[FRAMES] += napi.work
    napi.batches[min(napi.work, BATCH_BINS - 1)] += 1
    napi.work = 0
    napi.begun = 0
    napi.completing = 0
    run.phase = NET_RX


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
