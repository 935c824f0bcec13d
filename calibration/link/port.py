"""The port of this host, in place of a lab: what back ends need to capture there, and its counters."""

from __future__ import annotations

import os
import socket
import struct

from calibration.host.access import AbsentError, Host
from calibration.host.drivers import driver_of, losses
from calibration.lab.namespaces import Namespace
from calibration.lab.topology import Lab

_SOL_PACKET, _ADD_MEMBERSHIP, _MR_PROMISC = 263, 1, 1
NIC_BUFFER = "nic_buffer"


class Port(Lab):
    """A lab of which the other half is another host. Nothing is made and nothing is set, so nothing has to be put back.

    The port takes all frames while a socket of this object asks for that (PACKET_MR_PROMISC); the kernel forgets it with the socket.

    Raises
    ------
    OSError
        If there is no such interface, or no right to look at it.
    """

    def __init__(self, interface: str) -> None:
        self.interface = interface
        self.tap = None
        self._files = {}
        self._napi_thread = None
        self._host = Host()
        self._driver = driver_of(self._host, interface)
        self.interface_index = socket.if_nametoindex(interface)
        self.receiver = self.sender = Namespace.here()
        try:
            self._membership = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except OSError:
            self.receiver.close()
            raise
        try:
            member = struct.pack("iHH8x", self.interface_index, _MR_PROMISC, 0)
            self._membership.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, member)
        except OSError:
            self.close()
            raise

    def place(self, softirq: str, cpu: int | None) -> None:
        """The NIC's interrupts are where `simnet capture check --apply` has put them; a campaign moves nothing."""

    def received(self) -> int:
        """Frames that the driver has taken out of the NIC so far."""
        return self._statistic(self.receiver, self.interface, "rx_packets")

    def nic_losses(self) -> dict[str, int]:
        """Frames lost in the NIC so far, by place: the driver's own counters where they are known, otherwise rx_missed_errors."""
        try:
            lost = losses(self._driver, self._host.ethtool("statistics", self.interface)) if self._driver.losses else {}
        except AbsentError:
            lost = {}
        return lost or {NIC_BUFFER: self._statistic(self.receiver, self.interface, "rx_missed_errors")}

    def facts(self) -> dict[str, object]:
        """What a record says about it."""
        try:
            speed = int(self._host.read(f"/sys/class/net/{self.interface}/speed"))
        except (AbsentError, ValueError):
            speed = 0
        return {"driver": self._driver.name, "speed_mbps": speed if speed > 0 else None}

    def close(self) -> None:
        """Let go of it."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()
        self._membership.close()
        self.receiver.close()
