"""What a user of a host could turn: discrete alternatives to a scenario's settings, as questions 'what if'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from simnet.params.schema import ParameterSet
from simnet.scenario.schema import MOST_RING_BYTES, Scenario
from simnet.system.choices import descriptors_of, nic_model
from simnet.system.topology import Topology, topology_of

Question = tuple[str, Mapping[str, Any]]
"""What is changed, in words, and the settings by path."""
MOST_RING_FRAMES, MOST_SLOTS, MOST_VIRTQUEUE = 32768, 16384, 1024
LARGER = 4


def _free(topology: Topology, beside: int) -> list[int]:
    """CPUs without any work, those on the socket of `beside` first; at most one of each socket is worth trying."""
    idle = [cpu for cpu in range(topology.cpus) if cpu not in topology.used]
    near = [cpu for cpu in idle if topology.socket(cpu) == topology.socket(beside)]
    far = [cpu for cpu in idle if topology.socket(cpu) != topology.socket(beside)]
    return near[:1] + far[:1]


def _where(topology: Topology, cpu: int, beside: int) -> str:
    same = topology.socket(cpu) == topology.socket(beside)
    return f"cpu{cpu}, idle, {'the same' if same else 'the other'} socket"


def _nic(scenario: Scenario, params: ParameterSet, topology: Topology) -> Iterator[Question]:
    """Interrupts and rings of the NIC."""
    nic, model = scenario.host.nic, nic_model(scenario, params)
    first = topology.irq_cpus[0]
    shared = [topology.carrier(cpu) for cpu in topology.working] if topology.has_guest else [topology.reading]
    if len(set(topology.irq_cpus)) == 1 and (first in shared or first in topology.io_cpus):
        for cpu in _free(topology, first):
            yield f"the NIC's interrupts on {_where(topology, cpu, first)}", {"host.nic.irq_cpus": cpu}
    if nic.queues > 1 and len(set(topology.irq_cpus)) == 1:
        idle = [cpu for cpu in range(topology.cpus) if cpu not in topology.used]
        near = [first, *(cpu for cpu in idle if topology.socket(cpu) == topology.socket(first))]
        if len(near) > 1:
            spread = [near[q % len(near)] for q in range(nic.queues)]
            yield f"the NIC's queues spread over {len(near)} CPUs of a socket", {"host.nic.irq_cpus": spread}
    most = model.ring[2]
    if descriptors_of(scenario, model) < most:
        yield f"NIC rings of {most} descriptors", {"host.nic.ring_descriptors": most}
    if not nic.dca:
        yield "direct cache access", {"host.nic.dca": True}


def _guest(scenario: Scenario, topology: Topology) -> Iterator[Question]:
    """The virtual machine."""
    guest = scenario.guest
    if guest is None:
        return
    if len(topology.io_cpus) == 1:
        for cpu in _free(topology, topology.io_cpus[0]):
            yield f"{topology.mover} on {_where(topology, cpu, topology.io_cpus[0])}", {"guest.io_cpus": cpu}
    taken = {*topology.irq_cpus, *topology.io_cpus, topology.pins[guest.irq_vcpu]}
    for v in [v for v, pin in enumerate(topology.pins) if pin not in taken][:1]:
        with_it = {"capture.cpu": v} if scenario.capture.cpu == guest.irq_vcpu else {}
        yield f"the guest's interrupts on vCPU {v} (cpu{topology.pins[v]})", {"guest.irq_vcpu": v, **with_it}
    if guest.backend == "kvm-83":
        follows = {} if guest.interrupts is None else {"guest.interrupts": "msix"}
        yield "a backend with MSI-X", {"guest.backend": "qemu-kvm-0.12", **follows}
    if guest.in_user_space:
        other = "drain" if guest.reads == "one" else "one"
        drained = "until the tap is empty" if guest.backend != "qemu-7.2" else "up to 50 packets a turn"
        phrase = drained if other == "drain" else "one packet a select()"
        yield f"QEMU reads {phrase}", {"guest.reads": other}
        if guest.accelerator == "tcg":
            yield "KVM in TCG's place", {"guest.accelerator": "kvm"}
        else:
            msix = {} if guest.interrupts is None else {"guest.interrupts": "msix"}
            yield "vhost-net in QEMU's place", {"guest.backend": "vhost-net", **msix}
    if guest.clock in ("acpi_pm", "hpet"):
        yield "a clock source without exits", {"guest.clock": "kvm_clock"}
    if not scenario.has_tap:
        if guest.kind_of_interrupts != "posted":
            yield "interrupts posted to the guest", {"guest.interrupts": "posted"}
        return
    if not guest.one_queue:
        yield "IFF_ONE_QUEUE on the tap", {"guest.one_queue": True}
    if guest.promiscuous_bridge:
        yield "a bridge that is not promiscuous", {"guest.promiscuous_bridge": False}
    if guest.queue_entries < MOST_VIRTQUEUE:
        yield f"a virtqueue of {MOST_VIRTQUEUE} entries", {"guest.queue_entries": MOST_VIRTQUEUE}
    larger = min(guest.tap_queue * LARGER, 10_000)
    if larger > guest.tap_queue:
        yield f"a tap queue of {larger}", {"guest.tap_queue": larger}


def _process(scenario: Scenario, topology: Topology) -> Iterator[Question]:
    """Where the capturing process runs."""
    if topology.reading is None:
        return
    if scenario.guest is None:
        for cpu in _free(topology, topology.receiving[-1]):
            yield f"the process on {_where(topology, cpu, topology.receiving[-1])}", {"capture.cpu": cpu}
        return
    taken = {*topology.irq_cpus, *topology.io_cpus, topology.carrier(topology.reading), topology.pins[scenario.guest.irq_vcpu]}
    for v in [v for v, pin in enumerate(topology.pins) if pin not in taken][:1]:
        yield f"the process on vCPU {v} (cpu{topology.pins[v]})", {"capture.cpu": v}


def _sleep(scenario: Scenario) -> Iterator[Question]:
    """Sleep states of the cores."""
    if scenario.host.c_states:
        yield "no sleep states (idle=poll)", {"host.c_states": False}


def _capture(scenario: Scenario) -> Iterator[Question]:
    """Rings and monitor of the capture."""
    capture = scenario.capture
    if capture.method == "pf_packet" and (capture.ring_frames or 0) < MOST_RING_FRAMES:
        yield f"a packet ring of {MOST_RING_FRAMES} frames", {"capture.ring_frames": MOST_RING_FRAMES}
    if capture.method == "tpacket_v3" and (most := MOST_RING_BYTES // capture.block_bytes) > capture.blocks:
        yield f"a packet ring of {most} blocks", {"capture.blocks": most}
    if capture.method == "pf_ring" and capture.slots < MOST_SLOTS:
        yield f"a PF_RING of {MOST_SLOTS} slots", {"capture.slots": MOST_SLOTS}
    if capture.method == "recv":
        larger = capture.receive_buffer_bytes * 2 * LARGER
        yield f"a receive buffer of {larger} bytes", {"capture.receive_buffer_bytes": larger}
    if capture.monitor == "flow":
        yield "no flow table", {"capture.monitor": "null"}


def questions(scenario: Scenario, params: ParameterSet) -> list[Question]:
    """All alternatives that could make sense for a scenario; some may turn out impossible."""
    topology = topology_of(scenario, params)
    return [
        *_process(scenario, topology),
        *_guest(scenario, topology),
        *_nic(scenario, params, topology),
        *_capture(scenario),
        *_sleep(scenario),
    ]
