"""The scheduler: CFS as in kernel/sched_fair.c, for tasks of nice 0 on the core they are bound to.

Time that hard interrupts and inline softirqs take from a task counts as the task's own (no CONFIG_IRQ_TIME_ACCOUNTING), which is why a CPU share
is no proof of progress. Left out: load balancing (everything is pinned), group scheduling, LAST_BUDDY (needs more than eight runnable
tasks), other nice values.
"""

from __future__ import annotations

from simnet.agenda import FIRST_CPU, NEVER, act_by
from simnet.compiled import cold_jit, jit
from simnet.hardware.cpu import PHYSICAL, RESCHEDULE_VECTOR
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
)


@cold_jit
def leftmost(m: HasCores, c: int) -> int:
    """The runnable task of core `c` with the least vruntime that is not running; NOBODY if there is none."""
    best = NOBODY
    for i in range(m.task_count):
        task = m.tasks[i]
        if (
            task.state == RUNNABLE
            and task.core == c
            and i != m.cores[c].curr
            and (best < 0 or task.vruntime_ps < m.tasks[best].vruntime_ps)
        ):
            best = i
    return best


@jit
def update_min_vruntime(m: HasCores, c: int) -> None:
    """The least vruntime of the queue, which never goes back."""
    core = m.cores[c]
    least = leftmost(m, c)
    if core.curr >= 0 and (least < 0 or m.tasks[core.curr].vruntime_ps < m.tasks[least].vruntime_ps):
        least = core.curr
    if least >= 0:
        core.min_vruntime_ps = max(core.min_vruntime_ps, m.tasks[least].vruntime_ps)


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
    task.vruntime_ps += delta
    update_min_vruntime(m, c)


@cold_jit
def check_preempt_tick(m: HasCores, c: int, now: int) -> None:
    """scheduler_tick: the current task has had its slice, or another is too far behind (task_tick_fair)."""
    core, rules = m.cores[c], rules_of(m, c)
    update_curr(m, c, now)
    other = leftmost(m, c)
    if core.curr < 0 or other < 0:
        return
    task = m.tasks[core.curr]
    slice_ps = max(rules.sched_latency_ps // core.nr_running, rules.min_granularity_ps)
    ran = task.ran_ps - task.ran_before_ps
    behind = task.vruntime_ps - m.tasks[other].vruntime_ps
    if ran > slice_ps or (ran >= rules.min_granularity_ps and behind > slice_ps):
        core.need_resched = 1


@cold_jit
def enqueue_woken(m: HasCores, c: int, now: int) -> None:
    """Tasks that were woken join the queue of their core (place_entity) and may preempt (check_preempt_wakeup)."""
    core, rules = m.cores[c], rules_of(m, c)
    core.woken = 0
    update_curr(m, c, now)
    for i in range(m.task_count):
        task = m.tasks[i]
        if task.state == WOKEN and task.core == c:
            task.state = RUNNABLE
            core.nr_running += 1
            task.vruntime_ps = max(task.vruntime_ps, core.min_vruntime_ps - rules.sched_latency_ps // 2)
            if core.curr >= 0 and m.tasks[core.curr].vruntime_ps - task.vruntime_ps > rules.wakeup_granularity_ps:
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
    following = leftmost(m, c)
    curr = core.curr
    if (
        curr >= 0
        and m.tasks[curr].state == RUNNABLE
        and (following < 0 or m.tasks[curr].vruntime_ps < m.tasks[following].vruntime_ps)
    ):
        m.tasks[curr].ran_before_ps = m.tasks[curr].ran_ps
        return 0
    core.curr = following
    task = m.tasks[following]
    task.exec_start_ps = now
    task.ran_before_ps = task.ran_ps
    core.switches += 1
    core.events[KSOFTIRQD_SWITCHES if following == core.ksoftirqd else TASK_SWITCHES] += 1
    return m.costs.context_switch_ps


@cold_jit
def go_to_sleep(m: HasCores, i: int, now: int) -> None:
    """The current task of its core leaves the run queue."""
    task = m.tasks[i]
    update_curr(m, task.core, now)
    task.state = SLEEPING
    m.cores[task.core].nr_running -= 1
    m.cores[task.core].curr = NOBODY
    update_min_vruntime(m, task.core)
