"""Receive half of the guest's virtio_net driver (drivers/net/virtio_net.c, Linux 3.2).

Its poll takes frames from the used ring up to the weight (128), posts new buffers when fewer than half of them are left, and completes: callbacks on, look once more.
Frames up to 128 bytes are copied whole into the skb's head, of longer ones the first 128; the rest stays in its page. Left out: transmit, control
queue, big packets without mergeable buffers.
"""

from __future__ import annotations

from typing import Protocol

from simnet.compiled import cold_jit
from simnet.kernel.driver import FRAME_READY
from simnet.kernel.napi import POLL_OVER, HasNapi, Napi, no_more_frames, poll_returns
from simnet.records import Array, Record
from simnet.traffic.frame import pop
from simnet.virt.vcpu import KICK, Vcpu
from simnet.virt.virtqueue import Virtqueue, disable_interrupts, enable_interrupts, wants_kick

VIRTIO_NAPI = 16
"""Number of its NAPI context; those before are the NIC's queues."""
VIRTIO = 1
"""Kind of a NAPI context that this driver polls."""


class VirtioNet(Record):
    """The driver. `posted` buffers are with the host; `receive_ps`: a frame from used entry to skb; `refill_ps`: posting one buffer."""

    posted: int
    receive_ps: int
    refill_ps: int
    kicks: int


class HasVirtioNet(HasNapi, Protocol):
    """What the driver may touch."""

    virtqueue: Virtqueue
    virtio: VirtioNet
    vcpus: Array[Vcpu]


@cold_jit
def finish_virtio_frame(m: HasVirtioNet, c: int, napi: Napi) -> int:
    """The frame has gone up the guest's stack (receive_buf). Returns the cost of posting new buffers (try_fill_recv), if it is time."""
    queue, driver = m.virtqueue, m.virtio
    pop(queue.used)
    queue.last_used_idx += 1
    driver.posted -= 1
    napi.work += 1
    napi.holds_frame = 0
    if driver.posted >= queue.entries // 2:
        return 0
    before, count = queue.avail_idx, queue.entries - driver.posted
    queue.avail_idx += count
    driver.posted = queue.entries
    if wants_kick(queue, before):
        driver.kicks += 1
        m.vcpus[c].pending |= 1 << KICK
    return count * driver.refill_ps


@cold_jit
def virtnet_poll_step(m: HasVirtioNet, c: int) -> int:
    """Go on with the poll of the guest core's current context (virtnet_poll). Returns a cost, FRAME_READY, POLL_OVER, or 0 to look again."""
    napi, queue = m.napis[m.cores[c].softirq.napi], m.virtqueue
    if not napi.begun:
        napi.begun = 1
        return m.costs.poll_ps
    if napi.completing:
        if enable_interrupts(queue):
            poll_returns(m, c, True)
            return POLL_OVER
        disable_interrupts(queue)
        napi.completing = 0
    if napi.work < napi.weight and queue.used.filled > 0:
        napi.holds_frame = 1
        return FRAME_READY
    return no_more_frames(m, c)
