"""Where the cycles of the cores went: event counts times the unit costs of the machine, stage by stage on a packet's way.

The model books time by context only. What a context did is worked out afterwards from what the machine counted (`system.counters`) and what each
piece of work costs on it, so that nothing is measured on the hot path. What the counts do not explain of the cores' busy time is left over and
shown; it comes from pieces that the ends of the window cut, and from wake-ups by time-outs, which nobody pays for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simnet.kernel import core as kernel
from simnet.kernel.core import IN_IDLE
from simnet.system.machine import Machine
from simnet.virt.vcpu import EXIT_REASONS, EXTERNAL, HLT, TIMER_WRITE

TO_TAP, TO_SOCKET, CAPTURED, OVERHEAD = "host", "guest", "captured", "overhead"
"""Legs of the way: up to the tap (on bare metal up to the socket), from there to the guest's socket, what only captured packets pay; and what no packet asked for."""


EXITS = tuple(f"exit_{reason}" for reason in EXIT_REASONS)
HOST_STAGES = (
    "interrupts",
    "polls",
    "driver",
    "bridge",
    "tap_transmit",
    "net_tx",
    "tap_restart",
    "select",
    "tap_read",
    "push",
    "inject",
    *EXITS,
)
CAPTURE_STAGES = ("capture", "copy", "blocks", "process", "poll_calls", "monitor")
OTHER_STAGES = ("wakeups", "futex", "reschedules", "task_switches", "ksoftirqd_switches", "ticks", "idle_loop")
ORDER = [
    *(("host", key) for key in HOST_STAGES),
    *(("guest", key) for key in ("interrupts", "polls", "driver", "net_tx")),
    *((side, key) for side in ("host", "guest") for key in CAPTURE_STAGES),
    *((side, key) for side in ("host", "guest") for key in OTHER_STAGES),
]
"""Every stage (side, key) in the order of a packet's way."""


@dataclass(frozen=True)
class Stage:
    """Time that one kind of work took on one CPU of the host, in ps. `side` says whose work: the host's or the guest's."""

    key: str
    side: str
    leg: str
    cpu: int
    ps: float


@dataclass(frozen=True)
class Ledger:
    """All stages, the busy time and the wall time of the CPUs that were used, and packets: `frames` polled by side, `dropped` after CPU work by place."""

    stages: tuple[Stage, ...]
    busy_ps: Mapping[int, float]
    wall_ps: float
    captured: int
    frames: Mapping[str, int]
    dropped: Mapping[str, int]

    def total_busy_ps(self) -> float:
        """Busy time of all CPUs."""
        return sum(self.busy_ps.values())

    def unattributed(self, cpu: int | None = None) -> float:
        """Share of the busy time of one CPU, or of all, that no stage explains."""
        busy = self.total_busy_ps() if cpu is None else self.busy_ps[cpu]
        explained = sum(stage.ps for stage in self.stages if cpu is None or stage.cpu == cpu)
        return 1.0 - explained / busy if busy else 0.0


Piece = tuple[str, str, float]
"""Stage, leg, ps."""


def _kernel_stages(m: Machine, events: Any, leg: str) -> Iterator[Piece]:
    """What any core does, physical or virtual, that is not work on a packet in hand."""
    costs = m.costs
    yield "interrupts", leg, events[kernel.DEVICE_INTERRUPTS] * costs.device_interrupt_ps
    softirq = events[kernel.SOFTIRQ_ROUNDS] * costs.do_softirq_ps + events[kernel.POLLS] * costs.poll_ps
    yield "polls", leg, softirq + events[kernel.COMPLETIONS] * costs.napi_complete_ps
    yield "inject", TO_SOCKET, events[kernel.FORWARDED] * m.backend.inject_ps
    yield "net_tx", TO_SOCKET, events[kernel.NET_TX_RUNS] * costs.net_tx_ps
    yield "wakeups", OVERHEAD, events[kernel.WAKEUPS] * costs.wake_up_ps + events[kernel.SENT_IPIS] * costs.send_ipi_ps
    yield "futex", OVERHEAD, events[kernel.FUTEX_WAKEUPS] * m.mutex.futex_ps
    yield "reschedules", OVERHEAD, events[kernel.RESCHEDULE_INTERRUPTS] * costs.reschedule_interrupt_ps
    yield "task_switches", OVERHEAD, events[kernel.TASK_SWITCHES] * costs.context_switch_ps
    yield "ksoftirqd_switches", OVERHEAD, events[kernel.KSOFTIRQD_SWITCHES] * costs.context_switch_ps
    ticks = events[kernel.TIMER_INTERRUPTS] * costs.timer_interrupt_ps + events[kernel.TIMER_SOFTIRQS] * costs.timer_softirq_ps
    yield "ticks", OVERHEAD, ticks


def _host_receive(m: Machine, events: Any) -> Iterator[Piece]:
    """The host's softirq up to the tap, where there is a guest."""
    frames, moved = events[kernel.FRAMES], events[kernel.QDISC_PACKETS]
    yield "driver", TO_TAP, frames * m.costs.receive_ps
    yield "bridge", TO_TAP, frames * (m.bridge.forward_ps + m.bridge.local_ps)
    yield "tap_transmit", TO_TAP, frames * m.tun.xmit_ps
    yield "tap_restart", TO_SOCKET, moved * m.tun.xmit_ps


def _capturing_receive(m: Machine, counts: Any, events: Any, share: float, has_socket: bool, leg: str) -> Iterator[Piece]:
    """The softirq that ends in the tap of the kernel module or in a socket; `share`: of all frames that get there, those of this core."""
    frames = events[kernel.FRAMES]
    if leg == TO_SOCKET and m.virtqueue.entries > 0:
        yield "driver", leg, frames * (m.virtio.receive_ps + m.virtio.refill_ps)
    else:
        yield "driver", leg, frames * m.costs.receive_ps
    if not has_socket:
        yield "capture", CAPTURED, frames * m.tap.deliver_ps
        yield "monitor", CAPTURED, frames * m.monitors[0].decode_ps + share * counts["table_spent_ps"]
        return
    socket = m.sockets[0]
    copied = frames - share * counts["socket_dropped"]
    yield "capture", leg, frames * socket.deliver_ps
    yield "copy", CAPTURED, copied * socket.copy_ps + share * counts["socket_lines"] * socket.copy_line_ps
    yield "blocks", CAPTURED, events[kernel.CLOSED_BLOCKS] * socket.ring.close_ps


def _process(m: Machine, counts: Any, copied: float) -> Iterator[Piece]:
    """The capturing process."""
    socket, captured = m.sockets[0], counts["captured"]
    lines = counts["socket_lines"] * captured / copied if copied > 0 else 0.0
    blocks = counts["socket_blocks"] * socket.ring.read_ps
    yield "process", CAPTURED, captured * socket.read_ps + lines * socket.read_line_ps + blocks
    yield "poll_calls", OVERHEAD, counts["socket_asks"] * m.costs.poll_system_call_ps
    yield "monitor", CAPTURED, captured * m.monitors[0].decode_ps + counts["table_spent_ps"]


def _backend(m: Machine, counts: Any) -> Iterator[Piece]:
    """The thread between tap and guest: QEMU's I/O thread or vhost's worker."""
    backend, qemu, packets, lines = m.backend, m.qemu, counts["backend_packets"], counts["backend_lines"]
    yield "select", TO_SOCKET, counts["qemu_selects"] * qemu.select_ps
    yield "tap_read", TO_SOCKET, packets * backend.read_ps + lines * backend.read_line_ps
    yield "push", TO_SOCKET, packets * qemu.push_ps + lines * qemu.push_line_ps
    yield "inject", TO_SOCKET, counts["guest_interrupts"] * backend.inject_ps


def _exits(m: Machine, counts: Any, virtual: int) -> Iterator[Piece]:
    """What leaving the guest costs the host, by reason."""
    vcpu = m.vcpus[virtual]
    for reason, name in enumerate(EXIT_REASONS):
        unit = m.costs.vm_exit_ps if reason == EXTERNAL else vcpu.exit_ps[reason] + vcpu.user_ps[reason]
        leg = OVERHEAD if reason in (TIMER_WRITE, EXTERNAL) else TO_SOCKET
        yield f"exit_{name}", leg, counts["exits"][virtual, reason] * unit


def _pieces(m: Machine, counts: Any, c: int) -> Iterator[tuple[str, Piece]]:
    """Everything that core `c` did, with whose work it was."""
    has_guest, has_socket = m.virtual > 0, m.sockets[0].limit_bytes > 0
    virtual = c >= m.physical
    side, leg = ("guest", TO_SOCKET) if virtual else ("host", TO_TAP)
    events = counts["events"][c]
    ends = range(m.physical, m.physical + m.virtual) if has_guest else range(m.physical)
    frames = sum(int(counts["events"][e, kernel.FRAMES]) for e in ends)
    work = [_kernel_stages(m, events, leg)]
    if has_guest and not virtual:
        work.append(_host_receive(m, events))
    else:
        share = events[kernel.FRAMES] / frames if frames else 0.0
        work.append(_capturing_receive(m, counts, events, share, has_socket, leg))
    if has_socket and m.tasks[m.sockets[0].reader].core == c:
        work.append(_process(m, counts, frames - float(counts["socket_dropped"])))
    if has_guest and m.backend.thread != kernel.NOBODY and m.tasks[m.backend.thread].core == c:
        work.append(_backend(m, counts))
    if virtual:
        work.append(iter((("idle_loop", OVERHEAD, counts["exits"][c, HLT] * m.vcpus[c].idle_ps),)))
    slowdown = float(m.vcpus[c].slowdown) if virtual else 1.0
    for pieces in work:
        yield from ((side, (key, of, ps * slowdown)) for key, of, ps in pieces)
    if virtual:
        yield from (("host", piece) for piece in _exits(m, counts, c))


def ledger_of(m: Machine, counts: Any, wall_ps: float) -> Ledger:
    """The stages of one replication.

    Parameters
    ----------
    m
        A machine as it was wired for the replication: only its unit costs and its structure are read.
    counts
        What it counted in the window (a row of `system.counters`).
    wall_ps
        Length of the window.
    """
    stages = []
    for c in range(m.physical + m.virtual):
        below = c if c < m.physical else int(m.tasks[m.cpus[c].carrier].core)
        cpu = int(m.cpus[below].number)
        stages += [Stage(key, side, leg, cpu, float(ps)) for side, (key, leg, ps) in _pieces(m, counts, c) if ps]
    paid = counts["paid_ps"]
    busy = {int(m.cpus[c].number): float(paid[c].sum() - paid[c][IN_IDLE]) for c in range(m.physical)}
    events, virtual = counts["events"], range(m.physical, m.physical + m.virtual)
    frames = {
        "host": sum(int(events[c, kernel.FRAMES]) for c in range(m.physical)),
        "guest": sum(int(events[c, kernel.FRAMES]) for c in virtual),
    }
    dropped = {name: int(counts[name]) for name in ("qdisc_dropped", "tap_dropped", "socket_dropped")}
    return Ledger(tuple(stages), busy, wall_ps, int(counts["captured"]), frames, dropped)


def sum_ledgers(ledgers: Sequence[Ledger]) -> Ledger:
    """All replications together; the same stages on the same CPU added up, in the order of a packet's way."""
    times: dict[tuple[str, str, str, int], float] = {}
    for stage in (stage for ledger in ledgers for stage in ledger.stages):
        at = (stage.key, stage.side, stage.leg, stage.cpu)
        times[at] = times.get(at, 0.0) + stage.ps
    ordered = sorted(times, key=lambda at: (ORDER.index((at[1], at[0])), at[3]))
    stages = tuple(Stage(*at, times[at]) for at in ordered)
    return Ledger(
        stages,
        _added(ledger.busy_ps for ledger in ledgers),
        sum(ledger.wall_ps for ledger in ledgers),
        sum(ledger.captured for ledger in ledgers),
        {name: round(count) for name, count in _added(ledger.frames for ledger in ledgers).items()},
        {name: round(count) for name, count in _added(ledger.dropped for ledger in ledgers).items()},
    )


def _added(parts: Iterable[Mapping[Any, float]]) -> dict[Any, float]:
    total: dict[Any, float] = {}
    for part in parts:
        for key, value in part.items():
            total[key] = total.get(key, 0.0) + value
    return total


def wasted(ledger: Ledger) -> dict[str, float]:
    """Time that was spent on packets that were lost later, in ps, by the counter of the place: an equal share of every stage that they went through."""

    def spent(leg: str, side: str) -> float:
        frames = ledger.frames[side]
        return sum(stage.ps for stage in ledger.stages if stage.leg == leg) / frames if frames else 0.0

    to_tap = spent(TO_TAP, "host")
    to_socket = to_tap + (spent(TO_SOCKET, "guest") if ledger.frames["guest"] else 0.0)
    each = {"qdisc_dropped": to_tap, "tap_dropped": to_tap, "socket_dropped": to_socket}
    return {name: each[name] * count for name, count in ledger.dropped.items() if count}
