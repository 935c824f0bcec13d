"""How long to simulate, before anything is known about the results."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from simnet.params.schema import ParameterSet
from simnet.scenario.schema import Scenario
from simnet.system.choices import resolve
from simnet.system.topology import topology_of
from simnet.units import PS_PER_S

OBSERVATIONS = 100
"""Samples of the pilot, from which the warm-up is found."""
QUICK_PILOT_S = 0.05
SHARED_PILOT_S = 1.0
"""Where tasks take turns on a core, a turn is tens of milliseconds and a pilot must see many."""
TAP_PILOT_S = 0.25
"""Behind a tap the backend's thread limits and turns in the guest hardly matter: no cell of the paper moves by half a per cent between this and a pilot of 1 s."""
PILOT_FRAMES = 5_000
PILOT_BLOCKS = 100
"""Packets that wait for a block's time-out come by the block: so many make a rate, and the first of them stands out as warm-up."""
MANY_FLOWS = 1024
PAPER_SECONDS, PAPER_SAMPLE_S, PAPER_DROPPED = 240, 10, 2
"""ICCCN 2012, section IV: 240 s, a sample each 10 s, the first and last two dropped."""


@dataclass(frozen=True)
class Plan:
    """Times in ps. `period_ps` is that of a flow table whose filling matters: windows are whole periods of it; 0 for none."""

    pilot_ps: int
    limit_ps: int
    period_ps: int

    def pilot_times(self) -> list[int]:
        """When the pilot takes samples."""
        return [self.pilot_ps * (i + 1) // OBSERVATIONS for i in range(OBSERVATIONS)]


def paper_times() -> list[int]:
    """When the paper's protocol takes samples."""
    return [i * PAPER_SAMPLE_S * PS_PER_S for i in range(1, PAPER_SECONDS // PAPER_SAMPLE_S + 1)]


def expected_seconds(scenario: Scenario) -> float:
    """Simulated seconds that a scenario will take at least: what a sweep sorts by, longest first."""
    plan = plan_of(scenario, resolve(scenario), scenario.traffic.offered_kpps)
    return scenario.measure.replications * max(plan.pilot_ps, plan.period_ps) / PS_PER_S


def plan_of(scenario: Scenario, params: ParameterSet, offered_kpps: float | None) -> Plan:
    """Pilot, limit and period of a scenario under the adaptive protocol."""
    topology = topology_of(scenario, params)
    shared = topology.reading in topology.receiving or topology.has_guest
    pilot_s = TAP_PILOT_S if scenario.has_tap else SHARED_PILOT_S if shared else QUICK_PILOT_S
    if offered_kpps:
        pilot_s = max(pilot_s, PILOT_FRAMES / (offered_kpps * 1000))
    if scenario.capture.method == "tpacket_v3":
        pilot_s = max(pilot_s, PILOT_BLOCKS * scenario.capture.block_timeout_ms / 1000)
    limit_s = scenario.measure.limit_s
    period_s = 0.0
    if scenario.capture.monitor == "flow" and (
        scenario.traffic.flows == "multi" or (isinstance(scenario.traffic.flows, int) and scenario.traffic.flows > MANY_FLOWS)
    ):
        period_s = scenario.capture.flow_table.period_s / scenario.table_sample
    pilot_s = min(pilot_s, limit_s)
    return Plan(round(pilot_s * PS_PER_S), round(limit_s * PS_PER_S), round(period_s * PS_PER_S))


def side_by_side(plans: Iterable[Plan]) -> Plan:
    """What is enough for each of some plans: the longest pilot, and a window in which each flow table's period comes a whole number of times."""
    plans = list(plans)
    periods = [plan.period_ps for plan in plans if plan.period_ps]
    return Plan(max(p.pilot_ps for p in plans), max(p.limit_ps for p in plans), math.lcm(*periods) if periods else 0)
