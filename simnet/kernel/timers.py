"""Timers of the wheel (`mod_timer`, `run_timer_softirq`, kernel/time/timer.c): due on a tick, run in the timer softirq of the core that started them.

One that is started for so many jiffies runs that many ticks after the next one: since the wheel of Linux 4.8 a timer is never early. An idle core has no tick; the timer wakes it. Left out:
coarser levels of the wheel (beyond 63 jiffies), migration from idle cores, and older wheels, which are a tick earlier.
"""

from __future__ import annotations

from typing import Protocol

from simnet.agenda import NEVER, TIMEOUTS, act_by
from simnet.compiled import cold_jit
from simnet.hardware.cpu import TIMER_VECTOR, send_vector
from simnet.kernel.core import IDLE, NOBODY, HasCores, rules_of
from simnet.records import Array, Record

MAX_TIMERS = 4


class Timer(Record):
    """A timer, started on `core` until it runs at `due_ps`."""

    started: int
    core: int
    due_ps: int


class HasTimers(HasCores, Protocol):
    """What the functions of this module may touch."""

    timers: Array[Timer]


@cold_jit
def mod_timer(m: HasTimers, t: int, c: int, jiffies: int, now: int) -> None:
    """Core `c` starts timer `t`, or starts it again, for a number of jiffies."""
    timer, tick_ps = m.timers[t], rules_of(m, c).tick_ps
    timer.started = 1
    timer.core = c
    timer.due_ps = m.boot_ps + ((now - m.boot_ps) // tick_ps + jiffies + 1) * tick_ps
    act_by(m.agenda, TIMEOUTS, timer.due_ps)


@cold_jit
def take_expired(m: HasTimers, c: int, now: int) -> int:
    """A timer of core `c` that is due, started no longer; NOBODY if there is none."""
    for t in range(len(m.timers)):
        timer = m.timers[t]
        if timer.started and timer.core == c and timer.due_ps <= now:
            timer.started = 0
            return t
    return NOBODY


@cold_jit
def timers_fire(m: HasTimers, now: int) -> int:
    """Idle cores with a timer that is due are interrupted; others have their tick. Returns when the next one is due."""
    following = NEVER
    for t in range(len(m.timers)):
        timer = m.timers[t]
        if not timer.started:
            continue
        if timer.due_ps > now:
            following = min(following, timer.due_ps)
        elif m.cores[timer.core].level == IDLE and m.cpus[timer.core].irr == 0:
            send_vector(m, timer.core, TIMER_VECTOR, now)
    return following
