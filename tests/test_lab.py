"""The lab: real packets in namespaces of their own. Counts and their order, never rates: machines differ."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from calibration import bpf, syscalls
from calibration.campaign import CampaignFile, Placement, Point, Window
from calibration.load.frame import frame

ELSEWHERE = "another interface lost packets in the backlog"
"""Why a window is measured again: softnet_stat counts the whole machine, on which another lab may be running."""
SHORT = Window(seconds=0.3, warm_up_seconds=0.05, poll_trace_seconds=0.03)


def _why_no_lab() -> str | None:
    if os.geteuid() != 0:
        return "needs root"
    if len(os.sched_getaffinity(0)) < 2:
        return "needs two CPUs"
    try:
        import pyroute2  # noqa: F401
    except ImportError:
        return "needs pyroute2"
    from calibration.lab.topology import Lab

    try:
        Lab().close()
    except OSError as error:
        return f"network namespaces cannot be used here: {error.strerror}"
    return None


_REASON = _why_no_lab()
needs_lab = pytest.mark.skipif(_REASON is not None, reason=str(_REASON))
FIRST, SECOND, *_ = [*sorted(os.sched_getaffinity(0)), 0, 0]


def placement(softirq: str) -> Placement:
    cpu = None if softirq == "inline" else SECOND
    return Placement.model_validate({"softirq": softirq, "load_cpu": FIRST, "softirq_cpu": cpu, "reader_cpu": SECOND})


@pytest.fixture(scope="module")
def look() -> Iterator[Any]:
    """Measure one short window."""
    from calibration.collect.reference import Reference
    from calibration.load.generators import choose
    from calibration.window import measure

    generator, _ = choose("auto", FIRST)
    with closing(Reference(SECOND, FIRST)) as reference:

        def one(method: str, softirq: str, kpps: float, generator: str = generator, **changes: Any) -> dict[str, Any]:
            point = Point(method, softirq, placement(softirq), changes.pop("frame_bytes", 64), changes.pop("flows", 1), kpps)
            content = {"name": "test", "offered_kpps": [kpps], "methods": [method], "placements": {softirq: {}}, "window": SHORT}
            settings = CampaignFile.model_validate({**content, "placements": {"p": placement(softirq)}, **changes})
            for _ in range(3):
                row = measure(point, settings, generator, reference)
                if ELSEWHERE not in (row["rejected"] or ""):
                    break
            return row

        yield one


def in_balance(row: dict[str, Any]) -> bool:
    """Whether every packet of a window is somewhere."""
    dropped = sum(count for name, count in row.items() if name.startswith("dropped_"))
    moved = row["in_flight_after"] - row["in_flight_before"]
    return bool(
        row["unaccounted"] == 0
        and row["offered"] == row["captured"] + dropped + moved
        and min(row["in_flight_before"], row["in_flight_after"]) >= 0
    )


def test_a_frame_has_the_length_that_was_asked_for_and_a_right_checksum() -> None:
    for frame_bytes in (64, 65, 1518):
        content = frame(frame_bytes, 7)
        assert len(content) == frame_bytes - 4
        words = sum(int.from_bytes(content[at : at + 2], "big") for at in range(14, 34, 2))
        assert (words & 0xFFFF) + (words >> 16) == 0xFFFF
        assert int.from_bytes(content[16:18], "big") == frame_bytes - 18
        assert content[34:36] == b"\x00\x07"
        assert not content[0] & 1


def test_an_array_of_messages_is_laid_out_as_the_kernel_reads_it() -> None:
    """64-bit processors: struct msghdr has 56 bytes with its padding, so that msg_len is behind it, and the next message 64 bytes on."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    texts = [ctypes.create_string_buffer(text) for text in (b"one", b"three", b"seven")]
    vectors = [syscalls.IoVec(ctypes.addressof(text), len(text.value)) for text in texts]
    messages = (syscalls.Message * 3)()
    for message, vector in zip(messages, vectors, strict=True):
        message.point_to(vector)
    with near, far:
        assert syscalls.libc.sendmmsg(near.fileno(), messages, 3, 0) == 3
        assert [message.length for message in messages] == [3, 5, 5]
        assert [far.recv(10) for _ in texts] == [b"one", b"three", b"seven"]


def test_an_open_file_of_another_process_is_taken_by_its_number() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine:
        again = syscalls.descriptor_of(os.getpid(), mine.fileno())
        try:
            assert again != mine.fileno()
            assert os.path.samestat(os.fstat(again), os.fstat(mine.fileno()))
        finally:
            os.close(again)


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from calibration.capture import libpcap
    from simnet.errors import UserError

    monkeypatch.setattr(libpcap, "NAMES", ("libnothing.so.0",))
    with pytest.raises(UserError, match=r"apt-get install libpcap0\.8"):
        libpcap.library()


def test_labels_become_distances() -> None:
    code = bpf.assemble((bpf.move(0, 1), bpf.jump_if(0, ">", 1, "end"), bpf.map_value(2, 9), "end", bpf.leave()))
    assert len(code) == 8 * 5
    assert int.from_bytes(code[10:12], "little") == 2
    assert code[16] == 0x18
    assert code[-8] == 0x95


@needs_lab
@pytest.mark.parametrize("softirq", ["inline", "rps", "threaded"])
@pytest.mark.parametrize("method", ["recv", "recvmmsg", "tpacket_v3", "libpcap", "tap_reader", "tc_count"])
def test_every_packet_is_somewhere(look: Any, method: str, softirq: str) -> None:
    row = look(method, softirq, 800)
    assert in_balance(row), row
    assert row["offered"] > 0


@needs_lab
@pytest.mark.parametrize("method", ["recv", "recvmmsg", "libpcap", "tap_reader", "xdp_count", "af_xdp", "tc_count"])
def test_every_packet_of_a_user_space_sender_is_somewhere(look: Any, method: str) -> None:
    row = look(method, "threaded", 400, generator="sendmmsg", frame_bytes=512, flows=8)
    assert in_balance(row), row
    assert row["offered"] > 0


@needs_lab
def test_a_guest_takes_fewer_interrupts_a_packet_under_more_load(look: Any) -> None:
    from calibration.lab import guest_image
    from simnet.errors import UserError

    if problems := guest_image.missing():
        pytest.skip(problems[0])
    try:
        guest_image.guest_image()
    except UserError as error:
        pytest.skip(str(error))
    light, heavy = (look("guest", "inline", kpps) for kpps in (2, 100))
    assert in_balance(light), light
    assert in_balance(heavy), heavy
    assert 0 < heavy["guest_interrupts"] / heavy["captured"] < light["guest_interrupts"] / light["captured"] <= 1.1


@needs_lab
def test_counting_in_xdp_loses_nothing_where_the_softirq_keeps_pace(look: Any) -> None:
    row = look("xdp_count", "inline", 100)
    assert in_balance(row), row
    assert row["captured"] > 0
    assert not row["dropped_veth_ring"]


@needs_lab
def test_a_tap_reader_that_shares_its_cpu_gets_a_smaller_share_of_more(look: Any) -> None:
    light, heavy = (look("tap_reader", "rps", kpps) for kpps in (20, 1200))
    assert heavy["offered"] > light["offered"]
    assert heavy["captured"] / heavy["offered"] < light["captured"] / light["offered"]
    assert heavy["dropped_tap_queue"] + heavy["dropped_backlog"] > 0


@needs_lab
def test_polls_are_larger_under_more_load(look: Any) -> None:
    light, heavy = (look("xdp_count", "threaded", kpps) for kpps in (20, 1200))
    if "polls_of" not in light:
        pytest.skip("no tracepoint napi:napi_poll here")

    def packets_a_poll(row: dict[str, Any]) -> float:
        return sum(n * polls for n, polls in enumerate(row["polls_of"])) / sum(row["polls_of"])

    assert packets_a_poll(light) < packets_a_poll(heavy) <= 64


@needs_lab
def test_a_small_receive_buffer_loses_more(look: Any) -> None:
    small = look("recv", "rps", 800, receive_buffer_bytes=8192)
    assert in_balance(small), small
    assert small["dropped_receive_buffer"] > 0


@needs_lab
def test_libpcap_loses_what_finds_its_ring_full(look: Any) -> None:
    """The smallest ring that libpcap makes, of one block or two, and a reader that shares its CPU with the softirq."""
    small = look("libpcap", "rps", 800, receive_buffer_bytes=4096)
    assert in_balance(small), small
    assert small["dropped_packet_ring"] > 0
    assert small["socket_packets"] >= small["dropped_packet_ring"] + small["captured"] - small["in_flight_before"]


@needs_lab
def test_a_reader_that_is_stopped_loses_all_but_what_fits_the_ring_of_af_xdp(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from calibration.capture import af_xdp, methods

    started = []

    def start(*arguments: Any) -> Any:
        started.append(af_xdp.AfXdp(*arguments[1:3]))
        os.kill(started[0].worker.pid, signal.SIGSTOP)
        return started[0]

    monkeypatch.setattr(methods, "start", start)
    row = look("af_xdp", "inline", 100)
    assert row["captured"] == 0
    assert row["dropped_xsk_ring"] > 0
    assert row["unaccounted"] == af_xdp.RING


READER = """
import os, signal, socket, struct, sys
packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
packets.bind((sys.argv[1], 0x800))
if "deaf" in sys.argv:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
if "another user" in sys.argv:
    os.setuid(65534)
count = 0
try:
    while True:
        packets.recv(2048)
        count += 1
except KeyboardInterrupt:
    _, lost = struct.unpack("II", packets.getsockopt(263, 6, 8))
    print(f"{count:,} packets captured, {lost} lost")
"""
"""A capture program as a user might bring one."""


def program(*words: str, script: str = READER) -> list[str]:
    return [sys.executable, "-c", script, "{interface}", *words]


CAPTURED, LOST = r"([\d,]+) packets captured", r"(\d+) lost"


@needs_lab
@pytest.mark.parametrize("softirq", ["inline", "rps", "threaded"])
def test_every_packet_of_a_program_is_in_its_socket_or_somewhere_else(look: Any, softirq: str) -> None:
    row = look("program", softirq, 800, program=program())
    assert in_balance(row), row
    assert row["dropped_program"] > 0
    assert row["captured"] > 0
    assert row["socket_packets"] > 0


@needs_lab
@pytest.mark.parametrize("softirq", ["inline", "rps"])
@pytest.mark.parametrize(
    "patterns",
    [
        pytest.param({"captured_pattern": CAPTURED}, id="its drops from its socket"),
        pytest.param({"captured_pattern": CAPTURED, "dropped_pattern": LOST}, id="its drops as it says"),
    ],
)
def test_what_a_program_says_at_its_end_adds_up_from_the_first_packet_to_the_last(
    look: Any, patterns: dict[str, str], softirq: str
) -> None:
    row = look("program", softirq, 800, program=program(), **patterns)
    assert in_balance(row), row
    assert row["captured"] > 0
    assert row["dropped_program"] > 0
    assert row["in_flight_before"] == row["in_flight_after"] == 0
    assert row["offered"] == row["whole_offered"] > 0


@needs_lab
def test_every_packet_that_tcpdump_was_given_is_captured_or_lost(look: Any) -> None:
    if shutil.which("tcpdump") is None:
        pytest.skip("no tcpdump here: apt-get install tcpdump")
    patterns = {"captured_pattern": r"(\d+) packets? captured", "dropped_pattern": r"(\d+) packets? dropped by kernel"}
    row = look("program", "rps", 800, program=["tcpdump", "-B", "256", "-i", "{interface}", "-w", "/dev/null"], **patterns)
    assert in_balance(row), row
    assert row["captured"] > 0


@needs_lab
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"program": [sys.executable, "-c", "print('one'); print('no card')"]},
            r"program: it ended too early; its last words: 'no card'",
            id="ends at once",
        ),
        pytest.param({"program": ["/nowhere/tcpdump"]}, r"program: it ended too early; .*No such file", id="is not there"),
        pytest.param(
            {"program": [sys.executable, "-c", "import time; time.sleep(99)"], "captured_pattern": CAPTURED},
            "no packet socket, so what it loses cannot be known: dropped_pattern is needed",
            id="without a packet socket",
        ),
        pytest.param({"program": program(), "captured_pattern": "caught"}, "'caught' finds no number", id="says something else"),
        pytest.param({"program": program("deaf"), "captured_pattern": CAPTURED}, "SIGINT does not end it", id="hears no SIGINT"),
    ],
)
def test_a_program_that_cannot_be_counted_says_why(
    look: Any, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    from calibration.capture import program
    from simnet.errors import UserError

    monkeypatch.setattr(program, "_LONGEST_END_S", 0.2)
    with pytest.raises(UserError, match=message):
        look("program", "inline", 20, **changes)
    assert not [pid for pid in children() if b"calibration.capture" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.parametrize(
    ("pattern", "text", "number"),
    [
        (r"(\d+) packets captured", "5 packets captured\n17 packets captured\n", 17),
        (r"\d+(?= frames)", "got 12 frames", 12),
        (r"([\d,]+) in all", "1,234,567 in all", 1_234_567),
        (r"(\d+) packets", "none", None),
        (r"(\w+) packets", "3 packets, no packets", 3),
    ],
)
def test_the_last_number_that_matches_counts(pattern: str, text: str, number: int | None) -> None:
    from calibration.capture.program import last_number

    assert last_number(pattern, text) == number


@needs_lab
def test_the_driver_counts_the_packets_of_each_queue() -> None:
    from calibration.collect import driver
    from calibration.lab.topology import Lab

    with closing(Lab()) as lab, lab.sender.call(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)) as link:
        lab.sender.call(lambda: link.bind((socket.if_indextoname(lab.load_index), 0)))
        before = driver.statistics(lab.receiver, lab.interface)
        for _ in range(3):
            link.send(frame(64))
        changed: dict[str, int] = {}
        limit = time.monotonic() + 10
        while 3 not in changed.values() and time.monotonic() < limit:  # ksoftirqd may have to wait for its CPU
            changed = driver.changes(before, driver.statistics(lab.receiver, lab.interface))
        assert [count for name, count in changed.items() if name.startswith("rx_queue_0") and "packets" in name] == [3]
        assert driver.statistics(lab.receiver, "lo") == {}


def test_statistics_that_stood_still_are_left_out() -> None:
    from calibration.collect.driver import changes

    assert changes({"a": 1, "b": 2, "gone": 3}, {"a": 1, "b": 7, "new": 1}) == {"b": 5}


@needs_lab
def test_a_window_records_what_changed_in_the_driver(look: Any) -> None:
    row = look("xdp_count", "inline", 20)
    assert any(count > 0 for count in json.loads(row["driver_statistics"]).values())


@needs_lab
def test_a_window_without_its_generator_is_rejected(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from calibration import window

    def poll_and_kill(*_: Any) -> dict[str, Any]:
        [worker] = [pid for pid in children() if b"calibration.load" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(worker, signal.SIGKILL)
        while runs(worker):
            time.sleep(0.01)
        return {}

    monkeypatch.setattr(window, "_polls", poll_and_kill)
    assert look("recv", "inline", 50)["rejected"] == "a process of the lab ended"


def children(parent: int | None = None) -> list[int]:
    """Process ids of the children of a process: of this one, or of another."""
    return [int(pid) for pid in Path(f"/proc/{parent or os.getpid()}/task/{parent or os.getpid()}/children").read_text().split()]


def runs(pid: int) -> bool:
    """Whether a process is there, and not only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@needs_lab
@pytest.mark.parametrize(
    "method",
    [
        pytest.param("methods: [tap_reader]", id="tap_reader"),
        pytest.param(f"methods: [program]\nprogram: {json.dumps(program('another user'))}", id="a program that changed its user"),
    ],
)
def test_nothing_is_left_after_a_kill(tmp_path: Path, method: str) -> None:
    file = tmp_path / "long.yaml"
    file.write_text(
        f"offered_kpps: [50]\n{method}\nrepeats: 9\nplacements: {{inline: "
        f"{{load_cpu: {FIRST}, reader_cpu: {SECOND}}}}}\nwindow: {{seconds: 0.3}}\nreject: {{retries: 0}}\n"
    )
    interfaces = Path("/proc/net/dev").read_text().count(":")
    command = [sys.executable, "-m", "simnet", "capture", "run", str(file), "--out", str(tmp_path / "out")]
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}))
        limit = time.monotonic() + 60
        while len(children(process.pid)) < 3 and time.monotonic() < limit:
            time.sleep(0.01)
        workers = children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert len(workers) == 3
    while any(map(runs, workers)) and time.monotonic() < limit:
        time.sleep(0.01)
    assert not any(map(runs, workers))
    assert Path("/proc/net/dev").read_text().count(":") == interfaces
