"""Interrupts for a guest: as the host forwards them, and as the guest takes them, whose handlers leave the guest again.

The handler of virtio_net's interrupt asks the device not to interrupt (skb_recv_done) and, with INTx, first reads the ISR byte, which is an I/O port of QEMU's
(vp_interrupt). Every interrupt ends with an EOI to the local APIC, which KVM 3.2 emulates and APICv does not; a timer interrupt also programs the next one.

The interrupt of a virtual function comes to the host, which injects it (vfio_msihandler, irqfd; Linux 3.2 itself does it in a thread, which is left out), or is
posted (`hardware.cpu.post_vector`): then the host only wakes a vCPU that halts (wakeup_handler).
"""

from __future__ import annotations

from typing import Protocol

from simnet.compiled import cold_jit, jit
from simnet.hardware.cpu import FIRST_DEVICE_VECTOR, PHYSICAL, RESCHEDULE_VECTOR, first_vector
from simnet.hardware.nic import HasNic
from simnet.kernel.core import DEVICE_INTERRUPTS, FORWARDED
from simnet.kernel.interrupts import take_interrupt
from simnet.virt.qemu import HasQemu
from simnet.virt.vcpu import EOI, ISR_READ, TIMER_WRITE, inject, kick
from simnet.virt.virtio_net import VIRTIO_NAPI, HasVirtioNet
from simnet.virt.virtqueue import disable_interrupts


class HasGuest(HasQemu, HasVirtioNet, HasNic, Protocol):
    """What the guest's interrupt handlers may touch."""


@cold_jit
def forward_interrupt(m: HasGuest, c: int, vector: int, now: int) -> int:
    """Core `c` takes the interrupt of a virtual function. Returns the cost of the handler and of what it wakes."""
    m.cpus[c].irr &= ~(1 << vector)
    m.cpus[c].interrupts += 1
    m.cores[c].events[DEVICE_INTERRUPTS] += 1
    source = m.nic.vectors[vector - FIRST_DEVICE_VECTOR]
    if source.posted:
        return m.costs.device_interrupt_ps + kick(m, source.guest, c, now)
    m.cores[c].events[FORWARDED] += 1
    return m.costs.device_interrupt_ps + m.backend.inject_ps + inject(m, source.guest, vector, c, now)


@jit
def take_host_interrupt(m: HasGuest, c: int, now: int) -> int:
    """Physical core `c` takes the lowest requested vector. Returns the handler's cost."""
    if m.virtual:
        vector = first_vector(m.cpus[c])
        if vector >= FIRST_DEVICE_VECTOR and m.nic.vectors[vector - FIRST_DEVICE_VECTOR].guest != PHYSICAL:
            return forward_interrupt(m, c, vector, now)
    return take_interrupt(m, c, now)


@cold_jit
def take_virtual_interrupt(m: HasGuest, c: int, now: int) -> int:
    """Virtual core `c` takes the lowest requested vector. Returns the handler's cost; the exits that it causes follow."""
    vector = first_vector(m.cpus[c])
    exits = 0 if m.vcpus[c].virtual_apic else 1 << EOI
    if vector == FIRST_DEVICE_VECTOR + VIRTIO_NAPI:
        disable_interrupts(m.virtqueue)
        if not m.backend.msi_x:
            exits |= 1 << ISR_READ
    elif vector < FIRST_DEVICE_VECTOR and vector != RESCHEDULE_VECTOR:
        exits |= 1 << TIMER_WRITE
    m.vcpus[c].pending |= exits
    return take_interrupt(m, c, now)
