"""The only place that wires: scenario and parameter set in, a machine ready to run out."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simnet.agenda import FIRST_CPU, NEVER, NIC, ROTATION, TICKS
from simnet.capture.flow_table import D_LEFT, PROBING, recost
from simnet.capture.monitor import COUNT, FLOW, NULL
from simnet.capture.socket import MMAP_RING, PF_RING, SKB_QUEUE, Socket
from simnet.errors import UserError, nearest
from simnet.hardware.cpu import FIRST_DEVICE_VECTOR, PHYSICAL
from simnet.hardware.models import NIC_MODELS, NicModel
from simnet.hardware.moderation import FIXED, PS_PER_EITR
from simnet.hardware.rss import MAX_REPLAY_FLOWS, RETA_ENTRIES, Rss, toeplitz
from simnet.kernel.core import IN_KSOFTIRQD, NOBODY, RUNNABLE, SLEEPING
from simnet.kernel.rules import GENERATIONS, Rules
from simnet.params.schema import ParameterSet, parameter_set
from simnet.records import allocate
from simnet.scenario.schema import Scenario, Traffic
from simnet.system.costing import Costing
from simnet.system.dispatch import KSOFTIRQD_THREAD, READER
from simnet.system.machine import Machine
from simnet.system.receive import TO_SOCKET, TO_TAP
from simnet.system.topology import Topology, topology_of
from simnet.traffic.flows import (
    ADDRESS_BITS,
    DESTINATION,
    DESTINATION_PORT,
    DRAWN,
    HOST_SHIFT,
    SINGLE,
    SOURCE_PORT,
    UNIQUE,
    source_address,
)
from simnet.traffic.frame import QUEUE_FRAMES
from simnet.traffic.generator import CONSTANT, EXPONENTIAL, UNIFORM, Generator
from simnet.traffic.packets import PacketFile, read_packets, rss_input
from simnet.traffic.switch import GENERATED, MAX_GENERATORS, REPLAYED, start
from simnet.units import FCS_BYTES, MAX_FRAME_BYTES, PS_PER_MS, PS_PER_S, PS_PER_US, WIRE_OVERHEAD_BYTES

SeedOf = Callable[[str], int]
"""A 64-bit seed for the stream of a named component."""

UNLIMITED = 1 << 62
ON_OFF_TRAIN = 32
XOFF_HEADROOM_BYTES, XON_BELOW_XOFF_BYTES = 40 * 1024, 16 * 1024


def resolve(scenario: Scenario) -> ParameterSet:
    """The scenario's parameter set with its overrides of costs."""
    return parameter_set(scenario.parameters).with_values(scenario.costs)


def nic_model(scenario: Scenario, params: ParameterSet) -> NicModel:
    """The NIC of the scenario, or of the parameter set's host; checks what the scenario asks of it.

    Raises
    ------
    UserError
        If there is no such model, or it has not so many queues or descriptors.
    """
    name = scenario.host.nic.model or params.host["nic"]
    if name not in NIC_MODELS:
        raise UserError(f"host.nic.model: no model of {name!r}; there are {', '.join(NIC_MODELS)}{nearest(str(name), NIC_MODELS)}")
    model = NIC_MODELS[name]
    if scenario.host.nic.queues > model.queues:
        raise UserError(f"host.nic.queues: {scenario.host.nic.queues}; the {model.name} has {model.queues}")
    descriptors = scenario.host.nic.ring_descriptors
    _, least, most, multiple = model.ring
    if descriptors is not None:
        if not least <= descriptors <= most or descriptors % multiple:
            raise UserError(
                f"host.nic.ring_descriptors: {descriptors}; {model.driver} allows {least} to {most} in multiples of {multiple}"
            )
        if model.ring_is_power_of_two and descriptors & (descriptors - 1):
            raise UserError(f"host.nic.ring_descriptors: {descriptors}; the {model.name} wants a power of two")
    return model


def generation_of(scenario: Scenario, params: ParameterSet) -> str:
    """Name of the kernel rule set.

    Raises
    ------
    UserError
        If there is none of this name.
    """
    name = scenario.host.kernel or str(params.host["kernel"])
    if name not in GENERATIONS:
        raise UserError(f"host.kernel: no rule set {name!r}; there are {', '.join(GENERATIONS)}{nearest(name, GENERATIONS)}")
    return name


def link_gbps(scenario: Scenario, model: NicModel) -> float:
    """Rate of the link to the host."""
    return scenario.traffic.link_gbps or model.link_gbps


def _fill_rules(rules: Rules, name: str, hz: int, factor: int) -> None:
    generation = GENERATIONS[name]
    rules.max_restart = generation.max_restart
    rules.softirq_limit_ps = round(generation.softirq_limit_ms * PS_PER_MS)
    rules.net_rx_jiffies = generation.net_rx_jiffies
    rules.net_rx_limit_ps = round(generation.net_rx_limit_ms * PS_PER_MS)
    rules.defers_to_ksoftirqd = int(generation.defers_to_ksoftirqd)
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
    for task in range(len(m.tasks)):
        m.tasks[task].timeout_ps = NEVER
    for c, number in enumerate(topology.used):
        cpu, core = m.cpus[c], m.cores[c]
        cpu.number = number
        cpu.carrier = PHYSICAL
        for state, (latency, residency) in enumerate(costing.c_states() if c_states else []):
            cpu.exit_latency_ps[state], cpu.target_residency_ps[state] = latency, residency
            cpu.c_states = state + 1
        core.at = c
        core.curr = NOBODY
        core.next_tick_ps = boot_ps + m.rules.tick_ps + m.rules.tick_ps * number // (2 * topology.cpus)
        m.agenda.due_ps[TICKS] = min(m.agenda.due_ps[TICKS], core.next_tick_ps)
        core.ksoftirqd = add_task(m, KSOFTIRQD_THREAD, c, c, IN_KSOFTIRQD, SLEEPING)


def add_task(m: Machine, kind: int, core: int, subject: int, context: int, state: int) -> int:
    """A new task; returns its number."""
    number = m.task_count
    m.task_count += 1
    task = m.tasks[number]
    task.kind, task.core, task.subject, task.context, task.state = kind, core, subject, context, state
    if state == RUNNABLE:
        m.cores[core].nr_running += 1
        m.agenda.due_ps[FIRST_CPU + core] = 0
    return number


@cache
def _rss_tables(key: bytes, udp_ports: bool) -> tuple[NDArray[np.int64], ...]:
    """Hashes of the parts that a synthetic flow is made of: host, high and low address byte, high and low byte of the port's number."""

    def part(source: int, destination: int, source_port: int, destination_port: int) -> int:
        data = source.to_bytes(4, "big") + destination.to_bytes(4, "big")
        if udp_ports:
            data += source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big")
        return toeplitz(key, data)

    hosts = [part(source_address(host << HOST_SHIFT), DESTINATION, SOURCE_PORT, DESTINATION_PORT) for host in range(MAX_GENERATORS)]
    by_byte = zip(
        *((part(b << 8, 0, 0, 0), part(b, 0, 0, 0), part(0, 0, (b & 15) << 8, 0), part(0, 0, b, 0)) for b in range(256)),
        strict=True,
    )
    return tuple(np.array(column, dtype=np.int64) for column in (hosts, *by_byte))


def _fill_rss(rss: Rss, model: NicModel, queues: int) -> None:
    tables = _rss_tables(model.rss_key, model.hashes_udp_ports)
    rss.by_host[:], rss.by_high_byte[:], rss.by_low_byte[:], rss.by_port_high[:], rss.by_port_low[:] = tables
    rss.reta[:] = np.arange(RETA_ENTRIES) % queues
    rss.last_flow = -1


def _wire_nic(m: Machine, scenario: Scenario, model: NicModel, topology: Topology) -> None:
    nic = scenario.host.nic
    m.nic.queues = nic.queues
    m.nic.refill_batch = model.refill_batch
    m.nic.port.buffer_bytes = model.buffer_bytes
    m.nic.port.fifo.slots = QUEUE_FRAMES
    m.nic.port.drop_en = int(nic.drop_en)
    m.nic.xoff_bytes = max(model.buffer_bytes - XOFF_HEADROOM_BYTES, model.buffer_bytes // 2)
    m.nic.xon_bytes = max(m.nic.xoff_bytes - XON_BELOW_XOFF_BYTES, m.nic.xoff_bytes // 2)
    descriptors = nic.ring_descriptors or model.ring[0]
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
    _fill_rss(m.nic.rss, model, nic.queues)


def _wire_generator(generator: Generator, g: int, traffic: Traffic, gbps: float, seed_of: SeedOf) -> None:
    mix = traffic.frame_bytes if isinstance(traffic.frame_bytes, dict) else {traffic.frame_bytes: 1.0}
    counted = (
        traffic.generator_frame_bytes
        + {"wire": WIRE_OVERHEAD_BYTES, "frame": 0, "no_fcs": -FCS_BYTES}[traffic.generator_mbps_means]
    )
    if traffic.offered_kpps is not None:
        frame_gap_ps = 1e9 * traffic.generators / traffic.offered_kpps
    else:
        frame_gap_ps = counted * 8 * 1e6 / traffic.generator_mbps
    limited = traffic.offered_kpps is None
    line_gbps = traffic.generator_line_gbps or max(gbps, 10.0)
    trains = traffic.train_frames or (ON_OFF_TRAIN if traffic.source == "on_off" else 1)
    generator.spacing = {"pktgen": UNIFORM, "cbr": CONSTANT, "poisson": EXPONENTIAL, "on_off": EXPONENTIAL}[traffic.source]
    generator.jitter = traffic.jitter
    generator.train_frames = trains
    generator.train_scale = 1.0 / math.log(trains / (trains - 1)) if traffic.source == "on_off" and trains > 1 else 0.0
    total = 0.0
    for i, (size, weight) in enumerate(sorted(mix.items())):
        wire_bits = (size + WIRE_OVERHEAD_BYTES) * 8
        on_line = wire_bits * 1000 / line_gbps
        mean = max(frame_gap_ps, wire_bits * 1000 / traffic.generator_max_gbps if limited else 0.0)
        generator.sizes.frame_bytes[i] = size
        generator.on_line_ps[i] = on_line
        generator.pause_ps[i] = trains * max(mean - on_line, 0.0)
        total += weight
        generator.sizes.cumulative[i] = total
    generator.sizes.sizes = len(mix)
    generator.sizes.cumulative[:] /= total
    flows = generator.flows
    flows.host = g
    flows.kind = {"single": SINGLE, "multi": UNIQUE}.get(str(traffic.flows), DRAWN)
    if isinstance(traffic.flows, int):
        share, more = divmod(traffic.flows, traffic.generators)
        flows.flows = max(share + (g < more), 1)
    generator.stream.state = np.uint64(seed_of(f"generator {g}"))
    generator.sizes.stream.state = np.uint64(seed_of(f"sizes {g}"))
    flows.stream.state = np.uint64(seed_of(f"flows {g}"))
    start = np.random.default_rng(seed_of(f"phase {g}"))
    generator.prepared.arrival_ps = int(start.random() * (generator.pause_ps[0] + trains * generator.on_line_ps[0]))
    generator.train_left = 1


def _wire_traffic(m: Machine, scenario: Scenario, gbps: float, packets: PacketFile | None, seed_of: SeedOf) -> None:
    traffic = scenario.traffic
    link = m.link
    link.byte_ps = round(8000.0 / gbps)
    link.buffer_bytes = round(traffic.switch_buffer_kib * 1024)
    link.honours_pause = int(traffic.switch_honours_pause)
    link.egress.slots = QUEUE_FRAMES
    link.replay.slots = QUEUE_FRAMES
    if packets is not None:
        link.source = REPLAYED
        m.nic.rss.replayed = 1
        m.nic.rss.by_flow[: len(packets.flow_hashes)] = packets.flow_hashes
        link.arriving.arrival_ps = NEVER
        return
    link.source = GENERATED
    link.generators = traffic.generators
    for g in range(traffic.generators):
        _wire_generator(link.sources[g], g, traffic, gbps, seed_of)
    start(link)
    m.agenda.due_ps[NIC] = link.arriving.arrival_ps


def active_queues(m: Machine, scenario: Scenario, packets: PacketFile | None) -> int:
    """How many receive queues the traffic reaches."""
    if packets is not None:
        return len({int(m.nic.rss.reta[int(h) & (RETA_ENTRIES - 1)]) for h in packets.flow_hashes})
    if scenario.traffic.flows == "single":
        return 1
    found: set[int] = set()
    rss = m.nic.rss
    for g in range(scenario.traffic.generators):
        source = m.link.sources[g].flows
        k = np.arange(1 << ADDRESS_BITS if source.kind == UNIQUE else source.flows)
        hashes = rss.by_host[g] ^ np.array(rss.by_high_byte)[k >> 8 & 255] ^ np.array(rss.by_low_byte)[k & 255]
        found.update(np.array(rss.reta)[hashes & (RETA_ENTRIES - 1)].tolist())
    return len(found)


def _libpcap_frames(snaplen: int) -> int:
    """Frames in libpcap 1.1.1's ring: 2 MiB of whole blocks, each the smallest 4 KiB * 2^k that holds a frame (pcap-linux.c)."""
    frame = (snaplen + 32 + 20 + 15) & ~15
    block = 4096
    while block < frame:
        block *= 2
    return (2 * 1024 * 1024 // frame) // (block // frame) * (block // frame)


def _wire_socket(m: Machine, socket: Socket, scenario: Scenario, topology: Topology, costing: Costing) -> None:
    capture, p = scenario.capture, costing.params
    irq_cpu, cpu = topology.irq_cpus[0], capture.cpu
    same_core = cpu in topology.irq_cpus
    same_socket = topology.socket(cpu) == topology.socket(irq_cpu)
    socket.limit_bytes = UNLIMITED
    socket.queue.slots = QUEUE_FRAMES
    socket.snap_bytes = capture.snaplen_bytes
    socket.watermark = 1
    if capture.method == "recv":
        socket.kind = SKB_QUEUE
        socket.limit_bytes = capture.receive_buffer_bytes
        socket.truesize_bytes = round(p["skb_truesize_bytes"])
        socket.snap_bytes = MAX_FRAME_BYTES
        ring_bytes = float(capture.receive_buffer_bytes)
        socket.deliver_ps = costing.ps("stack_cycles", "packet_rcv_cycles", "ip_drop_cycles")
        socket.copy_ps = costing.ps("clone_cycles")
        socket.read_ps = costing.ps("recv_cycles")
        socket.read_line_ps = costing.ps("copy_line_cycles")
    elif capture.method == "pf_packet":
        socket.kind = MMAP_RING
        frames = capture.ring_frames or _libpcap_frames(capture.snaplen_bytes)
        socket.queue.slots = min(frames, QUEUE_FRAMES)
        ring_bytes = float(frames * ((capture.snaplen_bytes + 67) & ~15))
        socket.deliver_ps = costing.ps("stack_cycles", "tpacket_cycles", "ip_drop_cycles")
        socket.copy_ps = costing.ps("tpacket_copy_cycles", "timestamp_cycles")
        socket.read_ps = costing.ps("libpcap_read_cycles")
        socket.poll_timeout_ps = round(capture.poll_timeout_ms * PS_PER_MS)
    else:
        socket.kind = PF_RING
        socket.header_bytes = round(p["pf_ring_header_bytes"])
        socket.snap_bytes = capture.bucket_bytes
        ring_bytes = float(capture.slots * ((socket.header_bytes + capture.bucket_bytes + 7) & ~7))
        socket.limit_bytes = int(ring_bytes)
        socket.watermark = capture.watermark
        through_stack = ("stack_cycles", "ip_drop_cycles") if capture.transparent_mode == 0 else ()
        socket.deliver_ps = costing.ps("pf_ring_cycles", *through_stack)
        socket.copy_ps = costing.ps("timestamp_cycles")
        socket.read_ps = costing.ps("pfring_read_cycles")
        socket.poll_timeout_ps = round(capture.poll_timeout_ms * PS_PER_MS)
    line = costing.shared_line_ps(ring_bytes, same_core, same_socket)
    stored = round(line * p["store_exposed"])
    socket.copy_ps += stored  # the header's line; a line of data each below
    socket.copy_line_ps = stored + costing.ps("copy_line_cycles")
    socket.read_ps += round(2 * line)  # header and the frame's first line
    socket.reader = add_task(m, READER, topology.core(cpu), 0, 0, RUNNABLE)


def _wire_capture(m: Machine, scenario: Scenario, topology: Topology, costing: Costing) -> None:
    capture = scenario.capture
    if capture.method == "kernel_module":
        m.tap.deliver_ps = costing.ps("stack_cycles", "timestamp_cycles", "clone_cycles", "ip_drop_cycles")
    else:
        _wire_socket(m, m.sockets[0], scenario, topology, costing)
    for q in range(m.nic.queues):
        m.napis[q].handler = TO_TAP if capture.method == "kernel_module" else TO_SOCKET
    monitor = m.monitors[0]
    monitor.kind = {"count": COUNT, "null": NULL, "flow": FLOW}[capture.monitor]
    monitor.decode_ps = 0 if capture.monitor == "count" else costing.ps("decode_cycles")
    if capture.monitor == "flow":
        _wire_flow_table(m, scenario, costing)


def _wire_flow_table(m: Machine, scenario: Scenario, costing: Costing) -> None:
    wanted, table = scenario.capture.flow_table, m.table
    table.design = D_LEFT if wanted.design == "d_left" else PROBING
    table.limit = wanted.entries
    table.bucket_bits = wanted.entries.bit_length() - (3 if table.design == D_LEFT else 1)
    table.period_ps = round(wanted.period_s * PS_PER_S)
    table.hash_ps = costing.ps("hash_cycles")
    table.compare_ps = costing.ps("compare_cycles")
    table.update_ps = costing.ps("update_cycles")
    table.insert_ps = costing.ps("insert_cycles")
    table.overlap = costing.params["miss_overlap"]
    recost(table, m.memory)
    m.agenda.due_ps[ROTATION] = table.period_ps


def nominal_kpps(m: Machine) -> float | None:
    """Long-term rate of all generators together; None for a replay."""
    if m.link.source == REPLAYED:
        return None
    total = 0.0
    for g in range(m.link.generators):
        generator = m.link.sources[g]
        shares = np.diff(np.array(generator.sizes.cumulative[: generator.sizes.sizes]), prepend=0.0)
        gaps = np.array(generator.on_line_ps[: len(shares)]) + np.array(generator.pause_ps[: len(shares)]) / generator.train_frames
        total += 1e9 / float(shares @ gaps)
    return total


def read_capture(scenario: Scenario, params: ParameterSet) -> PacketFile | None:
    """The capture file that the scenario replays, if it does; RSS hashes are those of its NIC."""
    if scenario.traffic.pcap is None:
        return None
    model = nic_model(scenario, params)
    return read_packets(Path(scenario.traffic.pcap), lambda flow: toeplitz(model.rss_key, rss_input(flow, model.hashes_udp_ports)))


def describe(scenario: Scenario, params: ParameterSet) -> list[tuple[str, str]]:
    """What follows from a scenario: structure and the cost of a frame, as (name, text)."""
    m = build(scenario, params, lambda name: len(name), read_capture(scenario, params))
    model, topology = nic_model(scenario, params), topology_of(scenario, params)
    rate = nominal_kpps(m)

    def cycles(ps: float) -> str:
        return f"{ps * params['clock_ghz'] / 1000:.0f} cycles"

    socket, tap = m.sockets[0], scenario.capture.method == "kernel_module"
    lines = [
        ("NIC", f"{model.name} with {model.driver}, {link_gbps(scenario, model):g} Gbit/s; {model.source}"),
        (
            "receive rings",
            f"{m.nic.queues} of {m.nic.port.queues[0].ring.slots} descriptors; traffic reaches {active_queues(m, scenario, None) if rate else 'as hashed'}",
        ),
        ("kernel rules", f"{generation_of(scenario, params)}; {GENERATIONS[generation_of(scenario, params)].source}"),
        (
            "CPUs",
            f"{topology.cpus} on {topology.sockets} sockets; interrupts on {sorted(set(topology.irq_cpus))}, process on {'none' if tap else topology.reader_cpu}",
        ),
        ("offered by the generators", "the capture file" if rate is None else f"{rate:.1f} kpps"),
        (
            "softirq, a frame",
            f"driver {cycles(m.costs.receive_ps)} and {'tap' if tap else 'socket'} {cycles(m.tap.deliver_ps if tap else socket.deliver_ps)}",
        ),
    ]
    if not tap:
        lines.append(("softirq, a frame that fits", f"{cycles(socket.copy_ps)} and {cycles(socket.copy_line_ps)} a cache line"))
        lines.append(("process, a frame", f"{cycles(socket.read_ps)} and {cycles(socket.read_line_ps)} a cache line"))
        holds = f"{socket.queue.slots} frames" if socket.kind == MMAP_RING else f"{socket.limit_bytes} bytes"
        lines.append(("socket holds", holds))
    lines.append(
        (
            "monitor, a frame",
            cycles(m.monitors[0].decode_ps)
            + (f" and a new flow {cycles(m.table.new_ps)} of memory" if scenario.capture.monitor == "flow" else ""),
        )
    )
    return lines


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
    if packets is not None and len(packets.flow_hashes) > MAX_REPLAY_FLOWS:
        raise UserError(f"traffic.pcap: more than {MAX_REPLAY_FLOWS} flows in {scenario.traffic.pcap}")
    m = allocate(Machine, huge="table" if scenario.capture.monitor == "flow" else None)
    costing = Costing(params, m.memory)
    costing.fill_kernel(m.costs)
    _fill_rules(m.rules, generation_of(scenario, params), scenario.host.hz, topology.cfs_factor())
    boot = np.random.default_rng(seed_of("boot"))
    _wire_cores(m, topology, costing, scenario.host.c_states, -int(boot.integers(0, m.rules.tick_ps)))
    _wire_nic(m, scenario, model, topology)
    _wire_traffic(m, scenario, link_gbps(scenario, model), packets, seed_of)
    rings = active_queues(m, scenario, packets)
    m.costs.receive_ps = costing.receive_ps(rings, scenario.host.nic.ring_descriptors or model.ring[0], scenario.host.nic.dca)
    _wire_capture(m, scenario, topology, costing)
    return m
