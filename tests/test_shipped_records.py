"""Records that come with simnet: whole, anonymous, small; and what the model makes of them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

import simnet
from calibration.calibrate import calibrate
from calibration.fit import GROUPS, Fit
from calibration.guest_fit import GuestFit
from calibration.record import ABOUT, read_record
from calibration.shipped import shipped_records

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
    found = calibrate(RECORDS["epyc-vm"])
    assert isinstance(found, Fit)
    return found


def row(found: Fit, method: str, placement: str, least_kpps: float) -> tuple[Observation, Prediction]:
    """The first load of at least so many kpps."""
    rows = zip(found.observations, found.predictions, strict=True)
    return next((o, p) for o, p in rows if (o.method, o.placement) == (method, placement) and o.offered_kpps >= least_kpps)


def test_a_reader_with_a_cpu_of_its_own_saturates_as_measured(host: Fit) -> None:
    """Within a tenth, or twice the spread of the repetitions."""
    for method, least in (("recv", 700), ("tap_reader", 400)):
        measured, model = row(host, method, "inline", least)
        allowed = max(0.1, 2 * measured.spread_kpps / measured.captured_kpps)
        assert abs(model.captured_kpps / measured.captured_kpps - 1) <= allowed


def test_livelock_was_not_fitted_and_is_predicted(host: Fit) -> None:
    for which in (0, 1):
        light, flood = (row(host, "tap_reader", "rps-same", kpps)[which].captured_kpps for kpps in (100, 700))
        assert light > 100 * flood
        assert row(host, "tap_reader", "napi-same", 700)[which].captured_kpps > 100 * flood


def test_the_report_names_what_the_record_cannot_tell(host: Fit) -> None:
    verdicts = {parameter.name: parameter.verdict for parameter in host.parameters}
    assert verdicts["recv call"] == verdicts["read of the tap"] == "identified"
    assert "measure " in verdicts["interrupt"]


def test_the_set_that_comes_with_simnet_is_this_fit(host: Fit) -> None:
    shipped = simnet.parameter_set("epyc-vm")
    fitted = host.costs()
    for parameter in host.parameters:
        if parameter.verdict == "identified":
            for name in GROUPS[parameter.name]:
                assert fitted[name] == pytest.approx(shipped[name], rel=0.02)
    assert shipped.quantity("recv_cycles").kind == "calibrated"


def test_interrupts_of_a_guest_are_predicted_from_two_loads() -> None:
    found = calibrate(RECORDS["epyc-vm-tcg"])
    assert isinstance(found, GuestFit)
    assert sum(found.fitted) == 2
    assert np.abs(found.errors(fitted=False)).max() <= 0.25
