"""What the back ends have in common that count in the kernel and have no process: one word that an eBPF program adds to."""

from __future__ import annotations

from calibration import bpf


class InKernelCount:
    """A counter of packets that a program saw and dropped."""

    needs_tap = False
    place = None
    worker = None
    dropped = 0

    def __init__(self) -> None:
        self._map = bpf.Words()

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
