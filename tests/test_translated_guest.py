"""A guest that QEMU translates (TCG): what slower code, calls in place of exits and a thread on the same CPU imply; and its fit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from accounts import check_accounts

import simnet
from calibration.cost_groups import costs_of
from calibration.guest_fit import (
    GROUPS,
    PRIOR,
    GuestFit,
    GuestWindows,
    fit_guest,
    guest_windows,
    informative,
    predict_guest,
)
from calibration.record import Record
from simnet.cli import main
from simnet.compiled import interpreted
from simnet.engine.simulation import Simulation
from simnet.errors import UserError
from simnet.system.choices import resolve
from simnet.units import PS_PER_MS
from simnet.virt.io_thread import read_or_release
from simnet.virt.vcpu import time_taken, work_left

QUICK = {"measure.replications": 2, "measure.precision": 0.05, "measure.limit_s": 0.4}
LOADS = (5.0, 10.0, 20.0, 40.0, 60.0)
TRUTH = {"vCPU": 1.3, "turn of the main loop": 2.5}


def run(**settings: Any) -> simnet.Result:
    return simnet.run(
        simnet.load("lab/qemu-tcg", {**QUICK, **{path.replace("__", "."): value for path, value in settings.items()}})
    )


def simulated(milliseconds: int, **settings: Any) -> Simulation:
    scenario = simnet.load("lab/qemu-tcg", {path.replace("__", "."): value for path, value in settings.items()})
    made = Simulation(scenario, resolve(scenario), 1, 0)
    made.run([milliseconds * PS_PER_MS])
    return made


def interrupts_per_packet(result: simnet.Result) -> float:
    return float(result.rates["guest_interrupts"]) / (result.captured.kpps.mean * 1000)


@pytest.mark.parametrize("kpps", [5, 60, 300])
@pytest.mark.parametrize("method", ["kernel_module", "recv"])
def test_packets_and_times_add_up(kpps: float, method: str) -> None:
    result = run(traffic__offered_kpps=kpps, capture__method=method)
    assert result.packets.captured > 0
    check_accounts(result)


def test_interrupts_per_packet_fall_with_the_load() -> None:
    ratios = [interrupts_per_packet(run(traffic__offered_kpps=kpps)) for kpps in (5, 20, 40, 60)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] == pytest.approx(1.0, abs=0.02)
    assert ratios[-1] < 0.4


def test_a_translated_guest_takes_a_multiple_of_the_time() -> None:
    """Guest code alone: everything QEMU does itself is free. Twice the slowdown is twice the guest's share at the same number of packets."""
    free = {f"costs__{name}": 0 for name in ("tcg_access_cycles", "tcg_halt_cycles", "tickless_idle_cycles")}
    shares = []
    for slowdown in (1, 2, 8):
        result = run(traffic__offered_kpps=2, costs__tcg_slowdown=slowdown, **free)
        assert result.captured.kpps.mean == pytest.approx(2.0, rel=0.01)
        shares.append(result.cores[1].shares["guest"])
    assert shares[1] / shares[0] == pytest.approx(2.0, rel=0.01)
    assert shares[2] / shares[0] == pytest.approx(8.0, rel=0.01)


def test_a_piece_of_work_takes_its_cost_times_the_slowdown_on_a_virtual_core_only() -> None:
    m = simulated(1, costs__tcg_slowdown=2.5).machine
    host, guest = 0, int(m.physical)
    assert interpreted(time_taken)(m, host, 1000) == 1000
    assert interpreted(time_taken)(m, guest, 1000) == 2500
    assert interpreted(time_taken)(m, guest, -1) == -1  # no piece of work: blocked
    assert interpreted(work_left)(m, guest, 2500) == 1000
    assert interpreted(work_left)(m, host, 2500) == 2500


def test_without_translation_nothing_is_slower_and_what_leaves_the_guest_is_an_exit() -> None:
    m = simulated(1, guest__accelerator="kvm").machine
    vcpu = m.vcpus[int(m.physical)]
    assert vcpu.slowdown == 1.0
    assert not vcpu.translated
    assert int(m.costs.vm_exit_ps) > 0


def test_a_vcpu_needs_the_mutex_to_leave_hlt() -> None:
    """qemu_wait_io_event. A slow select() has the main loop read several packets a turn: the vCPU on the other CPU, woken with the first, comes while it still holds the mutex."""
    apart = {"guest__vcpus": [0], "guest__io_cpus": 1, "traffic__offered_kpps": 60, "costs__select_cycles": 150_000}
    quick = {"costs__tcg_slowdown": 1, "costs__tickless_idle_cycles": 0, "costs__tcg_halt_cycles": 0}
    translated, virtual = run(**apart, **quick), run(**apart, guest__accelerator="kvm")
    assert translated.rates["mutex_contended"] >= 0.5 * translated.rates["guest_interrupts"] > 0
    assert virtual.rates["mutex_contended"] == 0


def test_qemu_lets_go_of_the_mutex_after_fifty_packets() -> None:
    """net/tap.c tap_send: `packets >= 50`. A vCPU that halts and a tap that is full make turns of fifty."""
    made = simulated(1)
    m = made.machine
    thread = m.tasks[int(m.backend.thread)]
    assert int(m.qemu.most) == 50
    m.tun.readq.filled = 100
    m.mutex.holder, m.qemu.holds = int(m.backend.thread), 49
    assert interpreted(read_or_release)(m, thread, 0) > 0
    assert int(m.mutex.holder) == int(m.backend.thread)
    m.qemu.holds = 50
    interpreted(read_or_release)(m, thread, 0)
    assert int(m.mutex.holder) != int(m.backend.thread)


def test_the_event_index_is_offered_by_default() -> None:
    assert simnet.load("lab/qemu-tcg").guest.has_event_index  # type: ignore[union-attr]
    by_index, by_flag = run(traffic__offered_kpps=60), run(traffic__offered_kpps=60, guest__event_index=False)
    assert interrupts_per_packet(by_index) <= interrupts_per_packet(by_flag) * 1.02


def test_stages_explain_the_time_of_a_slower_guest() -> None:
    explanation = simnet.explain(simnet.load("lab/qemu-tcg", {**QUICK, "traffic.offered_kpps": 40}), quick=True)
    assert abs(explanation.ledger.unattributed()) < 0.002


def observed(kpps: float) -> GuestWindows:
    """What a host with the true costs would have shown."""
    settings = {"traffic.offered_kpps": kpps}
    shown = predict_guest(settings, costs_of(TRUTH, PRIOR, GROUPS))
    return GuestWindows(kpps, shown.captured_kpps, shown.interrupts, 0.0, shown.main_loop, settings)


@pytest.fixture(scope="module")
def found() -> GuestFit:
    return fit_guest([observed(kpps) for kpps in LOADS])


def test_factors_that_made_the_windows_are_found_again(found: GuestFit) -> None:
    for name in GROUPS:
        assert found.factors[name] == pytest.approx(TRUTH[name], rel=0.1)


def test_loads_that_were_not_fitted_are_predicted(found: GuestFit) -> None:
    assert sum(found.fitted) == 2
    assert np.abs(found.errors(fitted=False)).max() < 0.1
    assert "beyond" not in found.report()


def test_the_loads_to_fit_are_the_middle_and_the_greatest_that_the_guest_bears() -> None:
    windows = [
        GuestWindows(kpps, captured, ratio, 0.0, 0.5, {})
        for kpps, captured, ratio in ((5, 5, 1.0), (30, 30, 0.6), (60, 60, 0.2), (120, 90, 0.01))
    ]
    assert informative(windows) == (1, 2)
    with pytest.raises(UserError, match="two loads"):
        informative(windows[2:])


def record_of(counts: list[tuple[float, int, float]]) -> Record:
    """A record whose windows of two seconds have some load (kpps), guest interrupts, and a share of the CPU for the main loop."""
    import pandas as pd

    rows = [
        {
            "method": "guest",
            "placement": "apart",
            "frame_bytes": 64,
            "target_kpps": kpps,
            "seconds": 2.0,
            "offered": 2000 * kpps,
            "captured": 2000 * kpps,
            "guest_interrupts": interrupts,
            "reader_ran_s": 2.0 * main_loop,
            "rejected": None,
        }
        for kpps, interrupts, main_loop in counts
    ]
    about = {
        "host": {"kernel": "6.18.44", "configuration": {"HZ": "250"}},
        "campaign": {"placements": {"apart": {"load_cpu": 0, "reader_cpu": 1}}},
    }
    return Record(about, pd.DataFrame(rows))


def test_a_record_of_a_guest_becomes_a_curve() -> None:
    low, high = guest_windows(record_of([(20, 20_000, 0.4), (20, 24_000, 0.45), (20, 28_000, 0.5), (60, 12_000, 0.5)]))
    assert (low.offered_kpps, low.interrupts, low.spread) == pytest.approx((20.0, 0.6, 0.1))
    assert high.interrupts == pytest.approx(0.1)
    assert low.settings["guest.vcpus"] == [1]
    assert low.main_loop == pytest.approx(0.45)
    assert (low.settings["host.kernel"], low.settings["host.hz"]) == ("6.15", 250)


def test_the_command_fits_a_record_of_a_guest(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    measured = record_of([(5, 9_900, 0.17), (40, 47_000, 0.49), (60, 40_000, 0.5)])
    monkeypatch.setattr("calibration.calibrate.read_record", lambda _: measured)
    assert main(["calibrate", "somewhere", "--json"]) == 0
    windows = json.loads(capsys.readouterr().out)["windows"]
    assert [window["fitted"] for window in windows] == [False, True, True]
    assert windows[0]["model_interrupts_per_packet"] == pytest.approx(1.0, abs=0.02)
    assert main(["calibrate", "somewhere", "--out", "mine.yaml"]) == 2
    assert "no interval" in capsys.readouterr().err
