"""recvmmsg(2) on a packet socket: one system call for all packets that are there, up to a batch, each copied to the reader (`__sys_recvmmsg`).

What differs from `recv` is the system calls that are saved: a reader that keeps pace is still woken for every packet. The call goes through ctypes, whose
microsecond or so is paid once a batch: little where batches are full, and as much as recv costs where a batch is a packet.
"""

from __future__ import annotations

import ctypes
import os

from calibration.capture.packet_socket import PacketSocket
from calibration.syscalls import IoVec, Message, libc
from calibration.workers import PACKETS, READY

BATCH = 64
_LARGEST_FRAME = 2048
_MSG_WAITFORONE = 0x10000


class Recvmmsg(PacketSocket):
    """A reader that calls recvmmsg."""

    place = "receive_buffer"


def work(page: memoryview, descriptor: int) -> None:
    """Receive until killed."""
    buffers = [ctypes.create_string_buffer(_LARGEST_FRAME) for _ in range(BATCH)]
    vectors = [IoVec(ctypes.addressof(buffer), _LARGEST_FRAME) for buffer in buffers]
    messages = (Message * BATCH)()
    for message, vector in zip(messages, vectors, strict=True):
        message.point_to(vector)
    receive = libc.recvmmsg
    page[READY] = 1
    count = 0
    while True:
        received = receive(descriptor, messages, BATCH, _MSG_WAITFORONE, None)
        if received < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        count += received
        page[PACKETS] = count
