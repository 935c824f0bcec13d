"""From windows of a record of the lab to the scenarios that model them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.capture.tpacket_v3 import BLOCK_BYTES, BLOCKS, RETIRE_MS
from calibration.observation import BY_BACKLOG, BY_BLOCK, QUICK, Observation, Wiring, median, observe, of_the_kernel, softirq_share
from simnet.kernel.core import NICE_0_LOAD
from simnet.scenario.schema import IN_KERNEL

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
WIRING = Wiring(
    "lab-x86-64",
    {
        "driver and skb": "methods tc_count and xdp_count with placement inline and time in softirqs (as lab/counters has them)",
        "stack": "methods recv and tc_count with placement inline, or recv with placement rps under light load, with time in softirqs (window.poll_trace_seconds above 0)",
        "bridge and tap": "method tap_reader with placement rps under light load, with time in softirqs",
        "recv call": "method recv with a CPU of its own (placement inline)",
        "read of the tap": "method tap_reader with a CPU of its own (placement inline)",
        "wake-up": "placement threaded at loads of a few kpps: the NAPI thread wakes the reader for every packet, on its own CPU",
        "telling an idle CPU": "loads of a few kpps with placement inline and with time in softirqs: the softirq wakes the reader for every packet",
        "coming out of idle": "loads of 10 to 100 kpps with placement inline: how many packets a wake-up finds",
        "going to sleep": "loads of a few kpps, where the reader sleeps before every packet",
        "interrupt": "placement rps at loads just below the one where packets get lost: there interrupts meet a running reader",
    },
)
PLACES = {"inline": "-inline", "rps": BY_BACKLOG, "threaded": ""}
"""Ends of the scenarios' names, by where the softirq is put."""
SHARED_WEIGHT = 512
"""The reader's load weight where sessions are groups (autogroup): its group's 1024 are divided between its CPU and the one that the generator, of the same session, keeps busy (calc_group_shares)."""
FEW_SLEEPS = 1000.0
"""Sleeps of the reader a second above which its CPU idles so often that softirqs run from the idle loop, where tracepoints do not see all of them."""


def _settings(
    placement: Mapping[str, Any], campaign: Mapping[str, Any], host: Mapping[str, Any], frame_bytes: int
) -> dict[str, Any]:
    """The fields that a placement decides about."""
    settings: dict[str, Any] = {
        "capture.cpu": placement["reader_cpu"],
        "traffic.frame_bytes": frame_bytes,
        **QUICK,
        **of_the_kernel(host),
    }
    settings["host.nic.irq_cpus"] = placement["softirq_cpu"] if placement["softirq"] == "rps" else placement["load_cpu"]
    if placement["softirq"] == "threaded":
        settings["host.nic.napi_cpus"] = placement["softirq_cpu"]
    shares = host.get("sysctls", {}).get("kernel/sched_autogroup_enabled") == "1"
    settings["capture.load_weight"] = SHARED_WEIGHT if shares else NICE_0_LOAD
    if campaign.get("receive_buffer_bytes"):
        settings["capture.receive_buffer_bytes"] = campaign["receive_buffer_bytes"]
    return settings


def observations(record: Record) -> list[Observation]:
    """What a record says about placements and methods that the model has; rejected windows do not count."""
    campaign, found = record.about["campaign"], []
    good = record.good
    good = good[good["method"].isin(list(METHODS))]
    for _, windows in good.groupby(["method", "placement", "frame_bytes", "target_kpps"]):
        placement = campaign["placements"][windows["placement"].iloc[0]]
        settings = _settings(placement, campaign, record.host, int(windows["frame_bytes"].iloc[0]))
        found.append(_observation(placement, windows, settings))
    return sorted(found, key=lambda o: (o.method, o.placement, o.offered_kpps))


def _train_frames(windows: pd.DataFrame) -> int:
    """Frames that come together: what a poll on the sender's CPU takes at a time, and then hands over."""
    polls = np.sum([np.asarray(batches) for batches in windows["polls_of"].dropna()], axis=0)
    if np.ndim(polls) == 0 or polls[1:].sum() == 0:
        return 1
    return max(1, round(float((polls * np.arange(len(polls))).sum() / polls[1:].sum())))


def _observation(placement: Mapping[str, Any], windows: pd.DataFrame, settings: dict[str, Any]) -> Observation:
    method = str(windows["method"].iloc[0])
    has_reader = method not in IN_KERNEL
    busy = None
    if has_reader:
        busy = median((windows["reader_ran_s"] + windows["napi_ran_s"].fillna(0.0)) / windows["seconds"])
    sleepy = not has_reader or method in BY_BLOCK or float((windows["reader_sleeps"] / windows["seconds"]).median()) > FEW_SLEEPS
    unseen = placement["softirq"] == "rps" and sleepy
    softirq_cpu = placement["load_cpu"] if placement["softirq"] == "inline" else placement["softirq_cpu"]
    scenario, differences = METHODS[method]
    if placement["softirq"] != "threaded":
        settings = settings | {"traffic.train_frames": _train_frames(windows)}
    return observe(
        windows,
        not has_reader or softirq_cpu != placement["reader_cpu"],
        busy,
        None if unseen else median(softirq_share(windows)),
        f"lab/{scenario}{PLACES[placement['softirq']]}",
        settings | differences,
    )
