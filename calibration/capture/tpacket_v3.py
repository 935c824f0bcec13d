"""A packet ring of blocks, TPACKET_V3: the softirq copies packets into a block, the reader wakes when a block is full or its time is over.

The reader takes the number of packets from the block's header, so that pure Python keeps up with the kernel
(`tpacket_rcv`, `prb_retire_current_block`).
"""

from __future__ import annotations

import mmap
import select
import socket
import struct

from calibration.capture.packet_socket import SOL_PACKET, PacketSocket
from calibration.workers import PACKETS, READY

BLOCK_BYTES, BLOCKS, FRAME_BYTES, RETIRE_MS = 1 << 17, 32, 2048, 4
_PACKET_RX_RING, _PACKET_VERSION, _TPACKET_V3 = 5, 10, 2
_STATUS, _PACKETS_IN_BLOCK = 2, 3
_TO_KERNEL = 0


class TpacketV3(PacketSocket):
    """A reader of whole blocks; the ring is its buffer."""

    place = "packet_ring"

    def prepare(self, packet_socket: socket.socket) -> None:
        """Make the ring."""
        frames = BLOCK_BYTES * BLOCKS // FRAME_BYTES
        request = struct.pack("7I", BLOCK_BYTES, BLOCKS, FRAME_BYTES, frames, RETIRE_MS, 0, 0)
        packet_socket.setsockopt(SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
        packet_socket.setsockopt(SOL_PACKET, _PACKET_RX_RING, request)


def work(page: memoryview, descriptor: int) -> None:
    """Take blocks in turn until killed."""
    ring = memoryview(mmap.mmap(descriptor, BLOCK_BYTES * BLOCKS))
    headers = [ring[at : at + 16].cast("I") for at in range(0, BLOCK_BYTES * BLOCKS, BLOCK_BYTES)]
    ready = select.poll()
    ready.register(descriptor, select.POLLIN | select.POLLERR)
    page[READY] = 1
    count = 0
    while True:
        for header in headers:
            while header[_STATUS] == _TO_KERNEL:
                ready.poll()
            count += header[_PACKETS_IN_BLOCK]
            header[_STATUS] = _TO_KERNEL
            page[PACKETS] = count
