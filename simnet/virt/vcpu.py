"""A virtual processor: a task on a core of the host, and to the guest a core (virt/kvm, arch/x86/kvm of Linux 3.2).

The task enters the guest and leaves it for a reason: an interrupt of the host, an access that KVM emulates (EOI and other APIC registers), HLT,
or an I/O instruction for QEMU. Exits that KVM handles cost kernel time; those that QEMU handles also a return to user space and the
global mutex, for which the vCPU may have to sleep. A host interrupt in guest mode is always an exit; the host serves it, softirqs included, before it
enters the guest again, so host packet work steals from the vCPU on its core. An interrupt for a guest that runs elsewhere kicks it out of
guest mode with a rescheduling IPI; one for a halted guest wakes its task. No halt polling (3.2 has none), no APIC virtualisation.

Where QEMU translates the guest's code instead (TCG; accel/tcg, softmmu/cpus.c of QEMU 7.2), every piece of the guest's work takes `slowdown` times as long (cpu_exec), an access that QEMU
emulates is a call in the same thread under the global mutex, an interrupt request is a flag that the translated code looks at (cpu_interrupt), an interrupt of the host is no exit, and a vCPU that is woken
out of HLT needs the mutex to go on (qemu_wait_io_event).
"""

from __future__ import annotations

from typing import Protocol

from simnet.agenda import FIRST_CPU, NEVER, act_by
from simnet.compiled import cold_jit, jit
from simnet.hardware.cpu import RESCHEDULE_VECTOR, TIMEOUT_VECTOR, TIMER_VECTOR
from simnet.kernel.core import BLOCKED, IDLE, IN_EXITS, NOBODY, SLEEPING, SOFTIRQ, TASK, HasCores, rules_of
from simnet.kernel.sched import wake_up
from simnet.records import Array, Record, int64, many

# Why a guest is left, in the order in which several causes of one piece of its work are served.
EXIT_REASONS = ("isr_read", "clock_read", "kick", "icr_write", "timer_write", "eoi", "hlt", "external_interrupt")
ISR_READ, CLOCK_READ, KICK, ICR_WRITE, TIMER_WRITE, EOI, HLT, EXTERNAL = range(8)

# Phases of the task: in guest mode, leaving it, waiting for QEMU's mutex, in QEMU, waiting for the mutex after HLT.
IN_GUEST_MODE, LEFT, WANTS_MUTEX, IN_QEMU, AFTER_HLT = 0, 1, 2, 3, 4


class Vcpu(Record):
    """One virtual processor, numbered like its core.

    `virtual_apic`: EOIs stay in the guest (APICv). `translated`: by TCG, in QEMU's own thread; `slowdown`: time that a piece of its work takes, as a multiple of what it takes on a processor; `idle_ps`: the way of a tickless guest into its idle loop and out of it, paid before HLT. `stamps_exit`: its clock source is an emulated timer, so that a time stamp leaves the guest. `pending`: bits of the exits that the guest's work has caused; `exits` counts them by reason; `exit_ps` and `user_ps` are what each costs in
    the kernel and in QEMU (0: QEMU is not asked); `halted_ps`: time asleep in HLT, up to `halted_since_ps` if it is.
    """

    pending: int
    reason: int
    virtual_apic: int
    translated: int
    slowdown: float
    idle_ps: int
    stamps_exit: int
    is_halted: int
    halted_since_ps: int
    halted_ps: int
    exits: Array[int] = many(int, len(EXIT_REASONS))
    exit_ps: Array[int] = many(int, len(EXIT_REASONS))
    user_ps: Array[int] = many(int, len(EXIT_REASONS))


class HasVcpus(HasCores, Protocol):
    """What the functions of this module may touch."""

    physical: int
    virtual: int
    vcpus: Array[Vcpu]


@jit
def time_taken(m: HasVcpus, c: int, cost: int) -> int:
    """Time that a piece of work takes on core `c`: its cost, and on a virtual core that is slower than its host a multiple of it."""
    if c < m.physical or cost <= 0:
        return cost
    return int64(cost * m.vcpus[c].slowdown)


@jit
def work_left(m: HasVcpus, c: int, time: int) -> int:
    """What is left of a piece of work that would have gone on for `time`: the inverse of `time_taken`."""
    if c < m.physical:
        return time
    return int64(time / m.vcpus[c].slowdown)


@cold_jit
def account_halt(vcpu: Vcpu, now: int) -> None:
    """Book the time in HLT up to now."""
    if vcpu.is_halted:
        vcpu.halted_ps += now - vcpu.halted_since_ps
        vcpu.halted_since_ps = now


@cold_jit
def kick(m: HasVcpus, virtual: int, sender: int, now: int) -> int:
    """Make a virtual processor see what was requested of it (kvm_vcpu_kick): wake it out of HLT, or out of guest mode. Returns a cost."""
    carrier = m.cpus[virtual].carrier
    task = m.tasks[carrier]
    if task.state == SLEEPING and task.phase == IN_GUEST_MODE:
        return wake_up(m, carrier, sender, now)
    if m.cores[task.core].at == virtual and task.core != sender:
        if not m.vcpus[virtual].translated:
            m.cpus[task.core].irr |= 1 << RESCHEDULE_VECTOR
        act_by(m.agenda, FIRST_CPU + task.core, now)
    return 0


@cold_jit
def inject(m: HasVcpus, virtual: int, vector: int, sender: int, now: int) -> int:
    """Request `vector` of a virtual processor from core `sender`. Returns what a wake-up costs the sender."""
    m.cpus[virtual].irr |= 1 << vector
    return kick(m, virtual, sender, now)


@cold_jit
def complete_exit(m: HasVcpus, i: int, now: int) -> int:
    """KVM has done what the exit of vCPU task `i` was for. Returns a cost, 0, or BLOCKED to halt."""
    task = m.tasks[i]
    virtual = task.subject
    vcpu = m.vcpus[virtual]
    task.phase = IN_GUEST_MODE
    if vcpu.reason == HLT:
        if m.cpus[virtual].irr or m.cores[virtual].woken:  # kvm_arch_vcpu_runnable
            return 0
        vcpu.is_halted = 1
        m.cpus[virtual].asleep = 1
        vcpu.halted_since_ps = now
        return BLOCKED
    cost = 0
    if vcpu.reason == ICR_WRITE:
        targets = m.cpus[virtual].icr
        m.cpus[virtual].icr = 0
        for other in range(m.physical, m.physical + m.virtual):
            if (targets >> other) & 1:
                cost += inject(m, other, RESCHEDULE_VECTOR, task.core, now)
    return cost


@cold_jit
def begin_exit(m: HasVcpus, i: int) -> int:
    """Leave guest mode for the first pending reason. Returns the cost in the kernel."""
    task = m.tasks[i]
    vcpu = m.vcpus[task.subject]
    if m.cpus[task.subject].icr:
        vcpu.pending |= 1 << ICR_WRITE
    reason = 0
    while not (vcpu.pending >> reason) & 1:
        reason += 1
    vcpu.pending &= ~(1 << reason)
    vcpu.reason = reason
    vcpu.exits[reason] += 1
    task.phase = LEFT
    task.context = IN_EXITS
    return vcpu.exit_ps[reason]


@cold_jit
def is_interrupted(m: HasVcpus, virtual: int) -> bool:
    """Has the host interrupted a piece of the guest's work that is not paid in full?"""
    core = m.cores[virtual]
    if core.level == SOFTIRQ:
        return core.softirq.left_ps > 0
    return core.left_ps > 0 or (core.level == TASK and core.curr != NOBODY and m.tasks[core.curr].left_ps > 0)


@cold_jit
def is_leaving(m: HasVcpus, virtual: int) -> bool:
    """Has a finished piece of the guest's work caused an exit?"""
    return (m.vcpus[virtual].pending != 0 or m.cpus[virtual].icr != 0) and not is_interrupted(m, virtual)


@cold_jit
def guest_timers_fire(m: HasVcpus, now: int) -> int:
    """Timers of the virtual local APICs, which are timers of the host on the vCPU's core. Returns when the next one is due."""
    following = NEVER
    for c in range(m.physical, m.physical + m.virtual):
        core = m.cores[c]
        vectors = 0
        if core.next_tick_ps <= now:
            core.next_tick_ps += rules_of(m, c).tick_ps
            if core.level != IDLE or m.cpus[c].irr != 0:
                vectors = 1 << TIMER_VECTOR
        for i in range(m.task_count):
            task = m.tasks[i]
            if task.core == c and task.timeout_ps <= now:
                if task.state == SLEEPING:
                    vectors |= 1 << TIMEOUT_VECTOR
                else:
                    task.timeout_ps = NEVER
            if task.core == c and task.timeout_ps > now:
                following = min(following, task.timeout_ps)
        following = min(following, core.next_tick_ps)
        if vectors:
            carrier = m.cpus[c].carrier
            host = m.tasks[carrier].core
            m.cpus[c].irr |= vectors
            m.cpus[host].irr |= 1 << TIMEOUT_VECTOR
            act_by(m.agenda, FIRST_CPU + host, now)
            if m.tasks[carrier].phase == IN_GUEST_MODE:
                wake_up(m, carrier, NOBODY, now)
    return following
