"""Who else used the processors: other processes, and the hypervisor.

/proc/stat cannot say: it samples at ticks, and puts half of a packet's softirq where it does not belong. The times of processes are exact
(`sum_exec_runtime`, in units of USER_HZ), so all processes are summed except the lab's own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from dataclasses import dataclass

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_OURS = ("ksoftirqd/", "napi/", "swapper")
_UTIME, _CSTIME, _PROCESSOR = 11, 14, 36
_STEAL = 8
_LOOK_S = 0.4


@dataclass(frozen=True)
class Usage:
    """What others had used of some CPUs at one moment, in seconds."""

    at_s: float
    foreign_s: float
    stolen_s: float


def usage(cpus: Collection[int], own: Collection[int]) -> Usage:
    """Time that others have used so far.

    Parameters
    ----------
    cpus
        The CPUs that matter. A process counts where its main thread was seen last.
    own
        Process ids of the lab, which do not count.
    """
    foreign = 0
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in own:
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                head, _, tail = file.read().rpartition(b") ")
        except OSError:  # it ended meanwhile
            continue
        fields = tail.split()
        if int(fields[_PROCESSOR]) in cpus and not head.partition(b"(")[2].decode(errors="replace").startswith(_OURS):
            foreign += sum(map(int, fields[_UTIME : _CSTIME + 1]))
    stolen = 0
    with open("/proc/stat", encoding="ascii") as stat:
        for line in stat:
            words = line.split()
            if words[0].startswith("cpu") and words[0] != "cpu" and int(words[0][3:]) in cpus:
                stolen += int(words[_STEAL])
    return Usage(time.monotonic(), foreign * _TICK_S, stolen * _TICK_S)


def wait_until_quiet(cpus: Collection[int], own: Collection[int], share: float, seconds: float) -> None:
    """Wait until others take at most a share of some CPUs, but no longer than some seconds."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        before = usage(cpus, own)
        time.sleep(_LOOK_S)
        if max(shares(before, usage(cpus, own), len(cpus))) <= share:
            return


def shares(before: Usage, after: Usage, cpus: int) -> tuple[float, float]:
    """Shares of the CPUs' time that other processes and the hypervisor took between two moments."""
    whole = (after.at_s - before.at_s) * cpus
    return max(0.0, after.foreign_s - before.foreign_s) / whole, max(0.0, after.stolen_s - before.stolen_s) / whole
