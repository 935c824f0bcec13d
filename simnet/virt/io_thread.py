"""QEMU's I/O thread (kvm-83 and qemu-kvm 0.12: vl.c main_loop_wait, net/tap.c tap_send, hw/virtio-net.c virtio_net_receive).

It waits in select() without the global mutex, takes it, and reads the tap: one read() a packet into a bounce buffer, then the copy into guest memory, the
used entry, and the decision whether to interrupt. kvm-83 reads until the tap is empty or the guest's ring is not ready, holding the mutex all the
while; a build that reads once a select() lets go after each packet, and from 1.7 on QEMU lets go after 50 (net/tap.c tap_send). The ring is ready when it has room for
64 KiB: 17 free entries with mergeable buffers; later QEMU looks when it has the packet, and wants room for that one. When it is not, the thread asks the guest to kick and leaves the tap out of its select().
"""

from __future__ import annotations

from simnet.compiled import cold_jit
from simnet.kernel.core import BLOCKED, IN_SYSTEM, IN_USER, NOBODY, Task
from simnet.kernel.tun import tun_do_read
from simnet.traffic.frame import copy_frame, first
from simnet.virt.backend import fill_entry, interrupt_guest, is_ready, lines_of, read_cost
from simnet.virt.mutex import release, try_acquire
from simnet.virt.qemu import CALL, COPY, IN_READ, INTERRUPT, PUSH, READ, RETURN, SELECT, HasQemu


@cold_jit
def call_select(m: HasQemu, task: Task) -> int:
    """Ask the kernel which descriptors are ready. Returns the cost."""
    task.phase = SELECT
    task.context = IN_SYSTEM
    m.qemu.selects += 1
    return m.qemu.select_ps


@cold_jit
def finds_nothing(m: HasQemu, i: int) -> bool:
    """Must select() sleep? It then waits for a kick and, if the guest's ring is ready, for the tap."""
    tun = m.tun
    m.tasks[i].phase = RETURN
    polls_tap = is_ready(m)
    if m.backend.told or (polls_tap and tun.readq.filled > 0):
        return False
    tun.reader = i if polls_tap else NOBODY
    return True


@cold_jit
def takes_mutex(m: HasQemu, i: int) -> bool:
    """select() has returned: take the mutex, or be put on its list."""
    m.tun.reader = NOBODY
    if not try_acquire(m, i):
        return False
    m.backend.told = 0
    m.qemu.holds = 0
    m.tasks[i].phase = READ
    return True


@cold_jit
def read_or_release(m: HasQemu, task: Task, now: int) -> int:
    """Read the next packet, or let go of the mutex and wait again. Returns the cost."""
    qemu, tun = m.qemu, m.tun
    if tun.readq.filled == 0 or qemu.holds >= qemu.most or not is_ready(m):
        task.phase = CALL
        return release(m, task.core, now)
    task.phase = IN_READ
    task.context = IN_SYSTEM
    return read_cost(m, first(tun.readq))


@cold_jit
def read_returns(m: HasQemu, task: Task, now: int) -> int:
    """The packet is in the bounce buffer. Returns the cost of waking ksoftirqd, which may take the core on the way back to user space."""
    copy_frame(m.qemu.frame, first(m.tun.readq))
    m.qemu.holds += 1
    task.phase = COPY
    return tun_do_read(m, task.core, now)


@cold_jit
def copy_to_guest(m: HasQemu, task: Task) -> int:
    """Begin the way from the bounce buffer into guest memory. Returns the cost."""
    task.phase = PUSH
    task.context = IN_USER
    return m.qemu.push_ps + lines_of(m.qemu.frame) * m.qemu.push_line_ps


@cold_jit
def pushed(m: HasQemu, task: Task) -> int:
    """The packet is in guest memory. Returns the cost of the ioctl that interrupts the guest, if it wants to hear, or else 0."""
    if not fill_entry(m, m.qemu.frame):
        task.phase = READ
        return 0
    task.phase = INTERRUPT
    task.context = IN_SYSTEM
    return m.backend.inject_ps


@cold_jit
def is_in_system_call(task: Task) -> bool:
    """Is the piece that the thread was just paid for one whose effect comes before the kernel looks who should run?"""
    return task.phase in (SELECT, IN_READ, PUSH, INTERRUPT)


@cold_jit
def io_thread_step(m: HasQemu, i: int, now: int) -> int:
    """The next piece of the I/O thread's work. Returns its cost, 0 or BLOCKED."""
    task = m.tasks[i]
    if task.phase == CALL:
        return call_select(m, task)
    if task.phase == SELECT:
        return BLOCKED if finds_nothing(m, i) else 0
    if task.phase == RETURN and not takes_mutex(m, i):
        return BLOCKED
    if task.phase == IN_READ:
        return read_returns(m, task, now)
    if task.phase == COPY:
        return copy_to_guest(m, task)
    if task.phase == PUSH:
        cost = pushed(m, task)
        if cost > 0:
            return cost
    if task.phase == INTERRUPT:
        task.phase = READ
        return interrupt_guest(m, task.core, now)
    return read_or_release(m, task, now)
