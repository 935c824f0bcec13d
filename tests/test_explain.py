"""`simnet explain`: cycles reconcile, packets add up, the bottleneck is where it must be, elasticities have the sign that a change has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import simnet
from simnet.cli import main
from simnet.results.explanation import Explanation

SHORT: dict[str, Any] = {"measure.limit_s": 0.1, "measure.precision": 0.5, "measure.replications": 3}
SETS = [f"--set={path}={value}" for path, value in SHORT.items()]
METHODS = {
    "kernel_module": ("paper/bare-metal", {}),
    "pf_packet": ("paper/bare-metal", {"capture.method": "pf_packet"}),
    "pf_ring": ("paper/bare-metal", {"capture.method": "pf_ring"}),
    "recv": ("paper/bare-metal", {"capture.method": "recv"}),
    "tpacket_v3": ("lab/veth-rps", {"capture.method": "tpacket_v3", "traffic.offered_kpps": 50}),
    "tpacket_v3, frozen": (
        "paper/bare-metal",
        {"capture.method": "tpacket_v3", "capture.cpu": 5, "capture.blocks": 2, "capture.block_bytes": 4096},
    ),
    "tc": ("lab/veth-inline", {"capture.method": "tc_count", "traffic.offered_kpps": 4000}),
    "XDP, NAPI thread": ("lab/veth", {"capture.method": "xdp_count", "traffic.offered_kpps": 800}),
    "XDP, a NIC's rings": ("paper/bare-metal", {"host.kernel": "5.15", "capture.method": "xdp_count", "capture.monitor": "count"}),
    "flow table": ("paper/bare-metal", {"capture.monitor": "flow", "traffic.flows": 1000, "capture.flow_table.entries": 4096}),
    "mixed sizes": ("paper/bare-metal", {"traffic.frame_bytes": "imix", "capture.method": "pf_ring", "capture.cpu": 5}),
    "two sockets of queues": ("paper/bare-metal", {"host.nic.irq_cpus": [0, 1, 2, 3, 4, 5, 6, 7], "traffic.flows": 100}),
    "vm": ("paper/vm", {}),
    "vm, shared core": ("paper/vm-shared-core", {}),
    "vm, process": ("paper/vm", {"capture.method": "pf_packet", "capture.cpu": 0, "guest.backend": "qemu-kvm-0.12"}),
    "threaded NAPI": ("whatif/threaded-napi", {}),
    "threaded NAPI, softirqs beside it": ("whatif/threaded-napi", {"host.nic.napi_cpus": 5, "capture.method": "pf_packet"}),
    "vhost-net": ("whatif/vhost", {}),
    "virtual function": ("whatif/sr-iov", {"capture.method": "pf_packet", "traffic.frame_bytes": 1518}),
    "posted interrupts": ("whatif/sr-iov-posted", {"traffic.source": "poisson", "traffic.offered_kpps": 50}),
    "eight guests": ("whatif/sr-iov-8", {}),
    "vm, one queue": ("paper/vm", {"guest.one_queue": True, "guest.reads": "drain"}),
}


def quick(name: str, **settings: Any) -> Explanation:
    """A short explanation without further runs."""
    return simnet.explain(simnet.load(name, {**SHORT, **settings}), quick=True)


@pytest.fixture(scope="module")
def whole() -> Explanation:
    """A short explanation with everything."""
    return simnet.explain(simnet.load("paper/bare-metal", SHORT))


@pytest.mark.parametrize("name", METHODS)
def test_stages_explain_the_busy_time(name: str) -> None:
    scenario, settings = METHODS[name]
    ledger = quick(scenario, **settings).ledger
    assert abs(ledger.unattributed()) < 0.002
    for cpu, busy in ledger.busy_ps.items():
        if busy > 0.01 * ledger.wall_ps:
            assert abs(ledger.unattributed(cpu)) < 0.01


def test_a_stage_is_its_count_times_its_unit_cost() -> None:
    explanation = quick("paper/bare-metal")
    stages = {stage.key: stage.cycles for stage in explanation.stages()}
    assert stages["monitor"] == pytest.approx(60, rel=0.01)
    assert stages["capture"] == pytest.approx(150 + 60 + 200 + 70, rel=0.01)


def test_work_on_lost_packets_is_what_they_went_through() -> None:
    (row,) = quick("paper/bare-metal", **{"capture.method": "pf_packet"}).waste()
    assert row.place == "packet_ring"
    assert 1300 < row.cycles_each < 1600  # driver, skb, stack, tpacket_rcv, and a share of polls; nothing of the copy
    assert quick("paper/bare-metal").waste() == []


@pytest.mark.parametrize(("name", "cpu"), [("paper/bare-metal", 7), ("paper/vm", 3), ("paper/vm-shared-core", 7)])
def test_the_bottleneck(name: str, cpu: int) -> None:
    bottleneck = quick(name).bottleneck
    assert (bottleneck.kind, bottleneck.cpu) == ("core", cpu)
    assert bottleneck.text.startswith(f"cpu{cpu} is busy")
    if name == "paper/vm":
        assert "system calls of QEMU's I/O thread" in bottleneck.text


def test_nothing_or_the_link_limits() -> None:
    assert quick("paper/bare-metal", **{"traffic.offered_kpps": 300}).bottleneck.kind == "load"
    slow = {"traffic.link_gbps": 1, "traffic.frame_bytes": 1518}
    assert quick("paper/bare-metal", **slow).bottleneck.kind == "link"


def test_a_guest_that_waits_for_the_mutex_is_no_busy_core() -> None:
    bottleneck = quick("paper/vm", **{"capture.method": "pf_packet", "guest.reads": "drain"}).bottleneck
    assert bottleneck.kind == "wait"
    assert "global mutex" in bottleneck.text


def test_elasticities_have_the_sign_of_the_change(whole: Explanation) -> None:
    assert whole.sensitivity is not None
    found = {row.quantity: row.estimate for row in whole.sensitivity.elasticities}
    assert found["clock_ghz"].mean == pytest.approx(1.0, abs=0.05)
    driver = found["driver_cycles"]
    assert driver.ci95 is not None
    assert driver.mean + driver.ci95 < 0
    half = simnet.run(simnet.load("paper/bare-metal", {**SHORT, "costs.driver_cycles": 431 / 2})).captured.kpps.mean
    assert half > 1.05 * whole.result.captured.kpps.mean
    assert "recv_cycles" in whole.sensitivity.untouched


def test_advice_can_be_typed_and_holds(whole: Explanation) -> None:
    assert whole.sensitivity is not None
    best = whole.sensitivity.advice[0]
    assert dict(best.settings) == {"host.nic.dca": True}
    again = simnet.run(simnet.load("paper/bare-metal", {**SHORT, **best.settings})).captured.kpps.mean
    assert again / whole.result.captured.kpps.mean - 1 == pytest.approx(best.gain.mean, abs=0.01)


def test_no_advice_where_nothing_is_lost() -> None:
    explanation = simnet.explain(simnet.load("paper/bare-metal", {**SHORT, "traffic.offered_kpps": 300}))
    assert explanation.sensitivity is not None
    assert list(explanation.sensitivity.advice) == []


def test_the_text_and_the_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "paper/vm", *SETS, "--quick"]) == 0
    text = capsys.readouterr().out
    assert "cpu3 is busy" in text
    assert "not attributed" in text
    assert "What if" not in text
    assert main(["explain", "paper/vm", *SETS, "--quick", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bottleneck"]["cpu"] == 3
    assert found["sensitivity"] is None
    packets = found["packets"]
    lost = sum(drop["packets"] for drop in packets["dropped"])
    assert packets["offered"] == packets["captured"] + packets["in_flight"] + lost
    shares = [stage["share_of_busy"] for stage in found["cycles"]["stages"]]
    assert sum(shares) + found["cycles"]["not_attributed_share"] == pytest.approx(1.0, abs=1e-9)


def test_the_whole_text(whole: Explanation) -> None:
    from simnet.report.explain import explanation_text

    text = explanation_text(whole)
    assert "1. direct cache access" in text
    assert "--set host.nic.dca=true" in text
    assert json.loads(json.dumps(whole.as_json(), allow_nan=False))["advice"]


def test_a_result_is_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    changes = [*SETS, "--set=costs.driver_cycles=500", "--seed=7"]
    assert main(["run", "paper/bare-metal", *changes, "--out", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    for name in (str(out), str(out / "result.json")):
        assert main(["explain", name, "--quick", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["seed"] == 7
        assert found["packets"] == result["packets"]
        assert "the same packets to the last one" in found["notes"][0]
    assert main(["explain", str(out), "--quick", "--set", "traffic.frame_bytes=1518", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["packets"] != result["packets"]
    assert "with changes" in found["notes"][0]


def test_costs_of_a_result_survive_another_parameter_set(tmp_path: Path) -> None:
    from simnet.experiment.again import question

    result = simnet.run(simnet.load("paper/bare-metal", SHORT)).as_json()
    result["provenance"]["parameters"]["driver_cycles"]["value"] = 432.0
    file = tmp_path / "result.json"
    file.write_text(json.dumps(result), encoding="utf-8")
    asked = question(str(file))
    assert asked.scenario.costs == {"driver_cycles": 432.0}
    assert "driver_cycles" in asked.notes[-1]


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken, other, empty = tmp_path / "broken.json", tmp_path / "other.json", tmp_path / "empty.json"
    broken.write_text("{", encoding="utf-8")
    other.write_text('{"schema": "something"}', encoding="utf-8")
    empty.write_text('{"schema": "simnet-result/1"}', encoding="utf-8")
    bad = tmp_path / "bad.json"
    bad.write_text('{"schema": "simnet-result/1",\n "provenance": {"scenario": {\n "trafic": {}}}}', encoding="utf-8")
    cases = {
        "paper/wm": "did you mean 'paper/vm'",
        str(broken): "broken.json:1: not JSON",
        str(other): "not a result of simnet run",
        str(empty): "provenance.scenario is missing",
        str(bad): "bad.json:3: unknown key 'trafic'",
        str(tmp_path / "none.json"): "cannot be read",
        str(tmp_path): "no result.json in this folder",
    }
    for name, message in cases.items():
        assert main(["explain", name]) == 2, name
        output = capsys.readouterr()
        assert output.out == ""
        assert message in output.err
        assert output.err.count("\n") == 1
    assert main(["explain", "paper/vm", "--set", "guest.reads=all"]) == 2
    assert "allowed: drain, one" in capsys.readouterr().err
