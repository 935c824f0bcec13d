"""The pcap and pcapng formats: records with time, original length and captured bytes.

Reads pcap (micro- and nanosecond, either byte order) and pcapng (enhanced packet blocks). Formats: draft-ietf-opsawg-pcap,
draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from simnet.errors import UserError
from simnet.units import PS_PER_S

_PCAP_MAGIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 10**6),
    b"\xa1\xb2\xc3\xd4": (">", 10**6),
    b"\x4d\x3c\xb2\xa1": ("<", 10**9),
    b"\xa1\xb2\x3c\x4d": (">", 10**9),
}
_SECTION, _INTERFACE, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 3, 6
_SECTION_MAGIC = b"\x0a\x0d\x0d\x0a"
_LITTLE = b"\x4d\x3c\x2b\x1a"
_TSRESOL, _TSOFFSET = 9, 14
_LEAST = {_SECTION: 16, _INTERFACE: 8, _SIMPLE: 4, _ENHANCED: 20}


@dataclass(frozen=True)
class Packet:
    """One record of a file: time in ps (since the epoch), original length and captured bytes, link type."""

    time_ps: int
    length: int
    data: bytes
    link_type: int


@dataclass(frozen=True)
class _Interface:
    """An interface of a pcapng section."""

    link_type: int
    per_second: int
    offset_s: int


class _Reader:
    """Bytes of a file, with a message for the end that comes too early."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        except ValueError as error:  # a null byte in the name
            raise UserError(f"{str(path)!r}: cannot be read: {error}") from None
        self.at = 0
        self.records = 0

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.content):
            raise UserError(f"{self.path}: truncated: packet {self.records + 1} at byte {self.at} is cut off")
        self.at += count
        return self.content[self.at - count : self.at]

    def ended(self) -> bool:
        return self.at == len(self.content)

    def broken(self, what: str) -> UserError:
        return UserError(f"{self.path}: packet {self.records + 1} {what}")


def _pcap(reader: _Reader) -> Iterator[Packet]:
    order, per_second = _PCAP_MAGIC[reader.take(4)]
    link_type = struct.unpack(order + "16xI", reader.take(20))[0] & 0xFFFF
    header = struct.Struct(order + "IIII")
    while not reader.ended():
        seconds, fraction, captured, length = header.unpack(reader.take(16))
        yield Packet(seconds * PS_PER_S + fraction * (PS_PER_S // per_second), length, reader.take(captured), link_type)
        reader.records += 1


def _interface(body: bytes, order: str) -> _Interface:
    """An interface description: link type, and the options that say what its time stamps mean."""
    per_second, offset_s = 1_000_000, 0
    at = 8
    while at + 4 <= len(body):
        code, length = struct.unpack_from(order + "HH", body, at)
        value = body[at + 4 : at + 4 + length]
        if code == _TSRESOL and len(value) == 1:
            per_second = 1 << (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
        elif code == _TSOFFSET and len(value) == 8:
            offset_s = struct.unpack(order + "q", value)[0]
        at += 4 + (length + 3 & ~3)
    return _Interface(struct.unpack_from(order + "H", body)[0], per_second, offset_s)


def _enhanced(reader: _Reader, body: bytes, order: str, interfaces: list[_Interface]) -> Packet:
    """A packet of an enhanced packet block."""
    number, high, low, captured, original = struct.unpack_from(order + "IIIII", body)
    if number >= len(interfaces):
        raise reader.broken(f"belongs to interface {number}, which is not described")
    if captured > len(body) - 20:
        raise reader.broken("is longer than its block")
    interface = interfaces[number]
    time_ps = (high << 32 | low) * PS_PER_S // interface.per_second + interface.offset_s * PS_PER_S
    return Packet(time_ps, original, body[20 : 20 + captured], interface.link_type)


def _pcapng(reader: _Reader) -> Iterator[Packet]:
    order = "<"
    interfaces: list[_Interface] = []
    while not reader.ended():
        start = reader.at
        kind_bytes = reader.take(4)
        if kind_bytes == _SECTION_MAGIC:
            order = "<" if reader.content[start + 8 : start + 12] == _LITTLE else ">"
            interfaces = []
        kind, length = struct.unpack(order + "I", kind_bytes)[0], struct.unpack(order + "I", reader.take(4))[0]
        body = reader.take(length - 12)
        reader.take(4)
        if len(body) < _LEAST.get(kind, 0):
            raise reader.broken(f"stands behind a block of {length} bytes, which is too short for its kind")
        if kind == _INTERFACE:
            interfaces.append(_interface(body, order))
        elif kind == _ENHANCED:
            yield _enhanced(reader, body, order, interfaces)
            reader.records += 1
        elif kind == _SIMPLE:
            raise reader.broken("has no time stamp (simple packet block)")


def read_records(path: Path) -> Iterator[Packet]:
    """The packets of a capture file, in the file's order.

    Raises
    ------
    UserError
        If the file cannot be read, is truncated, or of another format.
    """
    reader = _Reader(path)
    magic = reader.content[:4]
    if magic in _PCAP_MAGIC:
        return _pcap(reader)
    if magic == _SECTION_MAGIC:
        return _pcapng(reader)
    raise UserError(f"{path}: neither pcap nor pcapng")
