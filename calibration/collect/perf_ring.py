"""Events of a tracepoint on one CPU, through a ring of perf_event_open(2).

The event's number and the places of its fields come from tracefs, which is mounted nowhere for that. Nothing is switched on for other programs, and everything ends with
the descriptors.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from calibration import syscalls

_TRACEPOINT, _DISABLED, _USE_CLOCKID, _NONROOT_CLOEXEC = 2, 1, 1 << 25, 8
_SAMPLE_TIME, _SAMPLE_RAW, _CLOCK_MONOTONIC = 1 << 2, 1 << 10, 1
_ENABLE, _DISABLE = 0x2400, 0x2401
_RECORD_LOST, _RECORD_SAMPLE = 2, 9
_PAGES = 1024
_HEAD_AT, _TAIL_AT = 1024, 1032
_ATTRIBUTES_BYTES, _CLOCKID_AT = 112, 92

Reader = Callable[[int, bytes], None]
"""Takes the time of an event, in ns of CLOCK_MONOTONIC, and its fields as the kernel lays them out."""


@dataclass(frozen=True)
class Tracepoint:
    """Number of a tracepoint, and where its fields are."""

    number: int
    offsets: dict[str, int]


def tracepoints(*names: str) -> list[Tracepoint]:
    """Look tracepoints up by group/name.

    Raises
    ------
    OSError
        If there is no tracefs, or no such tracepoint.
    """
    root = syscalls.detached_mount("tracefs")
    try:
        return [
            Tracepoint(
                int(_text(root, f"events/{name}/id")),
                {
                    field: int(offset)
                    for field, offset in re.findall(
                        r"field:.*?(\w+)(?:\[\])?;\s*offset:(\d+);", _text(root, f"events/{name}/format")
                    )
                },
            )
            for name in names
        ]
    finally:
        os.close(root)


def _text(root: int, path: str) -> str:
    with open(os.open(path, os.O_RDONLY, dir_fd=root), encoding="ascii") as file:
        return file.read()


class PerfRing:
    """One tracepoint on one CPU, switched off at first.

    Raises
    ------
    OSError
        If there is no right to use it.
    """

    def __init__(self, point: Tracepoint, cpu: int) -> None:
        attributes = struct.pack(
            "IIQQQQQII",
            _TRACEPOINT,
            _ATTRIBUTES_BYTES,
            point.number,
            1,
            _SAMPLE_TIME | _SAMPLE_RAW,
            0,
            _DISABLED | _USE_CLOCKID,
            0,
            0,
        )
        buffer = ctypes.create_string_buffer(attributes, _ATTRIBUTES_BYTES)
        struct.pack_into("i", buffer, _CLOCKID_AT, _CLOCK_MONOTONIC)
        self._event = syscalls.system_call("perf_event_open", buffer, -1, cpu, -1, ctypes.c_ulong(_NONROOT_CLOEXEC))
        try:
            self._ring = mmap.mmap(self._event, (1 + _PAGES) * mmap.PAGESIZE)
        except OSError:
            os.close(self._event)
            raise

    def switch(self, on: bool) -> None:
        """Begin or stop to collect."""
        syscalls.checked(syscalls.libc.ioctl(self._event, _ENABLE if on else _DISABLE, 0))

    def drain(self, read: Reader) -> int:
        """Hand over all events so far; how many the kernel could not put into the ring."""
        head, tail = struct.unpack_from("QQ", self._ring, _HEAD_AT)
        data, size, lost = memoryview(self._ring)[mmap.PAGESIZE :], _PAGES * mmap.PAGESIZE, 0
        while tail < head:
            at = tail % size
            kind, _, length = struct.unpack_from("IHH", data, at)
            record = bytes(data[at : at + length])
            if len(record) < length:
                record += bytes(data[: length - len(record)])
            tail += length
            if kind == _RECORD_LOST:
                lost += struct.unpack_from("Q", record, 16)[0]
            if kind == _RECORD_SAMPLE:
                read(struct.unpack_from("Q", record, 8)[0], record[20:])
        data.release()
        struct.pack_into("Q", self._ring, _TAIL_AT, tail)
        return lost

    def close(self) -> None:
        """Remove the event."""
        with contextlib.suppress(BufferError):
            self._ring.close()
        os.close(self._event)
