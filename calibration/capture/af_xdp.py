"""AF_XDP in copy mode: an XDP program redirects every frame into a socket, whose ring user space reads without a system call (`xsk_rcv`, `xdp_umem`).

The frame is copied into memory of the reader's, which works with any driver; zero copy needs a NIC that can do it, which veth is not. The reader takes all descriptors
that are there, gives their buffers back in one stroke, and polls when there is nothing: per packet no Python runs, and the data is not looked at. Orders of
loads and stores between reader and kernel are left to the processor; that is right on x86, and on others as right as an interpreter is slow.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import socket
import struct
from typing import NamedTuple

from calibration import bpf
from calibration.lab.topology import Lab
from calibration.syscalls import checked, libc
from calibration.workers import PACKETS, READY, Worker

AF_XDP = 44
RING, FRAME_BYTES = 2048, 2048
"""Descriptors of the rx ring and of the fill ring; bytes of a buffer."""
_SOL_XDP, _MMAP_OFFSETS, _RX_RING, _UMEM_REG, _FILL_RING, _COMPLETION_RING, _STATISTICS = 283, 1, 2, 4, 5, 6, 7
_RX_OFFSET, _FILL_OFFSET = 0, 0x100000000
_COPY = 1 << 1
_DESCRIPTOR_WORDS = 2


def is_there() -> bool:
    """Whether the kernel has such sockets; whether this process may use them shows only when it does."""
    try:
        socket.socket(AF_XDP, socket.SOCK_RAW, 0).close()
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _redirecting(sockets: int) -> bpf.Program:
    """Into the socket of queue 0, the lab's only one; dropped if there is none."""
    return (
        bpf.map_itself(1, sockets),
        bpf.move(2, 0),
        bpf.move(3, bpf.XDP_DROP),
        bpf.call(bpf.REDIRECT_MAP),
        bpf.leave(),
    )


class AfXdp:
    """A process that reads an AF_XDP socket; its ring is the buffer."""

    needs_tap = False
    place = "xsk_ring"

    def __init__(self, lab: Lab, cpu: int, receive_buffer_bytes: int | None = None) -> None:
        del receive_buffer_bytes
        with lab.receiver.inside():
            self._socket = socket.socket(AF_XDP, socket.SOCK_RAW, 0)
        self._sockets: bpf.SocketMap | None = None
        self._link = -1
        number = self._socket.fileno()
        try:
            self._sockets = bpf.SocketMap()
            self.worker = Worker(__name__, cpu, lab.receiver, (number,), descriptor=number, interface=lab.interface_index)
            try:
                self._sockets.put(number)
                with bpf.xdp(_redirecting(self._sockets.descriptor)) as program, lab.receiver.inside():
                    self._link = bpf.attach_xdp(program, lab.interface_index)
            except BaseException:
                self.worker.close()
                raise
        except BaseException:
            self._let_go()
            raise

    @property
    def captured(self) -> int:
        """Packets that the reader has."""
        return self.worker.packets

    @property
    def dropped(self) -> int:
        """Packets for which the fill ring had no buffer (rx_dropped) or the rx ring no room (rx_ring_full) so far."""
        dropped, _, _, full, _, _ = struct.unpack("6Q", self._socket.getsockopt(_SOL_XDP, _STATISTICS, 48))
        return int(dropped + full)

    def counts(self) -> dict[str, int]:
        """Nothing else is counted."""
        return {}

    def _let_go(self) -> None:
        if self._link >= 0:
            os.close(self._link)
        if self._sockets is not None:
            self._sockets.close()
        self._socket.close()

    def close(self) -> None:
        """Detach the program and end the reader."""
        self.worker.close()
        self._let_go()


class _Ring(NamedTuple):
    """A ring as it is mapped: two indices of 32 bits that only grow, and 64-bit words."""

    producer: memoryview
    consumer: memoryview
    content: memoryview


def _ring(descriptor: int, option: int, page_offset: int, offsets: tuple[int, ...], words: int) -> _Ring:
    """Make a ring of a socket and map it; `offsets` are those of producer, consumer and content."""
    with socket.socket(AF_XDP, socket.SOCK_RAW, 0, fileno=os.dup(descriptor)) as xsk:
        xsk.setsockopt(_SOL_XDP, option, RING)
    producer, consumer, content = offsets
    memory = memoryview(mmap.mmap(descriptor, content + RING * words * 8, offset=page_offset))
    return _Ring(
        memory[producer : producer + 4].cast("I"),
        memory[consumer : consumer + 4].cast("I"),
        memory[content : content + RING * words * 8].cast("Q"),
    )


def _opened(descriptor: int, interface: int, memory: mmap.mmap) -> tuple[_Ring, _Ring]:
    """Give a socket memory and rings, all buffers in the fill ring, and bind it.

    Returns
    -------
    tuple of _Ring
        Fill ring and rx ring.
    """
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    with socket.socket(AF_XDP, socket.SOCK_RAW, 0, fileno=os.dup(descriptor)) as xsk:
        xsk.setsockopt(_SOL_XDP, _UMEM_REG, struct.pack("QQIIII", start, RING * FRAME_BYTES, FRAME_BYTES, 0, 0, 0))
        xsk.setsockopt(_SOL_XDP, _COMPLETION_RING, RING)  # asked for by bind, and never used
        offsets = struct.unpack("16Q", xsk.getsockopt(_SOL_XDP, _MMAP_OFFSETS, 128))
    fill = _ring(descriptor, _FILL_RING, _FILL_OFFSET, offsets[8:11], 1)
    received = _ring(descriptor, _RX_RING, _RX_OFFSET, offsets[:3], _DESCRIPTOR_WORDS)
    for number in range(RING):
        fill.content[number] = number * FRAME_BYTES
    fill.producer[0] = RING
    address = ctypes.create_string_buffer(struct.pack("HHIII", AF_XDP, _COPY, interface, 0, 0), 16)
    checked(libc.bind(descriptor, address, 16))
    return fill, received


def work(page: memoryview, descriptor: int, interface: int) -> None:
    """Take what is there until killed."""
    memory = mmap.mmap(-1, RING * FRAME_BYTES)
    fill, received = _opened(descriptor, interface, memory)
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    addresses = received.content[::_DESCRIPTOR_WORDS]
    page[READY] = 1
    count = at = 0
    while True:
        available = (received.producer[0] - count) & 0xFFFFFFFF
        if not available:
            ready.poll()
            continue
        available = min(available, RING - at)
        fill.content[at : at + available] = addresses[at : at + available]
        count += available
        at = count % RING
        received.consumer[0] = count & 0xFFFFFFFF
        fill.producer[0] = (count + RING) & 0xFFFFFFFF
        page[PACKETS] = count
