"""A virtual processor: a task on a core of the host, and to the guest a core.

KVM 3.2 (virt/kvm, arch/x86/kvm): a host interrupt that arrives in guest mode is always an exit; the host serves it, softirqs included, before
it enters the guest again, so host packet work steals from the vCPU on its core. HLT exits and lets the vCPU's task sleep. An interrupt for a
guest that runs elsewhere kicks it out of guest mode first; one for a halted guest wakes its task.
"""

from __future__ import annotations

from simnet.agenda import FIRST_CPU, act_by
from simnet.compiled import jit
from simnet.hardware.cpu import PHYSICAL
from simnet.kernel.core import SLEEPING, HasCores
from simnet.kernel.sched import wake_up


@jit
def inject(m: HasCores, virtual: int, vector: int, sender: int, now: int) -> int:
    """Request `vector` of a virtual processor from core `sender` (kvm_vcpu_kick). Returns what a wake-up costs the sender."""
    m.cpus[virtual].irr |= 1 << vector
    carrier = m.cpus[virtual].carrier
    if carrier == PHYSICAL:
        return 0
    task = m.tasks[carrier]
    if task.state == SLEEPING:
        return wake_up(m, carrier, sender, now)
    if m.cores[task.core].curr == carrier:
        act_by(m.agenda, FIRST_CPU + task.core, now)
    return 0


@jit
def wants_interrupt(m: HasCores, c: int) -> bool:
    """Does the virtual core that physical core `c` runs have a vector requested?"""
    return m.cores[c].at != c and m.cpus[m.cores[c].at].irr != 0
