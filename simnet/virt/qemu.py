"""QEMU's user-space virtio-net backend: what the device models know, and what a vCPU that exits to them does (kvm-83 and qemu-kvm 0.12).

A vCPU whose exit QEMU serves needs the global mutex, as the I/O thread does (`virt.io_thread`): reading the ISR byte lowers the INTx line, a kick breaks
the I/O thread's select(). Left out: timers, monitor, other devices, transmit.
"""

from __future__ import annotations

from typing import Protocol

from simnet.compiled import cold_jit
from simnet.kernel.core import BLOCKED, ENTER_GUEST, SLEEPING, Task
from simnet.kernel.sched import wake_up
from simnet.kernel.tun import HasTun
from simnet.records import Array, Record
from simnet.traffic.frame import Frame
from simnet.virt.mutex import HasMutex, release, try_acquire
from simnet.virt.vcpu import (
    IN_GUEST_MODE,
    IN_QEMU,
    ISR_READ,
    KICK,
    LEFT,
    WANTS_MUTEX,
    HasVcpus,
    Vcpu,
    account_halt,
    begin_exit,
    complete_exit,
    is_leaving,
)
from simnet.virt.virtqueue import Virtqueue

# Phases of the I/O thread: about to call select(), in it, out of it, holding the mutex, in read(), out of it, copying to the guest, interrupting.
CALL, SELECT, RETURN, READ, IN_READ, COPY, PUSH, INTERRUPT = 0, 1, 2, 3, 4, 5, 6, 7


class Qemu(Record):
    """The backend of one guest interface.

    `isr`: the INTx line is up; `told`: a kick has come. `read_ps` a packet and `read_line_ps` a
    cache line in read(), likewise `push_ps` and `push_line_ps` for the way into guest memory; `inject_ps`: the ioctl that raises the interrupt. `selects` counts
    calls, `lines` cache lines of the `packets`.
    """

    thread: int
    drains: int
    msi_x: int
    least_entries: int
    irq_core: int
    irq_vector: int
    isr: int
    told: int
    holds: int
    select_ps: int
    read_ps: int
    read_line_ps: int
    push_ps: int
    push_line_ps: int
    inject_ps: int
    selects: int
    lines: int
    interrupts: int
    packets: int
    frame: Frame


class HasQemu(HasTun, HasMutex, HasVcpus, Protocol):
    """What the functions of this module may touch."""

    virtqueue: Virtqueue
    qemu: Qemu
    vcpus: Array[Vcpu]


@cold_jit
def tell(m: HasQemu, c: int, now: int) -> int:
    """A vCPU's kick breaks the I/O thread's select(). Returns what waking it costs."""
    m.qemu.told = 1
    task = m.tasks[m.qemu.thread]
    if task.state == SLEEPING and task.phase == RETURN and not (m.mutex.waiting >> m.qemu.thread) & 1:
        return wake_up(m, m.qemu.thread, c, now)
    return 0


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
        vcpu.is_halted = 0
        return begin_exit(m, i) if is_leaving(m, task.subject) else ENTER_GUEST
    if task.phase == LEFT:
        if vcpu.user_ps[vcpu.reason] == 0:
            return complete_exit(m, i, now)
        task.phase = WANTS_MUTEX
    if task.phase == WANTS_MUTEX:
        if not try_acquire(m, i):
            return BLOCKED
        task.phase = IN_QEMU
        return vcpu.user_ps[vcpu.reason]
    task.phase = IN_GUEST_MODE  # IN_QEMU: the device model has answered
    cost = release(m, task.core, now)
    if vcpu.reason == ISR_READ:
        m.qemu.isr = 0
    elif vcpu.reason == KICK:
        cost += tell(m, task.core, now)
    return cost
