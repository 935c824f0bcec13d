"""What the simulated program stored, as a pcapng file (draft-ietf-opsawg-pcapng) for tshark, capinfos and the like.

A packet is stamped when the kernel stores it for the program, not when the program reads it: in all capture methods the softirq pays for the stamp, and the
file has the end of that piece of its work: the packet is in the socket's ring, or, with the kernel module, captured. The clock starts with the simulation
and counts nanoseconds, rounded down (finer ones Wireshark 4.0 reads wrongly). Frames come without FCS, as Linux delivers them. Synthetic ones have the flow's five-tuple and zeros as payload; those of a replay
have the bytes of the file (of a record that was cut into frames, each its first bytes).

The statistics block says, of the window, what dumpcap would: `isb_ifrecv` and `isb_osdrop` as PACKET_STATISTICS has them (seen by the capture, dropped ones included; dropped
because its ring was full), `isb_ifdrop` what was lost before the capture saw it (the NIC, the way into a guest), `isb_usrdeliv` what the monitor was done with.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from simnet.results.timeline import Timeline
from simnet.traffic.flows import DESTINATION, DESTINATION_PORT, source_address, source_port
from simnet.traffic.packets import UDP, ethernet_frame, frames_on_wire
from simnet.traffic.pcap import read_records
from simnet.units import FCS_BYTES, PS_PER_NS

SECTION, INTERFACE, STATISTICS, ENHANCED = 0x0A0D0D0A, 1, 5, 6
BYTE_ORDER, ETHERNET = 0x1A2B3C4D, 1
COMMENT, APPLICATION, IF_NAME, IF_TSRESOL = 1, 4, 2, 9
ISB_STARTTIME, ISB_ENDTIME, ISB_IFRECV, ISB_IFDROP, ISB_OSDROP, ISB_USRDELIV = 2, 3, 4, 5, 7, 8
NANOSECONDS = 9
PKTGEN_TTL = 32
MACS = bytes.fromhex("020000000001 020000000002")
IPV4 = b"\x08\x00"


def checksum(header: bytes) -> int:
    """Internet checksum of a header of even length (RFC 1071)."""
    total: int = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def synthetic_frame(flow: int, frame_bytes: int) -> bytes:
    """A generator's frame without FCS: UDP over IPv4 over Ethernet, UDP without checksum, as pktgen sends it."""
    length = frame_bytes - FCS_BYTES - len(MACS + IPV4)
    addresses = struct.pack(">II", source_address(flow), DESTINATION)
    header = struct.pack(">BBHHHBBH", 0x45, 0, length, 0, 0, PKTGEN_TTL, UDP, 0)
    header = header[:-2] + struct.pack(">H", checksum(header + addresses)) + addresses
    datagram = struct.pack(">HHHH", source_port(flow), DESTINATION_PORT, length - len(header), 0)
    return (MACS + IPV4 + header + datagram).ljust(frame_bytes - FCS_BYTES, b"\0")


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _block(kind: int, body: bytes, options: Iterable[bytes] = ()) -> bytes:
    body += b"".join(options)
    if options:
        body += struct.pack("<HH", 0, 0)
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _time(time_ps: int) -> bytes:
    return struct.pack("<II", *divmod(time_ps // PS_PER_NS, 1 << 32))


def _contents(timeline: Timeline) -> Callable[[int], bytes]:
    """The bytes on the wire of each stored packet, as far as they are known."""
    if timeline.replayed is None:
        return lambda i: synthetic_frame(timeline.stored[i].way.flow, timeline.stored[i].way.frame_bytes)
    path, numbers = timeline.replayed
    frames = [ethernet_frame(record) for record in read_records(path) for _ in frames_on_wire(record)]
    return lambda i: frames[numbers[i]]


def _packets(timeline: Timeline) -> Iterator[bytes]:
    contents = _contents(timeline)
    for i, stored in enumerate(timeline.stored):
        length = stored.way.frame_bytes - FCS_BYTES
        data = contents(i)[: min(length, stored.most_bytes)]
        yield _block(ENHANCED, struct.pack("<I", 0) + _time(stored.time_ps) + struct.pack("<II", len(data), length) + _padded(data))


def _statistics(timeline: Timeline) -> bytes:
    counts = timeline.seen_by_capture()
    options = [_option(ISB_STARTTIME, _time(timeline.start_ps)), _option(ISB_ENDTIME, _time(timeline.end_ps))]
    for code, name in ((ISB_IFRECV, "received"), (ISB_IFDROP, "lost_before"), (ISB_OSDROP, "dropped"), (ISB_USRDELIV, "delivered")):
        options.append(_option(code, struct.pack("<Q", counts[name])))
    return _block(STATISTICS, struct.pack("<I", 0) + _time(timeline.end_ps), options)


def pcapng(timeline: Timeline) -> bytes:
    """The file's bytes."""
    what = f"{timeline.scenario}, seed {timeline.seed}, replication {timeline.replication}: simulated"
    section = struct.pack("<IHHq", BYTE_ORDER, 1, 0, -1)
    most = max((stored.most_bytes for stored in timeline.stored), default=0)
    interface = struct.pack("<HHI", ETHERNET, 0, most)
    options = [_option(IF_NAME, timeline.method.encode()), _option(IF_TSRESOL, bytes([NANOSECONDS]))]
    return b"".join(
        [
            _block(SECTION, section, [_option(COMMENT, what.encode()), _option(APPLICATION, b"simnet")]),
            _block(INTERFACE, interface, options),
            *_packets(timeline),
            _statistics(timeline),
        ]
    )


def write_pcapng(timeline: Timeline, path: Path) -> None:
    """Write what was stored in the window to a file."""
    path.write_bytes(pcapng(timeline))
