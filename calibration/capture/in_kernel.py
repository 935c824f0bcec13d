"""What the back ends have in common that count in the kernel and have no process: one word that an eBPF program adds to."""

from __future__ import annotations

from abc import ABC, abstractmethod

from calibration import bpf
from calibration.lab.topology import Lab


class InKernelCount(ABC):
    """A counter of packets that a program saw and dropped."""

    needs_tap = False
    place = None
    worker = None
    dropped = 0

    def __init__(self, lab: Lab, cpu: int, receive_buffer_bytes: int | None = None) -> None:
        del cpu, receive_buffer_bytes
        self._map = bpf.Words()
        try:
            self.attach(lab, self._map.descriptor)
        except BaseException:
            self._map.close()
            raise

    @abstractmethod
    def attach(self, lab: Lab, counter: int) -> None:
        """Load the program that adds to the counter, and put it where packets come by."""

    @property
    def captured(self) -> int:
        """Packets that the program saw."""
        return self._map.words[0]

    def counts(self) -> dict[str, int]:
        """Nothing else is counted."""
        return {}

    def close(self) -> None:
        """Let go of the counter."""
        self._map.close()
