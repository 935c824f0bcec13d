"""The path into a guest against its oracle, in short: what `simnet validate engines` runs at length."""

from __future__ import annotations

from typing import Any

import pytest

from validation.vm_path import LONG_MS, SHORT_MS, differences, random_settings

QUIET = {
    "host.kernel": "3.2",
    "host.hz": 1000,
    "host.nic.moderation_us": 10,
    "guest.irq_vcpu": 2,
    "guest.io_cpus": 3,
    "guest.reads": "drain",
    "guest.backend": "qemu-kvm-0.12",
    "guest.one_queue": False,
    "guest.queue_entries": 256,
    "guest.tap_queue": 500,
    "traffic.source": "poisson",
    "traffic.generators": 1,
    "traffic.train_frames": None,
    "traffic.offered_kpps": 60,
    "traffic.frame_bytes": 64,
    "costs.do_softirq_cycles": 150,
    "costs.timer_interrupt_cycles": 2500,
    "costs.bridge_cycles": 800,
    "costs.tap_read_cycles": 3970,
    "costs.qemu_push_cycles": 500,
    "costs.virtio_driver_cycles": 400,
    "costs.wake_up_cycles": 1200,
    "costs.context_switch_cycles": 3200,
}
"""A load that every core bears."""


def settings(**changes: Any) -> dict[str, Any]:
    """`QUIET` with changes; a double underscore stands for the dot."""
    return {**random_settings(0), **QUIET, **{name.replace("__", "."): value for name, value in changes.items()}}


@pytest.mark.parametrize("reads", ["one", "drain"])
@pytest.mark.parametrize("io_cpu", [3, 5])
def test_overload(reads: str, io_cpu: int) -> None:
    loaded = settings(guest__backend="kvm-83", guest__reads=reads, guest__io_cpus=io_cpu, traffic__offered_kpps=600)
    assert differences(loaded, 1, SHORT_MS) == []


def test_a_card_that_interrupts_the_vcpu_of_a_guest_without_work() -> None:
    assert differences(settings(guest__irq_vcpu=3, traffic__offered_kpps=1), 1, SHORT_MS) == []


def test_one_queue() -> None:
    assert differences(settings(guest__one_queue=True, guest__tap_queue=80, traffic__offered_kpps=1000), 2, SHORT_MS) == []


def test_a_guest_that_must_kick() -> None:
    slow = settings(
        guest__queue_entries=64, traffic__offered_kpps=300, costs__virtio_driver_cycles=6000, costs__tap_read_cycles=800
    )
    assert differences(slow, 3, SHORT_MS) == []


def test_ksoftirqd_takes_the_io_threads_core() -> None:
    assert differences(settings(guest__reads="one", traffic__offered_kpps=300), 0, LONG_MS) == []


@pytest.mark.parametrize("number", [2, 3, 4, 5, 7])
def test_random_path(number: int) -> None:
    assert differences(random_settings(number), number, SHORT_MS) == []


def test_a_handler_of_the_guest_that_the_host_interrupts() -> None:
    assert differences(settings(guest__irq_vcpu=3, guest__backend="kvm-83", traffic__offered_kpps=20), 0, SHORT_MS) == []


def test_a_refill_that_the_host_interrupts() -> None:
    slow = {"costs__refill_buffer_cycles": 3000, "costs__virtio_driver_cycles": 6000, "costs__tap_read_cycles": 800}
    shared = settings(guest__irq_vcpu=3, guest__queue_entries=64, traffic__offered_kpps=150, **slow)
    assert differences(shared, 0, SHORT_MS) == []


def test_a_tick_that_takes_the_core_from_the_io_thread() -> None:
    busy = settings(guest__reads="one", traffic__offered_kpps=600, costs__timer_interrupt_cycles=20000)
    assert differences(busy, 2, LONG_MS) == []


def test_the_quota_of_net_tx() -> None:
    train = settings(host__hz=100, traffic__source="pktgen", traffic__train_frames=1050, traffic__offered_kpps=100)
    assert differences(train, 0, LONG_MS) == []


def test_a_tick_in_the_guests_hard_interrupt() -> None:
    assert differences(random_settings(16), 16, LONG_MS) == []
