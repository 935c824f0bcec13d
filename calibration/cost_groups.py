"""Which costs a fit scales together, and whom each group matters to."""

from __future__ import annotations

from collections.abc import Mapping

import simnet

GROUPS: dict[str, tuple[str, ...]] = {
    "driver and skb": ("driver_cycles", "skb_cycles"),
    "stack": ("backlog_cycles", "stack_cycles", "packet_rcv_cycles", "ip_drop_cycles", "clone_cycles", "tpacket3_cycles"),
    "bridge and tap": ("bridge_cycles", "tap_xmit_cycles"),
    "recv call": ("recv_cycles",),
    "read of the tap": ("tap_read_cycles",),
    "wake-up": ("wake_up_cycles",),
    "telling an idle CPU": ("send_ipi_cycles",),
    "coming out of idle": ("c1_exit_us", "c3_exit_us", "c6_exit_us"),
    "going to sleep": ("poll_call_cycles", "context_switch_cycles"),
    "interrupt": ("device_interrupt_cycles", "reschedule_interrupt_cycles", "ipi_latency_us"),
}
"""Costs that are scaled together: a record of rates and shares does not tell their parts apart."""
PAID_BY: dict[str, tuple[str, ...]] = {
    "stack": ("recv", "tpacket_v3", "tap_reader", "tc_count"),
    "bridge and tap": ("tap_reader",),
    "recv call": ("recv",),
    "read of the tap": ("tap_reader",),
}
"""Methods that a group matters to, where it is not all."""


def costs_of(factors: Mapping[str, float], prior: str, groups: Mapping[str, tuple[str, ...]] = GROUPS) -> dict[str, float]:
    """Quantities of the prior set, scaled by group."""
    costs = simnet.parameter_set(prior)
    return {name: costs[name] * factor for group, factor in factors.items() for name in groups[group]}
