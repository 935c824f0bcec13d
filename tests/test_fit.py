"""Calibration: costs that made the measurements are found again, and what they do not say is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import simnet
from calibration.calibrated_set import parameter_set_yaml
from calibration.cost_groups import GROUPS, costs_of
from calibration.fit import Fit, fit
from calibration.lab_model import METHODS, PLACES, WIRING
from calibration.observation import QUICK, Observation, predict
from simnet.cli import main
from simnet.scenario.schema import IN_KERNEL

TRUTH = {
    "driver and skb": 1.6,
    "stack": 1.3,
    "bridge and tap": 1.5,
    "recv call": 1.3,
    "read of the tap": 1.5,
    "wake-up": 2.5,
    "going to sleep": 1.5,
    "interrupt": 1.0,
}
LOADS = (25.0, 100.0, 400.0, 800.0, 1600.0)


def observed(method: str, placement: str, kpps: float, traced: bool = True) -> Observation:
    """What a host with the true costs would have shown."""
    wiring, differences = METHODS[method]
    counts = method in IN_KERNEL
    scenario, settings = f"lab/{wiring}{PLACES[placement]}", {**QUICK, **differences, "traffic.offered_kpps": kpps}
    blank = Observation(method, placement, counts or placement == "inline", kpps, 0.0, 0.0, None, None, scenario, settings)
    shown = predict(blank, costs_of(TRUTH, WIRING.prior))
    busy = None if counts else shown.busy
    softirq = shown.softirq if traced and placement != "threaded" else None
    return replace(blank, captured_kpps=shown.captured_kpps, spread_kpps=0.01 * shown.captured_kpps, busy=busy, softirq=softirq)


@pytest.fixture(scope="module")
def found() -> Fit:
    methods, placements = ("recv", "tap_reader"), ("inline", "threaded", "rps")
    return fit([observed(method, placement, kpps) for method in methods for placement in placements for kpps in LOADS], WIRING)


def test_costs_are_found_again(found: Fit) -> None:
    factors = {parameter.name: parameter for parameter in found.parameters}
    for name, factor in factors.items():
        assert factor.low <= TRUTH.get(name, 1.0) <= factor.high or "in sum" in factor.verdict
    for name in ("bridge and tap", "recv call", "read of the tap", "going to sleep"):
        assert factors[name].verdict == "identified"
        assert factors[name].factor == pytest.approx(TRUTH[name], rel=0.15)
    of_a_packet = ("driver_cycles", "skb_cycles", "stack_cycles", "packet_rcv_cycles")
    costs, truth = found.costs(), costs_of(TRUTH, WIRING.prior)
    assert sum(costs[name] for name in of_a_packet) == pytest.approx(sum(truth[name] for name in of_a_packet), rel=0.1)


def test_held_back_windows_are_predicted(found: Fit) -> None:
    """Same-core saturation and livelock were not used for the fit."""
    held = [o for o, used in zip(found.observations, found.used, strict=True) if not used]
    assert {o.placement for o in held} <= {"threaded", "rps"}
    assert held
    saturated = [abs(e) for o, e in zip(held, found.errors(used=False), strict=True) if o.captured_kpps > 10]
    assert np.median(saturated) < 0.1


def test_what_a_record_does_not_say_is_said() -> None:
    """A reader on a CPU of its own never shares it with a NAPI thread: nothing tells what that would cost."""
    alone = fit([observed("recv", "inline", kpps) for kpps in (100.0, 400.0)], WIRING)
    verdicts = {parameter.name: parameter.verdict for parameter in alone.parameters}
    unknown = [name for name in GROUPS if verdicts[name].startswith("not identifiable")]
    assert unknown
    assert all("measure " in verdicts[name] for name in unknown)
    assert "not identifiable" in alone.report()


def test_programs_that_drop_packets_tell_the_driver_from_the_stack() -> None:
    """Readers pay for the driver, the stack and their own wake-up in one; a program at tc's hook for driver and skb, one in XDP for the driver."""
    readers = [observed("recv", placement, kpps, kpps > 350) for placement in ("inline", "rps") for kpps in (150.0, 400.0)]
    programs = [observed(method, "inline", kpps) for method in ("tc_count", "xdp_count") for kpps in (150.0, 400.0, 800.0)]
    without, beside, alone = (
        {parameter.name: parameter for parameter in fit(windows, WIRING).parameters}["driver and skb"]
        for windows in (readers, readers + programs, programs)
    )
    assert "measure methods tc_count and xdp_count" in without.verdict
    for found in (beside, alone):
        assert found.verdict == "identified"
        assert found.factor == pytest.approx(TRUTH["driver and skb"], rel=0.1)


def test_a_set_is_chosen_on_the_command_line(found: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(parameter_set_yaml(found, "mine"), encoding="utf-8")
    assert main(["show", "lab/veth", "--parameters", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"]["recv_cycles"]["kind"] == "calibrated"


def test_the_calibrated_set_is_a_parameter_set(found: Fit, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(parameter_set_yaml(found, "mine"), encoding="utf-8")
    scenario = simnet.load("lab/veth", {"parameters": str(file), **QUICK})
    assert simnet.parameter_set(str(file)).quantity("recv_cycles").kind == "calibrated"
    assert simnet.run(scenario).captured.kpps.mean > 0
