"""Count and drop in tc: an eBPF classifier at the ingress hook (`sch_handle_ingress`), after the packet got its skb and after RPS, before any protocol.

The cheapest thing that can happen to a packet in the stack; beside `xdp_count` it says what the skb costs. There is no process.
"""

from __future__ import annotations

import os

from calibration import bpf
from calibration.capture.in_kernel import InKernelCount
from calibration.lab.topology import Lab, route

_CLSACT_INGRESS = 0xFFFFFFF2


class TcCount(InKernelCount):
    """A counter at the ingress hook. It goes with the interface, so there is nothing to detach."""

    def __init__(self, lab: Lab, cpu: int, receive_buffer_bytes: int | None = None) -> None:
        del cpu, receive_buffer_bytes
        super().__init__()
        program = -1
        try:
            program = bpf.load_classifier(bpf.counting(self._map.descriptor, bpf.TC_ACT_SHOT))
            with lab.receiver.inside(), route() as netlink:
                netlink.tc("add", "clsact", lab.interface_index)
                where = {"fd": program, "name": "count", "parent": _CLSACT_INGRESS, "direct_action": True}
                netlink.tc("add-filter", "bpf", lab.interface_index, **where)
        except BaseException:
            self._map.close()
            raise
        finally:
            if program >= 0:
                os.close(program)
