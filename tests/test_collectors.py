"""What a window records beside its packets: events that processors count, and exits of guests by reason; and what of that a host does not have."""

from __future__ import annotations

import errno
import mmap
import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from calibration.collect import exits, processor_events
from calibration.collect.exits import reason, symbols, watch_exits
from calibration.collect.facts import facts
from calibration.collect.perf_event import HARDWARE, SOFTWARE, Counter, Event, Reading
from calibration.collect.perf_ring import Tracepoint, tracepoint, tracepoints
from calibration.collect.processor_events import EVENTS, KVM_EXITS, ProcessorEvents, columns
from calibration.record import COLUMNS, read_record
from calibration.shipped import shipped_records

CPU_CLOCK, PAGE_FAULTS = Event(SOFTWARE, 0), Event(SOFTWARE, 2)
NONE_SUCH = Event(HARDWARE, 0xFFFF)
X86 = (Path(__file__).parent / "fixtures" / "kvm_exit-6.18-x86.format").read_text(encoding="ascii")
MIPS = """name: kvm_exit
ID: 472
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:unsigned long pc;\toffset:8;\tsize:4;\tsigned:0;
\tfield:unsigned int reason;\toffset:12;\tsize:4;\tsigned:0;

print fmt: "[%s]PC: 0x%08lx", __print_symbolic(REC->reason, { 0, "Interrupt" }, { 1, "TLB Mod" }, { 2, "TLB Miss (LD)" }, \
{ 8, "System Call" }, { 32, "WAIT" }, { 33, "CACHE" }, { 34, "Signal" }), REC->pc
"""
"""As its author showed it on the kernel's mailing list (June 2016)."""
VMX, SVM = 1, 2


def exit_of(point: Tracepoint, isa: int, exit_reason: int) -> bytes:
    """An event as an x86 kernel lays it out."""
    raw = bytearray(72)
    struct.pack_into("I", raw, point.offsets["exit_reason"], exit_reason)
    struct.pack_into("I", raw, point.offsets["isa"], isa)
    return bytes(raw)


@pytest.mark.parametrize(
    ("isa", "exit_reason", "name"),
    [
        (VMX, 12, "HLT"),
        (VMX, 32, "MSR_WRITE"),
        (VMX, 0x80000000 | 33, "INVALID_STATE"),
        (VMX, 9999, "0x270f"),
        (SVM, 0x78, "hlt"),
        (SVM, 0x40 + 14, "PF excp"),
        (SVM, 0x80000002, "vmgexit_mmio_write"),
        (SVM, 0xFFFFFFFF, "invalid_guest_state"),
    ],
)
def test_an_exit_has_the_name_that_the_kernel_prints(isa: int, exit_reason: int, name: str) -> None:
    point = tracepoint(103, X86)
    assert reason(point, symbols(point), exit_of(point, isa, exit_reason)) == name


def test_an_exit_of_another_processor_has_one_too() -> None:
    point = tracepoint(472, MIPS)
    assert reason(point, symbols(point), struct.pack("IIII", 0, 0, 0, 32)) == "WAIT"


def test_events_are_counted_by_name_through_the_ring_of_this_kernel() -> None:
    """Softirqs have a table of names too, and there are some wherever the tests run."""
    try:
        (point,) = tracepoints("irq/softirq_entry")
        found = watch_exits(point, tuple(os.sched_getaffinity(0)), 0.3)
    except OSError as error:
        pytest.skip(f"no tracepoints: {error}")
    assert {"TIMER", "SCHED", "RCU"} & found.reasons.keys()
    assert not [name for name in found.reasons if name.startswith("0x")]
    assert (found.lost, found.seconds) == (0, pytest.approx(0.3, abs=0.2))


def counters_or_skip(events: dict[str, Event], cpus: tuple[int, ...]) -> ProcessorEvents:
    counting = ProcessorEvents(cpus, events)
    if events.keys() <= counting.missing.keys():
        counting.close()
        pytest.skip(f"no perf events: {counting.missing}")
    return counting


def test_what_happens_on_a_cpu_is_counted_there_and_only_then() -> None:
    everywhere = os.sched_getaffinity(0)
    cpu = min(everywhere)
    counting = counters_or_skip({"faults": PAGE_FAULTS, "clock": CPU_CLOCK}, (cpu,))
    os.sched_setaffinity(0, {cpu})
    try:
        before, began = counting.read(), time.monotonic_ns()
        with mmap.mmap(-1, 500 * mmap.PAGESIZE) as memory:
            memory.madvise(mmap.MADV_NOHUGEPAGE)
            for page in range(500):
                memory[page * mmap.PAGESIZE] = 1
        row, took = columns(before, counting.read()), time.monotonic_ns() - began
    finally:
        os.sched_setaffinity(0, everywhere)
        counting.close()
    assert row["faults"][0] >= 500
    assert row["clock"][0] == pytest.approx(took, rel=0.5)
    assert row["counted_share"] == 1.0


def test_an_event_that_shared_a_counter_is_scaled_and_one_never_seen_is_left_out() -> None:
    zero = Reading(0, 0, 0)
    before = {"whole": [zero, Reading(5, 10, 10)], "half": [zero, zero], "never": [zero, zero]}
    after = {
        "whole": [Reading(7, 100, 100), Reading(12, 110, 110)],
        "half": [Reading(30, 100, 50), Reading(3, 100, 100)],
        "never": [Reading(9, 100, 100), Reading(0, 100, 0)],
    }
    assert columns(before, after) == {"whole": [7, 7], "half": [60, 3], "counted_share": 0.5}
    assert columns({"never": [zero]}, {"never": [Reading(0, 100, 0)]}) == {}


def test_an_event_that_is_not_there_is_missing_and_the_others_are_counted() -> None:
    counting = counters_or_skip({"clock": CPU_CLOCK, "nothing": NONE_SUCH}, (min(os.sched_getaffinity(0)),))
    counted = counting.read()
    counting.close()
    assert "clock" in counted
    assert "nothing" not in counted
    assert counting.missing["nothing"]


def test_without_the_right_nothing_is_counted_and_no_descriptor_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []

    class Fake:
        def __init__(self, _: Event, cpu: int) -> None:
            if cpu == 1:
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            opened.append(self)

        def close(self) -> None:
            opened.remove(self)

    monkeypatch.setattr(processor_events, "Counter", Fake)
    monkeypatch.setattr(exits, "DEVICE", "/dev/there-is-no-kvm")
    counting = ProcessorEvents((0, 1))
    assert counting.missing.keys() == {*EVENTS, KVM_EXITS}
    assert "root" in counting.missing["cycles"]
    assert "/dev/there-is-no-kvm" in counting.missing[KVM_EXITS]
    assert opened == []
    assert counting.read() == {}
    assert columns(counting.read(), counting.read()) == {}


def test_closing_leaves_no_descriptor() -> None:
    before = set(os.listdir("/proc/self/fd"))
    counting = ProcessorEvents((min(os.sched_getaffinity(0)),), {"clock": CPU_CLOCK, "nothing": NONE_SUCH})
    counting.close()
    assert set(os.listdir("/proc/self/fd")) == before


def test_the_facts_about_a_host_say_of_every_event_whether_it_is_counted() -> None:
    said = facts()["collectors"]
    assert sorted([*said["available"], *said["missing"]]) == sorted([*EVENTS, KVM_EXITS])
    assert all(said["missing"].values())
    for name in EVENTS:
        try:
            Counter(EVENTS[name], min(os.sched_getaffinity(0))).close()
        except OSError:
            assert name in said["missing"]
        else:
            assert name in said["available"]


def test_every_event_has_a_column_which_records_from_before_do_not_fill() -> None:
    new = [*EVENTS, KVM_EXITS, "counted_share", "exits_s", "exits_of", "exits_lost"]
    assert set(new) <= COLUMNS.keys()
    older = [record for folder in shipped_records().values() if (record := read_record(folder)).about["format_version"] < 3]
    assert older
    for record in older:
        assert record.windows[new].isna().all(axis=None)
