"""Counts of a link at an edge of a window.

While the generator sends, what has reached the port is what was offered: both edges are then read on one host within microseconds. What the
generator's own counter says is read right after each, with the time by its own clock, so that its rate is exact however long the asking took. When
it has stopped, the generator's counter is what was offered: everything it ever sent must be somewhere.
"""

from __future__ import annotations

import time

from calibration.capture.methods import Backend
from calibration.collect.counters import BACKLOG, Sample
from calibration.link.load import RemoteLoad
from calibration.link.port import Port


class LinkCounters:
    """All counts of one link, from the moment of construction on."""

    def __init__(self, port: Port, backend: Backend, load: RemoteLoad) -> None:
        self._port, self._backend, self._load = port, backend, load
        self._softnet = open("/proc/net/softnet_stat", encoding="ascii")  # noqa: SIM115
        self._before = self._kernel()
        self.arrived = 0
        """What has reached the port, as of the last sample."""

    def _kernel(self) -> dict[str, int]:
        """Counters that go on from window to window: places of loss, and what was received."""
        self._softnet.seek(0)
        backlog = sum(int(line.split()[1], 16) for line in self._softnet)
        return {BACKLOG: backlog, "received": self._port.received(), **self._port.nic_losses()}

    def sample(self) -> Sample:
        """Read everything, downstream first.

        Raises
        ------
        GeneratorError
            If the generator's host does not answer.
        """
        began = time.monotonic_ns()
        captured = self._backend.captured
        dropped = {} if self._backend.place is None else {self._backend.place: self._backend.dropped}
        now = {name: count - self._before.get(name, 0) for name, count in self._kernel().items()}
        ended = time.monotonic_ns()
        received = now.pop("received")
        arrived = received + sum(count for place, count in now.items() if place != BACKLOG)
        counts = self._backend.counts()
        sent, sent_ns = self._load.read()
        offered = arrived if self._load.sends else sent
        self.arrived = arrived
        return Sample(ended, ended - began, offered, captured, 0, dropped | now, {**counts, "sent": sent, "sent_clock_ns": sent_ns})

    def close(self) -> None:
        """Close the files."""
        self._softnet.close()
