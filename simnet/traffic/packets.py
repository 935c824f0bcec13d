"""Capture files: when their packets came, how long they were, whose they were.

Reads pcap (micro- and nanosecond, either byte order) and pcapng (enhanced and simple packet blocks). Lengths are the original ones, not the
captured ones. Frames longer than Ethernet allows come from segmentation offload on the capturing host; they are cut into the frames that were on the
wire. Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simnet.errors import UserError
from simnet.units import FCS_BYTES, MAX_FRAME_BYTES, MIN_FRAME_BYTES, PS_PER_S

ETHERNET, RAW_IP, LINUX_SLL, LINUX_SLL2 = 1, 101, 113, 276
_HEADER_BYTES = {ETHERNET: 14, RAW_IP: 0, 12: 0, 14: 0, LINUX_SLL: 16, LINUX_SLL2: 20}
_PCAP_MAGIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 10**6),
    b"\xa1\xb2\xc3\xd4": (">", 10**6),
    b"\x4d\x3c\xb2\xa1": ("<", 10**9),
    b"\xa1\xb2\x3c\x4d": (">", 10**9),
}
_SECTION, _INTERFACE, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 3, 6
_TSRESOL = 9
_SEGMENT_BYTES = 1518
_VLAN_TAGS = (b"\x81\x00", b"\x88\xa8")
_UDP, _TCP = 17, 6


@dataclass(frozen=True)
class Packet:
    """One record of a file: time in ps, original length and captured bytes, link type."""

    time_ps: int
    length: int
    data: bytes
    link_type: int


@dataclass(frozen=True)
class PacketFile:
    """A capture file in memory.

    Attributes
    ----------
    times_ps
        int64, shape (packets,): time since the first packet, never decreasing.
    frame_bytes
        int64, shape (packets,): frame length with FCS.
    flows
        int64, shape (packets,): number of the five-tuple, in order of first appearance.
    flow_hashes
        uint32, shape (flows,): what RSS hashes each five-tuple to.
    segmented
        How many records were longer than a frame and were cut.
    """

    times_ps: NDArray[np.int64]
    frame_bytes: NDArray[np.int64]
    flows: NDArray[np.int64]
    flow_hashes: NDArray[np.uint32]
    segmented: int


class _Reader:
    """Bytes of a file, with a message for the end that comes too early."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        self.at = 0
        self.records = 0

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.content):
            raise UserError(f"{self.path}: truncated: packet {self.records + 1} at byte {self.at} is cut off")
        self.at += count
        return self.content[self.at - count : self.at]

    def ended(self) -> bool:
        return self.at == len(self.content)


def _pcap(reader: _Reader) -> Iterator[Packet]:
    order, per_second = _PCAP_MAGIC[reader.take(4)]
    link_type = struct.unpack(order + "16xI", reader.take(20))[0] & 0xFFFF
    header = struct.Struct(order + "IIII")
    while not reader.ended():
        seconds, fraction, captured, length = header.unpack(reader.take(16))
        yield Packet(seconds * PS_PER_S + fraction * (PS_PER_S // per_second), length, reader.take(captured), link_type)
        reader.records += 1


def _resolution(options: bytes, order: str) -> int:
    """Ticks a second of an interface description's options."""
    at = 0
    while at + 4 <= len(options):
        code, length = struct.unpack_from(order + "HH", options, at)
        if code == _TSRESOL and length:
            exponent = options[at + 4]
            return int(1 << (exponent & 0x7F)) if exponent & 0x80 else int(10**exponent)
        at += 4 + (length + 3 & ~3)
    return 1_000_000


def _pcapng(reader: _Reader) -> Iterator[Packet]:
    order = "<"
    interfaces: list[tuple[int, int]] = []
    while not reader.ended():
        start = reader.at
        kind_bytes = reader.take(4)
        if kind_bytes == _SECTION.to_bytes(4, "big"):
            order = "<" if reader.content[start + 8 : start + 12] == b"\x4d\x3c\x2b\x1a" else ">"
            interfaces = []
        kind, length = struct.unpack(order + "I", kind_bytes)[0], struct.unpack(order + "I", reader.take(4))[0]
        body = reader.take(length - 12)
        reader.take(4)
        if kind == _INTERFACE:
            interfaces.append((struct.unpack_from(order + "H", body)[0], _resolution(body[8:], order)))
        elif kind == _ENHANCED:
            interface, high, low, captured, original = struct.unpack_from(order + "IIIII", body)
            if interface >= len(interfaces):
                raise UserError(
                    f"{reader.path}: packet {reader.records + 1} belongs to interface {interface}, which is not described"
                )
            link_type, per_second = interfaces[interface]
            yield Packet((high << 32 | low) * PS_PER_S // per_second, original, body[20 : 20 + captured], link_type)
            reader.records += 1
        elif kind == _SIMPLE:
            raise UserError(f"{reader.path}: packet {reader.records + 1} has no time stamp (simple packet block)")


def _records(path: Path) -> Iterator[Packet]:
    reader = _Reader(path)
    magic = reader.content[:4]
    if magic in _PCAP_MAGIC:
        return _pcap(reader)
    if magic == _SECTION.to_bytes(4, "big"):
        return _pcapng(reader)
    raise UserError(f"{path}: neither pcap nor pcapng")


def five_tuple(packet: Packet) -> tuple[Any, ...]:
    """(protocol, source, destination, source port, destination port) of IPv4; addresses and ports as bytes; () for anything else."""
    data, at = packet.data, _HEADER_BYTES[packet.link_type]
    if packet.link_type == ETHERNET:
        while data[at - 2 : at] in _VLAN_TAGS:
            at += 4
    if len(data) < at + 20 or data[at] >> 4 != 4:
        return ()
    protocol = data[at + 9]
    ports = at + (data[at] & 15) * 4
    fragment = struct.unpack_from(">H", data, at + 6)[0] & 0x3FFF
    if protocol not in (_UDP, _TCP) or fragment or len(data) < ports + 4:
        return (protocol, data[at + 12 : at + 16], data[at + 16 : at + 20], b"", b"")
    return (protocol, data[at + 12 : at + 16], data[at + 16 : at + 20], data[ports : ports + 2], data[ports + 2 : ports + 4])


def rss_input(flow: tuple[Any, ...], udp_ports: bool) -> bytes:
    """The bytes of a five-tuple that RSS hashes: addresses, and ports for TCP (and UDP where the driver asks for it)."""
    if not flow:
        return b""
    protocol, source, destination, source_port, destination_port = flow
    with_ports = protocol == _TCP or (protocol == _UDP and udp_ports)
    return bytes(source + destination + (source_port + destination_port if with_ports else b""))


def read_packets(path: Path, hash_of: Any) -> PacketFile:
    """Read a capture file.

    Parameters
    ----------
    path
        A pcap or pcapng file.
    hash_of
        Function from a five-tuple (see `five_tuple`) to the 32-bit RSS hash.

    Raises
    ------
    UserError
        If the file cannot be read, is truncated, empty, of another format, or of a link type without Ethernet or IP.
    """
    times: list[int] = []
    lengths: list[int] = []
    numbers: list[int] = []
    known: dict[tuple[Any, ...], int] = {}
    hashes: list[int] = []
    segmented = 0
    for packet in _records(path):
        if packet.link_type not in _HEADER_BYTES:
            raise UserError(f"{path}: link type {packet.link_type} is neither Ethernet nor IP")
        flow = five_tuple(packet)
        number = known.setdefault(flow, len(known))
        if number == len(hashes):
            hashes.append(hash_of(flow))
        left = packet.length + FCS_BYTES + (14 - _HEADER_BYTES[packet.link_type] if packet.link_type != ETHERNET else 0)
        segmented += left > MAX_FRAME_BYTES
        while left > 0:
            frame = left if left <= MAX_FRAME_BYTES else _SEGMENT_BYTES
            times.append(packet.time_ps)
            lengths.append(max(frame, MIN_FRAME_BYTES))
            numbers.append(number)
            left -= frame
    if not times:
        raise UserError(f"{path}: no packets in it")
    stamps = np.array(times, dtype=np.int64) - times[0]
    return PacketFile(
        np.maximum.accumulate(stamps),
        np.array(lengths, dtype=np.int64),
        np.array(numbers, dtype=np.int64),
        np.array(hashes, dtype=np.uint32),
        segmented,
    )
