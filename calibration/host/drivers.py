"""What differs from driver to driver: names of vectors, of counters of lost frames, and how adaptive moderation is said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from calibration.host.access import AbsentError, Host, Value

VECTOR: Final = re.compile(r"(?:-TxRx-|-Tx-Rx-|-rxtx-|-rx-|_comp|-input\.)(\d+)(?:@|$)")
"""The queue in a vector's name: eth2-TxRx-3 (ixgbe, igb, bnxt), i40e-eth2-TxRx-3, ice-eth2-TxRx-3, eth2-Tx-Rx-3 (ena), eth2-rxtx-3 (vmxnet3),
mlx5_comp3@pci:0000:3b:00.0, virtio0-input.3."""


@dataclass(frozen=True)
class Driver:
    """A driver's ways.

    Parameters
    ----------
    name
        As `ethtool -i` calls it.
    losses
        The place of loss of the model (`simnet.results.places`) that a counter of `ethtool -S` belongs to.
    usecs
        Interrupt moderation to go back to when adaptive moderation is turned off and the driver reports no fixed time, microseconds.
    adaptive_usecs
        The value of `rx-usecs` that means adaptive, for a driver without the flag.
    """

    name: str
    losses: Mapping[str, str] = field(default_factory=dict)
    usecs: int = 50
    adaptive_usecs: int | None = None


DRIVERS: Final = {
    driver.name: driver
    for driver in (
        # ixgbe_main.c: MPC counts frames for which the packet buffer had no room, QPRDC those of queues with DROP_EN.
        Driver("ixgbe", {"rx_missed_errors": "nic_buffer", "rx_no_dma_resources": "nic_ring"}, adaptive_usecs=1),
        # i40e_main.c: GLPRT_RDPC; the counter was renamed.
        Driver("i40e", {"port.rx_dropped": "nic_buffer", "port.rx_discards": "nic_buffer"}),
        # ice_main.c: PRTRPB_RDPC is the port's packet buffer, GLV_RDPC frames without a descriptor.
        Driver("ice", {"rx_dropped.nic": "nic_buffer", "rx_dropped": "nic_ring"}),
        # mlx5 counters documentation: out_of_buffer is a receive queue without work requests, discards_phy the port's buffer.
        Driver("mlx5_core", {"rx_discards_phy": "nic_buffer", "rx_out_of_buffer": "nic_ring"}, usecs=8),
    )
}


def driver_of(host: Host, interface: str) -> Driver:
    """The driver behind an interface, by its link in sysfs; one without a device (veth, bridge) has no name."""
    name = host.destination(f"/sys/class/net/{interface}/device/driver") or ""
    return DRIVERS.get(name, Driver(name))


def losses(driver: Driver, counters: Mapping[str, Value]) -> dict[str, int]:
    """Frames lost at each place of the model's, from `ethtool -S`.

    Places without a counter are left out; two counters of one place are added up.
    """
    lost: dict[str, int] = {}
    for counter, place in driver.losses.items():
        if counter in counters:
            lost[place] = lost.get(place, 0) + int(counters[counter])
    return lost


def vectors(host: Host, interface: str) -> dict[int, str]:
    """The interrupt numbers of the interface's receive queues, without those that carry the name of another interface of the same device.

    Returns
    -------
    dict
        Name of the vector by number of the interrupt, in the order of queues.
    """
    device = f"/sys/class/net/{interface}/device"
    numbers = host.names(f"{device}/msi_irqs") or host.names(f"{device}/../msi_irqs")
    others = {name for name in host.names("/sys/class/net") if name != interface}
    found: list[tuple[int, int, str]] = []
    for number in numbers:
        try:
            names = host.read(f"/sys/kernel/irq/{number}/actions")
        except AbsentError:
            continue
        for name in names.split(","):
            if (match := VECTOR.search(name)) and others.isdisjoint(name.split("-")):
                found.append((int(match[1]), int(number), name))
    return {number: name for _, number, name in sorted(found)}
