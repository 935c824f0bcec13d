"""Capture sockets: what lies between the softirq that fills them and the process that empties them.

Three kinds share one queue of frames with a limit in frames and one in bytes:

- PF_PACKET with a mapped ring (`tpacket_rcv`, net/packet/af_packet.c): a number of equal frames, set by libpcap from the snap length; a wake-up
  call for every packet, also for a dropped one.
- PF_PACKET without a ring (`packet_rcv`): a queue of skbs, limited by their truesize against the receive buffer; a system call a packet. A UDP socket
  (`udp_queue_rcv_skb`) is the same, but its system call locks the socket, and on unlocking lets softirqs in (`local_bh_enable`).
- A tap (`tun_net_xmit`, drivers/net/tun.c) read by a process is such a queue too, with room for 500 packets of any size; the bridge's work comes before it.
- PF_RING: a byte ring; the reader is woken when `watermark` packets are queued.

Whether there is room is decided when the softirq gets to the frame, before the copy: a packet that finds the ring full has paid for driver
and stack, not for the copy. Left out: TPACKET_V3, fanout, BPF filters.
"""

from __future__ import annotations

from typing import Protocol

from simnet.capture.monitor import FRAMES_AHEAD, HasMonitors, captured, expect_frames, monitor_cost
from simnet.compiled import jit
from simnet.hardware.memory import LINE_BYTES
from simnet.kernel.core import HasCores
from simnet.kernel.sched import wake_up
from simnet.records import Array, Record
from simnet.traffic.frame import Frame, FrameQueue, first, pop, push
from simnet.units import FCS_BYTES

MMAP_RING, SKB_QUEUE, PF_RING = 0, 1, 2
MAX_SOCKETS = 4


class Socket(Record):
    """One socket and its monitor.

    In the softirq: `deliver_ps` for every frame, `copy_ps` and `copy_line_ps` a cache line for those that fit, at most `snap_bytes` of each.
    In the process: `read_ps` a frame, `read_line_ps` a line of it. `lines` of those that fit were copied; the process found nothing `asks` times.
    """

    kind: int
    reader: int
    limit_bytes: int
    held_bytes: int
    reserved: int
    header_bytes: int
    truesize_bytes: int
    snap_bytes: int
    watermark: int
    locks_bh: int
    dropped: int
    lines: int
    asks: int
    deliver_ps: int
    copy_ps: int
    copy_line_ps: int
    read_ps: int
    read_line_ps: int
    poll_timeout_ps: int
    queue: FrameQueue
    monitor: int


class HasSockets(HasCores, HasMonitors, Protocol):
    """What socket code may touch."""

    sockets: Array[Socket]


@jit
def copied_lines(socket: Socket, frame: Frame) -> int:
    """Cache lines of the frame that the socket keeps."""
    length = min(frame.frame_bytes - FCS_BYTES, socket.snap_bytes)
    return (length + LINE_BYTES - 1) // LINE_BYTES


@jit
def bytes_held(socket: Socket, frame: Frame) -> int:
    """What a frame counts against the limit in bytes."""
    if socket.kind == SKB_QUEUE:
        return socket.truesize_bytes
    if socket.kind == PF_RING:
        return (socket.header_bytes + min(frame.frame_bytes - FCS_BYTES, socket.snap_bytes) + 7) & ~7
    return 0


@jit
def begin_delivery(socket: Socket, frame: Frame) -> int:
    """The softirq has a frame for this socket and looks for room. Returns what delivery will cost."""
    held = bytes_held(socket, frame)
    beyond = (
        1 if socket.kind == SKB_QUEUE else held
    )  # packet_rcv only looks whether the limit is reached: the last packet may reach beyond
    if socket.queue.filled < socket.queue.slots and socket.held_bytes + beyond <= socket.limit_bytes:
        socket.reserved = 1
        socket.held_bytes += held
        lines = copied_lines(socket, frame)
        socket.lines += lines
        return socket.deliver_ps + socket.copy_ps + lines * socket.copy_line_ps
    socket.reserved = 0
    return socket.deliver_ps


@jit
def end_delivery(m: HasSockets, s: int, frame: Frame, core: int, now: int) -> int:
    """The frame is in the ring, or dropped; call sk_data_ready. Returns what waking the reader costs, 0 if it does not sleep."""
    socket = m.sockets[s]
    if socket.reserved:
        push(socket.queue, frame)
    else:
        socket.dropped += 1
        if socket.kind == SKB_QUEUE:
            return 0
    if socket.queue.filled < socket.watermark:
        return 0
    return wake_up(m, socket.reader, core, now)


@jit
def begin_reading(m: HasSockets, socket: Socket) -> int:
    """The process takes the first frame of the queue; it stays there until it is done. Returns the cost of reading and monitoring it."""
    frame = first(socket.queue)
    expect_frames(m, socket.monitor, socket.queue, FRAMES_AHEAD, FRAMES_AHEAD + 1)
    return socket.read_ps + copied_lines(socket, frame) * socket.read_line_ps + monitor_cost(m, socket.monitor, frame)


@jit
def end_reading(m: HasSockets, socket: Socket, now: int) -> None:
    """The process is done with the frame: captured, and its place in the queue is free."""
    frame = first(socket.queue)
    captured(m.monitors[socket.monitor], frame, now)
    socket.held_bytes -= bytes_held(socket, frame)
    pop(socket.queue)
