"""Receive half of the Intel drivers: ixgbe_poll and igb_poll with their cleaning loop (Linux 3.2 and 2.6.37).

A poll takes frames from the ring one at a time, hands each to the stack, gives descriptors back in batches, and stops at the weight or
when the ring is empty; then it completes: new moderation interval, vector unmasked. Which handler gets a frame, and what that costs, is decided by
`system.receive`.
"""

from __future__ import annotations

from typing import Protocol

from simnet.compiled import jit
from simnet.hardware.moderation import update
from simnet.hardware.nic import HasNic, admit, give_back, unmask
from simnet.kernel.napi import POLL_OVER, HasNapi, Napi, no_more_frames, poll_returns
from simnet.traffic.frame import Frame, first, pop
from simnet.units import FCS_BYTES

FRAME_READY = -5


class HasDriver(HasNic, HasNapi, Protocol):
    """What the driver may touch."""


@jit
def frame_in_hand(m: HasDriver, napi: Napi) -> Frame:
    """The frame that the poll is working on."""
    return first(m.nic.port.queues[napi.queue].ring)


@jit
def finish_frame(m: HasDriver, napi: Napi, now: int) -> None:
    """The frame has gone up the stack: count it and give its descriptor back with the next batch."""
    queue = m.nic.port.queues[napi.queue]
    moderation = m.nic.vectors[napi.queue].moderation
    moderation.total_packets += 1
    moderation.total_bytes += first(queue.ring).frame_bytes - FCS_BYTES
    pop(queue.ring)
    queue.cleaned += 1
    napi.work += 1
    napi.holds_frame = 0
    if queue.cleaned >= m.nic.refill_batch:
        admit(m, now)
        give_back(m, queue, now)


@jit
def poll_step(m: HasDriver, c: int, now: int) -> int:
    """Go on with the poll of the core's current context after the piece that was just paid for.

    Returns a cost, FRAME_READY when the next frame is in hand, or POLL_OVER.
    """
    napi = m.napis[m.cores[c].softirq.napi]
    if not napi.begun:
        napi.begun = 1
        return m.costs.poll_ps
    queue = m.nic.port.queues[napi.queue]
    if napi.completing:
        update(m.nic.vectors[napi.queue].moderation)
        poll_returns(m, c, True)
        admit(m, now)
        unmask(m, napi.queue, now)
        return POLL_OVER
    if queue.ring.filled == 0:
        admit(m, now)
    if napi.work < napi.weight and queue.ring.filled > 0:
        napi.holds_frame = 1
        return FRAME_READY
    if queue.cleaned > 0:
        admit(m, now)
        give_back(m, queue, now)
    return no_more_frames(m, c)
