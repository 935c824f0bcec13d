"""A record of a link becomes costs of its host: those that made the measurements are found again, and what has no model is refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import simnet
from calibration import link_model
from calibration.calibrate import calibrate
from calibration.campaign import load_campaign
from calibration.fit import GROUPS, Fit, costs_of
from calibration.link_host import host_of
from calibration.observation import Observation, predict
from calibration.record import Record, read_record, write_record
from simnet.cli import main

TRUTH = {"driver and skb": 1.4, "stack": 1.7, "recv call": 1.3, "wake-up": 1.5, "going to sleep": 1.4}
HOST = {
    "cpu_model": "Intel(R) Xeon(R) Gold 6342 CPU @ 2.80GHz",
    "kernel": "6.1.0-18-amd64",
    "configuration": {"HZ": "250"},
    "hypervisor": False,
    "sysctls": {"net/core/rmem_default": "212992"},
    "idle_exit_us": {"2": 2, "3": 133},
}
PORT: dict[str, Any] = {
    "driver": "i40e",
    "speed_mbps": 10000,
    "rings": {"rx": 4096, "rx-max": 4096},
    "channels": {"rx": 0, "combined": 1},
    "coalesce": {"adaptive-rx": False, "rx-usecs": 50, "rx-frames": 0},
    "features": {"rx-gro": False},
    "generator_kernel": "6.1.0-18-amd64",
    "generator_driver": "i40e",
}
CAMPAIGN = load_campaign("link/ten-gigabit")
Shown = tuple[float, float | None, float]
"""Captured kpps, share of the reader's CPU, share of the softirq's."""


def rows(kpps: float, placement: str, shown: Sequence[Shown], method: str = "recv") -> list[dict[str, Any]]:
    """The windows of one point, a repetition each, with the columns that a run on a link has."""
    return [
        {
            "window": f"{placement}-{kpps:g}-{repeat}",
            "repeat": repeat,
            "method": method,
            "placement": placement,
            "frame_bytes": 64,
            "flows": 1,
            "target_kpps": kpps,
            "generator": "pktgen",
            "seconds": 2.0,
            "offered": round(kpps * 2000),
            "captured": round(captured * 2000),
            "reader_ran_s": None if busy is None else busy * 2,
            "polls_s": 0.1,
            "polls_softirq_s": softirq * 0.1,
            "rejected": None,
        }
        for repeat, (captured, busy, softirq) in enumerate(shown)
    ]


def record(folder: Path, found: Sequence[dict[str, Any]], host: Mapping[str, Any] = HOST, port: Mapping[str, Any] = PORT) -> Record:
    """What the project's own writer makes of them."""
    folder.mkdir()
    write_record(folder, found, host, CAMPAIGN.for_record(), {"generator": "pktgen", "link": port}, "2026-01-01T00:00Z")
    return read_record(folder)


def scattered(observation: Observation, costs: Mapping[str, float], random: np.random.Generator) -> list[Shown]:
    """What a host with these costs shows in five windows, a percent or two apart."""
    shown = predict(observation, costs)

    def about(value: float, share: float) -> float:
        return float(value * (1 + share * random.standard_normal()))

    return [
        (
            min(about(shown.captured_kpps, 0.01), observation.offered_kpps)
            if shown.captured_kpps < 0.99 * observation.offered_kpps
            else observation.offered_kpps,
            about(shown.busy, 0.02) if observation.apart else None,
            about(shown.softirq, 0.02),
        )
        for _ in range(5)
    ]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record of the built-in campaign's recv windows on a host whose costs are known."""
    folder, random = tmp_path_factory.mktemp("link"), np.random.default_rng(1)
    points = [(kpps, placement) for placement in CAMPAIGN.content.placements for kpps in CAMPAIGN.content.offered_kpps]
    blank = record(folder / "blank", [row for kpps, placement in points for row in rows(kpps, placement, [(kpps, 0.5, 0.5)])])
    costs = costs_of(TRUTH, link_model.WIRING.prior)
    record(
        folder / "nic",
        [row for o in link_model.observations(blank) for row in rows(o.offered_kpps, o.placement, scattered(o, costs, random))],
    )
    return folder / "nic"


@pytest.fixture(scope="module")
def found(measured: Path) -> Fit:
    result = calibrate(measured)
    assert isinstance(result, Fit)
    return result


def test_costs_behind_a_link_are_found_again(found: Fit) -> None:
    print(found.report())
    factors = {parameter.name: parameter for parameter in found.parameters}
    call = factors["recv call"]
    assert call.verdict == "identified"
    assert call.low <= TRUTH["recv call"] <= call.high
