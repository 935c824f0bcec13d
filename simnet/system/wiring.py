"""The only place that wires: scenario and parameter set in, a machine ready to run out."""

from __future__ import annotations

import numpy as np

from simnet.hardware.cpu import FIRST_DEVICE_VECTOR, PHYSICAL
from simnet.hardware.models import NicModel
from simnet.hardware.moderation import FIXED, PS_PER_EITR
from simnet.kernel.core import IN_SYSTEM, NOBODY, SLEEPING
from simnet.params.schema import ParameterSet
from simnet.records import allocate
from simnet.scenario.schema import Scenario
from simnet.system.capture_wiring import wire_capture
from simnet.system.choices import descriptors_of, drop_en_of, generation_of, link_gbps, nic_model
from simnet.system.core_wiring import fill_rules, wire_cores
from simnet.system.costing import BUFFER_LINES, Costing
from simnet.system.dispatch import NAPI
from simnet.system.guest_wiring import wire_guest
from simnet.system.machine import Machine
from simnet.system.tasks import add_task
from simnet.system.topology import Topology, cfs_factor, topology_of
from simnet.system.traffic_wiring import SeedOf, fill_rss, queues_reached, wire_traffic
from simnet.traffic.frame import QUEUE_FRAMES
from simnet.traffic.packets import PacketFile
from simnet.units import PS_PER_US

XOFF_HEADROOM_BYTES, XON_BELOW_XOFF_BYTES = 40 * 1024, 16 * 1024
"""Watermarks of the packet buffer: assumed; ixgbe works them out from frame size and delays (ixgbe_fc_enable)."""


def _wire_nic(m: Machine, scenario: Scenario, model: NicModel, topology: Topology, costing: Costing) -> None:
    nic = scenario.host.nic
    latency_ps = round(costing.params["ipi_latency_us"] * PS_PER_US) if model.by_ipi else 0
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
        vector.guest = PHYSICAL
        vector.latency_ps = latency_ps
        vector.moderation.algorithm = model.moderation if nic.moderation == "adaptive" else FIXED
        eitr = model.first_eitr if nic.moderation == "adaptive" else round(nic.moderation_us * PS_PER_US / PS_PER_EITR)
        vector.moderation.eitr = vector.moderation.eitr_written = eitr
        napi.queue = q
        napi.thread = NOBODY
        if topology.napi_cpus:
            napi.thread = add_task(m, NAPI, topology.core(topology.napi_cpus[q]), q, IN_SYSTEM, SLEEPING)
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
    fill_rules(m.rules[0], generation_of(scenario, params), scenario.host.hz, cfs_factor(topology.cpus))
    boot = np.random.default_rng(seed_of("boot"))
    wire_cores(m, topology, costing, scenario.host.c_states, -int(boot.integers(0, m.rules[0].tick_ps)))
    _wire_nic(m, scenario, model, topology, costing)
    wire_traffic(m, scenario, link_gbps(scenario, model), packets, seed_of)
    reached = queues_reached(m, scenario, packets)
    for q in range(m.nic.queues):
        m.nic.vectors[q].masked = int(q not in reached)  # never fires: keep it off the NIC's agenda
    makes_skb = scenario.capture.method != "xdp_count"
    names = model.driver_costs + (model.skb_costs if makes_skb else ())
    if model.dma:
        lines = params["skb_lines"] if makes_skb else BUFFER_LINES
        m.costs.receive_ps = costing.receive_ps(names, lines, len(reached), descriptors_of(scenario, model), scenario.host.nic.dca)
    else:
        m.costs.receive_ps = costing.handed_over_ps(names)
    if scenario.guest is not None:
        wire_guest(m, scenario.guest, scenario, topology, costing, boot)
    wire_capture(m, scenario, topology, costing)
    return m
