"""Capture in the receive softirq itself. There is no queue and no process: what gets there is captured.

- The kernel module: an ETH_P_ALL packet_type (the PNA, net/core/dev.c `__netif_receive_skb`), before the bridge and IP. Because another handler holds a reference, each packet costs a
  clone and its free, a time stamp, and the original's way to ip_rcv, where it is dropped as OTHERHOST.
- tc: an eBPF classifier at the ingress hook (`sch_handle_ingress`, after RPS) that counts and returns TC_ACT_SHOT. No handler of a protocol sees the packet.
- XDP: a program in the driver's poll (`veth_xdp_rcv_one`, `ixgbe_run_xdp`, before RPS) that counts and returns XDP_DROP. There is no skb and no stack.
"""

from __future__ import annotations

from typing import Protocol

from simnet.capture.monitor import HasMonitors, captured, monitor_cost
from simnet.compiled import jit
from simnet.records import Record
from simnet.traffic.frame import Frame


class KernelTap(Record):
    """The place. `deliver_ps`: what a packet pays behind the driver; `monitor`: whose packets these are."""

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
