"""The kernel module: an ETH_P_ALL packet_type in the receive path (the PNA, net/core/dev.c `__netif_receive_skb`).

It runs in the softirq, before the bridge and IP. Because another handler holds a reference, each packet costs a clone and its free, a time stamp, and the
original's way to ip_rcv, where it is dropped as OTHERHOST. There is no queue: what reaches the tap is captured.
"""

from __future__ import annotations

from typing import Protocol

from simnet.capture.monitor import HasMonitors, captured, monitor_cost
from simnet.compiled import jit
from simnet.records import Record
from simnet.traffic.frame import Frame


class KernelTap(Record):
    """The tap. `deliver_ps`: stack, clone, time stamp, drop by IP; `monitor`: whose packets these are."""

    deliver_ps: int
    monitor: int


class HasTap(HasMonitors, Protocol):
    """What the tap may touch."""

    tap: KernelTap


@jit
def begin_tap(m: HasTap, frame: Frame) -> int:
    """Cost of tap and monitor for a frame."""
    return m.tap.deliver_ps + monitor_cost(m, m.tap.monitor, frame)


@jit
def end_tap(m: HasTap, frame: Frame, now: int) -> None:
    """The frame is captured."""
    captured(m.monitors[m.tap.monitor], frame, now)
