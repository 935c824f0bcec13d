"""All that can be set on a host that captures."""

from __future__ import annotations

from calibration.host.host_operations import Autogroup, BusyPoll, Governor, IdleStates, Irqbalance, RfsTable, Turbo
from calibration.host.interface_operations import Affinity, Channels, Coalescing, Napi, Offloads, Rfs, Rings, Rps, Xps
from calibration.host.operation import Operation, Wish


def operations(interface: str, wish: Wish | None = None) -> list[Operation]:
    """All that can be set, in the order in which it is applied and put back: what resets the driver first, interrupts after queues."""
    wish = wish or Wish()
    return [
        Channels(interface, wish),
        Rings(interface, wish),
        Offloads(interface, wish),
        Coalescing(interface, wish),
        Napi(interface),
        Rps(interface),
        Rfs(interface),
        RfsTable(),
        Irqbalance(),
        Affinity(interface, wish),
        Xps(interface, wish),
        Governor(interface, wish),
        IdleStates(interface, wish),
        Turbo(),
        Autogroup(),
        BusyPoll(),
    ]
