"""Softirqs: when they run, on whose stack, and when they are left to ksoftirqd.

kernel/softirq.c of Linux 3.2: `irq_exit` runs pending softirqs inline, whoever was interrupted; `__do_softirq` repeats up to max_restart rounds
while new ones are raised, then wakes ksoftirqd, an ordinary task of nice 0 that loops over `__do_softirq` and `cond_resched`. Because irq_exit
does not look whether ksoftirqd is awake, every timer tick continues the packet work ahead of all tasks; later rule sets differ
(`Rules.defers_to_ksoftirqd`).

The rounds are a small machine, one step a call: the clock decides what else happens between the steps.
"""

from __future__ import annotations

from simnet.compiled import cold_jit, jit
from simnet.kernel.core import (
    IN_SOFTIRQ,
    INLINE,
    NAPI_THREAD,
    NET_RX_SOFTIRQ,
    NET_TX_RUNS,
    NET_TX_SOFTIRQ,
    NOT_RUNNING,
    RUNNABLE,
    SOFTIRQ_ROUNDS,
    TIMER_SOFTIRQ,
    TIMER_SOFTIRQS,
    HasCores,
    rules_of,
)
from simnet.kernel.sched import wake_up

# Phases of a run: between rounds, serving the raised softirqs, in net_rx_action, in a poll, ksoftirqd was woken, in net_tx_action, running timers.
ROUND, SERVE, NET_RX, POLL, LEAVE, NET_TX, TIMERS = 0, 1, 2, 3, 4, 5, 6

FINISHED = -3
POLLING = -4


@jit
def raise_softirq(m: HasCores, c: int, softirq: int) -> None:
    """Mark a softirq pending on core `c` (__raise_softirq_irqoff)."""
    m.cores[c].softirq.pending |= softirq


@cold_jit
def raise_softirq_in_process(m: HasCores, c: int, softirq: int, now: int) -> int:
    """A system call marks a softirq pending on its own core: outside interrupts that wakes ksoftirqd (raise_softirq_irqoff). Returns a cost."""
    m.cores[c].softirq.pending |= softirq
    return wake_up(m, m.cores[c].ksoftirqd, c, now)


@jit
def may_run_inline(m: HasCores, c: int) -> bool:
    """irq_exit: may pending softirqs run now, on the stack of whoever was interrupted?"""
    core = m.cores[c]
    if core.softirq.runner != NOT_RUNNING or core.softirq.pending == 0:
        return False
    return not (rules_of(m, c).defers_to_ksoftirqd and m.tasks[core.ksoftirqd].state == RUNNABLE)


@jit
def begin_softirqs(m: HasCores, c: int, runner: int, now: int) -> None:
    """Enter __do_softirq."""
    run, rules = m.cores[c].softirq, rules_of(m, c)
    run.runner = runner
    run.phase = ROUND
    run.rounds_left = rules.max_restart
    run.round_limit_ps = now + rules.softirq_limit_ps


@cold_jit
def local_bh_enable(m: HasCores, c: int, now: int) -> None:
    """A system call of core `c` lets softirqs in again: pending ones run at once, on the stack of the process (kernel/softirq.c)."""
    if may_run_inline(m, c):
        begin_softirqs(m, c, INLINE, now)


@jit
def end_of_round(m: HasCores, c: int, now: int) -> int:
    """Another round, or leave the rest to ksoftirqd. Returns a cost."""
    core, rules = m.cores[c], rules_of(m, c)
    run = core.softirq
    run.rounds_left -= 1
    if (
        run.pending
        and run.rounds_left > 0
        and (rules.softirq_limit_ps == 0 or (now < run.round_limit_ps and not core.need_resched))
    ):
        run.phase = ROUND
        return 0
    run.phase = LEAVE
    if run.pending and run.runner == INLINE:
        return wake_up(m, core.ksoftirqd, c, now)
    return 0


@jit
def begin_net_rx(m: HasCores, c: int, now: int) -> None:
    """net_rx_action starts with a fresh budget and time limit."""
    run, rules = m.cores[c].softirq, rules_of(m, c)
    run.phase = NET_RX
    run.budget = rules.budget
    if rules.net_rx_jiffies:  # time_after(jiffies, start + 2): jiffies must have advanced by three ticks
        jiffies = (now - m.boot_ps) // rules.tick_ps
        run.net_rx_limit_ps = m.boot_ps + (jiffies + rules.net_rx_jiffies + 1) * rules.tick_ps
    else:
        run.net_rx_limit_ps = now + rules.net_rx_limit_ps


@jit
def serve(m: HasCores, c: int, now: int) -> int:
    """Begin the next of the softirqs that were raised before the round. Returns a cost."""
    run = m.cores[c].softirq
    if run.active & TIMER_SOFTIRQ:
        run.active &= ~TIMER_SOFTIRQ
        run.phase = TIMERS
        m.cores[c].events[TIMER_SOFTIRQS] += 1
        return m.costs.timer_softirq_ps
    if run.active & NET_TX_SOFTIRQ:
        run.active &= ~NET_TX_SOFTIRQ
        run.phase = NET_TX
        run.transmitted = 0
        m.cores[c].events[NET_TX_RUNS] += 1
        return m.costs.net_tx_ps
    if run.active & NET_RX_SOFTIRQ:
        run.active &= ~NET_RX_SOFTIRQ
        begin_net_rx(m, c, now)
        return 0
    return end_of_round(m, c, now)


@jit
def softirq_step(m: HasCores, c: int, now: int) -> int:
    """The next piece of softirq work of core `c` outside a poll.

    Returns its cost, POLLING when the NAPI context `napi` is to be polled, or FINISHED.
    """
    run = m.cores[c].softirq
    if run.phase == ROUND:
        run.active = run.pending
        run.pending = 0
        run.phase = SERVE
        m.cores[c].events[SOFTIRQ_ROUNDS] += 1
        return m.costs.do_softirq_ps
    if run.phase == SERVE:
        return serve(m, c, now)
    if run.phase == LEAVE:
        threaded = run.runner == NAPI_THREAD
        run.runner = NOT_RUNNING
        if not (threaded and may_run_inline(m, c)):
            return FINISHED
        begin_softirqs(m, c, INLINE, now)  # the thread's local_bh_enable
        m.cores[c].context = IN_SOFTIRQ
        return 0
    if run.polled_count == 0:
        run.phase = SERVE
        return 0
    if run.budget <= 0 or now >= run.net_rx_limit_ps:
        run.time_squeezes += 1
        run.pending |= NET_RX_SOFTIRQ
        run.phase = SERVE
        return 0
    run.napi = run.polled[run.polled_head]
    run.phase = POLL
    return POLLING
