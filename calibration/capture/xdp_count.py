"""Count and drop in XDP: the cheapest thing that can happen to a received frame, and no process at all."""

from __future__ import annotations

import os

from calibration import bpf
from calibration.capture.in_kernel import InKernelCount
from calibration.lab.topology import Lab


class XdpCount(InKernelCount):
    """A counter in the driver's poll."""

    def attach(self, lab: Lab, counter: int) -> None:
        """Attach the program to the interface."""
        with bpf.xdp(bpf.counting(counter, bpf.XDP_DROP)) as program, lab.receiver.inside():
            self._link = bpf.attach_xdp(program, lab.interface_index)

    def close(self) -> None:
        """Detach it."""
        os.close(self._link)
        super().close()
