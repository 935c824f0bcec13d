"""The port of this host, in place of a lab: what back ends need to capture there, and its counters."""

from __future__ import annotations

import os
import socket
import struct

from calibration.host.access import AbsentError, Host, Value
from calibration.host.drivers import driver_of, losses
from calibration.host.interface_operations import ONE_FRAME_A_BUFFER
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
        return port_facts(self._host, self.interface)

    def close(self) -> None:
        """Let go of it."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()
        self._membership.close()
        self.receiver.close()


def port_facts(host: Host, interface: str) -> dict[str, object]:
    """Driver (of a port without a device the kind of its link), speed, and the driver's settings on which a model depends; None for what it does not tell."""
    kinds = {link.name: link.kind for link in host.links()}
    return {
        "driver": driver_of(host, interface).name or kinds.get(interface) or None,
        "speed_mbps": _speed(host, interface),
        **{kind: _settings(host, kind, interface) for kind in ("rings", "channels", "coalesce")},
        "features": {name: on for name, on in (_settings(host, "features", interface) or {}).items() if name in ONE_FRAME_A_BUFFER},
    }


def _speed(host: Host, interface: str) -> int | None:
    try:
        speed = int(host.read(f"/sys/class/net/{interface}/speed"))
    except (AbsentError, ValueError):
        return None
    return speed if speed > 0 else None


def _settings(host: Host, kind: str, interface: str) -> dict[str, Value] | None:
    try:
        return host.ethtool(kind, interface)
    except AbsentError:
        return None
