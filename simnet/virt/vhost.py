"""The worker of vhost-net (drivers/vhost/net.c, Linux 3.2): a kernel thread in QEMU's place.

handle_rx: while the tap has a packet and the guest's ring an entry, receive the packet straight into guest memory (`tun_recvmsg`), fill the used entry, and
signal the irqfd if the guest wants to hear. No system call, no mutex, no bounce buffer. The tap wakes the worker with every packet
that finds it asleep; when the ring is empty it also asks for a kick, which reaches it through an ioeventfd without QEMU. The scheduler may take the core between
two packets (copy_to_user may sleep). Left out: the byte weight of a run, which only matters beside transmit work of the same worker;
vhost_poll_wakeup of a worker that runs; busy polling and batches of later kernels.
"""

from __future__ import annotations

from simnet.compiled import cold_jit
from simnet.kernel.core import BLOCKED, IN_SYSTEM, NOBODY, Task
from simnet.kernel.tun import tun_do_read
from simnet.traffic.frame import first
from simnet.virt.backend import HasBackend, fill_entry, interrupt_guest, is_ready, read_cost

# Phases of the worker: at the head of its loop, in recvmsg, signalling.
LOOK, RECEIVE, SIGNAL = 0, 1, 2


@cold_jit
def look(m: HasBackend, i: int) -> int:
    """The head of handle_rx's loop. Returns the cost of receiving the next packet, or BLOCKED."""
    task, tun = m.tasks[i], m.tun
    task.context = IN_SYSTEM
    m.backend.told = 0
    tun.reader = NOBODY
    if tun.readq.filled == 0 or not is_ready(m):
        tun.reader = i
        return BLOCKED
    task.phase = RECEIVE
    return read_cost(m, first(tun.readq))


@cold_jit
def received(m: HasBackend, i: int, now: int) -> int:
    """The packet is in guest memory. Returns the cost of starting the tap again, and of the signal."""
    task = m.tasks[i]
    tells = fill_entry(m, first(m.tun.readq))
    cost = tun_do_read(m, task.core, now)
    task.phase = SIGNAL if tells else LOOK
    return cost + m.backend.inject_ps if tells else cost


@cold_jit
def owes_signal(task: Task) -> bool:
    """Is the piece that the worker was just paid for one whose effect comes before the kernel looks who should run?"""
    return task.phase != LOOK


@cold_jit
def vhost_step(m: HasBackend, i: int, now: int) -> int:
    """The next piece of the worker's work. Returns its cost, 0 or BLOCKED."""
    task = m.tasks[i]
    if task.phase == RECEIVE:
        return received(m, i, now)
    if task.phase == SIGNAL:
        task.phase = LOOK
        return interrupt_guest(m, task.core, now)
    return look(m, i)
