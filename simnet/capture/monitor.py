"""Where a packet's way ends: the monitor counts it, as throughput and, if it is a flow monitor, in a flow table.

*count* only counts (pcount, pfcount); *null* also decodes the headers; *flow* also updates the flow table. A packet counts as captured when its
monitor is done with it, whether or not the table had room (pna counts before it inserts).
"""

from __future__ import annotations

from typing import Protocol

from simnet.capture.flow_table import FlowTable, count_packet
from simnet.compiled import jit
from simnet.hardware.memory import Memory
from simnet.records import Array, Record, many
from simnet.traffic.frame import Frame

COUNT, NULL, FLOW = 0, 1, 2

SUB_BITS = 7
MAX_MONITORS = 4
LATENCY_BINS = (64 - SUB_BITS) << SUB_BITS
_NS_SHIFT = 10


class Monitor(Record):
    """Counts of one monitor; all flow monitors of a machine share its table. `latency` is a histogram of arrival at the NIC to here, in bins of less than 1 % width (see `bin_of`)."""

    kind: int
    decode_ps: int
    captured: int
    captured_bytes: int
    last_latency_ps: int
    latency_sum_ps: int
    latency: Array[int] = many(int, LATENCY_BINS)


@jit
def bit_length(x: int) -> int:
    """Position of the highest bit of a number below 2**63, from 1; 0 for 0."""
    n = 0
    if x >= 1 << 32:
        x >>= 32
        n += 32
    if x >= 1 << 16:
        x >>= 16
        n += 16
    if x >= 1 << 8:
        x >>= 8
        n += 8
    if x >= 1 << 4:
        x >>= 4
        n += 4
    if x >= 1 << 2:
        x >>= 2
        n += 2
    if x >= 1 << 1:
        x >>= 1
        n += 1
    return n + x


@jit
def bin_of(latency_ps: int) -> int:
    """Histogram bin of a latency: linear below 128 units of 1.024 ns, then 128 bins an octave."""
    x = latency_ps >> _NS_SHIFT
    if x < 1 << SUB_BITS:
        return max(x, 0)
    octave = bit_length(x) - SUB_BITS
    return (octave << SUB_BITS) + ((x >> (octave - 1)) & ((1 << SUB_BITS) - 1))


def bin_start_ps(index: int) -> int:
    """Lower edge of a histogram bin, in ps."""
    octave, rest = index >> SUB_BITS, index & ((1 << SUB_BITS) - 1)
    if octave == 0:
        return rest << _NS_SHIFT
    return (((1 << SUB_BITS) + rest) << (octave - 1)) << _NS_SHIFT


class HasMonitors(Protocol):
    """What monitors may touch."""

    memory: Memory
    table: FlowTable
    monitors: Array[Monitor]


@jit
def monitor_cost(m: HasMonitors, monitor: int, frame: Frame) -> int:
    """What the monitor will take for this frame; the flow table is updated now."""
    if m.monitors[monitor].kind == FLOW:
        return m.monitors[monitor].decode_ps + count_packet(m.table, m.memory, frame.flow)
    return m.monitors[monitor].decode_ps


@jit
def captured(monitor: Monitor, frame: Frame, now: int) -> None:
    """The monitor is done with the frame."""
    monitor.captured += 1
    monitor.captured_bytes += frame.frame_bytes
    monitor.last_latency_ps = now - frame.arrival_ps
    monitor.latency_sum_ps += monitor.last_latency_ps
    monitor.latency[bin_of(monitor.last_latency_ps)] += 1
