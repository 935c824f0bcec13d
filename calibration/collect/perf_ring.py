"""Events of tracepoints, through rings of perf_event_open(2).

An event's number and the places of its fields come from tracefs, which is mounted nowhere for that.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from calibration import syscalls
from calibration.collect.perf_event import TRACEPOINT, Event, open_event

_DISABLED, _SAMPLE_TIME, _SAMPLE_RAW = 1, 1 << 2, 1 << 10
_ENABLE, _DISABLE = 0x2400, 0x2401
_RECORD_LOST, _RECORD_SAMPLE = 2, 9
_PAGES = 1024
_HEAD_AT, _TAIL_AT = 1024, 1032

Reader = Callable[[int, bytes], None]
"""Takes the time of an event, in ns of CLOCK_MONOTONIC, and its fields as the kernel lays them out."""


@dataclass(frozen=True)
class Tracepoint:
    """Number of a tracepoint, where its fields are, and how the kernel would print them (`print fmt`)."""

    number: int
    offsets: dict[str, int]
    printed: str = ""

    @property
    def event(self) -> Event:
        """As an event to be counted."""
        return Event(TRACEPOINT, self.number)


def tracepoints(*names: str) -> list[Tracepoint]:
    """Look tracepoints up by group/name.

    Raises
    ------
    OSError
        If there is no tracefs, or no such tracepoint.
    """
    root = syscalls.detached_mount("tracefs")
    try:
        return [tracepoint(int(_text(root, f"events/{name}/id")), _text(root, f"events/{name}/format")) for name in names]
    finally:
        os.close(root)


def tracepoint(number: int, text: str) -> Tracepoint:
    """A tracepoint by the text of its file `format`."""
    offsets = {field: int(offset) for field, offset in re.findall(r"field:.*?(\w+)(?:\[\])?;\s*offset:(\d+);", text)}
    return Tracepoint(number, offsets, text.partition("print fmt:")[2].strip())


def _text(root: int, path: str) -> str:
    with open(os.open(path, os.O_RDONLY, dir_fd=root), encoding="ascii") as file:
        return file.read()


def watch(wanted: Sequence[tuple[Tracepoint, int, Reader]], seconds: float) -> tuple[int, int, list[int]]:
    """Collect events of tracepoints on CPUs for a while.

    Returns
    -------
    tuple
        When it began and ended, in ns of CLOCK_MONOTONIC, and how many events of each are lost.

    Raises
    ------
    OSError
        If there is no right to use them.
    """
    with ExitStack() as stack:
        rings = [stack.enter_context(closing(PerfRing(point, cpu))) for point, cpu, _ in wanted]
        for ring in rings:
            ring.switch(on=True)
        began = time.monotonic_ns()
        time.sleep(seconds)
        ended = time.monotonic_ns()
        for ring in rings:
            ring.switch(on=False)
        return began, ended, [ring.drain(read) for ring, (_, _, read) in zip(rings, wanted, strict=True)]


class PerfRing:
    """One tracepoint on one CPU, switched off at first.

    Raises
    ------
    OSError
        If there is no right to use it.
    """

    def __init__(self, point: Tracepoint, cpu: int) -> None:
        self._event = open_event(point.event, cpu, sample_type=_SAMPLE_TIME | _SAMPLE_RAW, flags=_DISABLED)
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
