"""ksoftirqd: the thread of each core that serves softirqs in competition with all other tasks (run_ksoftirqd, kernel/softirq.c)."""

from __future__ import annotations

from simnet.compiled import jit
from simnet.kernel.core import BLOCKED, KSOFTIRQD, HasCores
from simnet.kernel.softirq import begin_softirqs


@jit
def ksoftirqd_step(m: HasCores, c: int, now: int) -> int:
    """Start a run of __do_softirq if anything is pending, else sleep. The caller looks for a reschedule between runs (cond_resched)."""
    if m.cores[c].softirq.pending == 0:
        return BLOCKED
    begin_softirqs(m, c, KSOFTIRQD, now)
    return 0
