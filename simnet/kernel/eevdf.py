"""EEVDF, as in kernel/sched/fair.c since Linux 6.6: of the tasks that are owed time, the one with the earliest virtual deadline goes next.

A task is owed time (eligible) while its virtual run time is not beyond the average V of the queue. One that was picked keeps the CPU, whoever
wakes, until its slice is over or it is no longer eligible (RUN_TO_PARITY). A task that sleeps keeps its lag, V minus its own virtual run time, and
is placed with it when it wakes. Since 6.12 one that was ahead stays in the queue, asleep, until V has caught up with it (DELAY_DEQUEUE, DELAY_ZERO).

Left out: groups, but for what they leave a task of weight; slices of a task's own; that Linux 6.16 and later look for another task
at every tick and wake-up once the slice is over in which the current one was picked.
"""

from __future__ import annotations

from simnet.compiled import cold_jit, jit
from simnet.kernel.core import NOBODY, RUNNABLE, HasCores, Task, rules_of, virtual_ps


@jit
def is_queued(task: Task, c: int) -> bool:
    """Is a task in the queue of core `c`: runnable, current, or asleep but not gone?"""
    return task.core == c and (task.state == RUNNABLE or task.delayed != 0)


@cold_jit
def queued_weight(m: HasCores, c: int) -> int:
    """Load weight of the queue of core `c`."""
    total = 0
    for i in range(m.task_count):
        if is_queued(m.tasks[i], c):
            total += m.tasks[i].weight
    return total


@cold_jit
def average_vruntime(m: HasCores, c: int) -> int:
    """V, the weighted mean of the queue (avg_vruntime); of an empty queue what it was last."""
    last, total, weight = m.cores[c].min_vruntime_ps, 0, 0
    for i in range(m.task_count):
        if is_queued(m.tasks[i], c):
            total += (m.tasks[i].vruntime_ps - last) * m.tasks[i].weight
            weight += m.tasks[i].weight
    return last + total // weight if weight > 0 else last


@cold_jit
def slice_is_over(m: HasCores, c: int) -> bool:
    """The current task gets a new deadline if it has reached its last one (update_deadline). Does it then have to make room?"""
    task = m.tasks[m.cores[c].curr]
    if task.vruntime_ps < task.deadline_ps:
        return False
    task.deadline_ps = task.vruntime_ps + virtual_ps(task, rules_of(m, c).base_slice_ps)
    return queued_weight(m, c) > task.weight


@cold_jit
def earliest_eligible(m: HasCores, c: int) -> int:
    """The queued task that goes next (pick_eevdf), asleep or not; NOBODY if the queue is empty."""
    average, curr, best = average_vruntime(m, c), m.cores[c].curr, NOBODY
    for i in range(m.task_count):
        task = m.tasks[i]
        if is_queued(task, c) and task.vruntime_ps <= average:
            if i == curr and task.vruntime_ps < task.protected_ps:
                return curr
            if best < 0 or task.deadline_ps < m.tasks[best].deadline_ps:
                best = i
    return best


@cold_jit
def place_by_lag(m: HasCores, i: int) -> None:
    """Where woken task `i` joins the queue (place_entity); one that had not left it yet stays where it is, but for lag (requeue_delayed_entity)."""
    task = m.tasks[i]
    c = task.core
    if task.delayed:
        if task.vruntime_ps >= average_vruntime(m, c):
            return
        task.delayed = 0
        task.lag_ps = 0
    others = queued_weight(m, c)
    task.vruntime_ps = average_vruntime(m, c)
    if others > 0:  # its own coming moves the average, which would take of its lag
        task.vruntime_ps -= task.lag_ps * (others + task.weight) // others
    task.deadline_ps = task.vruntime_ps + virtual_ps(task, rules_of(m, c).base_slice_ps)


@cold_jit
def comes_first(m: HasCores, i: int) -> bool:
    """Does task `i`, just woken, preempt the current one (check_preempt_wakeup_fair)?"""
    return earliest_eligible(m, m.tasks[i].core) == i


@cold_jit
def next_by_deadline(m: HasCores, c: int) -> int:
    """The task that goes next; sleepers whose turn would come leave the queue instead, without lag (pick_next_entity)."""
    following = earliest_eligible(m, c)
    while following >= 0 and m.tasks[following].delayed:
        m.tasks[following].delayed = 0
        m.tasks[following].lag_ps = 0
        following = earliest_eligible(m, c)
    return following


@cold_jit
def leave_with_lag(m: HasCores, i: int) -> None:
    """Runnable task `i` is about to sleep (dequeue_entity, update_entity_lag)."""
    task = m.tasks[i]
    rules, average = rules_of(m, task.core), average_vruntime(m, task.core)
    m.cores[task.core].min_vruntime_ps = average
    if rules.delays_dequeue and task.vruntime_ps > average:
        task.delayed = 1
        return
    limit = virtual_ps(task, max(2 * rules.base_slice_ps, rules.tick_ps))
    task.lag_ps = min(max(average - task.vruntime_ps, -limit), limit)
