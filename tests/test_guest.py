"""The way into a guest: virtqueue, mutex, tap, and what the whole of it implies."""

from __future__ import annotations

from typing import Any

import pytest
from accounts import check_accounts

import simnet
from simnet.cli import main
from simnet.compiled import interpreted
from simnet.engine.simulation import Simulation
from simnet.system.choices import resolve
from simnet.units import PS_PER_MS
from simnet.virt.virtqueue import need_event

QUICK = {"measure.replications": 2, "measure.precision": 0.5, "measure.limit_s": 0.2}
CENTRE = {
    "costs__select_cycles": 4540,
    "costs__tap_read_cycles": 3970,
    "costs__qemu_push_cycles": 3065,
    "costs__inject_cycles": 4540,
}
"""The I/O thread's work in the middle of its ranges; the built-in scenario has the fit."""


def resolved(name: str, settings: dict[str, Any]) -> tuple[simnet.Scenario, simnet.ParameterSet]:
    scenario = simnet.load(name, settings)
    return scenario, resolve(scenario)


def run(name: str = "paper/vm", **settings: Any) -> simnet.Result:
    return simnet.run(simnet.load(name, {**QUICK, **{path.replace("__", "."): value for path, value in settings.items()}}))


@pytest.mark.parametrize(
    ("event", "new", "old", "wanted"),
    [
        (0, 1, 0, True),  # the first entry after the event index
        (5, 5, 4, False),  # not there yet
        (5, 6, 5, True),
        (5, 9, 3, True),  # passed within a batch
        (5, 9, 7, False),  # passed before
        (0xFFFF, 0x10000, 0xFFFF, True),  # indices wrap at 2**16
        (0xFFFF, 0x10001, 0x10000, False),
    ],
)
def test_vring_need_event(event: int, new: int, old: int, wanted: bool) -> None:
    """include/linux/virtio_ring.h: (u16)(new - event - 1) < (u16)(new - old)."""
    assert bool(interpreted(need_event)(event, new, old)) is wanted


@pytest.mark.parametrize("method", ["kernel_module", "pf_packet", "pf_ring", "recv", "udp"])
@pytest.mark.parametrize("reads", ["one", "drain"])
def test_packets_and_times_add_up(method: str, reads: str) -> None:
    check_accounts(run(capture__method=method, guest__reads=reads))


def test_every_guest_interrupt_is_acknowledged_and_with_intx_read() -> None:
    """An EOI for every interrupt; an ISR read for every one of virtio's; a timer access for every tick of a guest that is not idle."""
    rates = run().rates
    exits = rates["exits"]
    assert exits["isr_read"] == pytest.approx(rates["guest_interrupts"], rel=0.01)
    assert exits["eoi"] == pytest.approx(rates["guest_interrupts"] + exits["timer_write"], rel=0.01)
    assert exits["timer_write"] <= 1000


def test_msi_x_needs_no_isr_read_and_nobody_waits_for_the_mutex() -> None:
    rates = run(guest__backend="qemu-kvm-0.12").rates
    assert rates["exits"]["isr_read"] == 0
    assert rates["mutex_contended"] == 0


def test_the_rate_does_not_depend_on_the_frame_length() -> None:
    rates = [run(traffic__frame_bytes=size).captured.kpps.mean for size in (64, 256, 1518)]
    assert max(rates) / min(rates) <= 1.15
    assert all(40 <= rate <= 160 for rate in rates)


def test_the_tap_starts_again_with_every_read_and_that_is_what_costs() -> None:
    """In overload each read() wakes ksoftirqd, which moves one packet; a tap that never stops spares that. The costs are in the middle of their ranges."""
    stopping, one_queue = run(**CENTRE), run(guest__one_queue=True, **CENTRE)
    assert stopping.rates["tap_restarts"] == pytest.approx(stopping.captured.kpps.mean * 1000, rel=0.02)
    assert one_queue.rates["tap_restarts"] == 0
    assert one_queue.captured.kpps.mean > 1.5 * stopping.captured.kpps.mean


def test_below_saturation_nothing_is_lost_and_no_tap_stops() -> None:
    result = run(traffic__source="poisson", traffic__offered_kpps=20)
    assert sum(place.packets for place in result.packets.dropped) == 0
    assert result.rates["tap_restarts"] == 0


def test_one_core_for_host_and_guest_is_several_times_slower() -> None:
    shared = run("paper/vm-shared-core", measure__limit_s=2.0).captured.kpps.mean
    assert run().captured.kpps.mean > 3 * shared > 0


def test_a_udp_receiver_on_the_softirqs_core_gets_next_to_nothing() -> None:
    """K01, K02: under the rules of 3.2 every system call lets softirqs in again, up to ten rounds of them."""
    alone = run("paper/bare-metal", capture__method="udp", capture__cpu=5, host__kernel="3.2", measure__limit_s=2.0)
    beside = run("paper/bare-metal", capture__method="udp", capture__cpu=7, host__kernel="3.2", measure__limit_s=2.0)
    assert 0 < beside.captured.kpps.mean < 0.01 * alone.captured.kpps.mean


def test_where_the_io_thread_sits_is_drawn_at_boot_and_differs_between_replications() -> None:
    result = run(guest__io_cpus=list(range(8)), measure__replications=8)
    rates = sorted(r.captured_kpps for r in result.replications)
    assert rates[0] < 0.6 * rates[-1]


def test_tap_and_qdisc_hold_a_thousand_packets() -> None:
    """500 in the tap and the one that found it full, 500 in pfifo_fast; then packets are lost there (no reader: QEMU never gets to run)."""
    made = Simulation(
        *resolved("paper/vm", {"costs.select_cycles": 1e9, "traffic.source": "cbr", "traffic.offered_kpps": 100}), 1, 0
    )
    made.run([30 * PS_PER_MS])
    m, row = made.machine, made.rows[-1]
    assert (int(m.tun.readq.filled), int(m.tun.qdisc.filled)) == (501, 500)
    assert int(row.qdisc_dropped) > 1000
    assert int(row.offered) == int(row.qdisc_dropped) + int(row.in_flight)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("guest.vcpus=[1, 3, 5, 70]", "guest.vcpus: there is no CPU 70"),
        ("guest.irq_vcpu=4", "guest.irq_vcpu: there is no vCPU 4; guest.vcpus pins 4, 0 to 3"),
        ("capture.cpu=9", "capture.cpu: there is no vCPU 9"),
        ("guest.io_cpus=8", "guest.io_cpus: there is no CPU 8"),
        ("guest.queue_entries=200", "guest.queue_entries: a virtqueue has a power of two, not 200"),
        ("guest.interrupts=msix", "guest.interrupts: kvm-83 has no MSI-X for virtio; qemu-kvm-0.12 is the first backend that has"),
        (
            "guest.event_index=true",
            "guest.event_index: kvm-83 does not offer it; vhost-net of Linux 3.0 and QEMU 0.15 are the first that do",
        ),
        ("guest.backend=vhost", "guest.backend: 'vhost'; allowed: kvm-83, qemu-kvm-0.12, qemu-7.2, vhost-net, sr-iov"),
        ("guest.accelerator=tcg", "guest.accelerator: kvm-83 is modelled with KVM only; tcg needs guest.backend=qemu-7.2"),
        ("guest.kernel=9.9", "guest.kernel: no rule set '9.9'"),
        ("guest.vpcus=[1]", "unknown key 'guest.vpcus'; allowed: vcpus"),
    ],
)
def test_a_guest_that_cannot_be(setting: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "paper/vm", "--set", setting]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_pf_ring_in_a_guest_has_no_driver_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "paper/vm", "--set", "capture.method=pf_ring", "--set", "capture.transparent_mode=2"]) == 2
    assert "virtio_net is not PF_RING-aware" in capsys.readouterr().err
