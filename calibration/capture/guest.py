"""A guest with a virtio network card on the tap, emulated by QEMU without KVM (TCG): its kernel counts what its driver receives.

Mechanisms are those of any virtio guest with a user-space backend: QEMU's main loop reads the tap, fills the virtqueue and notifies; the guest's NAPI
suppresses notifications while it polls. The costs are not: an exit under TCG is nothing like one under KVM.

The guest answers on its serial line: one word asks, lines of counters come back.
"""

from __future__ import annotations

import os
import select
import socket
import time

from calibration.lab.guest_image import QEMU, guest_image
from calibration.lab.topology import Lab
from calibration.workers import READY, Worker
from simnet.errors import UserError

_MEMORY_MIB = 192
_LONGEST_BOOT_S, _LONGEST_ANSWER_S = 60.0, 10.0


class Guest:
    """A running guest; its QEMU, with all threads, is pinned to one CPU."""

    needs_tap = True
    place = "tap_queue"

    def __init__(self, lab: Lab, cpu: int, receive_buffer_bytes: int | None = None) -> None:
        del receive_buffer_bytes  # the virtqueue is the buffer
        assert lab.tap is not None
        self._lab = lab
        self._answer: list[list[str]] = []
        image = guest_image()
        self._serial, theirs = socket.socketpair()
        command = [
            *(QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-accel", "tcg", "-m", str(_MEMORY_MIB), "-smp", "1", "-serial", "stdio"),
            *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
            *("-append", "console=ttyS0 quiet loglevel=0 panic=-1"),
            *("-netdev", f"tap,id=n,fd={lab.tap},vhost=off", "-device", "virtio-net-pci,netdev=n,romfile="),
        ]
        try:
            self.worker = Worker(__name__, cpu, lab.receiver, (lab.tap, theirs.fileno()), command=command, serial=theirs.fileno())
        except BaseException:
            self._serial.close()
            raise
        finally:
            theirs.close()
        try:
            self._read_until("ready", _LONGEST_BOOT_S)
        except BaseException:
            self.close()
            raise

    def _read_until(self, last: str, seconds: float) -> list[str]:
        """Lines up to one that is `last`."""
        limit, text = time.monotonic() + seconds, ""
        while True:
            lines = text.split("\n")
            for number, line in enumerate(lines[:-1]):
                if line.strip() == last:
                    return lines[:number]
            left = limit - time.monotonic()
            if left <= 0 or not select.select([self._serial], [], [], left)[0]:
                raise UserError(f"the guest does not answer: {text.strip()[-200:] or 'not a word'}")
            part = self._serial.recv(65536)
            if not part:
                raise UserError(f"the guest's QEMU ended: {text.strip()[-200:] or 'without a word'}")
            text += part.decode(errors="replace")

    @property
    def captured(self) -> int:
        """Packets that the guest's driver gave to its stack."""
        self._serial.send(b"counters\n")
        self._answer = [line.split() for line in self._read_until("end", _LONGEST_ANSWER_S)]
        return next(int(words[1]) for words in self._answer if words[:1] == ["rx_packets"])

    @property
    def dropped(self) -> int:
        """Packets that found the tap's ring full so far."""
        return self._lab.tap_dropped()

    def counts(self) -> dict[str, int]:
        """Interrupts of the receive queue and receive softirqs in the guest when `captured` was last read."""
        counts = {}
        for words in self._answer:
            if words and "input" in words[-1]:
                counts["guest_interrupts"] = int(words[1])
            if words[:1] == ["NET_RX:"]:
                counts["guest_net_rx"] = int(words[1])
        return counts

    def close(self) -> None:
        """Switch it off."""
        self.worker.close()
        self._serial.close()


def work(page: memoryview, command: list[str], serial: int) -> None:
    """Become QEMU, the serial line its standard input and output."""
    for standard in (0, 1):
        os.dup2(serial, standard)
    page[READY] = 1
    os.execvp(command[0], command)
