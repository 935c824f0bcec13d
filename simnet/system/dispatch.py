"""What a core does next, and what happens when an actor is due.

A clock calls `fire(m, actor, now)` for the smallest (due, actor). For a core that means: the current piece is over, or something was posted to
the core while it works. `next_work` then goes by priority: hard interrupts, softirqs, tasks. A vCPU is a task that carries a virtual core;
the host descends into it in a loop (ENTER_GUEST), so no compiled function calls itself.
"""

from __future__ import annotations

from simnet.agenda import FIRST_CPU, GUEST_TIMERS, NEVER, NIC, ROTATION, TICKS, TIMEOUTS
from simnet.capture.flow_table import rotate
from simnet.capture.reader import reader_step
from simnet.compiled import inline_jit, jit
from simnet.hardware.cpu import fall_asleep, wake_latency
from simnet.hardware.nic import nic_fires
from simnet.kernel.core import (
    BLOCKED,
    ENTER_GUEST,
    EXIT,
    HARDIRQ,
    IDLE,
    IN_EXITS,
    IN_GUEST,
    IN_HARDIRQ,
    IN_IDLE,
    IN_KSOFTIRQD,
    IN_SOFTIRQ,
    IN_SYSTEM,
    IN_USER,
    INLINE,
    LEAVE_GUEST,
    NOBODY,
    NOT_RUNNING,
    SOFTIRQ,
    SWITCH,
    TASK,
    WAKING,
    account,
    rules_of,
)
from simnet.kernel.interrupts import ticks_fire, timeouts_fire
from simnet.kernel.ksoftirqd import ksoftirqd_step
from simnet.kernel.napi import napi_thread_step
from simnet.kernel.sched import go_to_sleep, receive_wakeups, schedule
from simnet.kernel.softirq import FINISHED, begin_softirqs, may_run_inline
from simnet.system.machine import Machine
from simnet.system.receive import softirq_work
from simnet.virt.interrupts import take_host_interrupt, take_virtual_interrupt
from simnet.virt.io_thread import io_thread_step, is_in_system_call
from simnet.virt.qemu import is_serving_exit, vcpu_step
from simnet.virt.vcpu import EXTERNAL, HLT, IN_GUEST_MODE, guest_timers_fire, is_leaving, time_taken, work_left
from simnet.virt.vhost import owes_signal, vhost_step

# Kinds of tasks.
KSOFTIRQD_THREAD, READER, HOG, VCPU, IO_THREAD, VHOST, NAPI = 0, 1, 2, 3, 4, 5, 6

CONTEXT_OF_RUNNER = (IN_IDLE, IN_SOFTIRQ, IN_KSOFTIRQD, IN_SYSTEM)
"""Under which heading polls and softirqs are booked, by who runs them."""


@jit
def task_work(m: Machine, c: int, now: int) -> int:
    """The next piece of the current task of core `c`: a cost, 0 (look again), BLOCKED or ENTER_GUEST."""
    task = m.tasks[m.cores[c].curr]
    if task.left_ps > 0:
        left = task.left_ps
        task.left_ps = 0
        return left
    if task.kind == READER:
        return reader_step(m, m.cores[c].curr, now)
    if task.kind == KSOFTIRQD_THREAD:
        return ksoftirqd_step(m, c, now)
    if task.kind == VCPU:
        return vcpu_step(m, m.cores[c].curr, now)
    if task.kind == IO_THREAD:
        return io_thread_step(m, m.cores[c].curr, now)
    if task.kind == VHOST:
        return vhost_step(m, m.cores[c].curr, now)
    if task.kind == NAPI:
        return napi_thread_step(m, m.cores[c].curr)
    task.context = IN_USER
    return rules_of(m, c).tick_ps


@jit
def has_just_ended(m: Machine, c: int) -> bool:
    """Has a piece of a softirq or of a process been paid for in full, and not yet taken effect?"""
    core = m.cores[c]
    if core.level == SOFTIRQ:
        return core.softirq.runner != NOT_RUNNING and core.softirq.left_ps == 0
    if core.level != TASK or core.curr == NOBODY or m.tasks[core.curr].left_ps > 0:
        return False
    task = m.tasks[core.curr]
    return task.kind in (READER, IO_THREAD, VHOST) or (task.kind == VCPU and task.phase != IN_GUEST_MODE)


@jit
def owes_effect(m: Machine, c: int) -> bool:
    """Was the current task paid for a system call, or a vCPU for an exit, that has not taken effect? It does before anybody else runs."""
    task = m.tasks[m.cores[c].curr]
    if m.cores[c].level != TASK or task.left_ps > 0:
        return False
    if task.kind == IO_THREAD:
        return is_in_system_call(task)
    if task.kind == VHOST:
        return owes_signal(task)
    return task.kind == VCPU and is_serving_exit(m, task)


@jit
def must_schedule(m: Machine, c: int) -> bool:
    """Is it time to pick a task: nobody runs, or the current one must go and is not in the middle of kernel work?"""
    core = m.cores[c]
    if core.curr == NOBODY:
        return True
    task = m.tasks[core.curr]
    return core.need_resched != 0 and (task.left_ps == 0 or task.context == IN_USER) and not owes_effect(m, c)


@inline_jit
def next_work(m: Machine, c: int, now: int) -> int:
    """The next piece of work of core `c` by priority; sets its level and context. Returns a cost, 0, BLOCKED (idle), ENTER_GUEST or LEAVE_GUEST.

    An interrupt that comes just as a piece ends finds its effect done and the next piece begun, with its whole cost left.
    """
    core = m.cores[c]
    if core.left_ps > 0:
        left = core.left_ps
        core.left_ps = 0
        return left
    if c >= m.physical:
        if core.woken:
            receive_wakeups(m, c, now)
        if is_leaving(m, c):
            return LEAVE_GUEST
    if m.cpus[c].irr and not has_just_ended(m, c):
        core.level = HARDIRQ
        core.context = IN_HARDIRQ
        return take_host_interrupt(m, c, now) if c < m.physical else take_virtual_interrupt(m, c, now)
    if core.level == HARDIRQ and may_run_inline(m, c):
        begin_softirqs(m, c, INLINE, now)
    if core.softirq.runner != NOT_RUNNING:
        core.level = SOFTIRQ
        core.context = CONTEXT_OF_RUNNER[core.softirq.runner]
        cost = softirq_work(m, c, now)
        now = core.began_ps
        if m.cpus[c].irr:
            core.softirq.left_ps = max(cost, 0)
            return 0
        if cost != FINISHED:
            return cost
    if must_schedule(m, c):
        if core.nr_running == 0:
            core.level = IDLE
            core.context = IN_IDLE
            return BLOCKED
        core.level = SWITCH
        core.context = IN_SYSTEM
        cost = schedule(m, c, now)
        if cost > 0:
            return cost
    core.level = TASK
    cost = task_work(m, c, now)
    core.context = m.tasks[core.curr].context
    if cost == BLOCKED:
        go_to_sleep(m, core.curr, now)
        return 0
    if m.cpus[c].irr and cost > 0:
        m.tasks[core.curr].left_ps = cost
        return 0
    return cost


@inline_jit
def resume(m: Machine, c: int, now: int) -> int:
    """The next piece of work of physical core `c` that takes time, its own or its guest's. BLOCKED when the core is idle."""
    at = c
    while True:
        cost = next_work(m, at, now)
        now = m.cores[at].began_ps
        if cost == ENTER_GUEST:
            at = m.tasks[m.cores[at].curr].subject
            m.cores[at].began_ps = now
            m.cores[c].context = IN_GUEST
        elif at != c and cost in (BLOCKED, LEAVE_GUEST):
            if cost == BLOCKED:  # the guest's idle loop
                m.vcpus[at].pending |= 1 << HLT
                if m.vcpus[at].idle_ps > 0:
                    m.cores[at].context = IN_SYSTEM
                    m.cores[c].at = at
                    return time_taken(m, at, m.vcpus[at].idle_ps)
            account(m.cores[c], now)
            at = c
        elif cost != 0:
            m.cores[c].at = at
            return time_taken(m, at, cost)


@jit
def set_aside(m: Machine, c: int, now: int) -> None:
    """Keep what the interrupted piece of core `c`, or of the guest it runs, has not used."""
    host = m.cores[c]
    core = m.cores[host.at]
    left = work_left(m, host.at, host.end_ps - now)
    if core.level == SOFTIRQ:
        core.softirq.left_ps = left
    elif core.level == TASK:
        m.tasks[core.curr].left_ps = left
    else:
        core.left_ps = left


@jit
def is_interrupted(m: Machine, c: int) -> bool:
    """Does something that was posted to busy core `c`, or to the guest it runs, come before what it does?"""
    host = m.cores[c]
    level = m.cores[host.at].level
    may_wait = level != TASK and level != SOFTIRQ
    if host.at == c:
        return not may_wait and m.cpus[c].irr != 0
    vcpu = m.vcpus[host.at]
    return m.cpus[c].irr != 0 or ((vcpu.virtual_apic != 0 or vcpu.translated != 0) and not may_wait and m.cpus[host.at].irr != 0)


@jit
def is_needed(m: Machine, c: int) -> bool:
    """Does idle core `c` have something to do?"""
    return m.cpus[c].irr != 0 or m.cores[c].nr_running > 0


@jit
def begin_piece(m: Machine, c: int, cost: int, now: int) -> None:
    """Core `c` is busy for `cost`."""
    m.cores[c].end_ps = now + cost
    m.agenda.due_ps[FIRST_CPU + c] = now + cost


@jit
def account_both(m: Machine, c: int, now: int) -> None:
    """Book the time of physical core `c`, and of the virtual core it runs."""
    core = m.cores[c]
    account(core, now)
    if core.at != c:
        account(m.cores[core.at], now)


@inline_jit
def core_fires(m: Machine, c: int, now: int) -> None:
    """A piece of physical core `c` is over, or something was posted to it. It goes on with further pieces while nobody else is due."""
    core = m.cores[c]
    account_both(m, c, now)
    if core.woken:
        receive_wakeups(m, c, now)
    if core.level == IDLE:
        if not is_needed(m, c):
            m.agenda.due_ps[FIRST_CPU + c] = NEVER
            return
        core.level = WAKING
        begin_piece(m, c, wake_latency(m.cpus[c], now), now)
        if core.end_ps > now:
            return
    if now < core.end_ps:
        if not is_interrupted(m, c):
            m.agenda.due_ps[FIRST_CPU + c] = core.end_ps
            return
        set_aside(m, c, now)
        if core.at != c and m.cpus[c].irr:
            m.vcpus[core.at].exits[EXTERNAL] += 1
            core.at = c
            core.level = EXIT
            core.context = IN_EXITS
            begin_piece(m, c, m.costs.vm_exit_ps, now)
            if core.end_ps > now:
                return
    while True:
        cost = resume(m, c, now)
        now = m.cores[core.at].began_ps
        if cost == BLOCKED:
            fall_asleep(m.cpus[c], now)
            core.end_ps = now
            m.agenda.due_ps[FIRST_CPU + c] = NEVER
            return
        if now + cost >= m.agenda.quiet_until_ps or m.agenda.disturbed:
            begin_piece(m, c, cost, now)
            return
        now += cost
        account_both(m, c, now)


@jit
def rotation_fires(m: Machine, now: int) -> None:
    """An empty flow table takes over from the present one."""
    rotate(m.table, m.memory)
    m.agenda.due_ps[ROTATION] = now + m.table.period_ps


@inline_jit
def fire(m: Machine, actor: int, now: int) -> None:
    """One transition: what is due at `now` for `actor`."""
    if actor >= FIRST_CPU:
        core_fires(m, actor - FIRST_CPU, now)
    elif actor == NIC:
        nic_fires(m, now)
    elif actor == TICKS:
        ticks_fire(m, m.physical, now)
    elif actor == TIMEOUTS:
        timeouts_fire(m, now)
    elif actor == GUEST_TIMERS:
        m.agenda.due_ps[GUEST_TIMERS] = guest_timers_fire(m, now)
    else:
        rotation_fires(m, now)
