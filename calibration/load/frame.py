"""The frames of the lab: UDP over IPv4 to nobody's MAC address, so that no IP stack answers."""

from __future__ import annotations

import struct

FCS_BYTES = 4
SOURCE_PORT_AT = 34
HEADERS_BYTES = 42
_FOREIGN, _SOURCE = bytes.fromhex("0200000000fe"), bytes.fromhex("020000000001")


def frame(frame_bytes: int, source_port: int = 0) -> bytes:
    """A frame without its FCS.

    Parameters
    ----------
    frame_bytes
        Length on the wire with FCS, as everywhere in simnet; at least 64.
    source_port
        What tells flows apart.
    """
    length = frame_bytes - FCS_BYTES
    total = length - 14
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, total, 0, 0, 64, 17, 0, bytes((198, 18, 0, 1)), bytes((198, 18, 0, 2)))
    words = struct.unpack("!10H", ip)
    checksum = sum(words)
    checksum = (checksum & 0xFFFF) + (checksum >> 16)
    checksum = ~((checksum & 0xFFFF) + (checksum >> 16)) & 0xFFFF
    ip = ip[:10] + struct.pack("!H", checksum) + ip[12:]
    udp = struct.pack("!HHHH", source_port, 9, total - 20, 0)
    return (_FOREIGN + _SOURCE + b"\x08\x00" + ip + udp).ljust(length, b"\0")
