"""Threaded NAPI: polls compete with tasks instead of preceding them."""

from __future__ import annotations

from typing import Any

import pytest
from accounts import check_accounts

import simnet
from simnet.cli import main

NAME = "whatif/threaded-napi"
QUICK = {"measure.replications": 2, "measure.precision": 0.5, "measure.limit_s": 0.5}
FLOOD = {"traffic.source": "poisson", "traffic.offered_kpps": 3000}


def run(**settings: Any) -> simnet.Result:
    return simnet.run(simnet.load(NAME, {**QUICK, **{path.replace("__", "."): value for path, value in settings.items()}}))


@pytest.mark.parametrize("method", ["kernel_module", "pf_packet", "pf_ring", "recv", "udp"])
def test_packets_and_times_add_up(method: str) -> None:
    check_accounts(run(capture__method=method))


def test_thread_and_receiver_share_the_core_and_nothing_collapses() -> None:
    """CFS gives two runnable tasks of nice 0 half each; softirqs that precede tasks give the receiver next to nothing (rules of 3.2)."""
    threaded = run(**FLOOD).captured.kpps.mean
    softirqs = run(**FLOOD, host__kernel="3.2", host__nic__napi_cpus=None).captured.kpps.mean
    assert threaded > 100 * softirqs
    alone = run(**FLOOD, capture__cpu=5).captured.kpps.mean
    assert threaded == pytest.approx(alone / 2, rel=0.5)


def test_polls_are_booked_to_the_thread_and_not_to_softirqs() -> None:
    result = run(**FLOOD, capture__cpu=5)
    core = next(core for core in result.cores if core.cpu == 7)
    assert core.shares["system"] > 0.9
    assert core.shares["softirq"] + core.shares["ksoftirqd"] < 0.01


def test_the_thread_may_be_anywhere() -> None:
    """The vector on cpu7 only wakes the thread on cpu3: its core does the work."""
    result = run(**FLOOD, host__nic__napi_cpus=3, capture__cpu=5)
    shares = {core.cpu: core.shares for core in result.cores}
    assert shares[3]["system"] > 0.9
    assert shares[7]["idle"] > 0.9


def test_at_low_load_it_sleeps_between_packets_and_loses_none() -> None:
    result = run(traffic__source="poisson", traffic__offered_kpps=5, capture__cpu=5)
    assert sum(place.packets for place in result.packets.dropped) == 0
    assert result.rates["wakeups"] > 5000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["host.kernel=3.2"], "host.nic.napi_cpus: the rules of 3.2 know no threaded NAPI; Linux 5.12 is the first that does"),
        (["host.nic.napi_cpus=80"], "host.nic.napi_cpus: there is no CPU 80"),
        (["host.nic.napi_cpus=[1, 2]"], "host.nic.napi_cpus: 2 CPUs for 1 queues"),
    ],
)
def test_threads_that_cannot_be(settings: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", NAME, *(word for setting in settings for word in ("--set", setting))]) == 2
    assert message in capsys.readouterr().err
