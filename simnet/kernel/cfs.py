"""CFS, as in kernel/sched_fair.c up to Linux 6.5: the task with the least virtual run time goes next.

Left out: load balancing (everything is pinned), group scheduling, LAST_BUDDY (needs more than eight runnable tasks).
"""

from __future__ import annotations

from simnet.compiled import cold_jit, jit
from simnet.kernel.core import NOBODY, RUNNABLE, HasCores, rules_of, virtual_ps


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
def runnable_weight(m: HasCores, c: int) -> int:
    """Load weight of all runnable tasks of a core."""
    total = 0
    for i in range(m.task_count):
        if m.tasks[i].state == RUNNABLE and m.tasks[i].core == c:
            total += m.tasks[i].weight
    return total


@cold_jit
def has_had_its_slice(m: HasCores, c: int) -> bool:
    """At a tick: the current task has had its slice, or another is too far behind (check_preempt_tick)."""
    core, rules = m.cores[c], rules_of(m, c)
    other = leftmost(m, c)
    if core.curr < 0 or other < 0:
        return False
    task = m.tasks[core.curr]
    period_ps = max(rules.sched_latency_ps, core.nr_running * rules.min_granularity_ps)
    slice_ps = period_ps * task.weight // runnable_weight(m, c)
    ran = task.ran_ps - task.ran_before_ps
    behind = task.vruntime_ps - m.tasks[other].vruntime_ps
    return ran > slice_ps or (ran >= rules.min_granularity_ps and behind > slice_ps)


@cold_jit
def place_by_latency(m: HasCores, i: int) -> None:
    """Where woken task `i` joins the queue: half a latency behind at most (place_entity)."""
    task = m.tasks[i]
    earliest = m.cores[task.core].min_vruntime_ps - rules_of(m, task.core).sched_latency_ps // 2
    task.vruntime_ps = max(task.vruntime_ps, earliest)


@cold_jit
def is_far_behind(m: HasCores, i: int) -> bool:
    """Does task `i`, just woken, preempt the current one (check_preempt_wakeup)?"""
    task = m.tasks[i]
    ahead = m.tasks[m.cores[task.core].curr].vruntime_ps - task.vruntime_ps
    return ahead > virtual_ps(task, rules_of(m, task.core).wakeup_granularity_ps)


@cold_jit
def least_run(m: HasCores, c: int) -> int:
    """The task that goes next (pick_next_task_fair)."""
    following, curr = leftmost(m, c), m.cores[c].curr
    if curr < 0 or m.tasks[curr].state != RUNNABLE:
        return following
    return curr if following < 0 or m.tasks[curr].vruntime_ps < m.tasks[following].vruntime_ps else following
