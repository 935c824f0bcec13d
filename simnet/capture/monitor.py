"""Where a packet's way ends: the monitor counts it, as throughput and, if it is a flow monitor, in a flow table.

*count* only counts (pcount, pfcount); *null* also decodes the headers; *flow* also updates the flow table. A packet counts as captured when its
monitor is done with it, whether or not the table had room (pna counts before it inserts).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from simnet.capture.flow_table import FlowTable, count_packet, expect
from simnet.compiled import jit
from simnet.hardware.memory import Memory
from simnet.records import Array, Record, int64, many
from simnet.traffic.frame import Frame, FrameQueue, ahead

COUNT, NULL, FLOW = 0, 1, 2

SUB_BITS = 7
MAX_MONITORS = 4
FRAMES_AHEAD = 6
LATENCY_BINS = 63 << SUB_BITS


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
def bin_of(latency_ps: int) -> int:
    """Histogram bin of a latency: exponent and first mantissa bits of the number as an IEEE double, so 128 bins an octave."""
    return int64(np.float64(max(latency_ps, 1)).view(np.int64) >> (52 - SUB_BITS)) - (1023 << SUB_BITS)


def bin_start_ps(index: int) -> float:
    """Lower edge of a histogram bin, in ps."""
    return float((1 + (index & ((1 << SUB_BITS) - 1)) / (1 << SUB_BITS)) * 2.0 ** (index >> SUB_BITS))


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
def expect_frames(m: HasMonitors, monitor: int, queue: FrameQueue, start: int, end: int) -> None:
    """The frames at these places of a queue will be monitored soon."""
    if m.monitors[monitor].kind == FLOW:
        for distance in range(start, min(end, queue.filled)):
            expect(m.table, ahead(queue, distance).flow)


@jit
def captured(monitor: Monitor, frame: Frame, now: int) -> None:
    """The monitor is done with the frame."""
    monitor.captured += 1
    monitor.captured_bytes += frame.frame_bytes
    monitor.last_latency_ps = now - frame.arrival_ps
    monitor.latency_sum_ps += monitor.last_latency_ps
    monitor.latency[bin_of(monitor.last_latency_ps)] += 1
