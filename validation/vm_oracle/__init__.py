"""A small, slow and independent model of packet reception in a KVM guest, to check a faster one against.

It is written with SimPy, from rules, the way `validation.oracle` is: every frame that arrives is an event, and so is every piece of work of
every processor core. A frame goes from the card (one queue, one vector) through the receive softirq of core H, the bridge and a tap, is read
by QEMU's I/O thread on core I, and is captured by the softirq of a virtual core V, which core G carries out as a task. H, I and G may be the
same.

What runs on a core is a generator. It yields the pieces of its work; what a piece changes, it changes when it goes on, that is when the piece
is paid for. A core pays for one piece at a time, that of the highest priority: a handler of a hard interrupt or a task switch, then softirqs,
then the current task. The virtual core is the same kind of core, whose pieces are paid for by the vCPU's task.

Left out: idle states, further queues, tasks other than QEMU's and ksoftirqd, and what happens behind the guest's kernel tap.

All times are integers, in picoseconds. At one moment the order is: arrivals, the end of the simulation, the card's vector, the tick of the
physical cores, the timer of the virtual core, the physical cores by ascending number.
"""

from __future__ import annotations

from validation.vm_oracle.machine import vm_receive_path
from validation.vm_oracle.setup import CoreSetup, VmResult, VmSetup

__all__ = ["CoreSetup", "VmResult", "VmSetup", "vm_receive_path"]
