"""The scheduler's core (kernel/sched), for tasks on the core they are bound to: run time, wake-ups, switches. Who goes next is a matter of `cfs` or `eevdf`.

Time that hard interrupts and inline softirqs take from a task counts as the task's own (no CONFIG_IRQ_TIME_ACCOUNTING), which is why a CPU share
is no proof of progress.
"""

from __future__ import annotations

from simnet.agenda import FIRST_CPU, NEVER, act_by
from simnet.compiled import cold_jit, jit
from simnet.hardware.cpu import PHYSICAL, RESCHEDULE_VECTOR
from simnet.kernel.cfs import has_had_its_slice, is_far_behind, least_run, place_by_latency, update_min_vruntime
from simnet.kernel.core import (
    IDLE,
    KSOFTIRQD_SWITCHES,
    NOBODY,
    RUNNABLE,
    SENT_IPIS,
    SLEEPING,
    TASK_SWITCHES,
    WAKEUPS,
    WOKEN,
    HasCores,
    rules_of,
    virtual_ps,
)
from simnet.kernel.eevdf import comes_first, leave_with_lag, next_by_deadline, place_by_lag, slice_is_over


@jit
def has_deadlines(m: HasCores, c: int) -> bool:
    """Does the kernel of core `c` schedule by EEVDF?"""
    return rules_of(m, c).base_slice_ps > 0


@cold_jit
def update_curr(m: HasCores, c: int, now: int) -> None:
    """Charge the current task for the time since the last charge, whoever used it."""
    core = m.cores[c]
    if core.curr < 0:
        return
    task = m.tasks[core.curr]
    delta = now - task.exec_start_ps
    task.exec_start_ps = now
    task.ran_ps += delta
    task.vruntime_ps += virtual_ps(task, delta)
    if has_deadlines(m, c):
        if slice_is_over(m, c):
            core.need_resched = 1
    else:
        update_min_vruntime(m, c)


@cold_jit
def scheduler_tick(m: HasCores, c: int, now: int) -> None:
    """The timer's tick: has the current task had its slice (task_tick_fair)?"""
    update_curr(m, c, now)
    if not has_deadlines(m, c) and has_had_its_slice(m, c):
        m.cores[c].need_resched = 1


@cold_jit
def enqueue_woken(m: HasCores, c: int, now: int) -> None:
    """Tasks that were woken join the queue of their core and may preempt (ttwu_do_activate)."""
    core, deadlines = m.cores[c], has_deadlines(m, c)
    core.woken = 0
    update_curr(m, c, now)
    for i in range(m.task_count):
        task = m.tasks[i]
        if task.state == WOKEN and task.core == c:
            if deadlines:
                place_by_lag(m, i)
            else:
                place_by_latency(m, i)
            task.delayed = 0
            task.state = RUNNABLE
            core.nr_running += 1
            if core.curr >= 0 and (comes_first(m, i) if deadlines else is_far_behind(m, i)):
                core.need_resched = 1


@jit
def wake_up(m: HasCores, i: int, waker: int, now: int) -> int:
    """Wake task `i` from core `waker` (try_to_wake_up). Returns what it costs the waker: 0 if the task does not sleep."""
    task = m.tasks[i]
    if task.state != SLEEPING:
        return 0
    task.state = WOKEN
    task.wakeups += 1
    core = m.cores[task.core]
    core.woken = 1
    cost = m.costs.wake_up_ps
    if task.core == waker:
        enqueue_woken(m, task.core, now)
    elif m.cpus[task.core].carrier == PHYSICAL:
        idles = m.agenda.due_ps[FIRST_CPU + task.core] == NEVER  # then an interrupt tells it (ttwu_queue_wakelist)
        if idles and waker != NOBODY:
            m.cores[waker].events[SENT_IPIS] += 1
            cost += m.costs.send_ipi_ps
        act_by(m.agenda, FIRST_CPU + task.core, now)
    else:  # a virtual processor writes the interrupt command register, which its hypervisor sees
        m.cpus[waker].icr |= 1 << task.core
    if waker != NOBODY:
        m.cores[waker].events[WAKEUPS] += 1
    return cost


@cold_jit
def receive_wakeups(m: HasCores, c: int, now: int) -> None:
    """Tasks that another core woke: queue them. The interrupt for it comes always (ttwu_queue_remote), or to a running core that must reschedule."""
    core = m.cores[c]
    before = core.need_resched
    enqueue_woken(m, c, now)
    if rules_of(m, c).queues_wakeups or (core.need_resched and not before and core.level != IDLE):
        m.cpus[c].irr |= 1 << RESCHEDULE_VECTOR


@cold_jit
def schedule(m: HasCores, c: int, now: int) -> int:
    """Pick the next task of a core that has some. Returns the cost of the switch: 0 if the same task goes on."""
    core = m.cores[c]
    update_curr(m, c, now)
    core.need_resched = 0
    following = next_by_deadline(m, c) if has_deadlines(m, c) else least_run(m, c)
    task = m.tasks[following]
    task.ran_before_ps = task.ran_ps
    if following == core.curr:
        return 0
    core.curr = following
    task.exec_start_ps = now
    task.protected_ps = task.deadline_ps
    core.switches += 1
    core.events[KSOFTIRQD_SWITCHES if following == core.ksoftirqd else TASK_SWITCHES] += 1
    return m.costs.context_switch_ps


@cold_jit
def go_to_sleep(m: HasCores, i: int, now: int) -> None:
    """The current task of its core leaves the run queue."""
    task = m.tasks[i]
    c = task.core
    core, deadlines = m.cores[c], has_deadlines(m, c)
    update_curr(m, c, now)
    if deadlines:
        leave_with_lag(m, i)
    task.state = SLEEPING
    core.nr_running -= 1
    core.curr = NOBODY
    if not deadlines:
        update_min_vruntime(m, c)
    elif core.nr_running == 0:
        next_by_deadline(m, c)  # nobody: sleepers that had not left the queue do now
