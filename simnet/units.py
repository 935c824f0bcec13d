"""Units of the model and the byte conventions of Ethernet.

Time is an integer number of picoseconds. A bit rate is meaningless without saying which bytes it counts: *wire* is what a frame
occupies on the link (frame with FCS, preamble, start delimiter and inter-frame gap), *frame* is the frame with its FCS, *no-FCS* is what
drivers, libpcap and pktgen see.
"""

from __future__ import annotations

PS_PER_S = 1_000_000_000_000
PS_PER_MS = 1_000_000_000
PS_PER_US = 1_000_000
PS_PER_NS = 1_000

FCS_BYTES = 4
PREAMBLE_BYTES = 8
GAP_BYTES = 12
WIRE_OVERHEAD_BYTES = PREAMBLE_BYTES + GAP_BYTES
"""Bytes a frame (with FCS) occupies on the wire beyond its own: IEEE 802.3 preamble, start delimiter, inter-frame gap."""

MIN_FRAME_BYTES = 64
MAX_FRAME_BYTES = 9216


def wire_ps(frame_bytes: int, link_gbps: float) -> int:
    """Picoseconds that a frame of `frame_bytes` (with FCS) occupies on a link of `link_gbps`."""
    return round((frame_bytes + WIRE_OVERHEAD_BYTES) * 8 * 1000 / link_gbps)


def kpps_to_mbps_wire(kpps: float, frame_bytes: float) -> float:
    """Wire rate in Mbit/s of `kpps` thousand frames a second of `frame_bytes` (with FCS)."""
    return kpps * (frame_bytes + WIRE_OVERHEAD_BYTES) * 8 / 1000


def kpps_to_mbps_frame(kpps: float, frame_bytes: float) -> float:
    """Frame rate (FCS included, no preamble or gap) in Mbit/s."""
    return kpps * frame_bytes * 8 / 1000
