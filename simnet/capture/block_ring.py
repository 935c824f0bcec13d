"""TPACKET_V3: a packet socket's ring of blocks (net/packet/af_packet.c, Linux 6.6).

Frames are packed into a block one behind the other, each with its header and aligned (`prb_fill_curr_block`). A block is closed when the next frame does not fit, or by a timer that is started
when it is opened (`prb_retire_rx_blk_timer_expired`), if there is a frame in it; only then are its frames the process's, and only then is that woken (`prb_close_block`, sk_data_ready). The process
hands back whole blocks. If the next block is still the process's, none is open, the queue is *frozen* (`prb_freeze_queue`), and frames are lost until a frame or the timer finds it handed back.

A frame gets its place, and a block is closed, at the end of the softirq's work on the frame, where the kernel does both before the copy. Left out: the private area, VLAN tags, the hash, and that a frozen queue
drops a frame before most of tpacket_rcv's work (`__packet_rcv_has_room`). Since Linux 6.18 the timer is an hrtimer that runs through; here it is one of the wheel (`kernel.timers`).
"""

from __future__ import annotations

from simnet.compiled import cold_jit, jit
from simnet.records import Array, Record, many

BLOCK_HEADER_BYTES = 48
"""sizeof(struct tpacket_block_desc), where the first frame begins."""
MACOFF = 82
"""Bytes of a frame before its data: struct tpacket3_hdr (48) and sockaddr_ll, the IP header on a multiple of 16."""
ALIGNMENT = 8
MAX_BLOCKS = 1152


class BlockRing(Record):
    """The ring. Times in ps: `close_ps` closing a block and opening the next, in the softirq; `read_ps` finding a closed one and handing it back, in the process.

    Closed are `closed` blocks from `oldest` on, with `readable` frames that the process has not read, `left` of them in the block it is at (0: between two blocks). Unless the queue is frozen the one behind them
    is open and filled: `packets` frames up to `used_bytes`. `timed`: the timer was started since a block was last closed (last_kactive_blk_num). `packets_of` each closed block.
    """

    blocks: int
    block_bytes: int
    timeout_jiffies: int
    close_ps: int
    read_ps: int
    is_open: int
    used_bytes: int
    packets: int
    timed: int
    oldest: int
    closed: int
    readable: int
    left: int
    handed_back: int
    freezes: int
    packets_of: Array[int] = many(int, MAX_BLOCKS)


@jit
def place_bytes(data_bytes: int) -> int:
    """What a frame of which so many bytes are kept takes of a block (TOTAL_PKT_LEN_INCL_ALIGN)."""
    return (MACOFF + data_bytes + ALIGNMENT - 1) & ~(ALIGNMENT - 1)


@jit
def fits(ring: BlockRing, needed_bytes: int) -> bool:
    """Does a frame fit into the open block? The last byte is never used."""
    return ring.used_bytes + needed_bytes < ring.block_bytes


@jit
def has_room(ring: BlockRing, needed_bytes: int) -> bool:
    """Will a frame find a place (`__packet_lookup_frame_in_block`)?"""
    if not ring.is_open:
        return ring.closed < ring.blocks
    return fits(ring, needed_bytes) or ring.closed + 1 < ring.blocks


@jit
def fill(ring: BlockRing, needed_bytes: int) -> None:
    """A frame goes into the open block (`prb_fill_curr_block`)."""
    ring.used_bytes += needed_bytes
    ring.packets += 1


@cold_jit
def open_or_freeze(ring: BlockRing) -> bool:
    """Open the block behind the closed ones, or freeze the queue (`prb_dispatch_next_block`). Is one open now?"""
    if ring.closed == ring.blocks:
        ring.freezes += ring.is_open
        ring.is_open = 0
        return False
    ring.is_open = 1
    ring.used_bytes = BLOCK_HEADER_BYTES
    ring.packets = 0
    return True


@cold_jit
def close(ring: BlockRing) -> None:
    """The open block is the process's now (`prb_close_block`)."""
    ring.packets_of[(ring.oldest + ring.closed) % ring.blocks] = ring.packets
    ring.readable += ring.packets
    ring.closed += 1
    ring.timed = 0


@jit
def begin_packet(ring: BlockRing) -> int:
    """The process comes to the next frame. Returns what coming to its block costs, if it is the first one there."""
    if ring.left > 0:
        return 0
    ring.left = ring.packets_of[ring.oldest]
    return ring.read_ps


@jit
def end_packet(ring: BlockRing) -> None:
    """The process is done with a frame. After the last one of a block that is handed back."""
    ring.readable -= 1
    ring.left -= 1
    if ring.left == 0:
        ring.oldest = (ring.oldest + 1) % ring.blocks
        ring.closed -= 1
        ring.handed_back += 1
