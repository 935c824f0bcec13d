"""What the processor counts of itself during a window: cycles, instructions, misses; and exits of guests under KVM.

Events by the names of perf(1): cycles, instructions, LLC-load-misses, dTLB-load-misses, iTLB-load-misses, kvm:kvm_exit. A virtual machine often has none of
them, and AMD's processors do not count misses of the last level a core. What is not there is left out of a window, and the record says why.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any

from calibration.collect.exits import kvm_exit
from calibration.collect.perf_event import HARDWARE, HARDWARE_CACHE, Counter, Event, Reading

_MISSED_READS = 1 << 16
_LAST_LEVEL, _DATA_TLB, _INSTRUCTION_TLB = 2, 3, 4
EVENTS = {
    "cycles": Event(HARDWARE, 0),
    "instructions": Event(HARDWARE, 1),
    "llc_misses": Event(HARDWARE_CACHE, _LAST_LEVEL | _MISSED_READS),
    "dtlb_misses": Event(HARDWARE_CACHE, _DATA_TLB | _MISSED_READS),
    "itlb_misses": Event(HARDWARE_CACHE, _INSTRUCTION_TLB | _MISSED_READS),
}
"""What is counted on every CPU, and what the columns are called."""
KVM_EXITS = "kvm_exits"
_WHY = {
    errno.ENOENT: "this processor, or its hypervisor, does not count it",
    errno.EOPNOTSUPP: "this processor, or its hypervisor, does not count it",
    errno.ENODEV: "this processor, or its hypervisor, does not count it",
    errno.EACCES: "not allowed: it needs root (kernel.perf_event_paranoid)",
    errno.EPERM: "not allowed: it needs root (kernel.perf_event_paranoid)",
}


class ProcessorEvents:
    """Events on some CPUs, counted from now on.

    Attributes
    ----------
    missing
        Why some are not counted, by name.
    """

    def __init__(self, cpus: tuple[int, ...], events: Mapping[str, Event] = EVENTS) -> None:
        self.missing: dict[str, str] = {}
        self._counters: dict[str, list[Counter]] = {}
        self._open = ExitStack()
        for name, event in events.items():
            self._add(name, event, cpus)
        try:
            self._add(KVM_EXITS, kvm_exit().event, cpus)
        except OSError as error:
            self.missing[KVM_EXITS] = f"no guests under KVM here: {error.filename or 'kvm:kvm_exit'}: {error.strerror}"

    def _add(self, name: str, event: Event, cpus: tuple[int, ...]) -> None:
        """Count an event on all CPUs, or on none."""
        try:
            with ExitStack() as stack:
                self._counters[name] = [stack.enter_context(closing(Counter(event, cpu))) for cpu in cpus]
                self._open.enter_context(stack.pop_all())
        except OSError as error:
            self.missing[name] = _WHY.get(error.errno or 0, str(error.strerror))

    def read(self) -> dict[str, list[Reading]]:
        """All counts by now, of each CPU."""
        return {name: [counter.read() for counter in counters] for name, counters in self._counters.items()}

    def close(self) -> None:
        """Remove all events."""
        self._open.close()


def columns(before: Mapping[str, list[Reading]], after: Mapping[str, list[Reading]]) -> dict[str, Any]:
    """Columns of a window between two readings.

    An event that had to share a counter was seen a part of the time and is scaled up, as perf does; `counted_share` is the smallest part. One that was never seen has no column.
    """
    row: dict[str, Any] = {}
    shares = []
    for name, readings in after.items():
        changes = [last.since(first) for first, last in zip(before[name], readings, strict=True)]
        if all(change.running_ns > 0 for change in changes):
            row[name] = [round(change.count * change.enabled_ns / change.running_ns) for change in changes]
            shares += [change.running_ns / change.enabled_ns for change in changes]
    return {**row, "counted_share": min(shares)} if shares else row


def available() -> dict[str, Any]:
    """What can be counted on this host, and why the rest cannot, as plain JSON."""
    probe = ProcessorEvents((min(os.sched_getaffinity(0)),))
    probe.close()
    return {"available": [name for name in (*EVENTS, KVM_EXITS) if name not in probe.missing], "missing": probe.missing}
