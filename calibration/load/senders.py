"""Load from user space: sendmmsg(2) on a packet socket, through ctypes. Works anywhere; sends in bursts of what has become due.

A frame that the link refuses (ENOBUFS) is offered and dropped, as the link's tx_dropped says. `__sys_sendmmsg` ends with it: it returns the error if that was the
first frame of the call, else the number of those before it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import time

from calibration.lab.namespaces import Namespace
from calibration.load.frame import frame
from calibration.syscalls import IoVec, Message, libc
from calibration.workers import FIRST_FREE, PACKETS, READY, Worker

START, INTERVAL_PS, SKIPPED = FIRST_FREE, FIRST_FREE + 1, FIRST_FREE + 2
_BATCH = 64
_PS_PER_S = 10**12


class SendmmsgLoad:
    """A generator in user space; parameters as those of `XdpLoad`."""

    name = "sendmmsg"

    def __init__(self, namespace: Namespace, interface: int, cpu: int, frame_bytes: int, flows: int) -> None:
        self.worker = Worker(__name__, cpu, namespace, interface=interface, frame_bytes=frame_bytes, flows=flows)

    def start(self, kpps: float) -> None:
        """Begin to send."""
        self.worker.page[START] = time.monotonic_ns()
        self.worker.page[INTERVAL_PS] = round(_PS_PER_S / (kpps * 1e3))

    def stop(self) -> None:
        """Send no more; what is being sent is not waited for."""
        self.worker.page[INTERVAL_PS] = 0

    @property
    def offered(self) -> int:
        """Frames that were given to the link so far."""
        return self.worker.packets

    @property
    def skipped(self) -> int:
        """Frames that were due when the sender could not run, and were never sent."""
        return self.worker.page[SKIPPED]

    def close(self) -> None:
        """End it."""
        self.worker.close()


def work(page: memoryview, interface: int, frame_bytes: int, flows: int) -> None:
    """Send what is due, at most a batch at a time, until killed."""
    frames = [ctypes.create_string_buffer(frame(frame_bytes, flow), frame_bytes) for flow in range(max(flows, _BATCH))]
    vectors = [IoVec(ctypes.addressof(content), frame_bytes - 4) for content in frames]
    messages = (Message * (len(frames) + _BATCH))()
    for number, message in enumerate(messages):
        message.point_to(vectors[number % flows])
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    link.bind((socket.if_indextoname(interface), 0))
    descriptor, size = link.fileno(), ctypes.sizeof(Message)
    first, position, count = ctypes.addressof(messages), 0, 0
    page[READY] = 1
    while True:
        interval = page[INTERVAL_PS]
        if not interval:
            position = 0
            time.sleep(0.0005)
            continue
        due = (time.monotonic_ns() - page[START]) * 1000 // interval
        missing = due - position
        if missing <= 0:
            continue
        if missing > 4 * _BATCH:
            page[SKIPPED] += missing - 4 * _BATCH
            position += missing - 4 * _BATCH
        at = ctypes.c_void_p(first + position % flows * size)
        asked = min(missing, _BATCH)
        page[PACKETS] = count + asked  # on their way as long as the call lasts
        sent = libc.sendmmsg(descriptor, at, asked, 0)
        if sent < 0:
            number = ctypes.get_errno()
            if number != errno.ENOBUFS:
                raise OSError(number, os.strerror(number))
            sent = 0
        sent = min(sent + 1, asked)  # with the one that was refused
        position += sent
        count += sent
        page[PACKETS] = count
