"""Wiring a guest: vCPUs; then bridge, tap, backend and virtqueue, or virtual functions of the NIC."""

from __future__ import annotations

import numpy as np

from simnet.agenda import GUEST_TIMERS
from simnet.hardware.cpu import FIRST_DEVICE_VECTOR
from simnet.kernel.core import IN_GUEST, IN_SYSTEM, NOBODY, RUNNABLE
from simnet.scenario.schema import Guest, Scenario
from simnet.system.choices import generation_of
from simnet.system.core_wiring import fill_rules, wire_core
from simnet.system.costing import Costing
from simnet.system.dispatch import IO_THREAD, VCPU, VHOST
from simnet.system.machine import Machine
from simnet.system.receive import TO_BRIDGE
from simnet.system.tasks import add_task
from simnet.system.topology import Topology, cfs_factor
from simnet.traffic.frame import QUEUE_FRAMES
from simnet.virt.vcpu import CLOCK_READ, EOI, EXIT_REASONS, HLT, ICR_WRITE, ISR_READ, KICK, TIMER_WRITE, Vcpu
from simnet.virt.virtio_net import VIRTIO, VIRTIO_NAPI

GUEST = 1
"""Number of the guest's kernel rules; 0 are the host's."""
READY_ENTRIES = 17
"""64 KiB in mergeable buffers of a page each, and one for the header: what virtio_net_can_receive asks for until QEMU 7.2, which asks for room when it has the packet (virtio_net_has_buffers)."""
CROSSING_LINES = 4
"""Lines of a frame that QEMU has just written and the guest reads first: used entry, descriptor, virtio header, the frame's first line."""
MOST_READS = {"kvm-83": 1 << 62, "qemu-kvm-0.12": 1 << 62, "qemu-7.2": 50}
"""Packets that a drain of the tap reads at most before it lets go of the mutex (net/tap.c tap_send; 50 since QEMU 1.7)."""
EXITING_CLOCKS = ("acpi_pm", "hpet")


def _crossing_ps(topology: Topology, costing: Costing, cpu: int, others: tuple[int, ...]) -> float:
    """A line that one of some other CPUs has just written, or this CPU itself."""
    if cpu in others:
        return costing.memory.l2_ps
    return costing.shared_line_ps(0.0, False, topology.socket(cpu) == topology.socket(others[0]))


def _wire_tap(m: Machine, guest: Guest, costing: Costing) -> None:
    for q in range(m.nic.queues):
        m.napis[q].handler = TO_BRIDGE
    m.bridge.forward_ps = costing.ps("stack_cycles", "bridge_cycles")
    m.bridge.local_ps = costing.ps("clone_cycles", "ip_drop_cycles") if guest.promiscuous_bridge else 0
    m.costs.net_tx_ps = costing.ps("net_tx_cycles")
    tun = m.tun
    tun.limit = guest.tap_queue
    tun.one_queue = int(guest.one_queue)
    tun.reader = NOBODY
    tun.xmit_ps = costing.ps("tap_xmit_cycles")
    tun.readq.slots = QUEUE_FRAMES
    tun.qdisc.slots = guest.tap_queue


def _wire_qemu(m: Machine, guest: Guest, costing: Costing, first_lines_ps: int) -> None:
    backend, qemu = m.backend, m.qemu
    m.mutex.futex_ps = costing.ps("futex_cycles")
    qemu.most = MOST_READS[guest.backend] if guest.reads == "drain" else 1
    qemu.select_ps = costing.ps("select_cycles")
    qemu.push_ps = costing.ps("qemu_push_cycles")
    qemu.push_line_ps = costing.ps("copy_line_cycles")
    backend.least_entries = 1 if guest.backend == "qemu-7.2" else READY_ENTRIES
    backend.read_ps = costing.ps("tap_read_cycles") + first_lines_ps
    backend.inject_ps = costing.ps("inject_cycles")


def _wire_backend(m: Machine, guest: Guest, topology: Topology, costing: Costing, io_cpu: int) -> None:
    backend, queue = m.backend, m.virtqueue
    first_lines_ps = round(2 * _crossing_ps(topology, costing, io_cpu, topology.irq_cpus))  # the skb's and the frame's
    backend.msi_x = int(guest.kind_of_interrupts == "msix")
    backend.irq_core = topology.working_core(guest.irq_vcpu)
    backend.irq_vector = FIRST_DEVICE_VECTOR + VIRTIO_NAPI
    backend.read_line_ps = costing.ps("copy_line_cycles")
    if guest.in_user_space:
        _wire_qemu(m, guest, costing, first_lines_ps)
    else:
        backend.least_entries = 1
        backend.read_ps = costing.ps("vhost_cycles") + first_lines_ps
        backend.inject_ps = costing.ps("irqfd_cycles")
    kind = IO_THREAD if guest.in_user_space else VHOST
    backend.thread = add_task(m, kind, topology.core(io_cpu), 0, IN_SYSTEM, RUNNABLE)
    queue.entries = queue.avail_idx = guest.queue_entries
    queue.used.slots = QUEUE_FRAMES
    m.virtio.posted = guest.queue_entries
    queue.event_index = int(guest.has_event_index)
    queue.notify_on_empty = 1


def _wire_functions(m: Machine, guest: Guest, topology: Topology, costing: Costing) -> None:
    posted = guest.kind_of_interrupts == "posted"
    m.backend.inject_ps = costing.ps("irqfd_cycles")
    for q, v in enumerate(topology.receiving):
        vector = m.nic.vectors[q]
        vector.guest = topology.working_core(v)
        vector.posted = int(posted)
        if posted:  # to the processor on which the vCPU runs
            vector.cpu = topology.core(topology.pins[v])


def _wire_translation(vcpu: Vcpu, costing: Costing) -> None:
    """A vCPU of TCG: an access to a device is a call into QEMU, HLT a wait in it; and the guest stops its tick when it idles."""
    vcpu.translated = 1
    vcpu.slowdown = costing.params["tcg_slowdown"]
    vcpu.exit_ps[:] = 0
    for reason in (ISR_READ, KICK, CLOCK_READ, ICR_WRITE, TIMER_WRITE, EOI):
        vcpu.user_ps[reason] = costing.ps("tcg_access_cycles")
    vcpu.exit_ps[HLT] = costing.ps("tcg_halt_cycles")
    vcpu.idle_ps = costing.ps("tickless_idle_cycles")


def _wire_vcpus(m: Machine, scenario: Scenario, guest: Guest, topology: Topology, costing: Costing) -> None:
    fill_rules(m.rules[GUEST], generation_of(scenario, costing.params, guest.kernel), guest.hz, cfs_factor(len(guest.vcpus)))
    m.virtual = len(topology.working)
    in_kernel, apic = costing.ps("exit_cycles"), costing.ps("apic_exit_cycles")
    m.costs.vm_exit_ps = in_kernel if guest.accelerator == "kvm" else 0
    in_qemu = max(costing.ps("user_exit_cycles") - in_kernel, 1)
    m.memory.page_walk_ps = costing.cycles(costing.params["nested_page_walk_cycles"])
    for v in topology.working:
        c = topology.working_core(v)
        vcpu = m.vcpus[c]
        m.cores[c].kernel = GUEST
        m.cpus[c].carrier = add_task(m, VCPU, topology.core(topology.pins[v]), c, IN_GUEST, RUNNABLE)
        wire_core(m, c, v)
        m.agenda.due_ps[GUEST_TIMERS] = min(m.agenda.due_ps[GUEST_TIMERS], m.cores[c].next_tick_ps)
        vcpu.virtual_apic = int(guest.kind_of_interrupts == "posted")
        vcpu.stamps_exit = int(guest.clock in EXITING_CLOCKS)
        for reason in range(len(EXIT_REASONS)):
            vcpu.exit_ps[reason] = apic if reason in (EOI, TIMER_WRITE, ICR_WRITE) else in_kernel
        vcpu.slowdown = 1.0
        if guest.accelerator == "tcg":
            _wire_translation(vcpu, costing)
            continue
        for reason in (ISR_READ, KICK, CLOCK_READ) if guest.in_user_space else (CLOCK_READ,):  # else the kick is an ioeventfd's
            vcpu.user_ps[reason] = in_qemu


def _wire_driver(m: Machine, scenario: Scenario, guest: Guest, topology: Topology, costing: Costing, io_cpu: int) -> None:
    napi, pin = m.napis[VIRTIO_NAPI], topology.pins[guest.irq_vcpu]
    napi.kind = VIRTIO
    napi.thread = NOBODY
    napi.weight = generation_of(scenario, costing.params, guest.kernel).virtio_weight
    napi.returns_work_done = 1
    crossing = _crossing_ps(topology, costing, io_cpu, (pin,))
    own = costing.params["skb_lines"] * costing.line_ps(64.0 * costing.params["skb_lines"] * guest.queue_entries)
    m.virtio.receive_ps = costing.ps("virtio_driver_cycles", "skb_cycles") + round(own + CROSSING_LINES * crossing)
    m.virtio.refill_ps = costing.ps("refill_buffer_cycles")


def wire_guest(
    m: Machine, guest: Guest, scenario: Scenario, topology: Topology, costing: Costing, boot: np.random.Generator
) -> None:
    """Add a guest to a machine. Where the thread behind its tap is, is drawn at boot."""
    m.mutex.holder = m.backend.thread = NOBODY
    if guest.is_assigned:
        _wire_vcpus(m, scenario, guest, topology, costing)
        _wire_functions(m, guest, topology, costing)
        return
    io_cpu = topology.io_cpus[int(boot.integers(len(topology.io_cpus)))]
    _wire_tap(m, guest, costing)
    _wire_vcpus(m, scenario, guest, topology, costing)
    _wire_backend(m, guest, topology, costing, io_cpu)
    _wire_driver(m, scenario, guest, topology, costing, io_cpu)
