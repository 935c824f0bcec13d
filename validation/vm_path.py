"""Both clocks against the independent oracle of the guest: every latency and every count of the path from the card to a guest's kernel tap.

The oracle (`validation.vm_oracle`) was written from a description of the rules, by someone who had not seen the mechanisms, with one SimPy event a piece
of work. It gets the same arrivals and the same costs.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from simnet.engine.simulation import Simulation
from simnet.scenario.loading import load
from simnet.system.choices import resolve
from simnet.units import PS_PER_MS, PS_PER_S, PS_PER_US
from simnet.virt.vcpu import EXIT_REASONS
from validation.check import Check
from validation.receive_path import compare_latencies, drawn_arrivals, observe
from validation.vm_oracle import CoreSetup, VmResult, VmSetup, vm_receive_path

SCENARIO = "paper/vm"
RING, BUFFER_BYTES = 512, 448 * 1024
"""Of ixgbe, written down again from the kernel sources."""
HOST_FACTOR, GUEST_FACTOR = 4, 3
"""Of the scheduler's times, with 8 and with 4 CPUs: 1 + floor(log2(CPUs))."""
VCPU_PINS = (1, 3, 5, 7)
SHORT_MS, LONG_MS = 4.0, 25.0
"""How much of a path is compared. ksoftirqd takes the I/O thread's core from it only after some 16 ms of the thread's running."""
COUNTS = (
    "captured",
    "latency_sum_ps",
    "nic_missed",
    "qdisc_dropped",
    "tap_dropped",
    "interrupts",
    "guest_interrupts",
    "kicks",
    "tap_restarts",
    "mutex_contended",
    "wakeups",
    "context_switches",
    "polls",
)


def random_settings(number: int) -> dict[str, Any]:
    """Settings of a random path into a guest."""
    pick = random.Random(2000 + number)
    return {
        "host.kernel": pick.choice(["3.2", "3.2", "3.2-deferred"]),
        "host.hz": pick.choice([100, 250, 1000]),
        "host.c_states": False,
        "host.nic.queues": 1,
        "host.nic.moderation": "fixed",
        "host.nic.moderation_us": pick.choice([0, 10, 50, 125]),
        "guest.irq_vcpu": pick.choice([2, 2, 3]),
        "guest.io_cpus": pick.choice([1, 3, 5, 5, 7]),
        "guest.hz": pick.choice([100, 1000]),
        "guest.backend": pick.choice(["kvm-83", "qemu-kvm-0.12"]),
        "guest.reads": pick.choice(["one", "drain"]),
        "guest.one_queue": pick.choice([False, False, True]),
        "traffic.source": pick.choice(["pktgen", "cbr", "poisson"]),
        "traffic.generators": pick.choice([1, 3]),
        "traffic.offered_kpps": pick.choice([20, 60, 150, 300, 600, 1000, 1500]),
        "traffic.frame_bytes": pick.choice([64, 256, {64: 7, 594: 4, 1518: 1}]),
        "traffic.link_gbps": 10,
        "costs.do_softirq_cycles": pick.choice([0, 150]),
        "costs.timer_interrupt_cycles": pick.choice([0, 2500, 20000]),
        "costs.bridge_cycles": pick.choice([400, 800, 1600]),
        "costs.tap_read_cycles": pick.choice([800, 3970]),
        "costs.qemu_push_cycles": pick.choice([500, 3065]),
        "costs.virtio_driver_cycles": pick.choice([400, 1600, 4000]),
        "guest.queue_entries": pick.choice([64, 256, 256]),
        "guest.tap_queue": pick.choice([80, 500, 500]),
        "traffic.train_frames": pick.choice([None, None, 500, 2000]),
        "costs.wake_up_cycles": pick.choice([0, 1200]),
        "costs.context_switch_cycles": pick.choice([0, 3200]),
    }


def simulation_of(settings: dict[str, Any], seed: int) -> Simulation:
    """A fresh machine for some settings."""
    scenario = load(SCENARIO, settings)
    return Simulation(scenario, resolve(scenario), seed, 0)


def _core_setup(m: Any, core: int, hz: int, factor: int, defers: bool) -> CoreSetup:
    """Rules of a kernel, and its costs and the phase of its tick from a machine."""
    costs = m.costs
    return CoreSetup(
        tick=PS_PER_S // hz,
        first_tick=int(m.cores[core].next_tick_ps),
        boot=int(m.boot_ps),
        defers_to_ksoftirqd=defers,
        latency=6 * factor * PS_PER_MS,
        min_granularity=3 * factor * PS_PER_MS // 4,
        wakeup_granularity=factor * PS_PER_MS,
        device_interrupt=int(costs.device_interrupt_ps),
        timer_interrupt=int(costs.timer_interrupt_ps),
        reschedule_interrupt=int(costs.reschedule_interrupt_ps),
        do_softirq=int(costs.do_softirq_ps),
        timer_softirq=int(costs.timer_softirq_ps),
        net_tx=int(costs.net_tx_ps),
        poll=int(costs.poll_ps),
        napi_complete=int(costs.napi_complete_ps),
        context_switch=int(costs.context_switch_ps),
        wake_up=int(costs.wake_up_ps),
    )


def setup_of(settings: dict[str, Any], m: Any) -> VmSetup:
    """The oracle's parameters: rules from the sources of kernel and QEMU and the settings, costs and phases from a machine."""
    receive, io, vcpu = 7, settings["guest.io_cpus"], VCPU_PINS[settings["guest.irq_vcpu"]]
    used = sorted({receive, io, vcpu})
    defers = settings["host.kernel"] == "3.2-deferred"
    exits = {reason: int(m.vcpus[m.physical].exit_ps[i]) for i, reason in enumerate(EXIT_REASONS)}
    user = {reason: int(m.vcpus[m.physical].user_ps[i]) for i, reason in enumerate(EXIT_REASONS)}
    return VmSetup(
        host=_core_setup(m, 0, settings["host.hz"], HOST_FACTOR, defers),
        guest=_core_setup(m, m.physical, settings["guest.hz"], GUEST_FACTOR, defers),
        receive_core=used.index(receive),
        io_core=used.index(io),
        vcpu_core=used.index(vcpu),
        descriptors=RING,
        buffer_bytes=BUFFER_BYTES,
        moderation_interval=settings["host.nic.moderation_us"] * PS_PER_US,
        returns_work_done=False,
        host_frame=int(m.costs.receive_ps + m.bridge.forward_ps + m.bridge.local_ps + m.tun.xmit_ps),
        tap_xmit=int(m.tun.xmit_ps),
        tap_limit=settings["guest.tap_queue"],
        one_queue=settings["guest.one_queue"],
        drains=settings["guest.reads"] == "drain",
        msi_x=settings["guest.backend"] != "kvm-83",
        entries=settings["guest.queue_entries"],
        select=int(m.qemu.select_ps),
        read=int(m.backend.read_ps),
        read_line=int(m.backend.read_line_ps),
        push=int(m.qemu.push_ps),
        push_line=int(m.qemu.push_line_ps),
        inject=int(m.backend.inject_ps),
        futex=int(m.mutex.futex_ps),
        vm_exit=int(m.costs.vm_exit_ps),
        exits=exits,
        user=user,
        guest_frame=int(m.virtio.receive_ps + m.tap.deliver_ps + m.monitors[0].decode_ps),
        refill=int(m.virtio.refill_ps),
    )


def expected_counts(oracle: VmResult) -> dict[str, int]:
    """The oracle's counts, by the names that the model has for them."""
    return {
        "captured": len(oracle.latencies),
        "latency_sum_ps": sum(oracle.latencies),
        "nic_missed": oracle.missed,
        "qdisc_dropped": oracle.qdisc_dropped,
        "tap_dropped": oracle.tap_dropped,
        "interrupts": oracle.interrupts,
        "guest_interrupts": oracle.guest_interrupts,
        "kicks": oracle.kicks,
        "tap_restarts": oracle.tap_restarts,
        "mutex_contended": oracle.mutex_contended,
        "wakeups": oracle.wakeups,
        "context_switches": oracle.switches,
        "polls": oracle.polls,
        **{reason: oracle.exits[reason] for reason in EXIT_REASONS},
    }


def found_counts(row: Any) -> dict[str, int]:
    """The model's counts."""
    exits = {reason: int(row.exits[:, i].sum()) for i, reason in enumerate(EXIT_REASONS)}
    return {name: int(row[name]) for name in COUNTS} | exits


def differences(settings: dict[str, Any], seed: int, limit_ms: float) -> list[str]:
    """What the oracle and the model disagree on within the first `limit_ms`."""
    end = round(limit_ms * PS_PER_MS)
    frames = round(settings["traffic.offered_kpps"] * limit_ms * 1.2) + 200
    arrivals, lengths = drawn_arrivals(simulation_of(settings, seed), frames)
    end = min(end, int(arrivals[-1]))
    stepped, compiled = simulation_of(settings, seed), simulation_of(settings, seed)
    oracle = vm_receive_path(setup_of(settings, stepped.machine), zip(arrivals.tolist(), lengths.tolist(), strict=True), end)
    latencies, rows = observe(stepped, compiled, end)
    found = compare_latencies(latencies, oracle.latencies)
    expected = expected_counts(oracle)
    for name, row in rows.items():
        counts = found_counts(row)
        found += [f"{name} {key}: {counts[key]} instead of {expected[key]}" for key in counts if counts[key] != expected[key]]
    return found


def check_vm_path(settings: int, progress: Callable[[str, float], None]) -> list[Check]:
    """Compare model and oracle on random settings."""
    differing = []
    for number in range(settings):
        progress(f"oracle of the guest {number}", number / settings)
        found = differences(random_settings(number), number, LONG_MS if number % 8 == 0 else SHORT_MS)
        if found:
            differing.append(f"{number}: {'; '.join(found)}")
    return [
        Check(
            "oracle of the guest, one event a piece",
            f"{settings} random paths into a guest: every latency, drops by place, exits by reason, interrupts, kicks, wake-ups",
            0,
            len(differing),
            "paths that differ",
            not differing,
            None,
            "exact",
            " | ".join(differing[:3]),
        )
    ]
