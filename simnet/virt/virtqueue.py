"""A virtqueue: buffers that the guest makes available and the host uses, and who must tell whom (virtio 0.9.5, drivers/virtio/virtio_ring.c).

Indices run freely, modulo 2**16 where they are compared. Each side may ask the other not to notify: NO_INTERRUPT in the available ring, NO_NOTIFY in the
used ring. With the event index each side instead publishes the index at which it wants to hear. One entry holds one frame (mergeable
buffers of a page each).
"""

from __future__ import annotations

from simnet.compiled import cold_jit
from simnet.records import Record
from simnet.traffic.frame import Frame, FrameQueue, push

MASK = 0xFFFF


class Virtqueue(Record):
    """Rings and flags. `avail_idx` and `used_event`, `no_interrupt` are the guest's to write; `used_idx`, `avail_event`, `no_notify` the host's.

    `last_avail_idx` is what the host, `last_used_idx` what the guest has taken. `used` holds the frames in used entries.
    """

    entries: int
    event_index: int
    notify_on_empty: int
    avail_idx: int
    last_avail_idx: int
    used_idx: int
    last_used_idx: int
    no_interrupt: int
    no_notify: int
    used_event: int
    avail_event: int
    signalled_used: int
    used: FrameQueue


@cold_jit
def available(queue: Virtqueue) -> int:
    """Entries that the guest has posted and the host has not used."""
    return queue.avail_idx - queue.last_avail_idx


@cold_jit
def need_event(event: int, new: int, old: int) -> bool:
    """vring_need_event: has the index passed the point at which the other side wants to hear?"""
    return ((new - event - 1) & MASK) < ((new - old) & MASK)


@cold_jit
def add_used(queue: Virtqueue, frame: Frame) -> None:
    """The host fills the next available entry (virtqueue_push)."""
    queue.last_avail_idx += 1
    queue.used_idx += 1
    push(queue.used, frame)


@cold_jit
def wants_interrupt(queue: Virtqueue) -> bool:
    """Must the host interrupt the guest for what it used since it last looked (virtio_notify, vring_notify)?"""
    if queue.notify_on_empty and available(queue) == 0:
        return True
    if not queue.event_index:
        return queue.no_interrupt == 0
    before = queue.signalled_used
    queue.signalled_used = queue.used_idx
    return need_event(queue.used_event, queue.used_idx, before)


@cold_jit
def wants_kick(queue: Virtqueue, before: int) -> bool:
    """Must the guest notify the host of the buffers it added since `before` (virtqueue_kick)?"""
    if queue.event_index:
        return need_event(queue.avail_event, queue.avail_idx, before)
    return queue.no_notify == 0


@cold_jit
def disable_interrupts(queue: Virtqueue) -> None:
    """virtqueue_disable_cb."""
    queue.no_interrupt = 1


@cold_jit
def enable_interrupts(queue: Virtqueue) -> bool:
    """virtqueue_enable_cb. Returns whether nothing was used meanwhile."""
    queue.no_interrupt = 0
    queue.used_event = queue.last_used_idx
    return queue.used.filled == 0


@cold_jit
def enable_notifications(queue: Virtqueue) -> None:
    """The host wants to hear of new buffers."""
    queue.no_notify = 0
    queue.avail_event = queue.avail_idx


@cold_jit
def disable_notifications(queue: Virtqueue) -> None:
    """The host does not want to hear of new buffers."""
    queue.no_notify = 1
