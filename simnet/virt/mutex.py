"""QEMU's global mutex: one thread in the device models at a time, the I/O thread or a vCPU that left the guest for them.

A futex: taking it costs nothing while it is free; a thread that finds it held sleeps and tries again when it is woken, so that another may be
faster (no hand-over). Letting go of it while somebody waits is a system call. Left out: the waiter's own system call, which it spends waiting.
"""

from __future__ import annotations

from typing import Protocol

from simnet.compiled import cold_jit
from simnet.kernel.core import FUTEX_WAKEUPS, NOBODY, HasCores
from simnet.kernel.sched import wake_up
from simnet.records import Record


class Mutex(Record):
    """`waiting` is a bit for each task that sleeps for it; `contended` counts the times that one had to."""

    holder: int
    waiting: int
    contended: int
    futex_ps: int


class HasMutex(HasCores, Protocol):
    """What the functions of this module may touch."""

    mutex: Mutex


@cold_jit
def try_acquire(m: HasMutex, i: int) -> bool:
    """Task `i` takes the mutex, or is on its list and must sleep."""
    mutex = m.mutex
    if mutex.holder != NOBODY:
        mutex.waiting |= 1 << i
        mutex.contended += 1
        return False
    mutex.holder = i
    return True


@cold_jit
def release(m: HasMutex, c: int, now: int) -> int:
    """The holder, on core `c`, lets go and wakes one waiter. Returns what that costs."""
    mutex = m.mutex
    mutex.holder = NOBODY
    if mutex.waiting == 0:
        return 0
    i = 0
    while not (mutex.waiting >> i) & 1:
        i += 1
    mutex.waiting &= ~(1 << i)
    m.cores[c].events[FUTEX_WAKEUPS] += 1
    return mutex.futex_ps + wake_up(m, i, c, now)
