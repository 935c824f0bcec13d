"""Count and drop in tc: an eBPF classifier at the ingress hook (`sch_handle_ingress`), after the packet got its skb and after RPS, before any protocol.

The cheapest thing that can happen to a packet in the stack; beside `xdp_count` it says what the skb costs. There is no process.
"""

from __future__ import annotations

import os

from calibration import bpf
from calibration.lab.topology import Lab, route

_CLSACT_INGRESS = 0xFFFFFFF2


class TcCount:
    """A counter at the ingress hook. It goes with the interface, so there is nothing to detach."""

    needs_tap = False
    place = None
    worker = None
    dropped = 0

    def __init__(self, lab: Lab, cpu: int, receive_buffer_bytes: int | None = None) -> None:
        del cpu, receive_buffer_bytes
        self._map = bpf.Words()
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

    @property
    def captured(self) -> int:
        """Packets that the program saw."""
        return self._map.words[0]

    def counts(self) -> dict[str, int]:
        """Nothing else is counted."""
        return {}

    def close(self) -> None:
        """Let go of the map."""
        self._map.close()
