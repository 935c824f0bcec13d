"""Capture sockets: what lies between the softirq that fills them and the process that empties them.

Four kinds share one queue of frames with a limit in frames and one in bytes:

- PF_PACKET with a mapped ring (`tpacket_rcv`, net/packet/af_packet.c): a number of equal frames, set by libpcap from the snap length; a wake-up
  call for every packet, also for a dropped one.
- PF_PACKET without a ring (`packet_rcv`): a queue of skbs, limited by their truesize against the receive buffer; a system call a packet. A UDP socket
  (`udp_queue_rcv_skb`) is the same, but its system call locks the socket, and on unlocking lets softirqs in (`local_bh_enable`).
- A tap (`tun_net_xmit`, drivers/net/tun.c) read by a process is such a queue too, with room for 500 packets of any size; the bridge's work comes before it.
- PF_RING: a byte ring; the reader is woken when `watermark` packets are queued.
- PF_PACKET with a ring of blocks (TPACKET_V3): see `capture.block_ring`. The reader is woken when a block is closed.

Whether there is room is decided when the softirq gets to the frame, before the copy: a packet that finds the ring full has paid for driver
and stack, not for the copy. Left out: fanout, BPF filters.
"""

from __future__ import annotations

from typing import Protocol

from simnet.capture.block_ring import BlockRing, begin_packet, close, end_packet, fill, fits, has_room, open_or_freeze, place_bytes
from simnet.capture.monitor import FRAMES_AHEAD, HasMonitors, captured, expect_frames, monitor_cost
from simnet.compiled import cold_jit, jit
from simnet.hardware.memory import LINE_BYTES
from simnet.kernel.core import CLOSED_BLOCKS
from simnet.kernel.sched import wake_up
from simnet.kernel.timers import HasTimers, mod_timer
from simnet.records import Array, Record
from simnet.traffic.frame import Frame, FrameQueue, first, pop, push
from simnet.units import FCS_BYTES

MMAP_RING, SKB_QUEUE, PF_RING, BLOCK_RING = 0, 1, 2, 3
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
    ring: BlockRing
    monitor: int


class HasSockets(HasTimers, HasMonitors, Protocol):
    """What socket code may touch. The timer of a socket has its number."""

    sockets: Array[Socket]


@jit
def kept_bytes(socket: Socket, frame: Frame) -> int:
    """Bytes of the frame that the socket keeps."""
    return min(frame.frame_bytes - FCS_BYTES, socket.snap_bytes)


@jit
def copied_lines(socket: Socket, frame: Frame) -> int:
    """Cache lines of the frame that the socket keeps."""
    return (kept_bytes(socket, frame) + LINE_BYTES - 1) // LINE_BYTES


@jit
def bytes_held(socket: Socket, frame: Frame) -> int:
    """What a frame counts against the limit in bytes."""
    if socket.kind == SKB_QUEUE:
        return socket.truesize_bytes
    if socket.kind == PF_RING:
        return (socket.header_bytes + kept_bytes(socket, frame) + 7) & ~7
    return 0


@jit
def has_room_for(socket: Socket, frame: Frame) -> bool:
    """Is there room for the frame now?"""
    if socket.kind == BLOCK_RING:
        return has_room(socket.ring, place_bytes(kept_bytes(socket, frame)))
    beyond = (
        1 if socket.kind == SKB_QUEUE else bytes_held(socket, frame)
    )  # packet_rcv only looks whether the limit is reached: the last packet may reach beyond
    return socket.queue.filled < socket.queue.slots and socket.held_bytes + beyond <= socket.limit_bytes


@jit
def begin_delivery(socket: Socket, frame: Frame) -> int:
    """The softirq has a frame for this socket and looks for room. Returns what delivery will cost."""
    if has_room_for(socket, frame):
        socket.reserved = 1
        socket.held_bytes += bytes_held(socket, frame)
        lines = copied_lines(socket, frame)
        socket.lines += lines
        return socket.deliver_ps + socket.copy_ps + lines * socket.copy_line_ps
    socket.reserved = 0
    return socket.deliver_ps


@cold_jit
def close_block(m: HasSockets, s: int, core: int, now: int) -> int:
    """The open block is the reader's, the next one is opened if it can be. Returns what that and waking the reader cost."""
    socket = m.sockets[s]
    close(socket.ring)
    m.cores[core].events[CLOSED_BLOCKS] += 1
    cost = socket.ring.close_ps + wake_up(m, socket.reader, core, now)
    open_block(m, s, core, now)
    return cost


@cold_jit
def open_block(m: HasSockets, s: int, core: int, now: int) -> None:
    """Open the next block, if it is not the reader's, and start the timer that closes it."""
    if open_or_freeze(m.sockets[s].ring):
        start_retire_timer(m, s, core, now)


@cold_jit
def start_retire_timer(m: HasSockets, s: int, core: int, now: int) -> None:
    """Start the timer that looks at the block that is now to be filled (`_prb_refresh_rx_retire_blk_timer`)."""
    ring = m.sockets[s].ring
    ring.timed = 1
    mod_timer(m, s, core, ring.timeout_jiffies, now)


@cold_jit
def retire_timer_expires(m: HasSockets, s: int, core: int, now: int) -> int:
    """Close a block that has waited for long enough; open one if the reader has handed one back meanwhile (`prb_retire_rx_blk_timer_expired`). Returns a cost."""
    ring, cost = m.sockets[s].ring, 0
    if ring.timed and ring.is_open and ring.packets > 0:
        cost = close_block(m, s, core, now)
    elif ring.timed and not ring.is_open:
        open_block(m, s, core, now)
    if not m.timers[s].started:
        start_retire_timer(m, s, core, now)
    return cost


@jit
def deliver_to_block(m: HasSockets, s: int, frame: Frame, core: int, now: int) -> int:
    """The frame gets its place, or is dropped. Returns what closing a block and waking the reader cost."""
    socket, cost = m.sockets[s], 0
    needed = place_bytes(kept_bytes(socket, frame))
    if not socket.ring.is_open:
        open_block(m, s, core, now)
    elif not fits(socket.ring, needed):
        cost = close_block(m, s, core, now)
    if socket.reserved and socket.ring.is_open:
        fill(socket.ring, needed)
        push(socket.queue, frame)
    else:
        socket.dropped += 1
    return cost


@jit
def end_delivery(m: HasSockets, s: int, frame: Frame, core: int, now: int) -> int:
    """The frame is in the ring, or dropped; call sk_data_ready. Returns what waking the reader costs, 0 if it does not sleep."""
    socket = m.sockets[s]
    if socket.kind == BLOCK_RING:
        return deliver_to_block(m, s, frame, core, now)
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
def readable(socket: Socket) -> int:
    """Frames that the process may take."""
    return socket.ring.readable if socket.kind == BLOCK_RING else socket.queue.filled


@jit
def begin_reading(m: HasSockets, socket: Socket) -> int:
    """The process takes the first frame of the queue; it stays there until it is done. Returns the cost of reading and monitoring it."""
    frame = first(socket.queue)
    expect_frames(m, socket.monitor, socket.queue, FRAMES_AHEAD, FRAMES_AHEAD + 1)
    cost = socket.read_ps + copied_lines(socket, frame) * socket.read_line_ps + monitor_cost(m, socket.monitor, frame)
    return cost + begin_packet(socket.ring) if socket.kind == BLOCK_RING else cost


@jit
def end_reading(m: HasSockets, socket: Socket, now: int) -> None:
    """The process is done with the frame: captured, and its place in the queue is free."""
    frame = first(socket.queue)
    captured(m.monitors[socket.monitor], frame, now)
    socket.held_bytes -= bytes_held(socket, frame)
    pop(socket.queue)
    if socket.kind == BLOCK_RING:
        end_packet(socket.ring)
