"""Wiring the traffic: generators, link and receive-side scaling."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from simnet.agenda import NEVER, NIC
from simnet.hardware.models import NicModel
from simnet.hardware.rss import RETA_ENTRIES, Rss, toeplitz
from simnet.scenario.schema import Scenario, Traffic
from simnet.system.machine import Machine
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
from simnet.traffic.packets import PacketFile
from simnet.traffic.switch import GENERATED, MAX_GENERATORS, REPLAYED, start
from simnet.units import FCS_BYTES, WIRE_OVERHEAD_BYTES

SeedOf = Callable[[str], int]
"""A 64-bit seed for the stream of a named component."""

ON_OFF_TRAIN = 32
SPACINGS = {"pktgen": UNIFORM, "cbr": CONSTANT, "poisson": EXPONENTIAL, "on_off": EXPONENTIAL}
COUNTED_BYTES = {"wire": WIRE_OVERHEAD_BYTES, "frame": 0, "no_fcs": -FCS_BYTES}
"""What each meaning of a generator's bit rate adds to the frame length."""


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
        *((part(b << 8, 0, 0, 0), part(b, 0, 0, 0), part(0, 0, b << 8, 0), part(0, 0, b, 0)) for b in range(256)),
        strict=True,
    )
    return tuple(np.array(column, dtype=np.int64) for column in (hosts, *by_byte))


def fill_rss(rss: Rss, model: NicModel, queues: int) -> None:
    tables = _rss_tables(model.rss_key, model.hashes_udp_ports)
    rss.by_host[:], rss.by_high_byte[:], rss.by_low_byte[:], rss.by_port_high[:], rss.by_port_low[:] = tables
    entries = np.arange(RETA_ENTRIES)
    rss.reta[:] = (entries ^ 3 if model.reta_reversed else entries) % queues
    rss.last_flow = -1


def _wire_generator(generator: Generator, g: int, traffic: Traffic, gbps: float, seed_of: SeedOf) -> None:
    mix = traffic.frame_bytes if isinstance(traffic.frame_bytes, dict) else {traffic.frame_bytes: 1.0}
    counted = traffic.generator_frame_bytes + COUNTED_BYTES[traffic.generator_mbps_means]
    if traffic.offered_kpps is not None:
        frame_gap_ps = 1e9 * traffic.generators / traffic.offered_kpps
    else:
        frame_gap_ps = counted * 8 * 1e6 / traffic.generator_mbps
    limited = traffic.offered_kpps is None
    line_gbps = traffic.generator_line_gbps or max(gbps, 10.0)
    trains = traffic.train_frames or (ON_OFF_TRAIN if traffic.source == "on_off" else 1)
    generator.spacing = SPACINGS[traffic.source]
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
    flows.host = g % traffic.flows if isinstance(traffic.flows, int) else g
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


def wire_traffic(m: Machine, scenario: Scenario, gbps: float, packets: PacketFile | None, seed_of: SeedOf) -> None:
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


def queues_reached(m: Machine, scenario: Scenario, packets: PacketFile | None) -> list[int]:
    """Which receive queues the traffic reaches."""
    rss = m.nic.rss
    reta = np.array(rss.reta)
    if packets is not None:
        return sorted(set(reta[packets.flow_hashes & (RETA_ENTRIES - 1)].tolist()))
    if scenario.traffic.flows == "single":
        return [int(reta[rss.by_host[0] & (RETA_ENTRIES - 1)])]
    found: set[int] = set()
    for g in range(scenario.traffic.generators):
        source = m.link.sources[g].flows
        k = np.arange(1 << ADDRESS_BITS if source.kind == UNIQUE else source.flows)
        hashes = rss.by_host[g] ^ np.array(rss.by_high_byte)[k >> 8 & 255] ^ np.array(rss.by_low_byte)[k & 255]
        if source.kind == DRAWN:  # more flows than addresses, or ports hashed: ports count as well
            hashes ^= np.array(rss.by_port_high)[k >> 24 & 255] ^ np.array(rss.by_port_low)[k >> 16 & 255]
        found.update(reta[hashes & (RETA_ENTRIES - 1)].tolist())
    return sorted(found)


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
