"""What the oracle of the guest is given and what it gives back, and the virtqueue that host and guest share."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

ISR_READ, KICK, TIMER_WRITE, EOI, HLT = "isr_read", "kick", "timer_write", "eoi", "hlt"


@dataclass(frozen=True, kw_only=True)
class CoreSetup:
    """Rules and costs of one kernel; times and costs are in picoseconds.

    Attributes
    ----------
    tick, first_tick : int
        Period of the timer tick, and the time of one tick.
    boot : int
        Time from which jiffies are counted; it may be negative.
    defers_to_ksoftirqd : bool
        Whether no inline softirq run starts while ksoftirqd is runnable.
    budget, net_rx_jiffies : int
        Frames and jiffies that one pass over the poll list may take.
    max_restart : int
        Most rounds in one run of the softirqs.
    latency, min_granularity, wakeup_granularity : int
        Times of the scheduler (CFS).
    device_interrupt, timer_interrupt, reschedule_interrupt : int
        Cost of a hard interrupt.
    do_softirq, timer_softirq, net_tx : int
        Cost of starting a round of softirqs, of the timer softirq, and of starting the transmit softirq.
    poll, napi_complete : int
        Cost of entering a poll call, and of leaving polling.
    context_switch, wake_up : int
        Cost of switching to a task, and of waking one.
    """

    tick: int
    first_tick: int
    boot: int
    defers_to_ksoftirqd: bool
    budget: int = 300
    net_rx_jiffies: int = 2
    max_restart: int = 10
    latency: int
    min_granularity: int
    wakeup_granularity: int
    device_interrupt: int
    timer_interrupt: int
    reschedule_interrupt: int
    do_softirq: int
    timer_softirq: int
    net_tx: int
    poll: int
    napi_complete: int
    context_switch: int
    wake_up: int


@dataclass(frozen=True, kw_only=True)
class VmSetup:
    """Parameters of card, host and guest; times and costs are in picoseconds.

    Attributes
    ----------
    host, guest : CoreSetup
        The two kernels.
    receive_core, io_core, vcpu_core : int
        Numbers of the physical cores that take the card's interrupt, run the I/O thread, and carry the vCPU.
    descriptors, buffer_bytes, refill_batch, moderation_interval : int
        Of the card: ring, packet buffer, descriptors posted together, least time between interrupts.
    host_weight, guest_weight : int
        Most frames of one poll call.
    returns_work_done : bool
        Whether a poll call of the card's driver that completes is charged for its frames.
    host_frame : int
        Cost of one frame from its descriptor to the tap.
    tap_xmit, tap_limit, one_queue : int, int, bool
        Cost of moving a frame from the qdisc to the tap, room in either, and whether a full tap drops at once.
    drains, msi_x : bool
        Whether the I/O thread reads more than one frame at a time, and whether an interrupt of the guest's card needs no look at its ISR.
    entries, ready_entries : int
        Size of the virtqueue, and free entries without which the I/O thread does not read.
    select, read, read_line, push, push_line, inject, futex : int
        Costs of the I/O thread's work, those named line per 64 bytes.
    vm_exit : int
        Cost of leaving the guest for an interrupt of the host.
    exits, user : dict of str to int
        Cost of leaving the guest by reason, and of QEMU's part of it.
    guest_frame, refill : int
        Cost of one frame from the virtqueue until it is captured, and of posting one buffer.
    """

    host: CoreSetup
    guest: CoreSetup
    receive_core: int
    io_core: int
    vcpu_core: int
    descriptors: int
    buffer_bytes: int
    refill_batch: int = 16
    moderation_interval: int
    host_weight: int = 64
    guest_weight: int = 128
    returns_work_done: bool
    host_frame: int
    tap_xmit: int
    tap_limit: int = 500
    one_queue: bool
    drains: bool
    msi_x: bool
    entries: int = 256
    ready_entries: int = 17
    select: int
    read: int
    read_line: int
    push: int
    push_line: int
    inject: int
    futex: int
    vm_exit: int
    exits: dict[str, int]
    user: dict[str, int]
    guest_frame: int
    refill: int


@dataclass
class VmResult:
    """What happened until the end of the simulation.

    Attributes
    ----------
    latencies : list of int
        For each captured frame, in order, the time from its arrival at the card to its capture.
    offered, missed, qdisc_dropped, tap_dropped : int
        Frames that arrived, and frames lost on the card, before the tap's qdisc, and before its queue.
    interrupts, guest_interrupts : int
        Interrupts that the card fired, and that the I/O thread injected.
    kicks, tap_restarts, mutex_contended, wakeups, switches, polls : int
        Kicks by the guest, restarts of the tap by its reader, times that the mutex was found held, wake-ups of physical cores' tasks, switches to
        tasks, and poll calls that came to their end, on all cores.
    exits : Counter of str
        Times the guest was left, by reason; "external_interrupt" is the host's.
    """

    latencies: list[int] = field(default_factory=list)
    offered: int = 0
    missed: int = 0
    qdisc_dropped: int = 0
    tap_dropped: int = 0
    interrupts: int = 0
    guest_interrupts: int = 0
    kicks: int = 0
    tap_restarts: int = 0
    mutex_contended: int = 0
    wakeups: int = 0
    switches: int = 0
    polls: int = 0
    exits: Counter[str] = field(default_factory=Counter)


@dataclass
class Virtqueue:
    """What host and guest share: entries that the host may fill, filled ones, and flags."""

    available: int
    msi_x: bool
    no_notify: bool = False
    no_interrupt: bool = False
    isr: bool = False
    used: deque[tuple[int, int]] = field(default_factory=deque)
