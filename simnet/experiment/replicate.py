"""Replications until the answer is tight: pilot, warm-up, measured window, stop.

No rule looks at wall time, at the number of workers or at the order in which they finish, so the same scenario and seed give the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simnet.engine.simulation import Histograms, Simulation
from simnet.experiment.plan import PAPER_DROPPED, Plan, paper_times, plan_of
from simnet.params.schema import ParameterSet
from simnet.results.statistics import Estimate, controlled_interval, mser5
from simnet.scenario.schema import Scenario
from simnet.system.counters import difference
from simnet.system.traffic_wiring import nominal_kpps
from simnet.traffic.packets import PacketFile
from simnet.units import PS_PER_MS, PS_PER_S

DRAIN_STEP_PS = 10 * PS_PER_MS
DRAIN_LIMIT_PS = PS_PER_S
EXTENSION_SAMPLES = 20

Progress = Callable[[str, float], None]
"""Called with what is being done and the share of it that is done."""


@dataclass
class Window:
    """The measured part of all replications, in ps; why the run stopped; and all times at which samples were taken."""

    start_ps: int
    end_ps: int
    stop_reason: str
    pilot: Sequence[int] = ()
    later: Sequence[int] = ()


@dataclass
class Member:
    """One replication. A machine with a flow table is large: it is dropped after each round and, if ever needed, run again."""

    number: int
    make: Callable[[], Simulation]
    keep_machine: bool
    simulation: Simulation | None = None
    times_ps: list[int] = field(default_factory=list)
    rows: list[Any] = field(default_factory=list)
    histograms: dict[int, Histograms] = field(default_factory=dict)
    last: Histograms | None = None

    def run(self, pilot: Sequence[int], later: Sequence[int], remember: Collection[int]) -> None:
        """Be at the last of the given times: the pilot's and, after it, later ones."""
        simulation = self.simulation
        if simulation is None:
            simulation = self.simulation = self.make()
        simulation.run([t for t in [*pilot, *later] if t > simulation.now_ps], remember)
        self.times_ps, self.rows = simulation.times_ps, simulation.rows
        self.histograms, self.last = simulation.histograms, simulation.histograms_now()
        if not self.keep_machine:
            self.simulation = None

    def row_at(self, time_ps: int) -> Any:
        """Counters at a time at which a sample was taken."""
        return self.rows[self.times_ps.index(time_ps)]

    def counts(self, window: Window) -> Any:
        """What was counted in a window, as a row."""
        return difference(self.row_at(window.end_ps), self.row_at(window.start_ps))

    def rate_kpps(self, column: str, window: Window) -> float:
        """Mean rate of a counter over a window, in thousands a second."""
        count = int(self.row_at(window.end_ps)[column]) - int(self.row_at(window.start_ps)[column])
        return count / ((window.end_ps - window.start_ps) / PS_PER_S) / 1000


class Ensemble:
    """All replications of a scenario, run by threads (compiled code holds no GIL)."""

    def __init__(
        self,
        scenario: Scenario,
        params: ParameterSet,
        seed: int,
        engine: str,
        packets: PacketFile | None,
        workers: int | None,
        progress: Progress,
        numbers: Sequence[int] | None = None,
    ) -> None:
        self.stopping = Event()

        def maker(k: int) -> Callable[[], Simulation]:
            return lambda: Simulation(scenario, params, seed, k, engine, packets, self.stopping)

        self.scenario = scenario
        self.packets = packets
        self.progress = progress
        numbers = range(scenario.measure.replications) if numbers is None else numbers
        first = maker(numbers[0])()
        self.nominal_kpps = nominal_kpps(first.machine)
        self.plan = plan_of(scenario, params, self.nominal_kpps)
        keep = self.plan.period_ps == 0
        self.members = [Member(k, maker(k), keep) for k in numbers]
        self.members[0].simulation = first
        self.pool = ThreadPoolExecutor(max_workers=workers or os.cpu_count() or 1)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Stop the threads at their next sample when the block is left by an exception."""
        try:
            yield
        except BaseException:
            self.stopping.set()
            self.pool.shutdown(wait=False, cancel_futures=True)
            raise
        self.pool.shutdown()

    def advance(self, doing: str, pilot: Sequence[int], later: Sequence[int] = (), starts: Collection[int] = ()) -> None:
        """Bring all replications to the same times. The measured window may begin at one of `starts`."""
        futures = [self.pool.submit(member.run, pilot, later, starts) for member in self.members]
        for done, future in enumerate(futures):
            self.progress(doing, done / len(futures))
            future.result()

    def start_over(self) -> None:
        """Forget everything that was simulated."""
        for member in self.members:
            member.simulation = None

    def mean_series(self) -> NDArray[np.float64]:
        """Captured packets a sample, averaged over the replications."""
        captured = np.array([[int(row.captured) for row in member.rows] for member in self.members], dtype=float)
        return np.asarray(np.diff(captured, axis=1).mean(axis=0))

    def estimate(self, column: str, window: Window) -> Estimate:
        """Rate of a counter in kpps with its interval; the offered count is the control variate."""
        values = [member.rate_kpps(column, window) for member in self.members]
        control = [member.rate_kpps("offered", window) for member in self.members]
        return controlled_interval(values, control, self.nominal_kpps if column != "offered" else None)


def follow_paper_protocol(ensemble: Ensemble) -> Window:
    """240 s, a sample each 10 s, the first and last two dropped (ICCCN 2012, section IV)."""
    times = paper_times()
    start = times[PAPER_DROPPED - 1]
    ensemble.advance("paper protocol", times, starts={start})
    return Window(start, times[-1 - PAPER_DROPPED], "paper_protocol", times)


def follow_replay(ensemble: Ensemble) -> Window:
    """The whole capture file, and what is then still in flight."""
    simulation = ensemble.members[0].simulation
    assert simulation is not None
    assert simulation.replay_ends_ps is not None
    end = simulation.replay_ends_ps + DRAIN_STEP_PS
    pilot = Plan(end, end, 0).pilot_times()
    ensemble.advance("replay", pilot)
    later: list[int] = []
    while end < simulation.replay_ends_ps + DRAIN_LIMIT_PS and any(int(member.rows[-1].in_flight) for member in ensemble.members):
        end += DRAIN_STEP_PS
        later.append(end)
        ensemble.advance("draining", pilot, later)
    return Window(0, end, "replay_end", pilot, later)


def find_warmup(ensemble: Ensemble, plan: Plan) -> tuple[list[int], int]:
    """Run a pilot, twice as long each time, until MSER-5 finds the end of the warm-up in its first half. Returns its samples and the end."""
    pilot_ps = plan.pilot_ps
    given = ensemble.scenario.measure.warmup_s
    if given is not None:
        pilot_ps = max(pilot_ps, min(round(2 * given * PS_PER_S), plan.limit_ps))
    while True:
        times = Plan(pilot_ps, plan.limit_ps, plan.period_ps).pilot_times()
        if given is not None:
            start = min([0, *times[:-1]], key=lambda t: abs(t - given * PS_PER_S))
            ensemble.advance("pilot", times, starts={start})
            return times, start
        ensemble.advance("pilot", times, starts=times[4 : len(times) // 2 : 5])  # where MSER-5 may cut
        cut = mser5(ensemble.mean_series())
        if cut < len(times) // 2 or 2 * pilot_ps > plan.limit_ps or plan.period_ps:
            return times, times[cut - 1] if cut else 0
        ensemble.start_over()
        pilot_ps *= 2


def follow_adaptive_protocol(ensemble: Ensemble) -> Window:
    """Pilot, warm-up, then longer windows until the interval is within the precision or the limit is reached."""
    plan, precision = ensemble.plan, ensemble.scenario.measure.precision
    pilot, start = find_warmup(ensemble, plan)
    end = start + plan.period_ps if plan.period_ps else pilot[-1]
    later: list[int] = []
    while True:
        if end > pilot[-1]:
            begin = later[-1] if later else pilot[-1]
            later += [begin + (end - begin) * (i + 1) // EXTENSION_SAMPLES for i in range(EXTENSION_SAMPLES)]
            ensemble.advance("measuring", pilot, later, {start})
        window = Window(start, end, "precision", pilot, later)
        if ensemble.estimate("captured", window).relative <= precision:
            return window
        longer = start + 2 * (end - start)
        if plan.period_ps == 0:
            longer = min(longer, plan.limit_ps)
        if longer > plan.limit_ps or longer <= end:
            return Window(start, end, "time_limit", pilot, later)
        end = longer


def replicate(ensemble: Ensemble) -> Window:
    """Run an ensemble by the protocol of its scenario."""
    with ensemble.running():
        if ensemble.packets is not None and not ensemble.scenario.traffic.loop:
            return follow_replay(ensemble)
        if ensemble.scenario.measure.protocol == "paper":
            return follow_paper_protocol(ensemble)
        return follow_adaptive_protocol(ensemble)
