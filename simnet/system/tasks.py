"""Adding tasks to a machine."""

from __future__ import annotations

from simnet.agenda import FIRST_CPU, NEVER
from simnet.hardware.cpu import PHYSICAL
from simnet.kernel.core import NICE_0_LOAD, RUNNABLE
from simnet.system.machine import Machine


def add_task(m: Machine, kind: int, core: int, subject: int, context: int, state: int) -> int:
    """A new task of a core; returns its number. `subject` is what the task works on: a socket, a virtual core."""
    number = m.task_count
    m.task_count += 1
    task = m.tasks[number]
    task.timeout_ps = NEVER
    task.weight = NICE_0_LOAD
    task.deadline_ps = m.rules[m.cores[core].kernel].base_slice_ps
    task.kind, task.core, task.subject, task.context, task.state = kind, core, subject, context, state
    if state == RUNNABLE:
        m.cores[core].nr_running += 1
        if m.cpus[core].carrier == PHYSICAL:
            m.agenda.due_ps[FIRST_CPU + core] = 0
    return number
