"""Count and drop in XDP: the cheapest thing that can happen to a received frame, and no process at all."""

from __future__ import annotations

import os

from calibration import bpf
from calibration.capture.in_kernel import InKernelCount
from calibration.lab.topology import Lab


class XdpCount(InKernelCount):
    """A counter in the driver's poll."""

    def __init__(self, lab: Lab, cpu: int, receive_buffer_bytes: int | None = None) -> None:
        del cpu, receive_buffer_bytes
        super().__init__()
        program = bpf.load_xdp(bpf.counting(self._map.descriptor, bpf.XDP_DROP))
        try:
            with lab.receiver.inside():
                self._link = bpf.attach_xdp(program, lab.interface_index)
        except BaseException:
            self._map.close()
            raise
        finally:
            os.close(program)

    def close(self) -> None:
        """Detach it."""
        os.close(self._link)
        super().close()
