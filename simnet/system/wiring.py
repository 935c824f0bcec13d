"""The only place that wires: scenario and parameter set in, a machine ready to run out."""

from __future__ import annotations

import numpy as np

from simnet.agenda import FIRST_CPU, NEVER, TICKS
from simnet.hardware.cpu import FIRST_DEVICE_VECTOR, PHYSICAL
from simnet.hardware.models import NicModel
from simnet.hardware.moderation import FIXED, PS_PER_EITR
from simnet.kernel.core import IN_KSOFTIRQD, NOBODY, SLEEPING
from simnet.kernel.rules import Generation, Rules
from simnet.params.schema import ParameterSet
from simnet.records import allocate
from simnet.scenario.schema import Scenario
from simnet.system.capture_wiring import wire_capture
from simnet.system.choices import descriptors_of, drop_en_of, generation_of, link_gbps, nic_model
from simnet.system.costing import Costing
from simnet.system.dispatch import KSOFTIRQD_THREAD
from simnet.system.machine import Machine
from simnet.system.tasks import add_task
from simnet.system.topology import Topology, topology_of
from simnet.system.traffic_wiring import SeedOf, fill_rss, queues_reached, wire_traffic
from simnet.traffic.frame import QUEUE_FRAMES
from simnet.traffic.packets import PacketFile
from simnet.units import PS_PER_MS, PS_PER_S, PS_PER_US

XOFF_HEADROOM_BYTES, XON_BELOW_XOFF_BYTES = 40 * 1024, 16 * 1024
"""Watermarks of the packet buffer: assumed; ixgbe works them out from frame size and delays (ixgbe_fc_enable)."""


def _fill_rules(rules: Rules, generation: Generation, hz: int, factor: int) -> None:
    rules.max_restart = generation.max_restart
    rules.softirq_limit_ps = round(generation.softirq_limit_ms * PS_PER_MS)
    rules.net_rx_jiffies = generation.net_rx_jiffies
    rules.net_rx_limit_ps = round(generation.net_rx_limit_ms * PS_PER_MS)
    rules.defers_to_ksoftirqd = int(generation.defers_to_ksoftirqd)
    rules.queues_wakeups = int(generation.queues_wakeups)
    rules.budget = generation.budget
    rules.tick_ps = PS_PER_S // hz
    rules.sched_latency_ps = round(generation.sched_latency_ms * factor * PS_PER_MS)
    rules.min_granularity_ps = round(generation.min_granularity_ms * factor * PS_PER_MS)
    rules.wakeup_granularity_ps = round(generation.wakeup_granularity_ms * factor * PS_PER_MS)


def _wire_cores(m: Machine, topology: Topology, costing: Costing, c_states: bool, boot_ps: int) -> None:
    m.physical = len(topology.used)
    m.agenda.actors = FIRST_CPU + m.physical
    m.boot_ps = boot_ps
    m.agenda.due_ps[:] = NEVER
    for c, number in enumerate(topology.used):
        cpu, core = m.cpus[c], m.cores[c]
        cpu.number = number
        cpu.carrier = PHYSICAL
        for state, (latency, residency) in enumerate(costing.c_states() if c_states else []):
            cpu.exit_latency_ps[state], cpu.target_residency_ps[state] = latency, residency
            cpu.c_states = state + 1
        core.at = c
        core.curr = NOBODY
        core.next_tick_ps = boot_ps + m.rules.tick_ps
        m.agenda.due_ps[TICKS] = min(m.agenda.due_ps[TICKS], core.next_tick_ps)
        core.ksoftirqd = add_task(m, KSOFTIRQD_THREAD, c, c, IN_KSOFTIRQD, SLEEPING)


def _wire_nic(m: Machine, scenario: Scenario, model: NicModel, topology: Topology) -> None:
    nic = scenario.host.nic
    m.nic.queues = nic.queues
    m.nic.refill_batch = model.refill_batch
    m.nic.port.buffer_bytes = model.buffer_bytes
    m.nic.port.fifo.slots = QUEUE_FRAMES
    m.nic.port.drop_en = int(drop_en_of(scenario, model))
    m.nic.xoff_bytes = max(model.buffer_bytes - XOFF_HEADROOM_BYTES, model.buffer_bytes // 2)
    m.nic.xon_bytes = max(m.nic.xoff_bytes - XON_BELOW_XOFF_BYTES, m.nic.xoff_bytes // 2)
    descriptors = descriptors_of(scenario, model)
    for q in range(nic.queues):
        queue, vector, napi = m.nic.port.queues[q], m.nic.vectors[q], m.napis[q]
        queue.ring.slots = descriptors
        queue.posted = descriptors - 1
        vector.cpu = topology.core(topology.irq_cpus[q])
        vector.number = FIRST_DEVICE_VECTOR + q
        vector.moderation.algorithm = model.moderation if nic.moderation == "adaptive" else FIXED
        eitr = model.first_eitr if nic.moderation == "adaptive" else round(nic.moderation_us * PS_PER_US / PS_PER_EITR)
        vector.moderation.eitr = vector.moderation.eitr_written = eitr
        napi.queue = q
        napi.weight = model.weight
        napi.returns_work_done = int(model.returns_work_done)
    fill_rss(m.nic.rss, model, nic.queues)


def build(scenario: Scenario, params: ParameterSet, seed_of: SeedOf, packets: PacketFile | None = None) -> Machine:
    """A machine for one replication.

    Parameters
    ----------
    scenario, params
        What to build and what it costs (see `resolve`).
    seed_of
        Seeds of the named streams.
    packets
        The capture file to replay, if the traffic's source is pcap.

    Raises
    ------
    UserError
        If parts do not fit together: a CPU, queue, ring or rule set that does not exist.
    """
    model = nic_model(scenario, params)
    topology = topology_of(scenario, params)
    m = allocate(Machine, huge="table" if scenario.capture.monitor == "flow" else None)
    costing = Costing(params, m.memory)
    costing.fill_kernel(m.costs)
    _fill_rules(m.rules, generation_of(scenario, params), scenario.host.hz, topology.cfs_factor())
    boot = np.random.default_rng(seed_of("boot"))
    _wire_cores(m, topology, costing, scenario.host.c_states, -int(boot.integers(0, m.rules.tick_ps)))
    _wire_nic(m, scenario, model, topology)
    wire_traffic(m, scenario, link_gbps(scenario, model), packets, seed_of)
    reached = queues_reached(m, scenario, packets)
    for q in range(m.nic.queues):
        m.nic.vectors[q].masked = int(q not in reached)  # never fires: keep it off the NIC's agenda
    m.costs.receive_ps = costing.receive_ps(len(reached), descriptors_of(scenario, model), scenario.host.nic.dca)
    wire_capture(m, scenario, topology, costing)
    return m
