"""recv(2) on a packet socket: one system call a packet, which is copied to the reader (`packet_rcv`, `packet_recvmsg`)."""

from __future__ import annotations

import socket

from calibration.capture.packet_socket import PacketSocket
from calibration.workers import PACKETS, READY

_LARGEST_FRAME = 2048


class Recv(PacketSocket):
    """A reader that calls recv."""

    place = "receive_buffer"


def work(page: memoryview, descriptor: int) -> None:
    """Receive until killed."""
    receive = socket.socket(fileno=descriptor).recv_into
    buffer = bytearray(_LARGEST_FRAME)
    page[READY] = 1
    count = 0
    while True:
        receive(buffer)
        count += 1
        page[PACKETS] = count
