"""Trace a scenario: the last milliseconds of one replication, step by step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simnet.compiled import mark_compiled
from simnet.engine.activity import Activity
from simnet.engine.clocks import Observer
from simnet.engine.packet_ways import CAPTURED, PacketWays
from simnet.engine.replay import arrivals, packet_at
from simnet.engine.simulation import Simulation
from simnet.errors import UserError
from simnet.experiment.plan import plan_of
from simnet.experiment.replicate import Progress
from simnet.params.schema import ParameterSet
from simnet.results.places import Place, places
from simnet.results.result import Dropped, Packets
from simnet.results.timeline import CoreTrack, QueueTrack, Timeline
from simnet.scenario.loading import data_file
from simnet.scenario.schema import Scenario
from simnet.system.choices import drop_en_of, nic_model, read_capture, resolve
from simnet.system.counters import difference
from simnet.system.topology import Topology, topology_of
from simnet.system.traffic_wiring import nominal_kpps
from simnet.traffic.packets import PacketFile
from simnet.units import PS_PER_MS

BEFORE_THE_NIC = "switch_discarded"
STEPS = 20
"""How often progress is shown."""


class Watch(Observer):
    """Sees what the cores do and where the packets are, from now on."""

    def __init__(self, simulation: Simulation, losses: list[str]) -> None:
        self.activity = Activity(simulation.machine, simulation.now_ps)
        self.packets = PacketWays(simulation.machine, simulation.now_ps, losses)

    def before(self, now_ps: int) -> None:
        """Let arrivals in, one by one."""
        self.packets.arrive(now_ps)

    def after(self, now_ps: int) -> None:
        """Look at cores and queues."""
        self.activity.look(now_ps)
        self.packets.look(now_ps)


def trace(
    scenario: Scenario,
    *,
    last_ms: float = 10.0,
    until_ms: float | None = None,
    replication: int = 0,
    seed: int = 1,
    progress: Progress | None = None,
) -> Timeline:
    """Look at some milliseconds of one replication of a scenario, transition by transition.

    Everything before runs on the compiled clock; the bytes are those of `simnet.run`.

    Parameters
    ----------
    scenario
        See `simnet.load`.
    last_ms
        How long to look.
    until_ms
        End of the window in simulated time. If not given: a replay's last arrival, or else the end of the pilot, from which a run finds the end of its
        warm-up (1 s where tasks share a core or there is a guest, else 50 ms).
    replication
        Which one, as numbered in a run.
    seed
        As in a run.
    progress
        Called with what is being done and the share that is done.

    Returns
    -------
    Timeline

    Raises
    ------
    UserError
        If the scenario asks for something that does not exist, or the window is not in the replication.
    """
    if not 0 <= replication < scenario.measure.replications:
        raise UserError(f"--replication {replication}: the run has replications 0 to {scenario.measure.replications - 1}")
    for name, given in (("--last-ms", last_ms), ("--until-ms", until_ms)):
        if given is not None and not 0 < given < math.inf:
            raise UserError(f"{name} {given:g}: more than 0")
    params = resolve(scenario)
    packets = read_capture(scenario, params)
    simulation = Simulation(scenario, params, seed, replication, packets=packets)
    end_ps = _end_ps(simulation, scenario, params) if until_ms is None else round(until_ms * PS_PER_MS)
    start_ps = end_ps - round(last_ms * PS_PER_MS)
    if start_ps < 0:
        raise UserError(f"--last-ms {last_ms:g}: at most {end_ps / PS_PER_MS:g}, where the window ends (--until-ms moves that)")
    if start_ps:
        simulation.run([start_ps])
    mark_compiled()
    where = places(scenario.capture.method, drop_en_of(scenario, nic_model(scenario, params)), scenario.guest is not None)
    watch = Watch(simulation, [place.column for place in where if place.column != BEFORE_THE_NIC])
    simulation.watch(watch)
    for step in range(STEPS):
        if progress is not None:
            progress("step by step", step / STEPS)
        simulation.run([start_ps + (end_ps - start_ps) * (step + 1) // STEPS])
    return _timeline(simulation, scenario, params, seed, watch, where, start_ps, packets)


def _end_ps(simulation: Simulation, scenario: Scenario, params: ParameterSet) -> int:
    if simulation.replay_ends_ps is not None:
        return simulation.replay_ends_ps
    return plan_of(scenario, params, nominal_kpps(simulation.machine)).pilot_ps


def _timeline(
    simulation: Simulation,
    scenario: Scenario,
    params: ParameterSet,
    seed: int,
    watch: Watch,
    where: tuple[Place, ...],
    start_ps: int,
    file: PacketFile | None,
) -> Timeline:
    end_ps, ways = simulation.now_ps, watch.packets
    first = simulation.rows[simulation.times_ps.index(start_ps)]
    counts = difference(simulation.rows[-1], first)
    dropped = tuple(Dropped(p.key, p.reason, p.counter, int(counts[p.column]), p.knob) for p in where)
    packets = Packets(int(counts.offered), int(counts.captured), int(counts.in_flight), dropped)
    _check(counts, ways)
    return Timeline(
        scenario=scenario.name,
        seed=seed,
        replication=simulation.replication,
        start_ps=start_ps,
        end_ps=end_ps,
        cores=_tracks(topology_of(scenario, params), watch.activity, end_ps),
        queues=tuple(
            QueueTrack(queue.name, queue.levels)
            for queue in sorted(ways.queues, key=lambda q: q.rank)
            if any(n for _, n in queue.levels)
        ),
        packets=packets,
        in_flight_at_start=int(first.in_flight),
        method=scenario.capture.method,
        place_names={p.column: p.key for p in where if p.column != BEFORE_THE_NIC},
        ways=sorted(ways.ways.values(), key=lambda way: way.arrival_ps),
        stored=ways.stored,
        replayed=_replayed(simulation, scenario, file, ways),
    )


def _tracks(topology: Topology, activity: Activity, end_ps: int) -> tuple[CoreTrack, ...]:
    host = [CoreTrack(cpu, None, activity.of_core(topology.core(cpu), end_ps)) for cpu in topology.used]
    if not topology.has_guest:
        return tuple(host)
    guest = [CoreTrack(topology.pins[v], v, activity.of_core(topology.working_core(v), end_ps)) for v in topology.working]
    return (*host, *guest)


def _replayed(
    simulation: Simulation, scenario: Scenario, file: PacketFile | None, ways: PacketWays
) -> tuple[Path, NDArray[np.int64]] | None:
    """The capture file, and which of its packets were stored."""
    if file is None or scenario.traffic.pcap is None:
        return None
    byte_ps = int(simulation.machine.link.byte_ps)
    stored = np.array([stored.way.arrival_ps for stored in ways.stored], dtype=np.int64)
    return data_file(scenario.traffic.pcap), packet_at(file, arrivals(file, scenario.traffic.speed, byte_ps), byte_ps, stored)


def _check(counts: Any, ways: PacketWays) -> None:
    """What was seen of the packets is what the machine has counted: fates, and latencies to the picosecond.

    Raises
    ------
    AssertionError
        If not: a mistake in the model or here.
    """
    seen = [way for way in ways.ways.values() if way.fate == CAPTURED]
    latency_ps = sum(way.sights[-1].time_ps - way.arrival_ps for way in seen)
    if (len(seen), latency_ps) != (int(counts.captured), int(counts.latency_sum_ps)):
        raise AssertionError(
            f"{len(seen)} captures in {latency_ps} ps were seen, {counts.captured} in {counts.latency_sum_ps} ps were counted"
        )
