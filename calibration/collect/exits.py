"""Why virtual processors left their guests: the tracepoint kvm:kvm_exit, by reason.

The names of the reasons are those that the kernel prints (`__print_symbolic` in the tracepoint's format): HLT, MSR_WRITE, ... on Intel's processors,
hlt, msr, ... on AMD's.
"""

from __future__ import annotations

import os
import re
import struct
from collections import Counter
from dataclasses import dataclass

from calibration.collect.perf_ring import Tracepoint, tracepoints, watch

DEVICE = "/dev/kvm"
_TABLE = re.compile(r"__print_symbolic\(REC->(\w+)(?: & (0x[0-9a-f]+))?((?:, \{[^{}]*\})+)\)")
_ENTRY = re.compile(r'\{ ([^,{}]+), "([^"]*)" \}')
_VMX = 1
_WORD = 0xFFFFFFFF


@dataclass(frozen=True)
class Exits:
    """Exits during `seconds`, by reason; `lost` ones are missing."""

    seconds: float
    reasons: dict[str, int]
    lost: int


@dataclass(frozen=True)
class Symbols:
    """Names of a field's values, after a mask."""

    field: str
    mask: int
    names: dict[int, str]


def kvm_exit() -> Tracepoint:
    """The tracepoint, if this host can run guests under KVM.

    Raises
    ------
    OSError
        If it cannot, there is no tracefs, or no such tracepoint.
    """
    os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    return tracepoints("kvm/kvm_exit")[0]


def symbols(point: Tracepoint) -> list[Symbols]:
    """All tables of names in how an event is printed."""
    return [
        Symbols(
            field,
            int(mask, 0) if mask else _WORD,
            {sum(int(part, 0) for part in value.split("+")) & _WORD: name for value, name in _ENTRY.findall(entries)},
        )
        for field, mask, entries in _TABLE.findall(point.printed)
    ]


def reason(point: Tracepoint, tables: list[Symbols], raw: bytes) -> str:
    """Why this exit happened. With two tables of one field, the first is that of Intel's processors, as `isa` says."""
    second = "isa" in point.offsets and struct.unpack_from("I", raw, point.offsets["isa"])[0] != _VMX
    table = tables[1 if second else 0]
    value = struct.unpack_from("I", raw, point.offsets[table.field])[0] & table.mask
    return table.names.get(value, f"{value:#x}")


def watch_exits(point: Tracepoint, cpus: tuple[int, ...], seconds: float) -> Exits:
    """Collect all exits on some CPUs for a while.

    Raises
    ------
    OSError
        If there is no right to use the tracepoint.
    """
    found, tables = Counter[str](), symbols(point)

    def on_exit(at: int, raw: bytes) -> None:
        del at
        found[reason(point, tables, raw)] += 1

    began, ended, lost = watch([(point, cpu, on_exit) for cpu in cpus], seconds)
    return Exits((ended - began) / 1e9, dict(found.most_common()), sum(lost))
