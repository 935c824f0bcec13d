"""A frame as the model carries it: when it reached the NIC, how long it is, whose it is."""

from __future__ import annotations

from simnet.compiled import jit
from simnet.records import Array, Record, many

QUEUE_FRAMES = 32768
"""Capacity class of a queue that carries frames. Limits are set per queue; memory that is not used costs nothing."""


class Frame(Record):
    """Identity of a frame on its way through the host.

    `arrival_ps` is when its last bit reached the NIC (before that: the switch); `flow` numbers its five-tuple (see
    `traffic.flows`); `frame_bytes` includes the FCS.
    """

    arrival_ps: int
    flow: int
    frame_bytes: int


class FrameQueue(Record):
    """First in, first out, with a limit in frames. Bytes are counted, and limited by whoever owns the queue."""

    slots: int
    head: int
    filled: int
    filled_bytes: int
    frames: Array[Frame] = many(Frame, QUEUE_FRAMES)


@jit
def copy_frame(to: Frame, frame: Frame) -> None:
    """Overwrite one frame's identity with another's."""
    to.arrival_ps = frame.arrival_ps
    to.flow = frame.flow
    to.frame_bytes = frame.frame_bytes


@jit
def push(queue: FrameQueue, frame: Frame) -> None:
    """Append; the caller has made sure that there is room."""
    at = queue.head + queue.filled
    if at >= queue.slots:
        at -= queue.slots
    copy_frame(queue.frames[at], frame)
    queue.filled += 1
    queue.filled_bytes += frame.frame_bytes


@jit
def first(queue: FrameQueue) -> Frame:
    """The frame at the head, still in the queue."""
    return queue.frames[queue.head]


@jit
def ahead(queue: FrameQueue, distance: int) -> Frame:
    """The frame that comes `distance` after the head; there must be one."""
    at = queue.head + distance
    if at >= queue.slots:
        at -= queue.slots
    return queue.frames[at]


@jit
def pop(queue: FrameQueue) -> None:
    """Take the head away."""
    queue.filled -= 1
    queue.filled_bytes -= queue.frames[queue.head].frame_bytes
    queue.head += 1
    if queue.head == queue.slots or queue.filled == 0:  # an empty queue starts over: fewer cache lines of the simulator in use
        queue.head = 0
