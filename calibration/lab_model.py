"""From windows of a record to the scenarios that model them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import simnet
from simnet.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from calibration.record import Record

SCENARIOS = {"inline": "lab/veth-inline", "rps": "lab/veth-rps", "threaded": "lab/veth"}
"""By where the softirq is put."""
METHODS = ("recv",)
"""Capture back ends that the model has."""
TICKS_HZ = (100, 250, 1000)
QUICK = {"measure.replications": 2, "measure.precision": 0.02, "measure.limit_s": 0.4}
LIGHT = 0.995
"""Share of the offered packets that a window under light load captures."""


@dataclass(frozen=True)
class Observation:
    """Windows of one placement and load, repetitions together: medians and half their range.

    Attributes
    ----------
    offered_kpps, captured_kpps, spread_kpps
        Rates, and how far the repetitions are apart.
    busy
        Share of the reader's CPU that reader and NAPI thread had, where both are known not to be charged for somebody else's softirqs; or None.
    scenario, settings
        What models it.
    """

    placement: str
    apart: bool
    offered_kpps: float
    captured_kpps: float
    spread_kpps: float
    busy: float | None
    scenario: str
    settings: Mapping[str, Any]

    @property
    def is_light(self) -> bool:
        """Is everything captured?"""
        return self.captured_kpps >= LIGHT * self.offered_kpps


def _settings(
    placement: Mapping[str, Any], campaign: Mapping[str, Any], host: Mapping[str, Any], frame_bytes: int
) -> dict[str, Any]:
    """The fields that a placement decides about."""
    settings: dict[str, Any] = {"capture.cpu": placement["reader_cpu"], "traffic.frame_bytes": frame_bytes, **QUICK}
    settings["host.nic.irq_cpus"] = placement["softirq_cpu"] if placement["softirq"] == "rps" else placement["load_cpu"]
    if placement["softirq"] == "threaded":
        settings["host.nic.napi_cpus"] = placement["softirq_cpu"]
    if campaign.get("receive_buffer_bytes"):
        settings["capture.receive_buffer_bytes"] = campaign["receive_buffer_bytes"]
    if host.get("hz") in TICKS_HZ:
        settings["host.hz"] = host["hz"]
    return settings


def observations(record: Record) -> list[Observation]:
    """What a record says about placements and methods that the model has; rejected windows do not count.

    Raises
    ------
    UserError
        If it is a record of a real link.
    """
    campaign, found = record.about["campaign"], []
    if campaign.get("link"):
        raise UserError("a record of a link cannot be fitted yet: only the lab's wiring has a model that costs are fitted with")
    good = record.good
    good = good[good["method"].isin(METHODS)]
    for _, windows in good.groupby(["placement", "frame_bytes", "target_kpps"]):
        name, frame_bytes = str(windows["placement"].iloc[0]), int(windows["frame_bytes"].iloc[0])
        placement = campaign["placements"][name]
        found.append(_observation(name, placement, windows, _settings(placement, campaign, record.host, frame_bytes)))
    return sorted(found, key=lambda o: (o.placement, o.offered_kpps))


def _observation(name: str, placement: Mapping[str, Any], windows: pd.DataFrame, settings: dict[str, Any]) -> Observation:
    offered = (windows["offered"] / windows["seconds"] / 1000).to_numpy()
    captured = (windows["captured"] / windows["seconds"] / 1000).to_numpy()
    busy = None
    if placement["softirq"] != "rps":
        ran = windows["reader_ran_s"] + windows["napi_ran_s"].fillna(0.0)
        busy = float((ran / windows["seconds"]).median())
    softirq_cpu = placement["load_cpu"] if placement["softirq"] == "inline" else placement["softirq_cpu"]
    return Observation(
        name,
        softirq_cpu != placement["reader_cpu"],
        float(np.median(offered)),
        float(np.median(captured)),
        float(np.ptp(captured)) / 2,
        busy,
        SCENARIOS[placement["softirq"]],
        settings | {"traffic.offered_kpps": round(float(np.median(offered)), 3)},
    )


@dataclass(frozen=True)
class Prediction:
    """What the model says about an observation."""

    captured_kpps: float
    busy: float


def predict(observation: Observation, costs: Mapping[str, float]) -> Prediction:
    """Run the model with some costs (quantities of the parameter set by name)."""
    scenario = simnet.load(
        observation.scenario, {**observation.settings, **{f"costs.{name}": value for name, value in costs.items()}}
    )
    result = simnet.run(scenario, workers=1)
    reader = next(core for core in result.cores if core.cpu == scenario.capture.cpu)
    return Prediction(result.captured.kpps.mean, 1.0 - reader.shares["idle"])
