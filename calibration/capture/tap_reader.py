"""poll(2) and read(2) on a tap: what a user-space virtio backend does (QEMU's `tap_send`), without the guest behind it."""

from __future__ import annotations

import os
import select

from calibration.lab.topology import Lab
from calibration.workers import PACKETS, READY, Worker

_LARGEST_FRAME = 2048


class TapReader:
    """A process that reads a tap until it is empty, then polls."""

    needs_tap = True
    place = "tap_queue"

    def __init__(self, lab: Lab, cpu: int, receive_buffer_bytes: int | None = None) -> None:
        del receive_buffer_bytes  # a tap has a ring of packets instead
        assert lab.tap is not None
        self._lab = lab
        self.worker = Worker(__name__, cpu, lab.receiver, (lab.tap,), descriptor=lab.tap)

    @property
    def captured(self) -> int:
        """Packets that the reader has."""
        return self.worker.packets

    @property
    def dropped(self) -> int:
        """Packets that found the tap's ring full so far."""
        return self._lab.tap_dropped()

    def counts(self) -> dict[str, int]:
        """Nothing else is counted."""
        return {}

    def close(self) -> None:
        """End the reader."""
        self.worker.close()


def work(page: memoryview, descriptor: int) -> None:
    """Read until killed."""
    os.set_blocking(descriptor, False)
    buffers = [bytearray(_LARGEST_FRAME)]
    read = os.readv
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    page[READY] = 1
    count = 0
    while True:
        ready.poll()
        try:
            while True:
                read(descriptor, buffers)
                count += 1
                page[PACKETS] = count
        except BlockingIOError:
            continue
