"""perf_event_open(2): an event of one CPU, to be counted or collected.

Nothing is switched on for other programs, and everything ends with the descriptors.
"""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass

from calibration import syscalls

HARDWARE, SOFTWARE, TRACEPOINT, HARDWARE_CACHE = range(4)
_ATTRIBUTES_BYTES, _CLOCKID_AT, _CLOCK_MONOTONIC = 112, 92, 1
_USE_CLOCKID, _NONROOT_CLOEXEC = 1 << 25, 8
_TIME_ENABLED, _TIME_RUNNING = 1, 2


@dataclass(frozen=True)
class Event:
    """What the kernel calls `type` and `config`."""

    kind: int
    config: int


def open_event(event: Event, cpu: int, sample_type: int = 0, read_format: int = 0, flags: int = 0) -> int:
    """A descriptor for an event on a CPU; times are those of CLOCK_MONOTONIC.

    Raises
    ------
    OSError
        If there is no such event, or no right to use it.
    """
    attributes = struct.pack(
        "IIQQQQQII",
        event.kind,
        _ATTRIBUTES_BYTES,
        event.config,
        1 if sample_type else 0,
        sample_type,
        read_format,
        flags | _USE_CLOCKID,
        0,
        0,
    )
    buffer = ctypes.create_string_buffer(attributes, _ATTRIBUTES_BYTES)
    struct.pack_into("i", buffer, _CLOCKID_AT, _CLOCK_MONOTONIC)
    return syscalls.system_call("perf_event_open", buffer, -1, cpu, -1, ctypes.c_ulong(_NONROOT_CLOEXEC))


@dataclass(frozen=True)
class Reading:
    """A count so far, and for how long it was wanted and really counted, in ns: processors have fewer counters than events."""

    count: int
    enabled_ns: int
    running_ns: int

    def since(self, before: Reading) -> Reading:
        """What was added since another reading."""
        return Reading(self.count - before.count, self.enabled_ns - before.enabled_ns, self.running_ns - before.running_ns)


class Counter:
    """One event on one CPU, counted from now on.

    Raises
    ------
    OSError
        If there is no such event, or no right to use it.
    """

    def __init__(self, event: Event, cpu: int) -> None:
        self._event = open_event(event, cpu, read_format=_TIME_ENABLED | _TIME_RUNNING)

    def read(self) -> Reading:
        """The count by now."""
        return Reading(*struct.unpack("QQQ", os.read(self._event, 24)))

    def close(self) -> None:
        """Remove the event."""
        os.close(self._event)
