"""One replication: a machine, a clock, what it is fed, and samples of its counters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from threading import Event
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simnet.engine.clocks import CLOCKS, Clock, Observer, SimpyClock
from simnet.engine.replay import arrivals, feed
from simnet.engine.streams import seed_source
from simnet.params.schema import ParameterSet
from simnet.scenario.schema import Scenario
from simnet.system.counters import new_rows
from simnet.system.machine import Machine
from simnet.system.wiring import build
from simnet.traffic.packets import PacketFile

BATCH = 5
"""Samples between two looks at the world; the batch of MSER-5."""


class Histograms(NamedTuple):
    """Packets by latency bin (see `capture.monitor.bin_of`) and polls by the number of their frames."""

    latency: NDArray[np.int64]
    batches: NDArray[np.int64]


class Simulation:
    """One replication of a scenario, from time 0.

    Attributes
    ----------
    machine
        Its state.
    times_ps, rows
        When samples were taken, and the counters then (see `system.counters.ROW`); the first is at 0.
    histograms
        Histograms by the time at which they were remembered.
    stopping
        Set it from another thread to end a run at the next sample.
    """

    def __init__(
        self,
        scenario: Scenario,
        params: ParameterSet,
        seed: int,
        replication: int,
        engine: str = "compiled",
        packets: PacketFile | None = None,
        stopping: Event | None = None,
    ) -> None:
        self.replication = replication
        self.machine = build(scenario, params, seed_source(seed, replication), packets)
        self.clock: Clock = CLOCKS[engine](self.machine)
        self.now_ps = 0
        self.times_ps: list[int] = [0]
        self.rows: list[Any] = list(new_rows(1))
        self.histograms: dict[int, Histograms] = {0: self.histograms_now()}
        self.stopping = stopping or Event()
        self.replay_ends_ps: int | None = None
        if packets is not None:
            times = arrivals(packets, scenario.traffic.speed, int(self.machine.link.byte_ps))
            self.replay_ends_ps = None if scenario.traffic.loop else int(times[-1])
            self.clock.environment.process(feed(self.clock.environment, self.machine, packets, times, scenario.traffic.loop))

    def run(self, times_ps: Sequence[int], remember: Collection[int] = ()) -> None:
        """Go on to each of the given times and take a sample there; stops early if `stopping` is set.

        At the times to `remember` the histograms are kept, so that later ones can be counted from there.
        """
        if not times_ps:
            return
        times = np.asarray(times_ps, dtype=np.int64)
        ends = sorted({*range(BATCH, len(times), BATCH), *(i + 1 for i, t in enumerate(times_ps) if t in remember), len(times)})
        for start, end in pairwise([0, *ends]):
            if self.stopping.is_set():
                return
            batch, rows = times[start:end], new_rows(end - start)
            self.clock.sample(batch, rows)
            self.now_ps = int(batch[-1])
            self.times_ps += batch.tolist()
            self.rows += list(rows)
            if self.now_ps in remember:
                self.histograms[self.now_ps] = self.histograms_now()

    def watch(self, observer: Observer) -> None:
        """From now on go step by step under the eyes of an observer; the bytes are the same."""
        self.clock = SimpyClock(self.machine, self.clock.environment, observer)

    def histograms_now(self) -> Histograms:
        """Histograms since time 0."""
        m = self.machine
        return Histograms(np.array(m.monitors[0].latency), sum_batches(m))


def sum_batches(m: Machine) -> NDArray[np.int64]:
    """Frames a poll, all queues together."""
    return np.asarray(np.sum([np.array(m.napis[q].batches) for q in range(m.nic.queues)], axis=0, dtype=np.int64))
