"""The bridge: where a frame goes that the host received for its guests (net/bridge of Linux 3.2).

Its rx_handler runs in the receive softirq, after the taps: netfilter hook, source update and look-up in the forwarding database, forward hook,
transmission to the tap (`kernel.tun`), all in the same softirq. A bridge in promiscuous mode also delivers a copy locally. Left out: spanning tree,
multicast snooping, flooding to more than one port.
"""

from __future__ import annotations

from typing import Protocol

from simnet.compiled import jit
from simnet.kernel.tun import HasTun
from simnet.records import Record


class Bridge(Record):
    """`forward_ps`: a frame's way from netif_receive_skb to the tap's discipline; `local_ps`: the local copy of a promiscuous bridge, or 0."""

    forward_ps: int
    local_ps: int


class HasBridge(HasTun, Protocol):
    """What the bridge may touch."""

    bridge: Bridge


@jit
def begin_forward(m: HasBridge) -> int:
    """Cost of a frame from the driver to the tap."""
    return m.bridge.forward_ps + m.bridge.local_ps + m.tun.xmit_ps
