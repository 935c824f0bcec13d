"""How the lab is wired: a veth pair between two namespaces, and, for a tap reader, a bridge with a tap behind it.

                 sender | receiver                       sender | receiver
        load0 ═══ veth ═══ rx0 (packet socket, XDP)   load0 ═══ veth ═══ rx0 ─ br0 ─ tap0 ─ reader

GRO is on at the receiving end, so that the veth pair has its ring of 256 slots and a NAPI instance (`veth_poll`), and TSO is off at the sending
end, so that frames from a socket go through that ring too (`veth_skb_is_eligible_for_gro`). GRO is on at the sending end as well, set when that end is
up, because that is when `veth_set_features` (6.3 and later) lets it take redirected frames.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
import time
from pathlib import Path
from typing import Any

from calibration.lab.namespaces import Namespace
from simnet.errors import UserError

TAP_RING = 500
_BR_STATE_FORWARDING = 3
_LONGEST_LINK_WATCH_S = 5.0
_SENDING, _BRIDGE, _TAP = "load0", "br0", "tap0"
_SIOCETHTOOL, _ETHTOOL_STSO, _ETHTOOL_SGRO = 0x8946, 0x1F, 0x2C
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x400454CA, 0x0002, 0x1000, 0x4000


def route() -> Any:
    """A netlink socket in the namespace of the caller.

    Raises
    ------
    UserError
        If pyroute2 is missing.
    """
    try:
        from pyroute2 import IPRoute
    except ImportError:
        raise UserError("the lab needs pyroute2: pip install 'simnet-rx[capture]'") from None
    return IPRoute()


def _set_feature(interface: str, command: int, value: bool) -> None:
    """Switch an offload (SIOCETHTOOL)."""
    request = array.array("B", struct.pack("II", command, value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCETHTOOL, struct.pack("16sQ16x", interface.encode(), request.buffer_info()[0]))


def _cpu_mask(cpu: int) -> str:
    """A CPU as the kernel's bit masks are written: groups of 32 bits in hexadecimal."""
    groups = ["00000000"] * (cpu // 32)
    return ",".join([f"{1 << cpu % 32:x}", *groups])


class Lab:
    """The wiring. `interface` is where packets arrive; `tap` is the descriptor of the tap, if there is one."""

    def __init__(self, with_tap: bool = False) -> None:
        self.interface = f"rx{os.urandom(3).hex()}"
        """A name that no other lab has: the kernel's NAPI threads and tracepoints know interfaces by name only."""
        self.tap: int | None = None
        self._files: dict[tuple[str, str], int] = {}
        self._napi_thread: int | None = None
        self.receiver = Namespace()
        self.sender = Namespace()
        try:
            with self.sender.inside(), route() as netlink:
                peer = {"ifname": self.interface, "net_ns_fd": self.receiver.descriptor}
                netlink.link("add", ifname=_SENDING, kind="veth", peer=peer)
                self.load_index = self._up(netlink, _SENDING)
                _set_feature(_SENDING, _ETHTOOL_STSO, False)
                _set_feature(_SENDING, _ETHTOOL_SGRO, True)
            with self.receiver.inside(), route() as netlink:
                self.interface_index = self._up(netlink, self.interface)
                _set_feature(self.interface, _ETHTOOL_SGRO, True)
                if with_tap:
                    self._add_tap(netlink)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _up(netlink: Any, name: str) -> int:
        [index] = netlink.link_lookup(ifname=name)
        netlink.link("set", index=index, state="up")
        return int(index)

    def _add_tap(self, netlink: Any) -> None:
        """A bridge with a tap that somebody holds open, as QEMU does; to a MAC address that nobody has, the bridge floods."""
        netlink.link("add", ifname=_BRIDGE, kind="bridge", br_forward_delay=0, br_mcast_snooping=0)
        bridge = self._up(netlink, _BRIDGE)
        self.tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self.tap, _TUNSETIFF, struct.pack("16sH14x", _TAP.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
        [tap] = netlink.link_lookup(ifname=_TAP)
        netlink.link("set", index=tap, txqlen=TAP_RING)
        for port in (self.interface_index, tap):
            netlink.link("set", index=port, master=bridge)
        self._up(netlink, _TAP)
        limit = time.monotonic() + _LONGEST_LINK_WATCH_S
        while not all(self._is_forwarding(port) for port in (self.interface, _TAP)):
            if time.monotonic() > limit:
                raise UserError("the lab's bridge does not forward: its ports stay down")
            time.sleep(0.01)

    def _is_forwarding(self, port: str) -> bool:
        state = self.receiver.open(f"class/net/{port}/brport/state")
        try:
            return int(os.read(state, 8)) == _BR_STATE_FORWARDING
        finally:
            os.close(state)

    def place(self, softirq: str, cpu: int | None) -> None:
        """Say where received packets are worked on.

        Parameters
        ----------
        softirq
            `inline`: in the softirq of the sender's CPU, as it is by default. `rps`: NAPI there, the stack in a softirq on `cpu`, through an
            interrupt and the backlog. `threaded`: NAPI in a kernel thread on `cpu`.
        cpu
            Where, unless inline.

        Raises
        ------
        UserError
            If the kernel's threads are not visible here, as in most containers.
        """
        if softirq == "rps":
            assert cpu is not None
            self.receiver.write(f"class/net/{self.interface}/queues/rx-0/rps_cpus", _cpu_mask(cpu))
        if softirq == "threaded":
            assert cpu is not None
            self.receiver.write(f"class/net/{self.interface}/threaded", "1")
            self._napi_thread = _napi_thread_of(self.interface)
            if self._napi_thread is None:
                raise UserError(
                    "placement threaded: the NAPI thread is not to be seen in /proc, so it cannot be pinned; is this a container?"
                )
            os.sched_setaffinity(self._napi_thread, {cpu})

    @property
    def napi_thread(self) -> int | None:
        """Process id of the NAPI thread, if NAPI is threaded."""
        return self._napi_thread

    def _statistic(self, namespace: Namespace, interface: str, name: str) -> int:
        key = (interface, name)
        if key not in self._files:
            self._files[key] = namespace.open(f"class/net/{interface}/statistics/{name}")
        return int(os.pread(self._files[key], 32, 0))

    def ring_dropped(self) -> int:
        """Frames for which the veth ring had no room so far (tx_dropped of the sending end, as `veth_xdp_xmit` and `veth_xmit` count)."""
        return self._statistic(self.sender, _SENDING, "tx_dropped")

    def receive_dropped(self) -> int:
        """rx_dropped of the receiving end so far: what the backlog had no room for and, if frames came by XDP, the ring too."""
        return self._statistic(self.receiver, self.interface, "rx_dropped")

    def tap_dropped(self) -> int:
        """Packets for which the tap's ring had no room so far (tx_dropped, `tun_net_xmit`)."""
        return self._statistic(self.receiver, _TAP, "tx_dropped")

    def close(self) -> None:
        """Take it down: the kernel removes the interfaces when nobody holds the namespaces any more."""
        for descriptor in (*self._files.values(), *(() if self.tap is None else (self.tap,))):
            os.close(descriptor)
        self._files.clear()
        self.tap = None
        self.sender.close()
        self.receiver.close()


def _napi_thread_of(interface: str) -> int | None:
    """The kernel thread that polls for an interface; its name begins with the interface's."""
    for file in Path("/proc").glob("[0-9]*/comm"):
        try:
            if file.read_text(encoding="utf-8").startswith(f"napi/{interface}-"):
                return int(file.parent.name)
        except OSError:  # it ended meanwhile
            continue
    return None
