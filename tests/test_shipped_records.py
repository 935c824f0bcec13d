"""Records that come with simnet: whole, anonymous, small; and what the model makes of them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

import simnet
from calibration.calibrate import calibrate
from calibration.cost_groups import GROUPS
from calibration.fit import Fit
from calibration.guest_fit import GuestFit
from calibration.record import ABOUT, read_record
from calibration.shipped import REPORTED, shipped_records

if TYPE_CHECKING:
    from calibration.observation import Observation, Prediction

RECORDS = shipped_records()


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_whole_small_and_anonymous(name: str) -> None:
    record = read_record(RECORDS[name])
    assert (record.good["unaccounted"] == 0).all()
    assert sum(file.stat().st_size for file in RECORDS[name].iterdir()) < 5_000_000
    text = (RECORDS[name] / ABOUT).read_text(encoding="utf-8")
    assert not re.search(r"\d+\.\d+\.\d+\.\d+/|([0-9a-f]{2}:){5}|/home|/root|/tmp", text)
    assert json.loads(text)["conditions"]["note"] == ""


@pytest.fixture(scope="module")
def host() -> Fit:
    found = calibrate(*(RECORDS[name] for name in REPORTED[0]))
    assert isinstance(found, Fit)
    return found


def row(found: Fit, method: str, placement: str, least_kpps: float) -> tuple[Observation, Prediction]:
    """The first load of at least so many kpps."""
    rows = zip(found.observations, found.predictions, strict=True)
    return next((o, p) for o, p in rows if (o.method, o.placement) == (method, placement) and o.offered_kpps >= least_kpps)


def test_a_reader_with_a_cpu_of_its_own_saturates_as_measured(host: Fit) -> None:
    """Within a tenth, or twice the spread of the repetitions."""
    found = [headline for headline in host.headlines() if headline.what == "saturation"]
    assert [headline.method for headline in found] == ["recv"]
    assert all(headline.holds for headline in found)


def test_knees_of_readers_that_share_their_cpu_are_predicted(host: Fit) -> None:
    """Within 15 %, or twice the spread of the repetitions."""
    knees = [headline for headline in host.headlines() if headline.what == "knee"]
    assert len(knees) == 4
    assert all(knee.holds for knee in knees)


def test_livelock_was_not_fitted_and_is_predicted(host: Fit) -> None:
    for which in (0, 1):
        light, flood = (row(host, "tap_reader", "rps-same", kpps)[which].captured_kpps for kpps in (100, 1000))
        assert light > 100 * flood
        assert row(host, "tap_reader", "napi-same", 1000)[which].captured_kpps > 100 * flood
    assert all(headline.holds for headline in host.headlines() if headline.what == "collapse")


def test_what_a_record_cannot_tell_the_suggested_measurement_tells(host: Fit) -> None:
    """lab/host alone does not identify the stack and says that tc_count would: lab/counters measured that, on the same host."""
    alone = calibrate(RECORDS["epyc-vm"])
    assert isinstance(alone, Fit)
    before, after = ({parameter.name: parameter.verdict for parameter in found.parameters} for found in (alone, host))
    assert before["stack"].startswith("not identifiable")
    assert "tc_count" in before["stack"]
    assert after["stack"] == "identified"
    assert "measure " in after["interrupt"]


def test_the_set_that_comes_with_simnet_is_this_fit(host: Fit) -> None:
    shipped = simnet.parameter_set("epyc-vm")
    fitted = host.costs()
    for parameter in host.parameters:
        if parameter.is_informed:
            for name in GROUPS[parameter.name]:
                assert fitted[name] == pytest.approx(shipped[name], rel=0.02)
    assert shipped.quantity("recv_cycles").kind == "calibrated"


def test_interrupts_of_a_guest_are_predicted_from_two_loads() -> None:
    """Within a quarter, from 5 kpps to saturation; the main loop's share of the CPU within 5 points, where the guest keeps up."""
    found = calibrate(RECORDS["epyc-vm-tcg"])
    assert isinstance(found, GuestFit)
    assert sum(found.fitted) == 2
    for window, prediction in zip(found.windows, found.predictions, strict=True):
        assert abs(prediction.interrupts / window.interrupts - 1) <= 0.25
        assert abs(prediction.main_loop - window.main_loop) <= 0.05 or not window.keeps_up
