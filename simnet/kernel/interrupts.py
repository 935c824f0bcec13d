"""Hard interrupts: the timer tick, time-outs, rescheduling interrupts and device vectors.

A handler only marks what is to be done: a device handler puts its NAPI context on the poll list of the core it interrupted (napi_schedule), the
tick raises the timer softirq and checks the current task's slice. Idle cores have no tick (NO_HZ). All cores tick together: the skew between them
went with 2.6.36 and came back in 3.5 as a boot option.
"""

from __future__ import annotations

from typing import Protocol

from simnet.agenda import NEVER, TICKS, TIMEOUTS
from simnet.compiled import cold_jit, jit
from simnet.hardware.cpu import (
    FIRST_DEVICE_VECTOR,
    PHYSICAL,
    RESCHEDULE_VECTOR,
    TIMEOUT_VECTOR,
    TIMER_VECTOR,
    first_vector,
    send_vector,
)
from simnet.kernel.core import (
    DEVICE_INTERRUPTS,
    IDLE,
    RESCHEDULE_INTERRUPTS,
    SLEEPING,
    TIMER_INTERRUPTS,
    TIMER_SOFTIRQ,
    rules_of,
)
from simnet.kernel.napi import HasNapi, napi_schedule
from simnet.kernel.sched import check_preempt_tick, wake_up
from simnet.kernel.softirq import raise_softirq
from simnet.kernel.timers import HasTimers, timers_fire


@cold_jit
def expire_timeouts(m: HasNapi, c: int, now: int) -> None:
    """Wake the sleepers of core `c` whose time-out has passed (hrtimer_wakeup)."""
    for i in range(m.task_count):
        task = m.tasks[i]
        if task.core == c and task.timeout_ps <= now:
            task.timeout_ps = NEVER
            if task.state == SLEEPING:
                wake_up(m, i, c, now)


@jit
def take_interrupt(m: HasNapi, c: int, now: int) -> int:
    """Core `c` takes the lowest requested vector and runs its handler. Returns the cost of entry, handler and EOI."""
    cpu = m.cpus[c]
    vector = first_vector(cpu)
    cpu.irr &= ~(1 << vector)
    cpu.interrupts += 1
    if vector >= FIRST_DEVICE_VECTOR:
        m.cores[c].events[DEVICE_INTERRUPTS] += 1
        return m.costs.device_interrupt_ps + napi_schedule(m, c, vector - FIRST_DEVICE_VECTOR, now)
    if vector == RESCHEDULE_VECTOR:
        m.cores[c].events[RESCHEDULE_INTERRUPTS] += 1
        return m.costs.reschedule_interrupt_ps
    m.cores[c].events[TIMER_INTERRUPTS] += 1
    if vector == TIMEOUT_VECTOR:
        expire_timeouts(m, c, now)
        return m.costs.timer_interrupt_ps
    raise_softirq(m, c, TIMER_SOFTIRQ)
    check_preempt_tick(m, c, now)
    return m.costs.timer_interrupt_ps


@cold_jit
def ticks_fire(m: HasNapi, physical: int, now: int) -> None:
    """The local timers that are due interrupt their processors, unless these are idle."""
    following = NEVER
    for c in range(physical):
        core = m.cores[c]
        if core.next_tick_ps <= now:
            core.next_tick_ps += rules_of(m, c).tick_ps
            if core.level != IDLE or m.cpus[c].irr != 0:
                send_vector(m, c, TIMER_VECTOR, now)
        following = min(following, core.next_tick_ps)
    m.agenda.due_ps[TICKS] = following


class HasTimeouts(HasNapi, HasTimers, Protocol):
    """What time-outs may touch."""


@cold_jit
def timeouts_fire(m: HasTimeouts, now: int) -> None:
    """The physical processors of sleepers whose time-out has passed are interrupted, and those of timers that are due."""
    following = timers_fire(m, now)
    for i in range(m.task_count):
        task = m.tasks[i]
        if m.cpus[task.core].carrier != PHYSICAL:
            continue
        if task.timeout_ps <= now:
            if task.state == SLEEPING:
                send_vector(m, task.core, TIMEOUT_VECTOR, now)
            else:
                task.timeout_ps = NEVER
        else:
            following = min(following, task.timeout_ps)
    m.agenda.due_ps[TIMEOUTS] = following
