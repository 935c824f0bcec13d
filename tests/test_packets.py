"""Capture files, written byte by byte: times, lengths, flows, and what is refused."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simnet.engine.replay import arrivals, blocks
from simnet.errors import UserError
from simnet.traffic.packets import PacketFile, read_packets, rss_input

ETHERNET, RAW_IP, LINUX_SLL, LINUX_SLL2 = 1, 101, 113, 276
ORDERS = [pytest.param("<", id="little"), pytest.param(">", id="big")]
US, NS = 1_000_000, 1_000
"""Picoseconds."""
NOW = 1_700_000_000
"""Seconds since 1970, as real capture files have them."""
ARP, IPV4, IPV6, LLDP = 0x0806, 0x0800, 0x86DD, 0x88CC
TCP, UDP, ICMP = 6, 17, 1


@dataclass(frozen=True)
class Record:
    """What a test puts into a file: time in ticks since 1970, captured bytes, original length (that of the bytes if not given)."""

    ticks: int
    data: bytes = bytes(60)
    length: int | None = None
    interface: int = 0

    @property
    def original(self) -> int:
        """Original length."""
        return len(self.data) if self.length is None else self.length


def pcap(records: Iterable[Record], order: str = "<", per_second: int = 10**6, link: int = ETHERNET) -> bytes:
    """A pcap file."""
    content = struct.pack(f"{order}IHHiIII", 0xA1B2C3D4 if per_second == 10**6 else 0xA1B23C4D, 2, 4, 0, 0, 262144, link)
    for record in records:
        content += struct.pack(f"{order}IIII", *divmod(record.ticks, per_second), len(record.data), record.original) + record.data
    return content


def padded(data: bytes) -> bytes:
    """Filled up to 32 bits."""
    return data + bytes(-len(data) % 4)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """A pcapng block."""
    length = struct.pack(f"{order}I", 12 + len(padded(body)))
    return struct.pack(f"{order}I", kind) + length + padded(body) + length


def section(order: str = "<") -> bytes:
    """A section header block."""
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    """An option of a block."""
    return struct.pack(f"{order}HH", code, len(value)) + padded(value)


def interface(order: str = "<", link: int = ETHERNET, resolution: int | None = None, more: bytes = b"") -> bytes:
    """An interface description block; `resolution` is the byte of if_tsresol."""
    options = option(2, b"eth0", order) + more
    if resolution is not None:
        options += option(9, bytes([resolution]), order)
    return block(1, struct.pack(f"{order}HHI", link, 0, 0) + options + option(0, b"", order), order)


def enhanced(record: Record, order: str = "<") -> bytes:
    """An enhanced packet block."""
    ticks = record.ticks
    head = struct.pack(f"{order}IIIII", record.interface, ticks >> 32, ticks & 0xFFFFFFFF, len(record.data), record.original)
    return block(6, head + padded(record.data) + option(2, b"\0\0\0\0", order) + option(0, b"", order), order)


def pcapng(records: Iterable[Record], order: str = "<", interfaces: Sequence[bytes] = ()) -> bytes:
    """A pcapng file of one section."""
    return section(order) + b"".join(interfaces or [interface(order)]) + b"".join(enhanced(r, order) for r in records)


def ipv4(
    protocol: int = UDP,
    source: int = 1,
    destination: int = 2,
    ports: tuple[int, int] = (1000, 9),
    fragment: int = 0,
    options: bytes = b"",
) -> bytes:
    """An IPv4 packet with the first bytes of its payload."""
    head = struct.pack(">BBHHHBBH", 0x45 + len(options) // 4, 0, 46, 7, fragment, 64, protocol, 0)
    return head + struct.pack(">II", 10 << 24 | source, 10 << 24 | destination) + options + struct.pack(">HH", *ports) + bytes(20)


def ethernet(payload: bytes, kind: int = IPV4, tags: Sequence[int] = ()) -> bytes:
    """An Ethernet frame with VLAN tags of the given types."""
    return bytes(range(12)) + b"".join(struct.pack(">HH", tag, 100) for tag in tags) + struct.pack(">H", kind) + payload


def cooked(payload: bytes, kind: int = IPV4) -> bytes:
    """A frame of the "any" device, first version."""
    return struct.pack(">HHH8sH", 0, 1, 6, b"\1\2\3\4\5\6", kind) + payload


def cooked2(payload: bytes, kind: int = IPV4) -> bytes:
    """A frame of the "any" device, second version."""
    return struct.pack(">HHIHBB8s", kind, 0, 3, 1, 0, 6, b"\1\2\3\4\5\6") + payload


class Hashes:
    """Stands in for the RSS hash: numbers the five-tuples and remembers them."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def __call__(self, flow: tuple[Any, ...]) -> int:
        self.asked.append(flow)
        return 100 + len(self.asked)


def reading(path: Path, content: bytes) -> tuple[PacketFile, list[tuple[Any, ...]]]:
    """What is read from a file of this content, and the five-tuples that were hashed."""
    path.write_bytes(content)
    hashes = Hashes()
    found = read_packets(path, hashes)
    assert found.flow_hashes.tolist() == [101 + i for i in range(len(hashes.asked))]
    assert {column.dtype for column in (found.times_ps, found.frame_bytes, found.flows)} == {np.dtype(np.int64)}
    assert len(found.times_ps) == len(found.frame_bytes) == len(found.flows)
    assert found.times_ps[0] == 0
    assert (np.diff(found.times_ps) >= 0).all()
    return found, hashes.asked


def refusal(path: Path, content: bytes) -> str:
    """The message with which a file of this content is refused; it is one line and names the file."""
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_packets(path, Hashes())
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    return message


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test writes its capture file."""
    return tmp_path / "x.pcap"


EPOCHS = [
    pytest.param(0, id="from 1970"),
    pytest.param(NOW, id="of today"),
]


@pytest.mark.parametrize("epoch", EPOCHS)
@pytest.mark.parametrize(("per_second", "tick_ps"), [pytest.param(10**6, US, id="us"), pytest.param(10**9, NS, id="ns")])
@pytest.mark.parametrize("order", ORDERS)
def test_times_of_pcap(file: Path, order: str, per_second: int, tick_ps: int, epoch: int) -> None:
    start = epoch * per_second + 5
    ticks = [0, 895, per_second - 6, per_second - 5, 7200 * per_second]
    found, _ = reading(file, pcap([Record(start + t) for t in ticks], order, per_second))
    assert found.times_ps.tolist() == [t * tick_ps for t in ticks]


@pytest.mark.parametrize("epoch", EPOCHS)
@pytest.mark.parametrize(
    ("resolution", "per_second"),
    [
        pytest.param(None, 10**6, id="default"),
        pytest.param(6, 10**6, id="us"),
        pytest.param(9, 10**9, id="ns"),
        pytest.param(3, 10**3, id="ms"),
        pytest.param(0, 1, id="s"),
        pytest.param(12, 10**12, id="ps"),
        pytest.param(0x80 | 10, 1 << 10, id="2^-10"),
        pytest.param(0x80 | 20, 1 << 20, id="2^-20"),
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_times_of_pcapng(file: Path, order: str, resolution: int | None, per_second: int, epoch: int) -> None:
    start = min(epoch * per_second, 2**64 - 10**16)  # 64 bits of ps last until July 1970
    ticks = [0, 1, 3, 1000, 2000 * per_second]
    found, _ = reading(file, pcapng([Record(start + t) for t in ticks], order, [interface(order, resolution=resolution)]))
    exact = [t * 10**12 / per_second for t in ticks]
    assert np.abs(found.times_ps - np.array(exact)).max() <= 1  # a tick of 2^-20 s is no whole number of ps


@pytest.mark.parametrize("make", [pcap, pcapng])
def test_times_that_go_back_never_decrease(file: Path, make: Any) -> None:
    found, _ = reading(file, make([Record(5000 + t) for t in (0, 30, 20, 10, 40, -7)]))
    assert found.times_ps.tolist() == [t * US for t in (0, 30, 30, 30, 40, 40)]


def test_times_too_far_apart_are_refused(file: Path) -> None:
    assert "packet 2" in refusal(file, pcap([Record(0), Record(4_000_000_000 * 10**6)]))


@pytest.mark.parametrize(
    ("original", "frame"),
    [(0, 64), (14, 64), (59, 64), (60, 64), (61, 65), (1514, 1518), (1518, 1522), (9000, 9004), (9212, 9216)],
)
@pytest.mark.parametrize("make", [pcap, pcapng])
def test_a_frame_has_its_original_length_and_fcs(file: Path, make: Any, original: int, frame: int) -> None:
    for captured in {0, min(original, 61), min(original, 256)}:
        found, _ = reading(file, make([Record(1, bytes(captured), original)]))
        assert found.frame_bytes.tolist() == [frame]
        assert found.segmented == 0


@pytest.mark.parametrize("original", [9213, 10_000, 65_549])
def test_a_record_of_segmentation_offload_is_cut_into_frames(file: Path, original: int) -> None:
    records = [
        Record(1, ethernet(ipv4(source=1))),
        Record(8, ethernet(ipv4(source=2)), original),
        Record(9, ethernet(ipv4(source=1))),
    ]
    found, flows = reading(file, pcap(records))
    assert found.segmented == 1
    assert len(flows) == 2
    cut = found.flows == 1
    assert found.flows.tolist() == [0, *[1] * int(cut.sum()), 0]
    assert set(found.times_ps[cut].tolist()) == {7 * US}
    sizes = found.frame_bytes[cut]
    assert (sizes[:-1] == 1518).all()
    assert 64 <= sizes[-1] <= 1518
    assert sizes.sum() >= original + 4


def test_flows_are_numbered_as_they_appear(file: Path) -> None:
    packets = [
        ipv4(UDP, 1, 2, (1000, 9)),
        ipv4(UDP, 2, 1, (9, 1000)),
        ipv4(UDP, 1, 2, (1000, 9)),
        ipv4(TCP, 1, 2, (1000, 9)),
        ipv4(UDP, 1, 2, (1001, 9)),
        ipv4(UDP, 1, 2, (1000, 10)),
        ipv4(UDP, 1, 3, (1000, 9)),
        ipv4(TCP, 1, 2, (1000, 9), options=bytes(8)),
        ipv4(ICMP, 1, 2, (8, 1)),
        ipv4(ICMP, 1, 2, (8, 2)),
        ipv4(UDP, 2, 1, (9, 1000)),
    ]
    found, flows = reading(file, pcap([Record(i, ethernet(p)) for i, p in enumerate(packets)]))
    assert found.flows.tolist() == [0, 1, 0, 2, 3, 4, 5, 2, 6, 6, 1]
    assert len(set(flows)) == 7
    assert flows[0] == (UDP, b"\x0a\0\0\1", b"\x0a\0\0\2", b"\x03\xe8", b"\0\x09")


@pytest.mark.parametrize("tags", [(0x8100,), (0x88A8,), (0x88A8, 0x8100), (0x8100, 0x8100)])
def test_vlan_tags_do_not_hide_the_flow(file: Path, tags: tuple[int, ...]) -> None:
    plain, tagged = ethernet(ipv4()), ethernet(ipv4(), tags=tags)
    found, flows = reading(file, pcap([Record(1, plain, 200), Record(2, tagged, 200 + 4 * len(tags))]))
    assert found.flows.tolist() == [0, 0]
    assert flows[0][0] == UDP
    assert found.frame_bytes.tolist() == [204, 204 + 4 * len(tags)]


def test_fragments_have_no_ports(file: Path) -> None:
    first, middle, last, whole, do_not_fragment = (ipv4(fragment=f) for f in (0x2000, 0x2010, 0x0020, 0, 0x4000))
    found, flows = reading(
        file, pcap([Record(i, ethernet(p)) for i, p in enumerate((first, middle, last, whole, do_not_fragment))])
    )
    assert found.flows.tolist() == [0, 0, 0, 1, 1]
    assert flows[0] == (UDP, b"\x0a\0\0\1", b"\x0a\0\0\2", b"", b"")
    assert flows[1][3:] == (b"\x03\xe8", b"\0\x09")


def test_what_is_not_ipv4_has_no_five_tuple(file: Path) -> None:
    frames = [
        ethernet(b"\0\1\x08\0\6\4" + bytes(40), ARP),
        ethernet(b"\x60" + bytes(60), IPV6),
        ethernet(ipv4())[:33],
        ethernet(b"")[:13],
        b"",
        ethernet(b"", tags=(0x8100,))[:14],
    ]
    found, flows = reading(file, pcap([Record(i, f, 100) for i, f in enumerate(frames)]))
    assert found.flows.tolist() == [0] * len(frames)
    assert flows == [None]


@pytest.mark.parametrize(
    ("link", "frame"),
    [
        pytest.param(ETHERNET, ethernet(ipv4(), LLDP), id="Ethernet"),
        pytest.param(LINUX_SLL, cooked(ipv4(), LLDP), id="SLL"),
        pytest.param(LINUX_SLL2, cooked2(ipv4(), LLDP), id="SLL2"),
    ],
)
def test_what_only_looks_like_ipv4_has_no_five_tuple(file: Path, link: int, frame: bytes) -> None:
    assert reading(file, pcap([Record(1, frame)], link=link))[1] == [None]


def test_ports_that_were_not_captured(file: Path) -> None:
    whole = ethernet(ipv4())
    found, flows = reading(
        file, pcap([Record(1, whole[: 14 + 20], 100), Record(2, whole[: 14 + 23], 100), Record(3, whole[: 14 + 24], 100)])
    )
    assert found.flows.tolist() == [0, 0, 1]
    assert [flow[3:] for flow in flows] == [(b"", b""), (b"\x03\xe8", b"\0\x09")]


@pytest.mark.parametrize(
    ("link", "head"),
    [
        pytest.param(RAW_IP, b"", id="raw IP"),
        pytest.param(12, b"", id="raw IP as BSD has it"),
        pytest.param(14, b"", id="raw IP as OpenBSD has it"),
        pytest.param(LINUX_SLL, cooked(b""), id="SLL"),
        pytest.param(LINUX_SLL2, cooked2(b""), id="SLL2"),
    ],
)
@pytest.mark.parametrize("length", [20, 500, 1500])
@pytest.mark.parametrize("ng", [False, True], ids=["pcap", "pcapng"])
def test_other_link_types_are_the_same_frames_on_ethernet(file: Path, link: int, head: bytes, length: int, ng: bool) -> None:
    def written(record: Record, link: int) -> bytes:
        return pcapng([record], interfaces=[interface(link=link)]) if ng else pcap([record], link=link)

    payload = ipv4(TCP)
    as_is = reading(file, written(Record(1, head + payload, len(head) + length), link))
    on_ethernet = reading(file, written(Record(1, ethernet(payload), 14 + length), ETHERNET))
    assert as_is[0].frame_bytes.tolist() == on_ethernet[0].frame_bytes.tolist() == [max(14 + length + 4, 64)]
    assert as_is[1] == on_ethernet[1]


def test_interfaces_have_their_own_link_type_and_resolution(file: Path) -> None:
    interfaces = [interface(resolution=9), interface(link=RAW_IP, resolution=3)]
    records = [Record(2_000_000_000, ethernet(ipv4())), Record(2_500, ipv4(), interface=1), Record(3_000_000_001, ethernet(ipv4()))]
    found, flows = reading(file, pcapng(records, interfaces=interfaces))
    assert found.times_ps.tolist() == [0, 500_000 * US, 10**12 + NS]
    assert len(flows) == 1
    assert len(set(found.frame_bytes.tolist())) == 1


def test_an_interface_may_have_an_offset_of_time(file: Path) -> None:
    interfaces = [interface(), interface(more=option(14, struct.pack("<q", -10)))]
    found, _ = reading(file, pcapng([Record(20 * 10**6), Record(31 * 10**6, interface=1)], interfaces=interfaces))
    assert found.times_ps.tolist() == [0, 10**12]


@pytest.mark.parametrize("order", ORDERS)
def test_unknown_blocks_are_skipped(file: Path, order: str) -> None:
    unknown = block(0x0BAD, bytes(7), order) + block(5, bytes(12), order) + block(4, b"", order)
    parts = [section(order), interface(order), enhanced(Record(1), order), enhanced(Record(4, bytes(100)), order), b""]
    found, _ = reading(file, unknown.join(parts))
    assert found.times_ps.tolist() == [0, 3 * US]
    assert found.frame_bytes.tolist() == [64, 104]


def test_every_section_has_its_own_byte_order_and_interfaces(file: Path) -> None:
    content = pcapng([Record(1000)], ">", [interface(">", resolution=3)]) + pcapng([Record(2_000_000, bytes(90))], "<")
    found, _ = reading(file, content)
    assert found.times_ps.tolist() == [0, 10**12]
    assert found.frame_bytes.tolist() == [64, 94]
    assert "interface 0" in refusal(file, content + section() + enhanced(Record(1)))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("make", [pcap, pcapng])
def test_a_file_cut_anywhere_is_refused_or_shorter(file: Path, make: Any, order: str) -> None:
    records = [Record(1, bytes(61)), Record(2, bytes(7), 100), Record(3, bytes(30))]
    whole = make(records, order)
    frames = reading(file, whole)[0].frame_bytes.tolist()
    ends = {len(make(records[:n], order)): n for n in range(len(records) + 1)}
    between_blocks = {*ends, len(section(order)) if make is pcapng else 0}
    for cut in range(len(whole)):
        if ends.get(cut):
            assert reading(file, whole[:cut])[0].frame_bytes.tolist() == frames[: ends[cut]]
        else:
            expected = "" if cut < 4 else "no packets" if cut in between_blocks else "truncated"
            assert expected in refusal(file, whole[:cut])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "", id="empty"),
        pytest.param(b"\xd4\xc3", "", id="two bytes"),
        pytest.param(b"PK\3\4" + bytes(100), "neither pcap nor pcapng", id="zip"),
        pytest.param(b"\xd4\xc3\xb2\xa2" + pcap([Record(1)])[4:], "neither pcap nor pcapng", id="wrong magic"),
        pytest.param(pcap([]), "no packets", id="pcap without packets"),
        pytest.param(pcapng([]), "no packets", id="pcapng without packets"),
        pytest.param(pcap([Record(1)], link=127), "link type 127", id="pcap of radiotap"),
        pytest.param(pcapng([Record(1)], interfaces=[interface(link=127)]), "link type 127", id="pcapng of radiotap"),
        pytest.param(pcapng([Record(1, interface=1)]), "interface 1", id="unknown interface"),
        pytest.param(section() + interface() + block(3, struct.pack("<I", 60) + bytes(60)), "packet 1", id="packet without time"),
        pytest.param(section() + interface() + struct.pack("<II", 6, 0), "", id="block of length 0"),
        pytest.param(section() + interface() + struct.pack("<III", 6, 8, 8), "", id="block of length 8"),
        pytest.param(section()[:8] + b"\1\2\3\4" + section()[12:], "", id="byte order of nobody"),
        pytest.param(section() + block(1, b"") + enhanced(Record(1)), "", id="interface of no bytes"),
        pytest.param(section() + interface() + block(6, bytes(8)), "packet 1", id="packet block of 8 bytes"),
        pytest.param(
            section() + interface() + block(6, struct.pack("<IIIII", 0, 0, 0, 500, 500) + bytes(60)),
            "packet 1",
            id="more captured than the block holds",
        ),
    ],
)
def test_what_is_no_capture_file_is_refused(file: Path, content: bytes, words: str) -> None:
    assert words in refusal(file, content)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, reason in ((tmp_path, "directory"), (tmp_path / "missing", "No such file")):
        with pytest.raises(UserError, match=reason) as caught:
            read_packets(path, Hashes())
        assert str(caught.value).startswith(f"{path}: ")


def test_what_rss_hashes(file: Path) -> None:
    packets = [ipv4(TCP), ipv4(UDP), ipv4(ICMP), ipv4(UDP, fragment=0x2000)]
    flows = reading(file, pcap([Record(i, ethernet(p)) for i, p in enumerate(packets)]))[1]
    addresses, ports = b"\x0a\0\0\1\x0a\0\0\2", b"\x03\xe8\0\x09"
    assert [rss_input(flow, udp_ports=False) for flow in flows] == [addresses + ports, addresses, addresses, addresses]
    assert [rss_input(flow, udp_ports=True) for flow in flows] == [addresses + ports, addresses + ports, addresses, addresses]
    assert rss_input(None, udp_ports=True) == b""


RECORDS = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(0, 9212), st.integers(0, 80), st.integers(0, 5)), min_size=1, max_size=30
)


@given(RECORDS, st.sampled_from("<>"), st.sampled_from([10**6, 10**9]), st.booleans())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_packets_come_back(
    file: Path, drawn: list[tuple[int, int, int, int]], order: str, per_second: int, ng: bool
) -> None:
    ticks = np.cumsum([gap for gap, *_ in drawn]).tolist()
    records = [
        Record(tick, ethernet(ipv4(source=source))[: min(length, captured)], length)
        for tick, (_, length, captured, source) in zip(ticks, drawn, strict=True)
    ]
    resolution = interface(order, resolution=6 if per_second == 10**6 else 9)
    content = pcapng(records, order, [resolution]) if ng else pcap(records, order, per_second)
    found, flows = reading(file, content)
    assert found.frame_bytes.tolist() == [max(length + 4, 64) for _, length, *_ in drawn]
    assert found.times_ps.tolist() == [(t - ticks[0]) * (10**12 // per_second) for t in ticks]
    numbered: dict[tuple[Any, ...], int] = {}
    for (_, length, captured, source), number in zip(drawn, found.flows.tolist(), strict=True):
        seen = min(length, captured)
        key = () if seen < 34 else (source, seen >= 38)
        assert numbered.setdefault(key, number) == number
    assert sorted(numbered.values()) == list(range(len(flows)))


BLOCKS = st.lists(
    st.tuples(st.sampled_from([1, 2, 3, 4, 5, 6, 6, 6, 0x0A0D0D0A]), st.binary(max_size=40) | st.just(bytes(40))),
    min_size=1,
    max_size=6,
)


@given(BLOCKS, st.sampled_from("<>"))
@settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_blocks_are_read_or_refused(file: Path, drawn: list[tuple[int, bytes]], order: str) -> None:
    content = section(order) + interface(order) + b"".join(block(kind, body, order) for kind, body in drawn)
    try:
        reading(file, content)
    except UserError:
        refusal(file, content)


@given(
    st.lists(st.tuples(st.binary(min_size=8, max_size=8), st.binary(max_size=40), st.integers(0, 20_000)), min_size=1, max_size=5),
    st.sampled_from("<>"),
)
@settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_records_are_read_or_refused(file: Path, drawn: list[tuple[bytes, bytes, int]], order: str) -> None:
    content = pcap([], order)
    for stamp, data, length in drawn:
        content += stamp + struct.pack(f"{order}II", len(data), length) + data
    try:
        reading(file, content)
    except UserError:
        refusal(file, content)


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(1),
        pytest.param(2),
        pytest.param(5),
    ],
)
def test_a_looped_file_is_no_faster_than_the_link(file: Path, count: int) -> None:
    byte_ps = 800
    found, _ = reading(file, pcap([Record(i) for i in range(count)]))
    repeated = blocks(found, arrivals(found, 1.0, byte_ps), True, (64 + 20) * byte_ps)
    times = np.concatenate([block[0] for block in islice(repeated, 4)])
    assert len(times) == 4 * count
    assert np.diff(times).min() >= (64 + 20) * byte_ps
