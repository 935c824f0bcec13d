"""Feeding a capture file to the link: a SimPy process outside the machine.

Packets come with the file's time stamps divided by `speed`, but no closer than the link can carry them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import simpy
from numpy.typing import NDArray
from simpy.events import ProcessGenerator

from simnet.agenda import NIC, act_by
from simnet.compiled import cold_jit
from simnet.errors import UserError
from simnet.hardware.nic import admit
from simnet.system.machine import Machine
from simnet.traffic.frame import QUEUE_FRAMES
from simnet.traffic.packets import MOST_PS, PacketFile
from simnet.traffic.switch import load_replay
from simnet.units import PS_PER_MS, WIRE_OVERHEAD_BYTES

BLOCK = QUEUE_FRAMES // 4
START_PS = PS_PER_MS

Times = NDArray[np.int64]


def arrivals(packets: PacketFile, speed: float, byte_ps: int) -> Times:
    """When each packet's last bit reaches the NIC, from START_PS: int64 ps, shape (packets,).

    Raises
    ------
    UserError
        If the replay would take weeks.
    """
    if float(packets.times_ps[-1]) / speed > MOST_PS:
        raise UserError(f"traffic.speed: at {speed:g} the replay takes more than 26 days")
    wanted = (packets.times_ps / speed).astype(np.int64)
    wire = (packets.frame_bytes + WIRE_OVERHEAD_BYTES) * byte_ps
    carried = np.cumsum(wire)
    queued = carried + np.maximum.accumulate(wanted - (carried - wire))
    return START_PS + queued


def first_wire_ps(packets: PacketFile, byte_ps: int) -> int:
    """How long the file's first packet is on the link."""
    return (int(packets.frame_bytes[0]) + WIRE_OVERHEAD_BYTES) * byte_ps


def loop_period(times: Times, wire_ps: int) -> int:
    """After how many ps a looped file follows itself: after its mean gap, at least `wire_ps`."""
    span = int(times[-1] - times[0])
    return span + max(span // max(len(times) - 1, 1), wire_ps)


def packet_at(packets: PacketFile, times: Times, byte_ps: int, arrivals_ps: Times) -> Times:
    """Which packets of the file arrived at these times, looped or not."""
    since = (arrivals_ps - times[0]) % loop_period(times, first_wire_ps(packets, byte_ps))
    return np.asarray(np.searchsorted(times, times[0] + since), dtype=np.int64)


def blocks(packets: PacketFile, times: Times, loop: bool, wire_ps: int) -> Iterator[tuple[Times, Times, Times]]:
    """Successive blocks of (arrival, frame bytes, flow); a looped file follows itself (see `loop_period`)."""
    offset = 0
    period = loop_period(times, wire_ps)
    while True:
        for start in range(0, len(times), BLOCK):
            part = slice(start, start + BLOCK)
            yield times[part] + offset, packets.frame_bytes[part], packets.flows[part]
        if not loop:
            return
        offset += period


@cold_jit
def load_block(m: Machine, now: int, arrivals_ps: Times, frame_bytes: Times, flows: Times) -> None:
    """Give the link more packets; the NIC may have been waiting for them."""
    admit(m, now)
    load_replay(m.link, arrivals_ps, frame_bytes, flows)
    act_by(m.agenda, NIC, m.link.arriving.arrival_ps)


def feed(environment: simpy.Environment, m: Machine, packets: PacketFile, times: Times, loop: bool) -> ProcessGenerator:
    """Keep between one and two blocks ahead of the link."""
    for block in blocks(packets, times, loop, first_wire_ps(packets, int(m.link.byte_ps))):
        load_block(m, int(environment.now), *block)
        ahead = int(block[0][0]) - int(environment.now)
        if ahead > 0:
            yield environment.timeout(ahead)
