"""What a machine has counted since it was built, as one row of integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simnet.compiled import cold_jit, jit
from simnet.hardware.cpu import MAX_CORES, PHYSICAL
from simnet.kernel.core import CONTEXTS, EVENTS, NOBODY
from simnet.records import int64
from simnet.system.machine import Machine
from simnet.virt.qemu import COPY, PUSH
from simnet.virt.vcpu import EXIT_REASONS
from simnet.virt.virtio_net import VIRTIO_NAPI

COUNTERS = (
    "offered",
    "offered_bytes",
    "captured",
    "captured_bytes",
    "latency_sum_ps",
    "in_flight",
    "switch_discarded",
    "nic_missed",
    "nic_no_descriptor",
    "qdisc_dropped",
    "tap_dropped",
    "socket_dropped",
    "interrupts",
    "polls",
    "polled_frames",
    "wakeups",
    "context_switches",
    "time_squeezes",
    "tap_restarts",
    "mutex_contended",
    "guest_interrupts",
    "kicks",
    "table_entries",
    "table_refused",
    "table_lookups",
    "table_rotations",
    "table_spent_ps",
    "socket_lines",
    "socket_asks",
    "socket_blocks",
    "qemu_selects",
    "backend_packets",
    "backend_lines",
)
"""Names of the first columns of a row; then, by core: times by context and in HLT, exits by reason, events (see `kernel.core`)."""

Rows = NDArray[Any]
ROW = np.dtype(
    [(name, "i8") for name in COUNTERS]
    + [
        ("paid_ps", "i8", (MAX_CORES, len(CONTEXTS))),
        ("halted_ps", "i8", (MAX_CORES,)),
        ("exits", "i8", (MAX_CORES, len(EXIT_REASONS))),
        ("events", "i8", (MAX_CORES, len(EVENTS))),
    ]
)


@cold_jit
def frames_in_qemu(m: Machine) -> int:
    """A frame that QEMU has read from the tap and not yet put into the virtqueue."""
    thread = m.backend.thread
    if thread == NOBODY:
        return int64(0)
    return int64(m.tasks[thread].phase in (COPY, PUSH))


@cold_jit
def fill_guest(m: Machine, row: Any) -> None:
    """The part of a row that is about a guest."""
    row.qdisc_dropped = m.tun.qdisc_dropped
    row.tap_dropped = m.tun.dropped
    row.tap_restarts = m.tun.restarts
    row.mutex_contended = m.mutex.contended
    row.guest_interrupts = m.backend.interrupts
    for q in range(m.nic.queues):
        if m.nic.vectors[q].guest != PHYSICAL:
            row.guest_interrupts += m.nic.vectors[q].interrupts
    row.kicks = m.virtio.kicks
    row.qemu_selects = m.qemu.selects
    row.backend_packets = m.backend.packets
    row.backend_lines = m.backend.lines
    row.polls += m.napis[VIRTIO_NAPI].polls
    row.polled_frames += m.napis[VIRTIO_NAPI].packets
    for c in range(m.physical, m.physical + m.virtual):
        row.halted_ps[c] = m.vcpus[c].halted_ps
        for reason in range(len(EXIT_REASONS)):
            row.exits[c, reason] = m.vcpus[c].exits[reason]


@cold_jit
def fill_capture(m: Machine, row: Any) -> int:
    """The part of a row that is about sockets, monitors and flow table. Returns the frames that wait in sockets."""
    waiting = int64(0)
    for s in range(len(m.sockets)):
        row.socket_dropped += m.sockets[s].dropped
        row.socket_lines += m.sockets[s].lines
        row.socket_asks += m.sockets[s].asks
        row.socket_blocks += m.sockets[s].ring.handed_back
        waiting += m.sockets[s].queue.filled
    for i in range(len(m.monitors)):
        row.captured += m.monitors[i].captured
        row.captured_bytes += m.monitors[i].captured_bytes
        row.latency_sum_ps += m.monitors[i].latency_sum_ps
    row.table_entries = m.table.entries
    row.table_refused = m.table.refused
    row.table_lookups = m.table.lookups
    row.table_rotations = m.table.rotations
    row.table_spent_ps = m.table.spent_ps
    return waiting


@jit
def fill_row(m: Machine, row: Any) -> None:
    """Write the machine's counters into a row of zeros."""
    link, port = m.link, m.nic.port
    row.offered = link.delivered + link.discarded + link.egress.filled
    row.offered_bytes = link.delivered_bytes + link.discarded_bytes + link.egress.filled_bytes
    row.switch_discarded = link.discarded
    row.nic_missed = port.missed
    in_flight = link.egress.filled + port.fifo.filled
    for q in range(m.nic.queues):
        row.nic_no_descriptor += port.queues[q].no_descriptor
        row.interrupts += m.nic.vectors[q].interrupts
        row.polls += m.napis[q].polls
        row.polled_frames += m.napis[q].packets
        in_flight += port.queues[q].ring.filled
    if m.virtual:
        fill_guest(m, row)
        in_flight += m.tun.readq.filled + m.tun.qdisc.filled + m.virtqueue.used.filled + frames_in_qemu(m)
    in_flight += fill_capture(m, row)
    for i in range(m.task_count):
        row.wakeups += m.tasks[i].wakeups
    row.in_flight = in_flight
    for c in range(m.physical + m.virtual):
        row.context_switches += m.cores[c].switches
        row.time_squeezes += m.cores[c].softirq.time_squeezes
        for context in range(len(m.cores[c].paid_ps)):
            row.paid_ps[c, context] = m.cores[c].paid_ps[context]
        for event in range(len(m.cores[c].events)):
            row.events[c, event] = m.cores[c].events[event]


def new_rows(count: int) -> Rows:
    """Zeroed rows, as a record array of dtype `ROW`."""
    return np.zeros(count, ROW).view(np.recarray)


def difference(end: Any, start: Any) -> Any:
    """What was counted between two rows, as a row."""
    row = new_rows(1)[0]
    for name in ROW.names or ():
        row[name] = end[name] - start[name]
    return row
