"""What a capture file offers the model: when its packets came, how long they were, whose they were.

Lengths are the original ones, not the captured ones. Frames longer than Ethernet allows come from segmentation offload on the capturing host;
they are cut into the frames that were on the wire.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simnet.errors import UserError
from simnet.traffic.pcap import Packet, read_records
from simnet.units import FCS_BYTES, MAX_FRAME_BYTES, MIN_FRAME_BYTES

MOST_PS = 1 << 61
"""Longest capture: 26 days, so that times stay far inside 64 bits."""
SEGMENT_BYTES = 1518
ETHERNET_HEADER = 14
UDP, TCP = 17, 6
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_VLAN_TAGS = (b"\x81\x00", b"\x88\xa8")


class FiveTuple(NamedTuple):
    """An IPv4 flow; ports are empty where there are none (other protocols, fragments)."""

    protocol: int
    source: bytes
    destination: bytes
    source_port: bytes
    destination_port: bytes


class _LinkLayer(NamedTuple):
    """How long a link header is and where it has the protocol (EtherType); None for bare IP."""

    header_bytes: int
    protocol_at: int | None


_LINK_LAYERS = {
    1: _LinkLayer(14, 12),  # Ethernet
    101: _LinkLayer(0, None),  # raw IP, also as 12 and 14
    12: _LinkLayer(0, None),
    14: _LinkLayer(0, None),
    113: _LinkLayer(16, 14),  # Linux cooked
    276: _LinkLayer(20, 0),  # Linux cooked, version 2
}


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


def five_tuple(packet: Packet) -> FiveTuple | None:
    """The IPv4 flow of a packet; None for anything else."""
    data, layer = packet.data, _LINK_LAYERS[packet.link_type]
    at = layer.header_bytes
    if layer.protocol_at is not None:
        protocol = data[layer.protocol_at : layer.protocol_at + 2]
        while protocol in _VLAN_TAGS:
            protocol = data[at + 2 : at + 4]
            at += 4
        if protocol != _IPV4:
            return None
    if len(data) < at + 20 or data[at] >> 4 != 4:
        return None
    addresses = data[at + 12 : at + 16], data[at + 16 : at + 20]
    ports = at + (data[at] & 15) * 4
    fragment = struct.unpack_from(">H", data, at + 6)[0] & 0x3FFF
    if data[at + 9] not in (UDP, TCP) or fragment or len(data) < ports + 4:
        return FiveTuple(data[at + 9], *addresses, b"", b"")
    return FiveTuple(data[at + 9], *addresses, data[ports : ports + 2], data[ports + 2 : ports + 4])


def rss_input(flow: FiveTuple | None, udp_ports: bool) -> bytes:
    """The bytes of a flow that RSS hashes: addresses, and ports for TCP (and UDP where the driver asks for it)."""
    if flow is None:
        return b""
    with_ports = flow.protocol == TCP or (flow.protocol == UDP and udp_ports)
    return flow.source + flow.destination + (flow.source_port + flow.destination_port if with_ports else b"")


def frames_on_wire(packet: Packet) -> Iterator[int]:
    """Lengths with FCS of the frames that a record stands for: one, or the segments of an offloaded one."""
    layer = _LINK_LAYERS[packet.link_type]
    left = packet.length - layer.header_bytes + ETHERNET_HEADER + FCS_BYTES
    most = left if left <= MAX_FRAME_BYTES else SEGMENT_BYTES
    while left > 0:
        yield max(min(left, most), MIN_FRAME_BYTES)
        left -= most


def ethernet_frame(packet: Packet) -> bytes:
    """What was captured of a packet, as an Ethernet frame without FCS, padded if all of it was; other link headers give way to an Ethernet one."""
    data, layer = packet.data, _LINK_LAYERS[packet.link_type]
    length = packet.length - layer.header_bytes + ETHERNET_HEADER
    if packet.link_type != 1:
        data = data[layer.header_bytes :]
        data = bytes(12) + (_IPV6 if data[:1] and data[0] >> 4 == 6 else _IPV4) + data
    return data if len(data) < length else data.ljust(MIN_FRAME_BYTES - FCS_BYTES, b"\0")


def read_packets(path: Path, hash_of: Callable[[FiveTuple | None], int]) -> PacketFile:
    """Read a capture file.

    Parameters
    ----------
    path
        A pcap or pcapng file.
    hash_of
        Function from a flow to the 32-bit RSS hash.

    Raises
    ------
    UserError
        If the file cannot be read, is truncated, empty, of another format, of a link type without Ethernet or IP, or spans weeks.
    """
    times: list[int] = []
    lengths: list[int] = []
    numbers: list[int] = []
    known: dict[FiveTuple | None, int] = {}
    hashes: list[int] = []
    segmented = 0
    for index, packet in enumerate(read_records(path)):
        if times and abs(packet.time_ps - times[0]) > MOST_PS:
            days = abs(packet.time_ps - times[0]) / 8.64e16
            raise UserError(f"{path}: packet {index + 1} is {days:.0f} days from the first; at most 26 can be replayed")
        if packet.link_type not in _LINK_LAYERS:
            raise UserError(f"{path}: link type {packet.link_type} is neither Ethernet nor IP")
        flow = five_tuple(packet)
        number = known.setdefault(flow, len(known))
        if number == len(hashes):
            hashes.append(hash_of(flow))
        frames = list(frames_on_wire(packet))
        segmented += len(frames) > 1
        times += [packet.time_ps] * len(frames)
        lengths += frames
        numbers += [number] * len(frames)
    if not times:
        raise UserError(f"{path}: no packets in it")
    first = times[0]
    return PacketFile(
        np.maximum.accumulate(np.array([time - first for time in times], dtype=np.int64)),
        np.array(lengths, dtype=np.int64),
        np.array(numbers, dtype=np.int64),
        np.array(hashes, dtype=np.uint32),
        segmented,
    )
