"""Interrupts as the guest takes them: what its handlers do leaves the guest again.

The handler of virtio_net's interrupt asks the device not to interrupt (skb_recv_done) and, with INTx, first reads the ISR byte, which is an I/O port of QEMU's
(vp_interrupt). Every interrupt ends with an EOI to the local APIC, which KVM 3.2 emulates; a timer interrupt also programs the next one.
"""

from __future__ import annotations

from typing import Protocol

from simnet.compiled import cold_jit
from simnet.hardware.cpu import FIRST_DEVICE_VECTOR, RESCHEDULE_VECTOR
from simnet.kernel.interrupts import take_interrupt
from simnet.virt.qemu import HasQemu
from simnet.virt.vcpu import EOI, ISR_READ, TIMER_WRITE
from simnet.virt.virtio_net import HasVirtioNet
from simnet.virt.virtqueue import disable_interrupts


class HasGuest(HasQemu, HasVirtioNet, Protocol):
    """What the guest's interrupt handlers may touch."""


@cold_jit
def take_virtual_interrupt(m: HasGuest, c: int, now: int) -> int:
    """Virtual core `c` takes the lowest requested vector. Returns the handler's cost; the exits that it causes follow."""
    before = m.cpus[c].irr
    cost = take_interrupt(m, c, now)
    taken = before ^ m.cpus[c].irr
    exits = 1 << EOI
    if taken >= 1 << FIRST_DEVICE_VECTOR:
        disable_interrupts(m.virtqueue)
        if not m.qemu.msi_x:
            exits |= 1 << ISR_READ
    elif taken != 1 << RESCHEDULE_VECTOR:
        exits |= 1 << TIMER_WRITE
    m.vcpus[c].pending |= exits
    return cost
