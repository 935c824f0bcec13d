"""Counts at an edge of a window: where packets are, and what the processors did meanwhile.

Packets are read from the end of their way to its beginning: captured first, offered last. A packet that moves between two readings is then
counted as in flight, never twice, so `offered - captured - dropped` is at least zero at every edge.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from calibration.capture.methods import Backend
from calibration.lab.topology import Lab
from calibration.load.generators import Generator

VETH_RING, BACKLOG = "veth_ring", "backlog"
PLACES = {
    VETH_RING: "ip -s link show (sending end of the pair), TX dropped; rx_dropped of the receiving end",
    BACKLOG: "/proc/net/softnet_stat, column 2 (of all CPUs)",
    "receive_buffer": "PACKET_STATISTICS tp_drops",
    "packet_ring": "PACKET_STATISTICS tp_drops",
    "xsk_ring": "getsockopt XDP_STATISTICS, rx_dropped and rx_ring_full",
    "program": "what the program says it lost, or PACKET_STATISTICS tp_drops of its packet sockets",
    "tap_queue": "ip -s link show (tap), TX dropped",
    "nic_buffer": "ethtool -S of a known driver, otherwise rx_missed_errors (on a link)",
    "nic_ring": "ethtool -S of a known driver (on a link)",
}
"""Places of loss by the name that the model gives them, and the counter of each."""


@dataclass(frozen=True)
class Sample:
    """Cumulative counts at one moment; `took_ns` is how long reading them took."""

    at_ns: int
    took_ns: int
    offered: int
    captured: int
    skipped: int
    dropped: dict[str, int]
    counts: dict[str, int]

    @property
    def in_flight(self) -> int:
        """Packets between the generator's count and that of a reader or of a place of loss."""
        return self.offered - self.captured - sum(self.dropped.values())


class Counters:
    """All counts of one lab, from the moment of construction on."""

    def __init__(self, lab: Lab, backend: Backend, load: Generator) -> None:
        self._lab, self._backend, self._load = lab, backend, load
        self._softnet = open("/proc/net/softnet_stat", encoding="ascii")  # noqa: SIM115
        self._backlog_before = self._backlog()

    def _backlog(self) -> int:
        self._softnet.seek(0)
        return sum(int(line.split()[1], 16) for line in self._softnet)

    def sample(self) -> Sample:
        """Read everything, downstream first."""
        began = time.monotonic_ns()
        captured = self._backend.captured
        dropped = {} if self._backend.place is None else {self._backend.place: self._backend.dropped}
        dropped[BACKLOG] = self._backlog() - self._backlog_before
        dropped[VETH_RING] = self._lab.ring_dropped()
        offered, ended = self._load.offered, time.monotonic_ns()
        return Sample(ended, ended - began, offered, captured, self._load.skipped, dropped, self._backend.counts())

    def close(self) -> None:
        """Close the files."""
        self._softnet.close()


def processor_counts(cpus: tuple[int, ...]) -> dict[str, int]:
    """Softirqs and inter-processor interrupts of some CPUs so far, from /proc/softirqs and /proc/interrupts."""
    counts = {}
    for path, rows in (
        ("/proc/softirqs", {"NET_RX": "net_rx"}),
        ("/proc/interrupts", {"RES": "rescheduling", "CAL": "function_call"}),
    ):
        with open(path, encoding="ascii") as file:
            head = [int(word[3:]) for word in file.readline().split()]
            for line in file:
                name, _, rest = line.partition(":")
                if name.strip() in rows:
                    values = rest.split()[: len(head)]
                    counts[rows[name.strip()]] = sum(int(value) for cpu, value in zip(head, values, strict=True) if cpu in cpus)
    return counts


def thread_times(pid: int) -> tuple[int, int, int]:
    """Nanoseconds that a thread ran and waited for its CPU, and how often it went to sleep (/proc/PID/schedstat, status).

    What it ran includes the softirqs that were run on its account, unless the kernel has IRQ_TIME_ACCOUNTING.
    """
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        ran, waited, _ = map(int, file.read().split())
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        sleeps = next(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt_switches"))
    return ran, waited, sleeps
