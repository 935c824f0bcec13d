"""The lab's wirings as scenarios: what each pays where, and what that implies."""

from __future__ import annotations

from typing import Any

import pytest

import simnet
from calibration.collect.tracepoints import time_inside

QUICK = {"measure.replications": 2, "measure.precision": 0.1, "measure.limit_s": 0.2}
PRIOR = simnet.parameter_set("lab-x86-64")


def run(name: str, kpps: float, **costs: float) -> simnet.Result:
    settings: dict[str, Any] = {
        **QUICK,
        "traffic.offered_kpps": kpps,
        **{f"costs.{cost}": cycles for cost, cycles in costs.items()},
    }
    return simnet.run(simnet.load(name, settings))


def softirq_us(name: str, cpu: int, kpps: float) -> float:
    """Time in softirqs for each packet at a load that nothing loses, without what it costs to tell an idle CPU."""
    shares = next(core.shares for core in run(name, kpps, send_ipi_cycles=0).cores if core.cpu == cpu)
    return (shares["softirq"] + shares["ksoftirqd"]) / kpps * 1000


@pytest.mark.parametrize("name", ["lab/bridge-tap", "lab/bridge-tap-rps", "lab/bridge-tap-inline"])
@pytest.mark.parametrize("kpps", [50, 1600])
def test_packets_add_up_on_the_way_to_a_tap(name: str, kpps: float) -> None:
    packets = run(name, kpps).packets
    assert packets.offered == packets.captured + packets.in_flight + sum(place.packets for place in packets.dropped)
    assert {lost.place for lost in packets.dropped if lost.packets} <= {"nic_ring", "tap_queue"}


def test_a_tap_has_room_for_500_packets() -> None:
    """A reader that never comes back leaves 500 of them, the one in its hands among them; another may be on its way."""
    result = run("lab/bridge-tap-inline", 100, tap_read_cycles=1e9)
    assert 500 <= result.packets.in_flight / len(result.replications) <= 501


def test_a_backend_beside_softirqs_drowns_and_beside_a_napi_thread_does_not() -> None:
    alone, softirqs, thread = (
        run(f"lab/bridge-tap{end}", 1600, bridge_cycles=3000).captured.kpps.mean for end in ("-inline", "-rps", "")
    )
    assert softirqs < alone / 100
    assert thread > alone / 10


def test_who_sends_packets_to_another_cpu_has_paid_for_driver_and_skb() -> None:
    """RPS: what is left for the other CPU is the backlog, the stack and the socket."""
    inline, rps = softirq_us("lab/veth-inline", 0, 100), softirq_us("lab/veth-rps", 1, 100)
    paid = (PRIOR["driver_cycles"] + PRIOR["skb_cycles"] - PRIOR["backlog_cycles"]) / PRIOR["clock_ghz"] / 1000
    assert inline - rps == pytest.approx(paid, abs=0.1)


def test_a_tap_is_read_on_the_host() -> None:
    with pytest.raises(simnet.UserError, match="a tap is read on the host"):
        simnet.load("paper/vm", {"capture.method": "tap"})


@pytest.mark.parametrize(
    ("entries", "exits", "inside"),
    [
        ([], [], 0),
        ([10, 50], [20, 55], 15),
        ([50], [20, 55], 25),  # one had begun before
        ([10, 90], [20], 20),  # one goes on
        ([], [30], 30),
        ([30], [], 70),
    ],
)
def test_time_in_softirqs(entries: list[int], exits: list[int], inside: int) -> None:
    assert time_inside(entries, exits, 0, 100) == inside
