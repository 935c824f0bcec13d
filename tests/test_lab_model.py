"""The lab's wirings as scenarios: what each pays where, and what that implies."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import simnet
from calibration.capture import tpacket_v3
from calibration.collect.tracepoints import time_inside
from calibration.lab_model import observations
from calibration.observation import predict
from simnet.kernel.core import DEVICE_INTERRUPTS

QUICK = {"measure.replications": 2, "measure.precision": 0.1, "measure.limit_s": 0.2}
PRIOR = simnet.parameter_set("lab-x86-64")


def run(name: str, kpps: float, changes: Mapping[str, Any] = MappingProxyType({}), **costs: float) -> simnet.Result:
    settings: dict[str, Any] = {
        **QUICK,
        **changes,
        "traffic.offered_kpps": kpps,
        **{f"costs.{cost}": cycles for cost, cycles in costs.items()},
    }
    return simnet.run(simnet.load(name, settings))


def softirq_us(name: str, cpu: int, kpps: float, changes: Mapping[str, Any] = MappingProxyType({})) -> float:
    """Time in softirqs for each packet at a load that nothing loses, without what it costs to tell an idle CPU."""
    shares = next(core.shares for core in run(name, kpps, changes, send_ipi_cycles=0).cores if core.cpu == cpu)
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


def test_a_program_that_drops_earlier_leaves_out_what_comes_later() -> None:
    """XDP: driver and program; tc: skb, way to the hook and program on top; recv: a clone, the socket and the end in IP, and no program."""

    def us(**cycles: float) -> float:
        return sum(PRIOR[f"{name}_cycles"] * sign for name, sign in cycles.items()) / PRIOR["clock_ghz"] / 1000

    xdp, tc = (softirq_us("lab/veth-inline", 0, 100, {"capture.method": method}) for method in ("xdp_count", "tc_count"))
    assert tc - xdp == pytest.approx(us(skb=1, stack=1, tc=1, xdp=-1), abs=0.01)
    recv = softirq_us("lab/veth-inline", 0, 100, {"costs.wake_up_cycles": 0})
    assert recv > tc > xdp


def test_rps_comes_between_the_two_programs() -> None:
    inline, rps = (
        softirq_us(f"lab/veth-{end}", cpu, 100, {"capture.method": "tc_count"}) for end, cpu in (("inline", 0), ("rps", 1))
    )
    moved = PRIOR["driver_cycles"] + PRIOR["skb_cycles"] - PRIOR["backlog_cycles"]
    assert inline - rps == pytest.approx(moved / PRIOR["clock_ghz"] / 1000, abs=0.01)
    with pytest.raises(simnet.UserError, match="before RPS"):
        run("lab/veth-rps", 100, {"capture.method": "xdp_count"})


@pytest.mark.parametrize("method", ["tc_count", "xdp_count"])
@pytest.mark.parametrize(("name", "kpps"), [("lab/veth-inline", 50), ("lab/veth-inline", 6000), ("lab/veth", 6000)])
def test_programs_lose_packets_before_the_driver_only(method: str, name: str, kpps: float) -> None:
    packets = run(name, kpps, {"capture.method": method}).packets
    assert packets.offered == packets.captured + packets.in_flight + sum(place.packets for place in packets.dropped)
    assert {lost.place for lost in packets.dropped if lost.packets} == ({"nic_ring"} if kpps > 1000 else set())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("lab/veth", {"capture.method": "xdp_count", "capture.monitor": "null"}, "capture.monitor: xdp_count counts packets"),
        ("paper/vm", {"capture.method": "xdp_count", "capture.monitor": "count"}, "drivers of the host only"),
        ("paper/bare-metal", {"capture.method": "xdp_count", "capture.monitor": "count"}, "XDP came with Linux 4.8"),
        ("paper/bare-metal", {"capture.method": "tc_count", "capture.monitor": "count"}, "clsact .* Linux 4.5"),
        ("paper/vm", {"capture.method": "tpacket_v3"}, "timer, which is modelled on the host only"),
        ("paper/bare-metal", {"capture.method": "tpacket_v3", "host.kernel": "2.6.37"}, "came with Linux 3.2"),
        ("lab/veth", {"capture.method": "tpacket_v3", "capture.block_bytes": 5000}, "not a multiple of a page"),
        ("lab/veth", {"capture.method": "tpacket_v3", "capture.snaplen_bytes": 59}, "keeps 60 bytes or more"),
        ("lab/veth", {"capture.method": "tpacket_v3", "capture.blocks": 40}, "capture.blocks: 40 blocks of 131072 bytes"),
    ],
)
def test_methods_where_they_are_not(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(simnet.UserError, match=message):
        simnet.run(simnet.load(name, settings))


@pytest.mark.parametrize("name", ["lab/veth", "lab/veth-rps", "lab/veth-inline"])
@pytest.mark.parametrize("kpps", [20, 1500])
def test_a_reader_of_blocks_sleeps_through_them(name: str, kpps: float) -> None:
    """Nothing is lost and hardly anything paid for reading: at most a wake-up in 4 ms, or for each block that is full."""
    result = run(name, kpps, {"capture.method": "tpacket_v3", "capture.block_timeout_ms": 4, "measure.limit_s": 0.5})
    assert result.captured.kpps.mean == pytest.approx(kpps, rel=0.02)
    waits_ms = [result.latency_us[quantile] / 1000 for quantile in ("p50", "p99")]
    full_ms = 909 / kpps
    assert waits_ms[1] <= min(8.0, full_ms) + 0.1
    assert min(8.0, full_ms) / 2 <= waits_ms[0] + 0.1 <= min(8.0, full_ms) / 2 + 0.2


def test_a_reader_that_is_slower_than_its_blocks_fill_loses_in_the_ring() -> None:
    ring = {"capture.blocks": 2, "capture.block_bytes": 4096, "capture.monitor": "null"}
    packets = run("lab/veth-inline", 800, {"capture.method": "tpacket_v3", **ring}, tpacket3_read_cycles=6000).packets
    assert packets.offered == packets.captured + packets.in_flight + sum(place.packets for place in packets.dropped)
    assert {lost.place for lost in packets.dropped if lost.packets} == {"packet_ring"}


def test_the_ring_is_that_of_the_runner() -> None:
    (seen,) = observations(windows_of("tpacket_v3", "inline"))
    scenario = simnet.load(seen.scenario, dict(seen.settings))
    assert (scenario.capture.method, scenario.capture.block_timeout_ms) == ("tpacket_v3", tpacket_v3.RETIRE_MS)
    assert scenario.capture.blocks * scenario.capture.block_bytes == tpacket_v3.BLOCKS * tpacket_v3.BLOCK_BYTES
    assert predict(seen, {}).captured_kpps == pytest.approx(100, rel=0.02)


def windows_of(method: str, softirq: str) -> Any:
    """A record with one window."""
    placement = {"softirq": softirq, "load_cpu": 0, "reader_cpu": 1, "softirq_cpu": None if softirq == "inline" else 1}
    row = {"method": method, "placement": "here", "frame_bytes": 64, "target_kpps": 100.0, "offered": 100_000, "captured": 100_000}
    row |= {"seconds": 1.0, "reader_ran_s": np.nan, "napi_ran_s": np.nan, "reader_sleeps": np.nan, "polls_of": None}
    row |= {"polls_s": 0.1, "polls_softirq_s": 0.023, "polls_softirq_events": 10_000, "reference_event_ns": 300.0}
    return SimpleNamespace(about={"campaign": {"placements": {"here": placement}}}, host={}, good=pd.DataFrame([row]))


def test_a_window_without_a_reader_shows_time_in_softirqs() -> None:
    """Less 10 000 events of the trace, of 300 ns each. Beside RPS nobody sees it: with no reader the softirqs run from the idle loop."""
    for method in ("tc_count", "xdp_count"):
        (inline,) = observations(windows_of(method, "inline"))
        assert (inline.busy, inline.softirq, inline.is_simple) == (None, pytest.approx(0.2), True)
        assert predict(inline, {}).captured_kpps == pytest.approx(100, rel=0.02)
    (rps,) = observations(windows_of("tc_count", "rps"))
    assert (rps.busy, rps.softirq, rps.scenario) == (None, None, "lab/veth-rps")


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


def interrupts_kpps(kpps: float, latency_us: float) -> float:
    """Interrupts that the reader's CPU takes beside RPS, in thousands a second."""
    result = run("lab/bridge-tap-rps", kpps, ipi_latency_us=latency_us, tap_read_cycles=12_000)
    assert next(core.shares["idle"] for core in result.cores if core.cpu == 1) < 0.001
    counts = [r.counts.events[:, DEVICE_INTERRUPTS].sum() for r in result.replications]
    return float(np.mean(counts)) / result.measured_seconds / 1000


def test_an_interrupt_to_a_running_processor_takes_its_latency() -> None:
    """The reader never idles, and the backlog's next interrupt sets off when its poll is complete: fewer than one a latency get there."""
    assert interrupts_kpps(250, 50.0) < 20 < interrupts_kpps(250, 0.0)


def test_an_idle_processor_is_told_at_once() -> None:
    """What it takes to wake up is its exit latency, not that of the interrupt: the packets are captured when they are without."""
    at_once, late = (run("lab/veth-rps", 5, ipi_latency_us=latency_us).latency_us for latency_us in (0.0, 50.0))
    assert late == at_once
