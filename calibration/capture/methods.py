"""All capture back ends by the name that a campaign gives them."""

from __future__ import annotations

from typing import Protocol

from calibration.campaign import CampaignFile
from calibration.capture.af_xdp import AfXdp
from calibration.capture.guest import Guest
from calibration.capture.libpcap import Libpcap
from calibration.capture.program import Program
from calibration.capture.recv import Recv
from calibration.capture.recvmmsg import Recvmmsg
from calibration.capture.tap_reader import TapReader
from calibration.capture.tc_count import TcCount
from calibration.capture.tpacket_v3 import TpacketV3
from calibration.capture.xdp_count import XdpCount
from calibration.lab.topology import Lab
from calibration.workers import Worker


class Backend(Protocol):
    """What captures, counts what it has, and knows what was lost at its own place.

    `needs_tap` says whether the lab needs bridge and tap, `place` names where this back end loses packets (None: nowhere; see
    `calibration.collect.counters.PLACES`), `counts` are what else it knows, as of the last reading of `captured` and `dropped`.
    """

    @property
    def needs_tap(self) -> bool: ...
    @property
    def place(self) -> str | None: ...
    @property
    def worker(self) -> Worker | None: ...
    @property
    def captured(self) -> int: ...
    @property
    def dropped(self) -> int: ...

    def counts(self) -> dict[str, int]: ...
    def close(self) -> None: ...


_Simple = (
    type[Recv]
    | type[Recvmmsg]
    | type[TpacketV3]
    | type[Libpcap]
    | type[AfXdp]
    | type[TapReader]
    | type[Guest]
    | type[XdpCount]
    | type[TcCount]
)
_SIMPLE: dict[str, _Simple] = {
    "recv": Recv,
    "recvmmsg": Recvmmsg,
    "tpacket_v3": TpacketV3,
    "libpcap": Libpcap,
    "af_xdp": AfXdp,
    "tap_reader": TapReader,
    "guest": Guest,
    "xdp_count": XdpCount,
    "tc_count": TcCount,
}


METHODS: dict[str, _Simple | type[Program]] = {**_SIMPLE, "program": Program}


def start(method: str, lab: Lab, cpu: int, settings: CampaignFile) -> Backend:
    """Start a back end in a lab, its reader on a CPU."""
    if method == "program":
        assert settings.program is not None
        return Program(lab, cpu, settings.program, settings.captured_pattern, settings.dropped_pattern)
    return _SIMPLE[method](lab, cpu, settings.receive_buffer_bytes)
