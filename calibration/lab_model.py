"""From windows of a record to the scenarios that model them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import simnet
from calibration.capture.tpacket_v3 import BLOCK_BYTES, BLOCKS, RETIRE_MS
from simnet.errors import UserError
from simnet.kernel.rules import generation_for
from simnet.scenario.schema import IN_KERNEL
from simnet.units import PS_PER_S

if TYPE_CHECKING:
    import pandas as pd

    from calibration.record import Record

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "recv": ("veth", {}),
    "tap_reader": ("bridge-tap", {}),
    "tpacket_v3": (
        "veth",
        {
            "capture.method": "tpacket_v3",
            "capture.blocks": BLOCKS,
            "capture.block_bytes": BLOCK_BYTES,
            "capture.block_timeout_ms": RETIRE_MS,
            "capture.snaplen_bytes": 65535,
        },
    ),
    "tc_count": ("veth", {"capture.method": "tc_count"}),
    "xdp_count": ("veth", {"capture.method": "xdp_count"}),
}
"""Capture back ends that the model has, the scenarios for them, and what is different there."""
PLACES = {"inline": "-inline", "rps": "-rps", "threaded": ""}
"""Ends of the scenarios' names, by where the softirq is put."""
SHARED_WEIGHT = 512
"""The reader's load weight where sessions are groups (autogroup): its group's 1024 are divided between its CPU and the one that the generator, of the same session, keeps busy (calc_group_shares)."""
TICKS_HZ = (100, 250, 1000)
QUICK = {"measure.replications": 2, "measure.precision": 0.05}
SHORT_S, LONG_S = 0.1, 0.5
"""Simulated time at most: nothing takes turns where all goes well or the reader has a CPU of its own; elsewhere turns, and packets that come by the block, are tens of milliseconds."""
FEW_SLEEPS = 1000.0
"""Sleeps of the reader a second above which its CPU idles so often that softirqs run from the idle loop, where tracepoints do not see all of them."""
BY_BLOCK = ("tpacket_v3",)
"""Methods whose reader gets packets some milliseconds' worth at a time: it sleeps seldom, and its CPU idles all the same."""
LIGHT = 0.995
"""Share of the offered packets that a window under light load captures."""


@dataclass(frozen=True, eq=False)
class Observation:
    """Windows of one method, placement and load, repetitions together: medians and half their range.

    Attributes
    ----------
    offered_kpps, captured_kpps, spread_kpps
        Rates, and how far the repetitions are apart.
    busy
        Run time of reader and NAPI thread, as schedstat has it, for each second: that of softirqs which interrupt them is theirs. None if there is no reader.
    softirq
        Share of its CPU that the softirq had which brings packets to the reader, by its entries and exits and less what tracing them cost; None if a thread does, nobody traced it, or it runs from the idle loop.
    scenario, settings
        What models it.
    """

    method: str
    placement: str
    apart: bool
    offered_kpps: float
    captured_kpps: float
    spread_kpps: float
    busy: float | None
    softirq: float | None
    scenario: str
    settings: Mapping[str, Any]

    @property
    def by_backlog(self) -> bool:
        """Do packets come through the backlog (RPS)?"""
        return self.scenario.endswith(PLACES["rps"])

    @property
    def is_light(self) -> bool:
        """Is everything captured?"""
        return self.captured_kpps >= LIGHT * self.offered_kpps

    @property
    def is_simple(self) -> bool:
        """Is it fitted to? Light load, or a reader with a CPU of its own; nothing competes there."""
        return self.apart or self.is_light


def _settings(
    placement: Mapping[str, Any], campaign: Mapping[str, Any], host: Mapping[str, Any], frame_bytes: int
) -> dict[str, Any]:
    """The fields that a placement decides about."""
    settings: dict[str, Any] = {"capture.cpu": placement["reader_cpu"], "traffic.frame_bytes": frame_bytes, **QUICK}
    settings["host.nic.irq_cpus"] = placement["softirq_cpu"] if placement["softirq"] == "rps" else placement["load_cpu"]
    if placement["softirq"] == "threaded":
        settings["host.nic.napi_cpus"] = placement["softirq_cpu"]
    settings["host.kernel"] = generation_for(str(host["kernel"]))
    if (host.get("sysctls") or {}).get("kernel/sched_autogroup_enabled") == "1":
        settings["capture.load_weight"] = SHARED_WEIGHT
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
    good = good[good["method"].isin(list(METHODS))]
    for _, windows in good.groupby(["method", "placement", "frame_bytes", "target_kpps"]):
        placement = campaign["placements"][windows["placement"].iloc[0]]
        settings = _settings(placement, campaign, record.host, int(windows["frame_bytes"].iloc[0]))
        found.append(_observation(placement, windows, settings))
    return sorted(found, key=lambda o: (o.method, o.placement, o.offered_kpps))


def _median(values: pd.Series) -> float | None:
    middle = float(values.astype(float).median())
    return None if np.isnan(middle) else middle


def _train_frames(windows: pd.DataFrame) -> int:
    """Frames that come together: what a poll on the sender's CPU takes at a time, and then hands over."""
    polls = np.sum([np.asarray(batches) for batches in windows["polls_of"].dropna()], axis=0)
    if np.ndim(polls) == 0 or polls[1:].sum() == 0:
        return 1
    return max(1, round(float((polls * np.arange(len(polls))).sum() / polls[1:].sum())))


def _observation(placement: Mapping[str, Any], windows: pd.DataFrame, settings: dict[str, Any]) -> Observation:
    offered = (windows["offered"] / windows["seconds"] / 1000).to_numpy()
    captured = (windows["captured"] / windows["seconds"] / 1000).to_numpy()
    method = str(windows["method"].iloc[0])
    has_reader = method not in IN_KERNEL
    busy = None
    if has_reader:
        busy = _median((windows["reader_ran_s"] + windows["napi_ran_s"].fillna(0.0)) / windows["seconds"])
    sleepy = not has_reader or method in BY_BLOCK or float((windows["reader_sleeps"] / windows["seconds"]).median()) > FEW_SLEEPS
    unseen = placement["softirq"] == "rps" and sleepy
    softirq_cpu = placement["load_cpu"] if placement["softirq"] == "inline" else placement["softirq_cpu"]
    scenario, differences = METHODS[method]
    if placement["softirq"] != "threaded":
        settings = settings | {"traffic.train_frames": _train_frames(windows)}
    softirq_s = windows["polls_softirq_s"].astype(float)
    probes_s = (windows["polls_softirq_events"] * windows["reference_event_ns"]).astype(float).fillna(0.0) / 1e9
    return Observation(
        method,
        str(windows["placement"].iloc[0]),
        not has_reader or softirq_cpu != placement["reader_cpu"],
        float(np.median(offered)),
        float(np.median(captured)),
        float(np.ptp(captured)) / 2,
        busy,
        None if unseen else _median((softirq_s - probes_s) / windows["polls_s"]),
        f"lab/{scenario}{PLACES[placement['softirq']]}",
        settings | differences | {"traffic.offered_kpps": round(float(np.median(offered)), 3)},
    )


@dataclass(frozen=True)
class Prediction:
    """What the model says about an observation; see there."""

    captured_kpps: float
    busy: float | None
    softirq: float


def ran_share(result: simnet.Result) -> float:
    """Run time, for each second, of the threads whose time a record has; as schedstat has it."""
    ran_ps = sum(int(replication.counts.threads_ran_ps) for replication in result.replications)
    return ran_ps / PS_PER_S / (result.measured_seconds * len(result.replications))


def predict(observation: Observation, costs: Mapping[str, float]) -> Prediction:
    """Run the model with some costs (quantities of the parameter set by name)."""
    limit_s = SHORT_S if observation.is_simple and observation.method not in BY_BLOCK else LONG_S
    scenario = simnet.load(
        observation.scenario,
        {**observation.settings, "measure.limit_s": limit_s, **{f"costs.{name}": value for name, value in costs.items()}},
    )
    result = simnet.run(scenario, workers=1)
    cores = {core.cpu: core.shares for core in result.cores}
    softirq_cpu = scenario.host.nic.irq_cpus
    assert isinstance(softirq_cpu, int)
    softirqs = cores[softirq_cpu]["softirq"] + cores[softirq_cpu]["ksoftirqd"]
    return Prediction(result.captured.kpps.mean, ran_share(result), softirqs)
