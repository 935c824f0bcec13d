"""QEMU: what its device models know, and what a vCPU that exits does (kvm-83 and qemu-kvm 0.12).

A vCPU whose exit QEMU serves needs the global mutex, as the I/O thread does (`virt.io_thread`): reading the ISR byte lowers the INTx line, a kick breaks
the I/O thread's select(). With an ioeventfd KVM itself serves the kick. Left out: timers, monitor, other devices, transmit.
"""

from __future__ import annotations

from typing import Protocol

from simnet.compiled import cold_jit
from simnet.kernel.core import BLOCKED, ENTER_GUEST, Task
from simnet.records import Record
from simnet.traffic.frame import Frame
from simnet.virt.backend import HasBackend, tell
from simnet.virt.mutex import release, try_acquire
from simnet.virt.vcpu import (
    AFTER_HLT,
    IN_GUEST_MODE,
    IN_QEMU,
    ISR_READ,
    KICK,
    LEFT,
    WANTS_MUTEX,
    account_halt,
    begin_exit,
    complete_exit,
    is_leaving,
)

# Phases of the I/O thread: about to call select(), in it, out of it, holding the mutex, in read(), out of it, copying to the guest, interrupting.
CALL, SELECT, RETURN, READ, IN_READ, COPY, PUSH, INTERRUPT = 0, 1, 2, 3, 4, 5, 6, 7


class Qemu(Record):
    """QEMU's own part of the backend. `push_ps` a packet and `push_line_ps` a cache line from the bounce buffer, where `frame` is, into guest memory; `selects`
    counts calls; `holds`: packets read since the mutex was taken, and `most` of them before it is let go.
    """

    most: int
    holds: int
    select_ps: int
    push_ps: int
    push_line_ps: int
    selects: int
    frame: Frame


class HasQemu(HasBackend, Protocol):
    """What the functions of this module may touch."""

    qemu: Qemu


@cold_jit
def is_serving_exit(m: HasQemu, task: Task) -> bool:
    """Is the piece that the vCPU was just paid for one whose effect comes before the kernel looks who should run?"""
    vcpu = m.vcpus[task.subject]
    return task.phase == IN_QEMU or (task.phase == LEFT and vcpu.user_ps[vcpu.reason] == 0)


@cold_jit
def vcpu_step(m: HasQemu, i: int, now: int) -> int:
    """The next piece of vCPU task `i` outside the guest. Returns its cost, 0, BLOCKED, or ENTER_GUEST."""
    task = m.tasks[i]
    vcpu = m.vcpus[task.subject]
    if task.phase == IN_GUEST_MODE:
        account_halt(vcpu, now)
        if vcpu.is_halted and vcpu.translated:
            task.phase = AFTER_HLT
        vcpu.is_halted = 0
        m.cpus[task.subject].asleep = 0
        if task.phase == IN_GUEST_MODE:
            return begin_exit(m, i) if is_leaving(m, task.subject) else ENTER_GUEST
    if task.phase == AFTER_HLT:
        if not try_acquire(m, i):
            return BLOCKED
        task.phase = IN_GUEST_MODE
        return release(m, task.core, now)
    if task.phase == LEFT:
        if vcpu.user_ps[vcpu.reason] == 0:
            cost = complete_exit(m, i, now)
            return cost + tell(m, task.core, now) if vcpu.reason == KICK else cost
        task.phase = WANTS_MUTEX
    if task.phase == WANTS_MUTEX:
        if not try_acquire(m, i):
            return BLOCKED
        task.phase = IN_QEMU
        return vcpu.user_ps[vcpu.reason]
    cost = release(m, task.core, now) + complete_exit(m, i, now)  # IN_QEMU: the device model has answered
    if vcpu.reason == ISR_READ:
        m.backend.isr = 0
    elif vcpu.reason == KICK:
        cost += tell(m, task.core, now)
    return cost
