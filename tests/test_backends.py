"""vhost-net and virtual functions: what each takes away from the way into a guest, and what stays."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from accounts import check_accounts

import simnet
from simnet.cli import main

QUICK = {"measure.replications": 2, "measure.precision": 0.5, "measure.limit_s": 0.2}
POSTED = {"guest.interrupts": "posted", "pretend": True}
LADDER = ("paper/vm", "whatif/vhost", "whatif/sr-iov", "whatif/sr-iov-posted", "paper/bare-metal")


def run(name: str, **settings: Any) -> simnet.Result:
    return simnet.run(simnet.load(name, {**QUICK, **{path.replace("__", "."): value for path, value in settings.items()}}))


@pytest.mark.parametrize("name", LADDER[1:4])
@pytest.mark.parametrize("method", ["kernel_module", "pf_packet", "pf_ring", "recv", "udp"])
def test_packets_and_times_add_up(name: str, method: str) -> None:
    result = run(name, capture__method=method, capture__transparent_mode=0)
    assert result.packets.captured > 0
    check_accounts(result)


def test_each_step_towards_the_metal_captures_more() -> None:
    """At 1518 B, with a process, so that the processor limits and not the link."""
    rates = [
        run(name, capture__method="pf_packet", traffic__frame_bytes=1518, measure__limit_s=1.0).captured.kpps.mean
        for name in LADDER
    ]
    assert rates == sorted(rates)
    assert all(more > less for less, more in pairwise(rates[:-1]))


def test_vhost_needs_neither_mutex_nor_isr_nor_exits_to_qemu() -> None:
    rates = run("whatif/vhost").rates
    assert rates["mutex_contended"] == 0
    assert rates["exits"]["isr_read"] == 0
    assert rates["exits"]["eoi"] == pytest.approx(rates["guest_interrupts"] + rates["exits"]["timer_write"], rel=0.01)


def test_a_full_ring_stops_vhost_until_the_guest_kicks() -> None:
    """A guest that is slower than the worker: packets wait in the tap, and every kick is an exit that KVM serves."""
    result = run("whatif/vhost", costs__virtio_driver_cycles=20_000, guest__queue_entries=64)
    rates = result.rates
    assert rates["kicks"] > 100
    assert rates["exits"]["kick"] == pytest.approx(rates["kicks"], rel=0.01)
    assert sum(place.packets for place in result.packets.dropped if place.place == "tap_qdisc") > 0


def test_the_event_index_spares_interrupts_while_the_guest_polls() -> None:
    """Both suppress interrupts while the guest polls, by flag or by index; the guest hears of nothing that it has seen."""
    by_flag, by_index = run("whatif/vhost", guest__event_index=False), run("whatif/vhost", guest__event_index=True)
    for result in (by_flag, by_index):
        assert 0 < result.rates["guest_interrupts"] < result.captured.kpps.mean * 1000


def test_without_a_tap_no_packet_is_lost_there_and_none_is_polled_by_the_host() -> None:
    result = run("whatif/sr-iov")
    assert {place.place for place in result.packets.dropped} == {"switch", "nic_ring"}
    assert all(core.shares["softirq"] < 0.01 for core in result.cores)


def test_a_forwarded_interrupt_is_two_exits_and_a_posted_one_none() -> None:
    """ELI (ASPLOS 2012), section 2: with assignment an exit for the interrupt and one for its EOI; APICv and posting take both away."""
    settings = {"capture__method": "pf_packet", "traffic__frame_bytes": 1518, "host__nic__moderation": "fixed"}
    forwarded, posted = run("whatif/sr-iov", **settings).rates, run("whatif/sr-iov-posted", **settings).rates
    assert forwarded["guest_interrupts"] > 10_000
    assert forwarded["exits"]["eoi"] == pytest.approx(forwarded["guest_interrupts"] + forwarded["exits"]["timer_write"], rel=0.01)
    assert forwarded["exits"]["external_interrupt"] >= 0.95 * forwarded["guest_interrupts"]
    assert posted["exits"]["eoi"] == 0
    assert posted["exits"]["external_interrupt"] < 0.1 * posted["guest_interrupts"]


def test_a_posted_interrupt_wakes_a_guest_that_halts() -> None:
    result = run("whatif/sr-iov-posted", traffic__source="poisson", traffic__offered_kpps=1)
    assert result.rates["exits"]["hlt"] > 500
    assert sum(place.packets for place in result.packets.dropped) == 0
    assert result.latency_us["p99"] is not None
    assert result.latency_us["p99"] < 1000


def test_a_virtual_function_on_another_core_kicks_its_guest() -> None:
    """The function's interrupt on cpu7, the guest on cpu5: a rescheduling interrupt makes it leave."""
    rates = run(
        "whatif/sr-iov",
        host__nic__irq_cpus=7,
        capture__method="pf_packet",
        traffic__frame_bytes=1518,
        host__nic__moderation="fixed",
    ).rates
    assert rates["exits"]["external_interrupt"] >= 0.9 * rates["guest_interrupts"]


def test_eight_guests_share_the_port() -> None:
    """S40: line rate together; each core has a guest, and the host's share of the work is small."""
    result = run("whatif/sr-iov-8", measure__limit_s=1.0)
    assert result.captured.mbps_wire.mean == pytest.approx(10_000, rel=0.02)
    assert len(result.vcpus) == 8
    host = sum(1 - core.shares["idle"] - core.shares["guest"] for core in result.cores)
    one = run("paper/vm", traffic__frame_bytes=1518)
    assert host < sum(1 - core.shares["idle"] - core.shares["guest"] for core in one.cores)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["guest.backend=sr-iov", "host.nic.queues=1"], "a virtual function reaches the guest's memory only through an IOMMU"),
        (["guest.backend=sr-iov"], "host.nic.queues: 8; a virtual function of this model has one queue"),
        (
            ["guest.backend=sr-iov", "host.nic.queues=1", "host.iommu=true", "guest.interrupts=posted"],
            "does not post interrupts to guests; Broadwell-EP (2016) with Linux 4.4 is the first that does; --pretend does as if",
        ),
        (["guest.interrupts=posted"], "guest.interrupts: the IOMMU posts the interrupts of assigned functions only"),
        (["guest.backend=vhost-net", "guest.interrupts=intx"], "guest.interrupts: vhost-net interrupts by MSI-X only"),
        (["guest.vms=2"], "guest.vms: several guests need a virtual function each"),
        (
            ["guest.backend=sr-iov", "guest.vms=2", "host.nic.queues=2"],
            "guest.vcpus: 2 guests with one vCPU each need 2 pins, not 4",
        ),
        (
            ["guest.backend=sr-iov", "host.nic.queues=1", "host.iommu=true", "parameters=l5520-linux-2.6.37"],
            "no model of virtual functions of the 82576",
        ),
    ],
)
def test_a_backend_that_cannot_be(settings: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "paper/vm", *(word for setting in settings for word in ("--set", setting))]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_what_is_pretended_is_said() -> None:
    notes = run("whatif/sr-iov", **{path.replace(".", "__"): value for path, value in POSTED.items()}).notes
    assert notes[0].startswith("Pretended: 2 x Intel Xeon E5520")


def test_pretend_is_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--set", "guest.interrupts=posted", *(w for k, v in QUICK.items() for w in ("--set", f"{k}={v}"))]
    assert main(["run", "whatif/sr-iov", *words]) == 2
    assert main(["run", "whatif/sr-iov", "--pretend", *words]) == 0
    assert "Pretended:" in capsys.readouterr().out
