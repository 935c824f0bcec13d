"""A record: what was measured on one host, as it can be read years later. A Parquet table with a row a window, and a JSON file about everything else.

The JSON file says what each column means, what the host was, what was asked for, by which version, and the checksums of the table and of
itself. Neither has names of hosts, addresses or paths; a note of the user's is the only free text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.collect.counters import PLACES
from calibration.collect.facts import differences
from simnet.errors import UserError
from simnet.files import write_json, write_whole

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FORMAT = "simnet-capture-record"
VERSION = 3
"""2: time in softirqs. 3: what tracing them costs; events that processors count, exits of guests under KVM."""
TABLE, ABOUT = "windows.parquet", "record.json"

_THREADS = {"load": "the generator", "reader": "the reader", "napi": "the NAPI thread"}
COLUMNS: dict[str, tuple[str, str, str]] = {
    "window": ("string", "", "point and repetition; the same for another attempt at the same window"),
    "order": ("int64", "", "place in the order of measuring"),
    "attempt": ("int64", "", "0, or how often the window had been rejected before"),
    "repeat": ("int64", "", "repetition, and block of the interleaved order"),
    "started_s": ("double", "s", "since the first window of the campaign, by the clock of the day"),
    "method": ("string", "", "capture back end"),
    "placement": ("string", "", "name of the placement in the campaign"),
    "frame_bytes": ("int64", "bytes", "frame length with FCS"),
    "flows": ("int64", "", "flows, told apart by source port"),
    "target_kpps": ("double", "kpps", "load that was asked for"),
    "generator": (
        "string",
        "",
        "xdp: live frames paced in the kernel; sendmmsg: bursts from user space; pktgen, command: on another host",
    ),
    "seconds": ("double", "s", "length of the window"),
    "offered": (
        "int64",
        "packets",
        "given to the link, counted by the generator; of a real link what reached the port, received or lost in the NIC",
    ),
    "captured": ("int64", "packets", "that the reader has, counted by the reader"),
    **{f"dropped_{place}": ("int64", "packets", counter) for place, counter in PLACES.items()},
    "socket_packets": ("int64", "packets", "that the softirq brought to the socket, lost ones among them (tp_packets)"),
    "guest_interrupts": ("int64", "", "interrupts of the guest's receive queue (its /proc/interrupts)"),
    "guest_net_rx": ("int64", "", "NET_RX softirqs in the guest"),
    "driver_statistics": (
        "string",
        "",
        "what changed in ethtool -S of the receiving interface, by the driver's names, read just outside the edges; JSON",
    ),
    "sent": ("int64", "packets", "on a link: transmit counter of the generator's interface, between its two readings"),
    "sent_clock_ns": ("int64", "ns", "on a link: time between these readings by the generator's clock"),
    "whole_arrived": (
        "int64",
        "packets",
        "on a link: what reached the port, received or lost in the NIC, while whole_offered was sent",
    ),
    "generator_says": ("int64", "packets", "on a link: what pktgen itself says of the whole (pkts-sofar)"),
    "skipped": ("int64", "packets", "due when the generator could not run, and never offered"),
    "in_flight_before": ("int64", "packets", "on their way when the window began"),
    "in_flight_after": ("int64", "packets", "on their way when the window ended"),
    "edge_us": ("double", "us", "time that reading all counters took, at the slower edge"),
    "whole_offered": ("int64", "packets", "offered in the whole life of the lab: warm-up, window and after"),
    "unaccounted": ("int64", "packets", "of these neither captured nor counted as lost when nothing moved any more"),
    "net_rx": ("int64", "", "NET_RX softirqs on the CPUs of the placement (/proc/softirqs)"),
    "rescheduling": ("int64", "", "rescheduling interrupts there (/proc/interrupts, RES)"),
    "function_call": ("int64", "", "function call interrupts there (/proc/interrupts, CAL)"),
    **{
        name: ("list", "", f"{what} on each CPU of the placement, in ascending order")
        for name, what in {
            "cycles": "cycles that were not idle",
            "instructions": "instructions retired",
            "llc_misses": "loads that missed the last-level cache (perf: LLC-load-misses)",
            "dtlb_misses": "loads that missed the data TLB (perf: dTLB-load-misses)",
            "itlb_misses": "fetches that missed the instruction TLB (perf: iTLB-load-misses)",
            "kvm_exits": "exits of guests under KVM (tracepoint kvm:kvm_exit)",
        }.items()
    },
    "counted_share": (
        "double",
        "",
        "smallest share of the window in which one of these was really counted; it is scaled to the whole",
    ),
    **{
        f"{thread}_{what}": (kind, unit, f"{meaning} {who}")
        for thread, who in _THREADS.items()
        for what, kind, unit, meaning in (
            ("ran_s", "double", "s", "time on account of"),
            ("waited_s", "double", "s", "time that the run queue kept back"),
            ("sleeps", "int64", "", "voluntary context switches of"),
        )
    },
    "polls_s": ("double", "s", "time for which NAPI polls were traced, after the window, under the same load"),
    "polls_of": ("list", "", "number of polls that took 0, 1, ... 64 packets (tracepoint napi:napi_poll)"),
    "polls_lost": ("int64", "", "polls that the trace missed"),
    "polls_softirq_s": (
        "double",
        "s",
        "of polls_s, time in NET_RX softirqs on the CPU that brings packets to the reader (irq:softirq_entry, irq:softirq_exit)",
    ),
    "polls_softirq_events": (
        "int64",
        "",
        "events of the trace that were written in that time, and cost reference_event_ns each: one a softirq, one a poll",
    ),
    "exits_s": ("double", "s", "time for which exits were traced by reason, after the window, under the same load"),
    "exits_of": ("string", "", "number of exits by the kernel's name of the reason; JSON"),
    "exits_lost": ("int64", "", "exits that the trace missed"),
    "reference_spin_ns": ("double", "ns", "a turn of an empty loop, before the window"),
    "reference_system_call_ns": ("double", "ns", "a call of getppid"),
    "reference_memcpy_ns_per_kib": ("double", "ns/KiB", "copying a block of 1 MiB"),
    "reference_wake_up_us": ("double", "us", "waking a process on the other CPU"),
    "reference_event_ns": ("double", "ns", "writing one more event of a trace"),
    "foreign_share": ("double", "", "share of the placement's CPUs that other processes took, in ticks of 10 ms"),
    "steal_share": ("double", "", "share that the hypervisor took"),
    "rejected": ("string", "", "why the window must not be used; empty if it may"),
}
"""Columns of the table: type, unit, meaning. A column without a value in a window does not apply there."""


@dataclass(frozen=True)
class Record:
    """A record as it was read: `about` is the JSON file, `windows` the table."""

    about: dict[str, Any]
    windows: pd.DataFrame

    @property
    def host(self) -> dict[str, Any]:
        """Facts about the host."""
        return dict(self.about["host"])

    @property
    def good(self) -> pd.DataFrame:
        """Windows that were not rejected."""
        return self.windows[self.windows["rejected"].isna()]


def _arrow_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    import pyarrow as pa

    kinds = {"string": pa.string(), "int64": pa.int64(), "double": pa.float64(), "list": pa.list_(pa.int64())}
    schema = pa.schema([(name, kinds[kind]) for name, (kind, _, _) in COLUMNS.items()])
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)


def _digest(about: Mapping[str, Any]) -> str:
    """Checksum of the JSON file without its own checksum."""
    content = {key: value for key, value in about.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_record(
    directory: Path,
    rows: Sequence[Mapping[str, Any]],
    host: Mapping[str, Any],
    campaign: Mapping[str, Any],
    conditions: Mapping[str, Any],
    started: str,
) -> dict[str, Any]:
    """Write both files, the table first.

    Parameters
    ----------
    directory
        Where; there must be no record yet.
    rows
        Windows; keys as in `COLUMNS`.
    host, campaign, conditions
        Facts about the host; the campaign in full; what the runner found out and did (generator, note).
    started
        Day and hour of the first window.

    Returns
    -------
    dict
        What the JSON file says.

    Raises
    ------
    UserError
        If they cannot be written.
    """
    import pyarrow.parquet as pq

    unknown = {name for row in rows for name in row} - COLUMNS.keys()
    assert not unknown, f"columns without a meaning: {unknown}"
    table = _arrow_table(rows)
    write_whole(directory / TABLE, lambda path: pq.write_table(table, path, compression="zstd"))
    rejected = sum(row["rejected"] is not None for row in rows)
    about: dict[str, Any] = {
        "format": FORMAT,
        "format_version": VERSION,
        "made_by": {"program": "simnet-rx", "version": metadata.version("simnet-rx")},
        "started": started,
        "host": dict(host),
        "campaign": dict(campaign),
        "conditions": dict(conditions),
        "windows": {"all": len(rows), "rejected": rejected},
        "columns": {name: {"type": kind, "unit": unit, "meaning": meaning} for name, (kind, unit, meaning) in COLUMNS.items()},
        "table": {"file": TABLE, "sha256": hashlib.sha256((directory / TABLE).read_bytes()).hexdigest()},
    }
    about = json.loads(json.dumps(about))
    about["sha256"] = _digest(about)
    write_json(directory / ABOUT, about)
    return about


def read_about(directory: Path) -> dict[str, Any]:
    """Read the JSON file of a record, and check that it is what was written.

    Raises
    ------
    UserError
        If it is not there, of a newer format, truncated, or was changed by somebody.
    """
    path = directory / ABOUT
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise UserError(f"{path}: not a record of simnet capture")
        if about["format_version"] > VERSION:
            raise UserError(
                f"{path}: format {about['format_version']}, written by a newer simnet ({about.get('made_by', {}).get('version')}); "
                f"this one reads up to {VERSION}"
            )
        stated = about["sha256"]
        about["table"]["sha256"], about["host"], about["campaign"]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: not a record, or truncated") from None
    if _digest(about) != stated:
        raise UserError(f"{path}: was changed after it had been written (checksum)")
    assert isinstance(about["host"], dict)
    return about


def read_record(directory: Path) -> Record:
    """Read a record and check that it is what was written.

    Raises
    ------
    UserError
        If it is not there, of a newer format, truncated, or was changed by somebody.
    """
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    about = read_about(directory)
    try:
        content = (directory / TABLE).read_bytes()
    except OSError as error:
        raise UserError(f"{directory / TABLE}: cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != about["table"]["sha256"]:
        raise UserError(f"{directory / TABLE}: truncated, or changed after it had been written (checksum)")
    try:
        return Record(about, pq.read_table(io.BytesIO(content)).to_pandas().reindex(columns=list(COLUMNS)))
    except pa.ArrowException as error:
        raise UserError(f"{directory / TABLE}: not a table: {error}") from None


def refuse_unlike(records: Sequence[Record]) -> None:
    """Refuse records of several hosts.

    Raises
    ------
    UserError
        If the hosts are not alike, with what they differ in.
    """
    first = records[0].host
    for number, record in enumerate(records[1:], start=2):
        if unlike := differences(first, record.host):
            values = "; ".join(f"{name}: {first.get(name)!r} and {record.host.get(name)!r}" for name in unlike)
            raise UserError(f"records 1 and {number} are of unlike hosts and cannot be pooled ({values})")


def pool(records: Sequence[Record]) -> pd.DataFrame:
    """All windows of several records of one host, with a column `record` that says which.

    Raises
    ------
    UserError
        If the hosts are not alike; see `refuse_unlike`.
    """
    import pandas as pd

    refuse_unlike(records)
    return pd.concat([record.windows.assign(record=number) for number, record in enumerate(records)], ignore_index=True)
