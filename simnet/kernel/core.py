"""A core as the kernel sees it: contexts, the tasks on it, and where its time goes.

A core, physical or virtual, runs contexts in the order hard interrupt, softirq, task. One grammar serves all of them: *finish what was just paid
for, name the next piece of work, return its cost in ps, or BLOCKED*. A piece that is interrupted is set aside with what it has not used.
"""

from __future__ import annotations

from typing import Protocol

from simnet.agenda import Agenda
from simnet.compiled import jit
from simnet.hardware.costs import Costs
from simnet.hardware.cpu import Cpu
from simnet.kernel.rules import Rules
from simnet.records import Array, Record, many

BLOCKED = -1
ENTER_GUEST = -2
LEAVE_GUEST = -7

# What a core is doing; the order is the priority.
IDLE, WAKING, TASK, SWITCH, SOFTIRQ, HARDIRQ, EXIT = 0, 1, 2, 3, 4, 5, 6

# Under which heading time is paid; the names are those of the results.
CONTEXTS = ("idle", "hardirq", "softirq", "ksoftirqd", "system", "user", "guest", "exits")
(IN_IDLE, IN_HARDIRQ, IN_SOFTIRQ, IN_KSOFTIRQD, IN_SYSTEM, IN_USER, IN_GUEST, IN_EXITS) = range(8)

# Task states.
ABSENT, SLEEPING, WOKEN, RUNNABLE = 0, 1, 2, 3
NOBODY = -1
MAX_TASKS = 48

# Who runs __do_softirq on a core.
NOT_RUNNING, INLINE, KSOFTIRQD, NAPI_THREAD = 0, 1, 2, 3

# Softirq numbers, in the order in which they are served.
TIMER_SOFTIRQ, NET_TX_SOFTIRQ, NET_RX_SOFTIRQ = 1, 2, 4

MAX_POLLED = 32

# What a core does again and again and each time pays the same for: with a machine's unit costs these counts tell where the cycles went.
EVENTS = (
    "device_interrupts",
    "timer_interrupts",
    "reschedule_interrupts",
    "softirq_rounds",
    "timer_softirqs",
    "net_tx_runs",
    "qdisc_packets",
    "polls",
    "completions",
    "frames",
    "wakeups",
    "task_switches",
    "ksoftirqd_switches",
    "futex_wakeups",
    "forwarded_interrupts",
    "sent_ipis",
    "closed_blocks",
)
(
    DEVICE_INTERRUPTS,
    TIMER_INTERRUPTS,
    RESCHEDULE_INTERRUPTS,
    SOFTIRQ_ROUNDS,
    TIMER_SOFTIRQS,
    NET_TX_RUNS,
    QDISC_PACKETS,
    POLLS,
    COMPLETIONS,
    FRAMES,
    WAKEUPS,
    TASK_SWITCHES,
    KSOFTIRQD_SWITCHES,
    FUTEX_WAKEUPS,
    FORWARDED,
    SENT_IPIS,
    CLOSED_BLOCKS,
) = range(len(EVENTS))


class Task(Record):
    """A schedulable thread. `left_ps` is what an interrupted piece of its work has not used yet."""

    kind: int
    state: int
    core: int
    subject: int
    phase: int
    context: int
    left_ps: int
    timeout_ps: int
    wakeups: int
    vruntime_ps: int
    exec_start_ps: int
    ran_ps: int
    ran_before_ps: int


class SoftirqRun(Record):
    """State of __do_softirq and of net_rx_action inside it.

    `runner` says who runs it; `active` softirqs are being served, `pending` ones are raised; `napi` is being polled and has done `work` of its
    weight; `transmits`: a packet that NET_TX moves is being paid for, after `transmitted` others; `left_ps` belongs to an interrupted piece.
    """

    runner: int
    phase: int
    pending: int
    active: int
    rounds_left: int
    round_limit_ps: int
    budget: int
    net_rx_limit_ps: int
    napi: int
    transmits: int
    transmitted: int
    left_ps: int
    polled_head: int
    polled_count: int
    polled: Array[int] = many(int, MAX_POLLED)
    time_squeezes: int


class Core(Record):
    """One core. `at` is the core whose work is being paid: itself, or the virtual one of the vCPU it runs.

    `kernel` is the number of its kernel's rules: the host's or the guest's. `nr_running` tasks are runnable, the current one included. `left_ps` is what is left of a piece that the core itself does not interrupt, but its host does. `events` counts what EVENTS names.
    """

    kernel: int
    level: int
    context: int
    at: int
    began_ps: int
    end_ps: int
    left_ps: int
    curr: int
    nr_running: int
    ksoftirqd: int
    need_resched: int
    woken: int
    min_vruntime_ps: int
    next_tick_ps: int
    switches: int
    softirq: SoftirqRun
    paid_ps: Array[int] = many(int, len(CONTEXTS))
    events: Array[int] = many(int, len(EVENTS))


class HasCores(Protocol):
    """What kernel code may touch."""

    agenda: Agenda
    costs: Costs
    rules: Array[Rules]
    boot_ps: int
    task_count: int
    cpus: Array[Cpu]
    cores: Array[Core]
    tasks: Array[Task]


@jit
def rules_of(m: HasCores, c: int) -> Rules:
    """The rules of the kernel that runs on core `c`."""
    return m.rules[m.cores[c].kernel]


@jit
def account(core: Core, now: int) -> None:
    """Book the time since the last booking under the heading of the current piece."""
    core.paid_ps[core.context] += now - core.began_ps
    core.began_ps = now
