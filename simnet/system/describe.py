"""What follows from a scenario, before it runs: structure, and what a frame costs."""

from __future__ import annotations

from simnet.capture.socket import BLOCK_RING, MMAP_RING
from simnet.params.schema import ParameterSet
from simnet.scenario.schema import Scenario
from simnet.system.choices import generation_of, link_gbps, nic_model, read_capture
from simnet.system.machine import Machine
from simnet.system.topology import topology_of
from simnet.system.traffic_wiring import nominal_kpps, queues_reached
from simnet.system.wiring import build


def describe(scenario: Scenario, params: ParameterSet) -> list[tuple[str, str]]:
    """What follows from a scenario: structure and the cost of a frame, as (name, text)."""
    packets = read_capture(scenario, params)
    m = build(scenario, params, len, packets)
    model, topology, generation = nic_model(scenario, params), topology_of(scenario, params), generation_of(scenario, params)
    rate = nominal_kpps(m)
    reader = "no process" if topology.reading is None else f"process on {topology.reading}"
    lines = [
        ("NIC", f"{model.name} with {model.driver}, {link_gbps(scenario, model):g} Gbit/s; {model.source}"),
        ("receive rings", f"{m.nic.queues} of {m.nic.port.queues[0].ring.slots} descriptors"),
        ("queues that get traffic", ", ".join(map(str, queues_reached(m, scenario, packets)))),
        ("kernel rules", f"{generation.name}; {generation.source}"),
        ("CPUs", f"{topology.cpus} on {topology.sockets} sockets; interrupts on {sorted(set(topology.irq_cpus))}, {reader}"),
        ("offered by the generators", "the capture file" if rate is None else f"{rate:.1f} kpps"),
    ]
    return lines + _costs(m, scenario, params["clock_ghz"])


def _costs(m: Machine, scenario: Scenario, clock_ghz: float) -> list[tuple[str, str]]:
    """What a frame costs, in cycles."""

    def cycles(ps: float) -> str:
        return f"{ps * clock_ghz / 1000:.0f} cycles"

    socket, in_kernel = m.sockets[0], scenario.capture.in_kernel
    lines = [
        ("softirq, driver, a frame", cycles(m.costs.receive_ps)),
        ("softirq, handler, a frame", cycles(m.tap.deliver_ps if in_kernel else socket.deliver_ps)),
    ]
    if not in_kernel:
        holds = f"{socket.queue.slots} frames" if socket.kind == MMAP_RING else f"{socket.limit_bytes} bytes"
        if socket.kind == BLOCK_RING:
            holds = f"{socket.ring.blocks} blocks of {socket.ring.block_bytes} bytes"
        lines += [
            ("softirq, a frame that fits", f"{cycles(socket.copy_ps)} and {cycles(socket.copy_line_ps)} a cache line"),
            ("process, a frame", f"{cycles(socket.read_ps)} and {cycles(socket.read_line_ps)} a cache line"),
            ("socket holds", holds),
        ]
    lines.append(("monitor, a frame", cycles(m.monitors[0].decode_ps)))
    if scenario.capture.monitor == "flow":
        lines.append(("memory of a new flow", cycles(m.table.new_ps)))
    return lines
