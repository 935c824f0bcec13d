"""Count and drop in tc: an eBPF classifier at the ingress hook (`sch_handle_ingress`), after the packet got its skb and after RPS, before any protocol.

The cheapest thing that can happen to a packet in the stack; beside `xdp_count` it says what the skb costs. There is no process.
"""

from __future__ import annotations

from calibration import bpf
from calibration.capture.in_kernel import InKernelCount
from calibration.lab.topology import Lab, route

_CLSACT_INGRESS = 0xFFFFFFF2


class TcCount(InKernelCount):
    """A counter at the ingress hook. It goes with the interface, so there is nothing to detach."""

    def attach(self, lab: Lab, counter: int) -> None:
        """Add a filter to the hook."""
        with bpf.classifier(bpf.counting(counter, bpf.TC_ACT_SHOT)) as program, lab.receiver.inside(), route() as netlink:
            netlink.tc("add", "clsact", lab.interface_index)
            where = {"fd": program, "name": "count", "parent": _CLSACT_INGRESS, "direct_action": True}
            netlink.tc("add-filter", "bpf", lab.interface_index, **where)
