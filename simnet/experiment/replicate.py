"""Replications until the answer is tight: pilot, warm-up, measured window, stop.

Scenarios that are to be compared go side by side: the same pilot, the same end of the warm-up. Each then goes on until its own answer is tight, so
that of any two windows one is the beginning of the other.

No rule looks at wall time, at the number of workers or at the order in which they finish, so the same scenario and seed give the same bytes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simnet.engine.simulation import Histograms, Simulation
from simnet.experiment.plan import PAPER_DROPPED, Plan, paper_times, plan_of, side_by_side
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


def silent(doing: str, share: float) -> None:
    """Nobody wants to hear how far it is."""
    del doing, share


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
        advance([self], doing, pilot, later, starts)

    def start_over(self) -> None:
        """Forget everything that was simulated."""
        for member in self.members:
            member.simulation = None

    def mean_series(self) -> NDArray[np.float64]:
        """Captured packets a sample, averaged over the replications."""
        captured = np.array([[int(row.captured) for row in member.rows] for member in self.members], dtype=float)
        return np.asarray(np.diff(captured, axis=1).mean(axis=0))

    def rates_kpps(self, column: str, window: Window) -> list[float]:
        """Mean rate of a counter over a window in each replication, in thousands a second."""
        return [member.rate_kpps(column, window) for member in self.members]

    def estimate(self, column: str, window: Window) -> Estimate:
        """Rate of a counter in kpps with its interval; the offered count is the control variate."""
        nominal = self.nominal_kpps if column != "offered" else None
        return controlled_interval(self.rates_kpps(column, window), self.rates_kpps("offered", window), nominal)

    def is_known(self, window: Window) -> bool:
        """Is the captured rate of a window known to the precision that the scenario asks for?"""
        return self.estimate("captured", window).relative <= self.scenario.measure.precision


def advance(
    ensembles: Sequence[Ensemble], doing: str, pilot: Sequence[int], later: Sequence[int] = (), starts: Collection[int] = ()
) -> None:
    """Bring all replications of some ensembles to the same times, by the threads of the first one."""
    pool, progress = ensembles[0].pool, ensembles[0].progress
    futures = [pool.submit(member.run, pilot, later, starts) for ensemble in ensembles for member in ensemble.members]
    for done, future in enumerate(futures):
        progress(doing, done / len(futures))
        future.result()


Windows = Sequence[Window]
"""The window of each ensemble."""
Rule = Callable[[Windows], Collection[int]]
"""Given the windows so far: which ensembles, by number, have to be measured for longer."""


def follow_paper_protocol(ensemble: Ensemble) -> Window:
    """240 s, a sample each 10 s, the first and last two dropped (ICCCN 2012, section IV)."""
    times = paper_times()
    start = times[PAPER_DROPPED - 1]
    ensemble.advance("paper protocol", times, starts={start})
    return Window(start, times[-1 - PAPER_DROPPED], "paper_protocol", times)


def follow_replay(ensembles: Sequence[Ensemble]) -> list[Window]:
    """The whole capture file, and what is then still in flight in any of them."""
    simulation = ensembles[0].members[0].simulation
    assert simulation is not None
    assert simulation.replay_ends_ps is not None
    end = simulation.replay_ends_ps + DRAIN_STEP_PS
    pilot = Plan(end, end, 0).pilot_times()
    advance(ensembles, "replay", pilot)
    later: list[int] = []
    members = [member for ensemble in ensembles for member in ensemble.members]
    while end < simulation.replay_ends_ps + DRAIN_LIMIT_PS and any(int(member.rows[-1].in_flight) for member in members):
        end += DRAIN_STEP_PS
        later.append(end)
        advance(ensembles, "draining", pilot, later)
    return [Window(0, end, "replay_end", pilot, later)] * len(ensembles)


def find_warmup(ensembles: Sequence[Ensemble], plan: Plan, patient: bool) -> tuple[list[int], int]:
    """Run a pilot, twice as long each time, until MSER-5 finds the end of every warm-up in its first half. Returns its samples and the last end.

    Who is not `patient` runs it once; where a warm-up does not end in its first half, that half is dropped.
    """
    pilot_ps = plan.pilot_ps
    given = ensembles[0].scenario.measure.warmup_s
    if given is not None:
        pilot_ps = max(pilot_ps, min(round(2 * given * PS_PER_S), plan.limit_ps))
    while True:
        times = Plan(pilot_ps, plan.limit_ps, plan.period_ps).pilot_times()
        if given is not None:
            start = min([0, *times[:-1]], key=lambda t: abs(t - given * PS_PER_S))
            advance(ensembles, "pilot", times, starts={start})
            return times, start
        advance(ensembles, "pilot", times, starts=times[4 : len(times) // 2 : 5])  # where MSER-5 may cut
        cut = max(mser5(ensemble.mean_series()) for ensemble in ensembles)
        if not patient or cut < len(times) // 2 or 2 * pilot_ps > plan.limit_ps or plan.period_ps:
            return times, times[cut - 1] if cut else 0
        for ensemble in ensembles:
            ensemble.start_over()
        pilot_ps *= 2


def follow_adaptive_protocol(ensembles: Sequence[Ensemble], plan: Plan, going_on: Rule, patient: bool) -> list[Window]:
    """Pilot, warm-up, then longer windows for those that the rule names, until it names none or the limit is reached."""
    pilot, start = find_warmup(ensembles, plan, patient)
    end = pilot[-1]
    if plan.period_ps:
        end = start + math.ceil((end - start) / plan.period_ps) * plan.period_ps
    going: Collection[int] = range(len(ensembles))
    windows = [Window(start, end, "precision", pilot)] * len(ensembles)
    later: list[int] = []
    while True:
        if end > pilot[-1]:
            begin = later[-1] if later else pilot[-1]
            later = [*later, *(begin + (end - begin) * (i + 1) // EXTENSION_SAMPLES for i in range(EXTENSION_SAMPLES))]
            advance([ensembles[i] for i in going], "measuring", pilot, later, {start})
        for i in going:
            windows[i] = Window(start, end, "precision", pilot, later)
        going = going_on(windows)
        if not going:
            return windows
        longer = start + 2 * (end - start)
        if plan.period_ps == 0:
            longer = min(longer, plan.limit_ps)
        if longer > plan.limit_ps or longer <= end:
            return [replace(w, stop_reason="time_limit") if i in going else w for i, w in enumerate(windows)]
        end = longer


def replicate(ensemble: Ensemble) -> Window:
    """Run an ensemble by the protocol of its scenario."""
    return replicate_side_by_side([ensemble])[0]


def replicate_side_by_side(ensembles: Sequence[Ensemble]) -> list[Window]:
    """Run ensembles whose scenarios have the same traffic and are measured in the same way, each until its captured rate is known.

    Returns
    -------
    list of Window
        One an ensemble; they start at the same time.
    """

    def unknown(windows: Windows) -> list[int]:
        return [i for i, window in enumerate(windows) if not ensembles[i].is_known(window)]

    return replicate_by(ensembles, side_by_side(e.plan for e in ensembles), unknown)


def replicate_by(ensembles: Sequence[Ensemble], plan: Plan, going_on: Rule, patient: bool = True) -> list[Window]:
    """The same by another plan and another rule under the adaptive protocol (see `find_warmup` for `patient`)."""
    with ExitStack() as stack:
        for ensemble in ensembles:
            stack.enter_context(ensemble.running())
        first = ensembles[0]
        if first.packets is not None and not first.scenario.traffic.loop:
            return follow_replay(ensembles)
        if first.scenario.measure.protocol == "paper":
            return [follow_paper_protocol(ensemble) for ensemble in ensembles]
        return follow_adaptive_protocol(ensembles, plan, going_on, patient)
