"""From windows of a record of a link to the scenario that models them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration import lab_model
from calibration.link_host import READER_CPU, SCENARIO, SOFTIRQ_CPU, host_of
from calibration.observation import QUICK, Observation, Wiring, median, observe, softirq_share
from simnet.scenario.schema import IN_KERNEL

if TYPE_CHECKING:
    from calibration.record import Record

METHODS = {method: fields for method, (wiring, fields) in lab_model.METHODS.items() if wiring == "veth"}
"""Capture back ends that the model has, and the fields that say so: those that need neither bridge nor tap in the lab."""
WIRING = Wiring(
    "link-x86-64",
    {
        "driver and skb": "method tc_count with time in softirqs (window.poll_trace_seconds above 0): it ends behind the skb",
        "stack": "method recv beside tc_count, both with time in softirqs (window.poll_trace_seconds above 0)",
        "recv call": "method recv with a CPU of its own at loads that it does not keep up with",
        "wake-up": "loads of 10 to 200 kpps with time in softirqs and moderation off (simnet capture check --usecs 0): an interrupt and a wake-up for every packet",
        "telling an idle CPU": "as for wake-up, the reader once on the softirq's CPU and once on its own",
        "coming out of idle": "latencies (not collected): rates and shares hardly depend on it",
        "going to sleep": "loads of 10 to 200 kpps with moderation off (simnet capture check --usecs 0), where the reader sleeps before every packet",
        "interrupt": "time in hard interrupts (irq tracepoints; not collected yet)",
    },
)


def is_of_a_link(record: Record) -> bool:
    """Was the record made with a generator on another host?"""
    return bool(record.about["campaign"].get("link"))


def observations(record: Record) -> list[Observation]:
    """What a record of a link says about methods that the model has; rejected windows do not count.

    Raises
    ------
    UserError
        See `host_of`.
    """
    good, found = record.good, []
    good = good[good["method"].isin(list(METHODS))]
    if good.empty:
        return []
    of_host = {**QUICK, **host_of(record).settings}
    for _, windows in good.groupby(["method", "placement", "frame_bytes", "flows", "target_kpps"]):
        first = windows.iloc[0]
        placement = record.about["campaign"]["placements"][first["placement"]]
        apart = first["method"] in IN_KERNEL or placement["softirq_cpu"] != placement["reader_cpu"]
        settings = (
            of_host
            | METHODS[first["method"]]
            | {
                "capture.cpu": READER_CPU if apart else SOFTIRQ_CPU,
                "traffic.frame_bytes": int(first["frame_bytes"]),
                "traffic.flows": int(first["flows"]) if first["flows"] > 1 else "single",
            }
        )
        busy = None if first["method"] in IN_KERNEL else median(windows["reader_ran_s"] / windows["seconds"])
        found.append(observe(windows, apart, busy, median(softirq_share(windows)), SCENARIO, settings))
    return sorted(found, key=lambda o: (o.method, o.placement, o.offered_kpps))
