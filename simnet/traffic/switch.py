"""The link to the host and the store-and-forward switch before it.

Generators send into the switch; a frame that has arrived in full waits in the egress queue of the port to the host and leaves in order.
When `buffer_bytes` (wire bytes) wait, the switch discards what arrives. A switch that honours PAUSE frames (IEEE 802.3 annex 31B) stops sending
while the NIC asks for it: the loss then moves here. A replayed capture skips the switch: its time stamps are those of the link.

Nothing here is an event of its own: arrivals are worked out when something looks (`hardware.nic.admit`).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simnet.agenda import NEVER
from simnet.compiled import cold_jit, jit
from simnet.records import Array, Record, int64, many
from simnet.traffic.frame import Frame, FrameQueue, copy_frame, first, pop, push
from simnet.traffic.generator import Generator, advance, prepare
from simnet.units import GAP_BYTES, PREAMBLE_BYTES, WIRE_OVERHEAD_BYTES

MAX_GENERATORS = 16
GENERATED, REPLAYED = 0, 1


class Link(Record):
    """Everything before the NIC. `arriving` is the next frame on the link; its last bit is in at `arriving.arrival_ps`.

    What was offered is what was `delivered` to the NIC, `discarded` by the switch, or waits in `egress`.
    """

    source: int
    generators: int
    earliest: int
    byte_ps: int
    free_at_ps: int
    buffer_bytes: int
    honours_pause: int
    paused: int
    delivered: int
    delivered_bytes: int
    discarded: int
    discarded_bytes: int
    arriving: Frame
    egress: FrameQueue
    replay: FrameQueue
    sources: Array[Generator] = many(Generator, MAX_GENERATORS)


class HasLink(Protocol):
    """What the functions of this module may touch."""

    link: Link


@jit
def find_earliest(link: Link) -> None:
    """Whose frame reaches the switch next; the lower number on a tie."""
    best, at = int64(0), link.sources[0].next.arrival_ps
    for g in range(1, link.generators):
        other = link.sources[g].next.arrival_ps
        if other < at:
            best, at = int64(g), other
    link.earliest = best


@jit
def next_from_generator(link: Link) -> None:
    """The generator whose frame has just been taken makes its next one."""
    advance(link.sources[link.earliest])
    find_earliest(link)


@jit
def discard(link: Link, frame: Frame) -> None:
    """The switch has no room for the frame."""
    link.discarded += 1
    link.discarded_bytes += frame.frame_bytes


@jit
def take_in(link: Link) -> None:
    """The earliest frame waits in the egress queue, or is discarded."""
    frame = link.sources[link.earliest].next
    queue = link.egress
    waiting_bytes = queue.filled_bytes + queue.filled * WIRE_OVERHEAD_BYTES
    if queue.filled < queue.slots and waiting_bytes + frame.frame_bytes <= link.buffer_bytes:
        push(queue, frame)
    else:
        discard(link, frame)
    next_from_generator(link)


@jit
def transmit(link: Link, frame: Frame) -> int:
    """The frame leaves the switch as soon as the link is free. Returns when its first bit does."""
    start = max(frame.arrival_ps, link.free_at_ps)
    copy_frame(link.arriving, frame)
    link.arriving.arrival_ps = start + (PREAMBLE_BYTES + frame.frame_bytes) * link.byte_ps
    link.free_at_ps = link.arriving.arrival_ps + GAP_BYTES * link.byte_ps
    return start


@jit
def forward(link: Link) -> None:
    """The earliest frame leaves in its turn. Nothing can hold the link up, so the time until it is free tells how much waits before the frame."""
    while link.free_at_ps - link.sources[link.earliest].next.arrival_ps > link.buffer_bytes * link.byte_ps:
        discard(link, link.sources[link.earliest].next)
        next_from_generator(link)
    transmit(link, link.sources[link.earliest].next)
    next_from_generator(link)


@jit
def put_next_on_link(link: Link) -> None:
    """The frame that reaches the NIC next becomes `arriving` (never, while paused or when a replay has nothing left)."""
    if link.source == REPLAYED:
        replay_next(link)
        return
    if not link.honours_pause:
        forward(link)
        return
    if link.paused:
        link.arriving.arrival_ps = NEVER
        return
    queue = link.egress
    if queue.filled > 0:
        start = transmit(link, first(queue))
        pop(queue)
    else:
        start = transmit(link, link.sources[link.earliest].next)
        next_from_generator(link)
    while link.sources[link.earliest].next.arrival_ps <= start:
        take_in(link)


@jit
def replay_next(link: Link) -> None:
    """The next packet of the capture file arrives when the file says."""
    if link.replay.filled == 0:
        link.arriving.arrival_ps = NEVER
        return
    copy_frame(link.arriving, first(link.replay))
    pop(link.replay)


@jit
def pause(link: Link) -> None:
    """XOFF from the NIC: frames not yet started wait in the switch."""
    if link.honours_pause:
        link.paused = 1


@jit
def resume(link: Link, now: int) -> None:
    """XON: the switch sends again."""
    if link.paused:
        link.paused = 0
        link.free_at_ps = max(link.free_at_ps, now)
        put_next_on_link(link)


@cold_jit
def start(link: Link) -> None:
    """Every generator makes its first frame; the earliest goes on the link."""
    for g in range(link.generators):
        prepare(link.sources[g])
        advance(link.sources[g])
    find_earliest(link)
    put_next_on_link(link)


@jit
def load_replay(link: Link, arrivals_ps: NDArray[np.int64], frame_bytes: NDArray[np.int64], flows: NDArray[np.int64]) -> None:
    """Append packets of a capture file to what is still to be replayed; there must be room."""
    queue = link.replay
    for i in range(len(arrivals_ps)):
        at = queue.head + queue.filled
        if at >= queue.slots:
            at -= queue.slots
        frame = queue.frames[at]
        frame.arrival_ps = arrivals_ps[i]
        frame.frame_bytes = frame_bytes[i]
        frame.flow = flows[i]
        queue.filled += 1
        queue.filled_bytes += frame_bytes[i]
    if link.arriving.arrival_ps == NEVER:
        replay_next(link)


@cold_jit
def draw(link: Link, arrivals_ps: NDArray[np.int64], frame_bytes: NDArray[np.int64]) -> None:
    """Write down what will arrive next, as if nothing paused the link; uses the frames up."""
    for i in range(len(arrivals_ps)):
        arrivals_ps[i] = link.arriving.arrival_ps
        frame_bytes[i] = link.arriving.frame_bytes
        put_next_on_link(link)
