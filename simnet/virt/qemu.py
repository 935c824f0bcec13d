"""QEMU's user-space virtio-net backend (kvm-83 and qemu-kvm 0.12: vl.c, net/tap.c, hw/virtio-net.c): the I/O thread and the device's registers.

The I/O thread waits in select() without the global mutex, takes it, and reads the tap: one read() a packet into a bounce buffer, then the copy into guest
memory, the used entry, and the decision whether to interrupt. kvm-83 reads until the tap is empty or the guest's ring is not ready, holding the mutex
all the while; a build that reads once a select() lets go after each packet. The ring is ready when it has room for 64 KiB: 17 free entries
with mergeable buffers. When it is not, the thread asks the guest to kick and leaves the tap out of its select(). Left out: timers, monitor, other
devices, transmit.
"""

from __future__ import annotations

from typing import Protocol

from simnet.compiled import cold_jit
from simnet.hardware.memory import LINE_BYTES
from simnet.kernel.core import BLOCKED, ENTER_GUEST, IN_SYSTEM, IN_USER, NOBODY, SLEEPING
from simnet.kernel.sched import wake_up
from simnet.kernel.tun import HasTun, tun_do_read
from simnet.records import Array, Record
from simnet.traffic.frame import Frame, copy_frame, first
from simnet.units import FCS_BYTES
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
    inject,
    is_leaving,
)
from simnet.virt.virtqueue import Virtqueue, add_used, available, disable_notifications, enable_notifications, wants_interrupt

# Phases of the I/O thread: about to call select(), in it, out of it, holding the mutex, in read(), out of it, copying to the guest, interrupting.
CALL, SELECT, RETURN, READ, IN_READ, COPY, PUSH, INTERRUPT = 0, 1, 2, 3, 4, 5, 6, 7


class Qemu(Record):
    """The backend of one guest interface.

    `isr`: the INTx line is up; `told`: a kick has come; `polls_tap`: the tap is among select()'s descriptors. `read_ps` a packet and `read_line_ps` a
    cache line in read(), likewise `push_ps` and `push_line_ps` for the way into guest memory; `inject_ps`: the ioctl that raises the interrupt.
    """

    thread: int
    drains: int
    msi_x: int
    least_entries: int
    irq_core: int
    irq_vector: int
    isr: int
    told: int
    polls_tap: int
    holds: int
    select_ps: int
    read_ps: int
    read_line_ps: int
    push_ps: int
    push_line_ps: int
    inject_ps: int
    interrupts: int
    packets: int
    frame: Frame


class HasQemu(HasTun, HasMutex, HasVcpus, Protocol):
    """What the functions of this module may touch."""

    virtqueue: Virtqueue
    qemu: Qemu
    vcpus: Array[Vcpu]


@cold_jit
def is_ready(m: HasQemu) -> bool:
    """virtio_net_can_receive: is there room for 64 KiB? If not, ask the guest to kick when it posts buffers."""
    queue = m.virtqueue
    if available(queue) >= m.qemu.least_entries:
        disable_notifications(queue)
        return True
    enable_notifications(queue)
    return False


@cold_jit
def lines_of(frame: Frame) -> int:
    """Cache lines of a frame without FCS."""
    return (frame.frame_bytes - FCS_BYTES + LINE_BYTES - 1) // LINE_BYTES


@cold_jit
def io_thread_step(m: HasQemu, i: int, now: int) -> int:
    """The next piece of the I/O thread's work (main_loop_wait, tap_send, virtio_net_receive). Returns its cost, 0 or BLOCKED."""
    task, qemu, tun = m.tasks[i], m.qemu, m.tun
    c = task.core
    if task.phase == CALL:
        task.phase = SELECT
        task.context = IN_SYSTEM
        return qemu.select_ps
    if task.phase == SELECT:
        qemu.polls_tap = int(is_ready(m))
        task.phase = RETURN
        if not qemu.told and not (qemu.polls_tap and tun.readq.filled > 0):
            tun.reader = i if qemu.polls_tap else NOBODY
            return BLOCKED
    if task.phase == RETURN:
        tun.reader = NOBODY
        if not try_acquire(m, i):
            return BLOCKED
        qemu.told = 0
        task.phase = READ
        qemu.holds = 0
    if task.phase == IN_READ:
        copy_frame(qemu.frame, first(tun.readq))
        qemu.holds = 1
        task.phase = COPY
        return tun_do_read(m, c, now)  # on the way back to user space whoever was woken may take the core
    if task.phase == COPY:
        task.phase = PUSH
        task.context = IN_USER
        return qemu.push_ps + lines_of(qemu.frame) * qemu.push_line_ps
    if task.phase == PUSH:
        add_used(m.virtqueue, qemu.frame)
        qemu.packets += 1
        task.phase = READ
        if wants_interrupt(m.virtqueue) and (qemu.msi_x or not qemu.isr):
            task.phase = INTERRUPT
            task.context = IN_SYSTEM
            return qemu.inject_ps
    if task.phase == INTERRUPT:
        task.phase = READ
        qemu.isr = 1 - qemu.msi_x
        qemu.interrupts += 1
        return inject(m, qemu.irq_core, qemu.irq_vector, c, now)
    # READ: go on, or let go of the mutex and wait
    if tun.readq.filled == 0 or (qemu.holds and not qemu.drains) or not is_ready(m):
        task.phase = CALL
        return release(m, c, now)
    task.phase = IN_READ
    task.context = IN_SYSTEM
    return qemu.read_ps + lines_of(first(tun.readq)) * qemu.read_line_ps


@cold_jit
def tell(m: HasQemu, c: int, now: int) -> int:
    """A vCPU's kick breaks the I/O thread's select(). Returns what waking it costs."""
    m.qemu.told = 1
    task = m.tasks[m.qemu.thread]
    if task.state == SLEEPING and task.phase == RETURN and not (m.mutex.waiting >> m.qemu.thread) & 1:
        return wake_up(m, m.qemu.thread, c, now)
    return 0


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
