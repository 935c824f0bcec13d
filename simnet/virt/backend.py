"""The backend of a guest's virtio interface, whoever runs it: ready test, used ring, interrupt, kick.

QEMU's I/O thread (`virt.io_thread`) and the worker of vhost-net (`virt.vhost`) take packets from the tap each in its own way. What the virtqueue asks of them
is the same and stands here.
"""

from __future__ import annotations

from typing import Protocol

from simnet.compiled import cold_jit
from simnet.hardware.memory import LINE_BYTES
from simnet.kernel.core import NOBODY, SLEEPING
from simnet.kernel.sched import wake_up
from simnet.kernel.tun import HasTun
from simnet.records import Record
from simnet.traffic.frame import Frame
from simnet.units import FCS_BYTES
from simnet.virt.mutex import HasMutex
from simnet.virt.vcpu import HasVcpus, inject
from simnet.virt.virtqueue import Virtqueue, add_used, available, disable_notifications, enable_notifications, wants_interrupt


class Backend(Record):
    """The backend of one guest interface. `thread` is the task that moves its packets, NOBODY if the device itself does.

    `least_entries`: free entries below which the thread does not read; `isr`: the INTx line is up; `told`: a kick has come. `read_ps` a packet and `read_line_ps`
    a cache line from the tap; `inject_ps`: raising the guest's interrupt. `lines` counts cache lines of the `packets`.
    """

    thread: int
    msi_x: int
    least_entries: int
    irq_core: int
    irq_vector: int
    isr: int
    told: int
    read_ps: int
    read_line_ps: int
    inject_ps: int
    interrupts: int
    packets: int
    lines: int


class HasBackend(HasTun, HasMutex, HasVcpus, Protocol):
    """What the functions of this module may touch."""

    virtqueue: Virtqueue
    backend: Backend


@cold_jit
def is_ready(m: HasBackend) -> bool:
    """Is there room for another packet? If not, ask the guest to kick when it posts buffers."""
    queue = m.virtqueue
    if available(queue) >= m.backend.least_entries:
        disable_notifications(queue)
        return True
    enable_notifications(queue)
    return False


@cold_jit
def lines_of(frame: Frame) -> int:
    """Cache lines of a frame without FCS."""
    return (frame.frame_bytes - FCS_BYTES + LINE_BYTES - 1) // LINE_BYTES


@cold_jit
def read_cost(m: HasBackend, frame: Frame) -> int:
    """Cost of taking a frame from the tap."""
    return m.backend.read_ps + lines_of(frame) * m.backend.read_line_ps


@cold_jit
def fill_entry(m: HasBackend, frame: Frame) -> bool:
    """The packet is in the used ring. Must the guest be told? An INTx line that is up already need not be raised."""
    backend = m.backend
    add_used(m.virtqueue, frame)
    backend.packets += 1
    backend.lines += lines_of(frame)
    return wants_interrupt(m.virtqueue) and (backend.msi_x != 0 or backend.isr == 0)


@cold_jit
def interrupt_guest(m: HasBackend, sender: int, now: int) -> int:
    """The interrupt has reached KVM. Returns what waking the vCPU costs core `sender`."""
    backend = m.backend
    backend.isr = 1 - backend.msi_x
    backend.interrupts += 1
    return inject(m, backend.irq_core, backend.irq_vector, sender, now)


@cold_jit
def tell(m: HasBackend, sender: int, now: int) -> int:
    """A vCPU's kick: the thread looks at the virtqueue again. Returns what waking it costs."""
    thread = m.backend.thread
    if thread == NOBODY:
        return 0
    m.backend.told = 1
    if m.tasks[thread].state == SLEEPING and not (m.mutex.waiting >> thread) & 1:
        return wake_up(m, thread, sender, now)
    return 0
