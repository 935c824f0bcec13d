"""Descriptor rings and the on-chip packet buffer before them.

A receive ring has `descriptors`; one always stays empty (IXGBE_DESC_UNUSED). The driver takes frames and gives the descriptors back in
batches. Without free descriptors in its ring a frame of the 82599 waits at the head of the shared packet buffer, and every frame behind
it waits too (head-of-line blocking), until the buffer is full and arrivals are discarded: `rx_missed_errors`. With DROP_EN set the frame is
discarded at once: `rx_no_dma_resources`. Left out: descriptor write-back and fetch batches, PCIe (section 2.5 of the fact sheet: no
bottleneck for one port), per-frame overhead in the buffer.
"""

from __future__ import annotations

from simnet.compiled import jit
from simnet.hardware.rss import MAX_QUEUES, Rss, rx_queue_of
from simnet.records import Array, Record, many
from simnet.traffic.frame import Frame, FrameQueue, first, pop, push


class RxQueue(Record):
    """`posted` descriptors are free for the NIC, `cleaned` ones were taken by the driver and not yet given back."""

    posted: int
    cleaned: int
    no_descriptor: int
    ring: FrameQueue


class PacketBuffer(Record):
    """The shared receive buffer of a port and the rings it empties into."""

    buffer_bytes: int
    drop_en: int
    missed: int
    fifo: FrameQueue
    queues: Array[RxQueue] = many(RxQueue, MAX_QUEUES)


@jit
def write_back(queue: RxQueue, frame: Frame) -> None:
    """DMA a frame into the next posted buffer of its ring."""
    queue.posted -= 1
    push(queue.ring, frame)


@jit
def store(port: PacketBuffer, rss: Rss, frame: Frame) -> None:
    """A frame has arrived: into its ring, into the buffer, or lost."""
    fifo = port.fifo
    if fifo.filled == 0:
        queue = port.queues[rx_queue_of(rss, frame.flow)]
        if queue.posted > 0:
            write_back(queue, frame)
            return
        if port.drop_en:
            queue.no_descriptor += 1
            return
    if fifo.filled_bytes + frame.frame_bytes <= port.buffer_bytes and fifo.filled < fifo.slots:
        push(fifo, frame)
    else:
        port.missed += 1


@jit
def refill(port: PacketBuffer, rss: Rss, queue: RxQueue) -> None:
    """The driver posts its cleaned descriptors; frames that waited for them move on, in order."""
    queue.posted += queue.cleaned
    queue.cleaned = 0
    fifo = port.fifo
    while fifo.filled > 0:
        frame = first(fifo)
        waiting_for = port.queues[rx_queue_of(rss, frame.flow)]
        if waiting_for.posted == 0:
            return
        write_back(waiting_for, frame)
        pop(fifo)
