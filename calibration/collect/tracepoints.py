"""How many packets a NAPI poll takes: the tracepoint napi:napi_poll, through perf_event_open(2).

The event's number and the places of its fields come from tracefs, which is mounted nowhere for that; the events come through a ring per CPU. Nothing is switched
on for other programs, and everything ends with the descriptors.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
import struct
import time
from dataclasses import dataclass

from calibration import syscalls

MOST = 64
"""A poll takes at most this (`NAPI_POLL_WEIGHT`)."""
_TRACEPOINT, _SAMPLE_RAW, _DISABLED, _NONROOT_CLOEXEC = 2, 1 << 10, 1, 8
_ENABLE, _DISABLE = 0x2400, 0x2401
_RECORD_LOST, _RECORD_SAMPLE = 2, 9
_RING_PAGES = 1024
_HEAD_AT, _TAIL_AT = 1024, 1032


@dataclass(frozen=True)
class Polls:
    """Polls of one interface's NAPI instance during `seconds`; `batches[n]` polls took n packets. `lost` events are missing."""

    seconds: float
    batches: tuple[int, ...]
    lost: int


class _Format:
    """Number of the event and where its fields are."""

    def __init__(self) -> None:
        root = syscalls.detached_mount("tracefs")
        try:
            self.number = int(_text(root, "events/napi/napi_poll/id"))
            fields = re.findall(r"field:.*?(\w+)(?:\[\])?;\s*offset:(\d+);", _text(root, "events/napi/napi_poll/format"))
        finally:
            os.close(root)
        self.offsets = {name: int(offset) for name, offset in fields}


def _text(root: int, path: str) -> str:
    with open(os.open(path, os.O_RDONLY, dir_fd=root), encoding="ascii") as file:
        return file.read()


class PollTrace:
    """Events of all polls on some CPUs.

    Raises
    ------
    OSError
        If there is no tracefs, no such tracepoint, or no right to use it.
    """

    def __init__(self, cpus: tuple[int, ...], interface: str) -> None:
        self._interface = interface.encode()
        self._format = _Format()
        self._descriptors: list[int] = []
        self._rings: list[mmap.mmap] = []
        attributes = struct.pack("IIQQQQQII", _TRACEPOINT, 112, self._format.number, 1, _SAMPLE_RAW, 0, _DISABLED, 0, 0)
        buffer = ctypes.create_string_buffer(attributes, 112)
        try:
            for cpu in cpus:
                event = syscalls.system_call("perf_event_open", buffer, -1, cpu, -1, ctypes.c_ulong(_NONROOT_CLOEXEC))
                self._descriptors.append(event)
                self._rings.append(mmap.mmap(event, (1 + _RING_PAGES) * mmap.PAGESIZE))
        except OSError:
            self.close()
            raise

    def watch(self, seconds: float) -> Polls:
        """Collect events for a while; keep it short, as every poll costs a little more meanwhile."""
        for descriptor in self._descriptors:
            syscalls.checked(syscalls.libc.ioctl(descriptor, _ENABLE, 0))
        began = time.monotonic()
        time.sleep(seconds)
        for descriptor in self._descriptors:
            syscalls.checked(syscalls.libc.ioctl(descriptor, _DISABLE, 0))
        lasted = time.monotonic() - began
        batches, lost = [0] * (MOST + 1), 0
        for ring in self._rings:
            lost += self._drain(ring, batches)
        return Polls(lasted, tuple(batches), lost)

    def _drain(self, ring: mmap.mmap, batches: list[int]) -> int:
        """Take all events out of a ring; how many the kernel could not put there."""
        head, tail = struct.unpack_from("QQ", ring, _HEAD_AT)
        data, size = memoryview(ring)[mmap.PAGESIZE :], _RING_PAGES * mmap.PAGESIZE
        offsets, lost = self._format.offsets, 0
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
                raw = record[12:]
                name_at = struct.unpack_from("H", raw, offsets["dev_name"])[0]
                if raw[name_at:].split(b"\0", 1)[0] == self._interface:
                    batches[min(MOST, struct.unpack_from("i", raw, offsets["work"])[0])] += 1
        data.release()
        struct.pack_into("Q", ring, _TAIL_AT, tail)
        return lost

    def close(self) -> None:
        """Remove the events."""
        for ring in self._rings:
            with contextlib.suppress(BufferError):
                ring.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._rings, self._descriptors = [], []
