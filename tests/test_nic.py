"""The receiving port: wire time, RSS, packet buffer and rings, interrupt moderation, interrupts, refill, PAUSE.

Expected numbers are the drivers' arithmetic done by hand (ixgbe 3.6.7-k of Linux 3.2, igb of Linux 2.6.37), data sheets and IEEE 802.3.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simnet.agenda import NEVER, NIC
from simnet.engine.simulation import Simulation
from simnet.hardware.models import NIC_MODELS
from simnet.hardware.moderation import BULK, IGB_ADAPTIVE, IXGBE_ADAPTIVE, LOW, LOWEST, Moderation, interval_ps, update
from simnet.hardware.nic import admit, nic_fires, unmask
from simnet.hardware.packet_buffer import PacketBuffer, refill, store
from simnet.hardware.rss import IXGBE_KEY, MICROSOFT_KEY, RETA_ENTRIES, Rss, rx_queue_of, toeplitz
from simnet.kernel.driver import finish_frame, poll_step
from simnet.records import allocate
from simnet.scenario.loading import load
from simnet.system.choices import resolve
from simnet.system.traffic_wiring import fill_rss
from simnet.traffic.flows import HOST_SHIFT
from simnet.traffic.frame import QUEUE_FRAMES, Frame, first, pop
from simnet.units import PS_PER_MS, PS_PER_US, wire_ps

USABLE_BUFFER = (512 - 64) * 1024
"""Bytes: the 82599's packet buffer less what Flow Director takes."""


def replication(**changes: Any) -> Simulation:
    """One replication of a constant 1 Mpps from one generator to one queue with 50 us moderation; names have __ for the dot."""
    small = {
        "host.nic.queues": 1,
        "host.nic.moderation": "fixed",
        "traffic.source": "cbr",
        "traffic.generators": 1,
        "traffic.offered_kpps": 1000,
    }
    scenario = load("paper/bare-metal", small | {name.replace("__", "."): value for name, value in changes.items()})
    return Simulation(scenario, resolve(scenario), 1, 0)


def moderation(algorithm: int, eitr: int, itr_class: int = LOWEST) -> Moderation:
    """A vector's moderation with `eitr` in the register."""
    made = allocate(Moderation)
    made.algorithm, made.itr_class = algorithm, itr_class
    made.eitr = made.eitr_written = eitr
    return made


def after_poll(vector: Moderation, total_bytes: int, packets: int = 1) -> int:
    """The EITR register after a complete poll that found so much."""
    vector.total_bytes, vector.total_packets = total_bytes, packets
    update(vector)
    return int(vector.eitr_written)


def rss_of(name: str, queues: int = 8) -> Rss:
    """RSS of a NIC as its driver sets it up."""
    made = allocate(Rss)
    fill_rss(made, NIC_MODELS[name], queues)
    return made


class Port:
    """A packet buffer in front of empty rings; flow q is hashed to queue q."""

    def __init__(self, queues: int = 2, descriptors: int = 512, drop_en: bool = False) -> None:
        self.buffer, self.rss, self.frame = allocate(PacketBuffer), allocate(Rss), allocate(Frame)
        self.buffer.buffer_bytes = USABLE_BUFFER
        self.buffer.drop_en = int(drop_en)
        self.buffer.fifo.slots = QUEUE_FRAMES
        self.rss.replayed = 1
        self.rss.last_flow = -1
        for q in range(queues):
            self.rss.by_flow[q] = self.rss.reta[q] = q
            self.buffer.queues[q].ring.slots = descriptors
            self.buffer.queues[q].posted = descriptors - 1

    def arrive(self, q: int, frames: int = 1, frame_bytes: int = 64) -> None:
        """Frames for a queue; `arrival_ps` numbers them."""
        self.frame.flow, self.frame.frame_bytes = q, frame_bytes
        for _ in range(frames):
            store(self.buffer, self.rss, self.frame)
            self.frame.arrival_ps += 1

    def clean(self, q: int, frames: int = 1) -> list[int]:
        """The driver takes frames and gives their descriptors back; returns their numbers."""
        queue = self.buffer.queues[q]
        taken = []
        for _ in range(frames):
            taken.append(int(first(queue.ring).arrival_ps))
            pop(queue.ring)
            queue.cleaned += 1
        refill(self.buffer, self.rss, queue)
        return taken

    def rings(self) -> list[int]:
        """Frames in the first two rings."""
        return [int(self.buffer.queues[q].ring.filled) for q in range(2)]


# Wire.


@pytest.mark.parametrize(
    ("frame_bytes", "ns", "packets_per_s"),
    [(64, 67.2, 14_880_952), (256, 220.8, 4_528_986), (1518, 1230.4, 812_744), (9216, 7388.8, 135_340)],
)
def test_wire_time_at_10_gbps(frame_bytes: int, ns: float, packets_per_s: int) -> None:
    assert wire_ps(frame_bytes, 10) == round(ns * 1000)
    machine = replication(traffic__frame_bytes=frame_bytes, traffic__offered_kpps=20_000).machine
    start = int(machine.link.arriving.arrival_ps)
    admit(machine, start + 10 * PS_PER_MS)
    assert machine.link.delivered == pytest.approx(packets_per_s / 100, abs=1)


# Receive-side scaling.


def address(text: str) -> bytes:
    """An IPv4 address."""
    return bytes(map(int, text.split(".")))


@pytest.mark.parametrize(
    ("source", "source_port", "destination", "destination_port", "by_addresses", "by_ports"),
    [
        ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323E8FC2, 0x51CCC178),
        ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xD718262A, 0xC626B0EA),
        ("24.19.198.95", 12898, "12.22.207.184", 38024, 0xD2D0A5DE, 0x5C2B394A),
        ("38.27.205.30", 48228, "209.142.163.6", 2217, 0x82989176, 0xAFC7327F),
        ("153.39.163.191", 44251, "202.188.127.2", 1303, 0x5D1809C5, 0x10E828A2),
    ],
)
def test_toeplitz_verification_vectors(
    source: str, source_port: int, destination: str, destination_port: int, by_addresses: int, by_ports: int
) -> None:
    """Microsoft, "Verifying the RSS hash calculation"."""
    addresses = address(source) + address(destination)
    ports = source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big")
    assert toeplitz(MICROSOFT_KEY, addresses) == by_addresses
    assert toeplitz(MICROSOFT_KEY, addresses + ports) == by_ports


def test_the_key_of_ixgbe() -> None:
    """RSSRK registers have key byte 0 in their low bits, so ixgbe's first word, 0xE291D73D, puts 3D first on the wire."""
    assert len(IXGBE_KEY) == 40
    assert IXGBE_KEY[:12] == bytes.fromhex("3dd791e2 6cec0518 0db3942a")
    assert IXGBE_KEY[-8:] == bytes.fromhex("174d3614 0d20ed3b")
    assert toeplitz(IXGBE_KEY, b"\x80" + bytes(7)) == 0x3DD791E2
    assert toeplitz(IXGBE_KEY, b"\0\x80" + bytes(6)) == 0xD791E26C
    assert toeplitz(IXGBE_KEY, b"\x80\x80" + bytes(6)) == 0x3DD791E2 ^ 0xD791E26C


@pytest.mark.parametrize("name", ["82599", "82576"])
@given(host=st.integers(0, 15), low=st.integers(0, 65535), port=st.integers(0, 4095))
@settings(max_examples=50, deadline=None)
def test_a_synthetic_flow_is_hashed_as_its_five_tuple(name: str, host: int, low: int, port: int) -> None:
    """The NIC splits the hash into tables; here the whole five-tuple is hashed at once."""
    model, rss = NIC_MODELS[name], rss_of(name)
    fields = address(f"10.{16 + host}.{low >> 8}.{low & 255}") + address("192.168.1.1")
    if model.hashes_udp_ports:
        fields += (16384 + port).to_bytes(2, "big") + (9).to_bytes(2, "big")
    flow = host << HOST_SHIFT | port << 16 | low
    assert rx_queue_of(rss, flow) == rss.reta[toeplitz(model.rss_key, fields) % 128]


def test_82599_hashes_udp_by_addresses_only() -> None:
    """ixgbe_setup_mrqc sets no UDP field; igb's does."""
    for name, queues in (("82599", 1), ("82576", 8)):
        rss = rss_of(name)
        assert len({rx_queue_of(rss, port << 16) for port in range(4096)}) == queues


def test_addresses_of_one_generator_reach_all_queues() -> None:
    rss = rss_of("82599")
    frames = Counter(rx_queue_of(rss, k) for k in range(1 << 16))
    assert sorted(frames) == list(range(8))
    assert min(frames.values()) > 0.9 * (1 << 16) / 8


@pytest.mark.parametrize("queues", [1, 2, 3, 7, 8, 16])
def test_reta_shares_128_entries(queues: int) -> None:
    reta = rss_of("82599", queues).reta
    shares = Counter(list(reta))
    assert len(reta) == RETA_ENTRIES == 128
    assert sorted(shares) == list(range(queues))
    assert max(shares.values()) - min(shares.values()) <= 1


def test_reta_of_igb_counts_up() -> None:
    assert list(rss_of("82576").reta) == [entry % 8 for entry in range(128)]


def test_reta_of_ixgbe_counts_down_in_each_register() -> None:
    """`reta = (reta << 8) | (j * 0x11)`, written every fourth entry; entry 0 of a register is in its low byte."""
    assert list(rss_of("82599").reta[:8]) == [3, 2, 1, 0, 7, 6, 5, 4]


# Rings and packet buffer.


@pytest.mark.parametrize(("model", "default", "least", "most"), [("82599", 512, 64, 4096), ("82576", 256, 80, 4096)])
def test_one_descriptor_of_a_ring_stays_empty(model: str, default: int, least: int, most: int) -> None:
    for descriptors, wanted in ((default, None), (least, least), (most, most)):
        made = replication(host__nic__model=model, host__nic__ring_descriptors=wanted)
        assert made.machine.nic.port.queues[0].posted == descriptors - 1
    port = Port(descriptors=default)
    port.arrive(0, default)
    assert port.rings() == [default - 1, 0]
    assert port.buffer.fifo.filled == 1


@pytest.mark.parametrize(("frame_bytes", "frames"), [(64, 7168), (256, 1792), (1518, 302), (9216, 49)])
def test_the_packet_buffer_holds_448_kib(frame_bytes: int, frames: int) -> None:
    assert NIC_MODELS["82599"].buffer_bytes == USABLE_BUFFER == 458_752
    port = Port()
    port.arrive(0, 511 + frames + 10, frame_bytes)
    assert port.rings() == [511, 0]
    assert port.buffer.fifo.filled == frames
    assert port.buffer.fifo.filled_bytes == frames * frame_bytes
    assert port.buffer.missed == 10


def test_a_short_frame_may_fit_where_a_long_one_does_not() -> None:
    port = Port()
    port.arrive(0, 511 + 302, 1518)
    assert port.buffer.fifo.filled_bytes == 458_436
    port.arrive(0, 1, 1518)
    port.arrive(0, 5, 64)
    assert port.buffer.missed == 2
    assert port.buffer.fifo.filled_bytes == 458_436 + 4 * 64


def test_a_full_ring_blocks_the_others() -> None:
    """Without DROP_EN frames leave the shared buffer in order: head-of-line blocking."""
    port = Port()
    port.arrive(0, 511)
    port.arrive(1)
    assert port.rings() == [511, 1]
    port.arrive(0)
    port.arrive(1, 3)
    port.arrive(0)
    port.arrive(1, 2)
    assert port.rings() == [511, 1]
    port.clean(1)
    assert port.rings() == [511, 0]
    port.clean(0)
    assert port.rings() == [511, 3]
    port.clean(0)
    assert port.rings() == [511, 5]
    assert port.buffer.fifo.filled == port.buffer.missed == 0


def test_behind_a_full_ring_every_queue_loses() -> None:
    port = Port()
    port.arrive(0, 511 + 7168)
    port.arrive(1, 100)
    assert port.rings() == [511, 0]
    assert port.buffer.missed == 100
    assert port.buffer.queues[0].no_descriptor == port.buffer.queues[1].no_descriptor == 0


def test_with_drop_en_only_the_full_ring_loses() -> None:
    port = Port(drop_en=True)
    port.arrive(0, 511 + 8000)
    port.arrive(1, 100)
    assert port.rings() == [511, 100]
    assert [port.buffer.queues[q].no_descriptor for q in range(2)] == [8000, 0]
    assert port.buffer.fifo.filled == port.buffer.missed == 0


@pytest.mark.parametrize(
    ("model", "queues", "drop_en"),
    [
        ("82599", 8, 0),
        ("82576", 1, 0),
        pytest.param("82576", 2, 1),
    ],
)
def test_who_sets_drop_en(model: str, queues: int, drop_en: int) -> None:
    """Without virtual functions, and unless the scenario says so."""
    assert replication(host__nic__model=model, host__nic__queues=queues).machine.nic.port.drop_en == drop_en


@given(
    st.booleans(),
    st.lists(st.tuples(st.booleans(), st.integers(0, 1), st.integers(1, 40), st.sampled_from([64, 1518, 9216])), max_size=60),
)
@settings(max_examples=60, deadline=None)
def test_no_frame_is_lost_twice_or_out_of_order(drop_en: bool, steps: list[tuple[bool, int, int, int]]) -> None:
    port = Port(descriptors=64, drop_en=drop_en)
    taken: list[list[int]] = [[], []]
    for arrives, q, frames, frame_bytes in steps:
        if arrives:
            port.arrive(q, frames, frame_bytes)
        else:
            taken[q] += port.clean(q, min(frames, port.rings()[q]))
        assert port.buffer.fifo.filled_bytes <= USABLE_BUFFER
        assert max(port.rings()) <= 63
    lost = port.buffer.missed + port.buffer.queues[0].no_descriptor + port.buffer.queues[1].no_descriptor
    assert port.frame.arrival_ps == sum(map(len, taken)) + sum(port.rings()) + port.buffer.fifo.filled + lost
    assert all(numbers == sorted(numbers) for numbers in taken)


# Interrupt moderation of ixgbe.


@pytest.mark.parametrize(
    ("before", "eitr", "total_bytes", "after"),
    [
        (LOWEST, 200, 549, LOWEST),
        (LOWEST, 200, 550, LOW),
        (LOWEST, 200, 10**6, LOW),
        (LOW, 200, 549, LOWEST),
        (LOW, 200, 550, LOW),
        (LOW, 200, 1049, LOW),
        (LOW, 200, 1050, BULK),
        (BULK, 200, 1050, BULK),
        (BULK, 200, 1049, LOW),
        (BULK, 200, 1, LOW),
        (LOWEST, 40, 109, LOWEST),
        (LOWEST, 40, 110, LOW),
        (LOW, 40, 209, LOW),
        (LOW, 40, 210, BULK),
        (BULK, 500, 2624, LOW),
        (BULK, 500, 2625, BULK),
    ],
)
def test_class_of_ixgbe(before: int, eitr: int, total_bytes: int, after: int) -> None:
    """Whole bytes per programmed microsecond (eitr / 4) against 10 and 20, one class an update."""
    vector = moderation(IXGBE_ADAPTIVE, eitr, before)
    after_poll(vector, total_bytes)
    assert vector.itr_class == after
    assert vector.total_bytes == vector.total_packets == 0


@pytest.mark.parametrize(
    ("before", "eitr", "total_bytes", "register"),
    [
        pytest.param(LOW, 200, 1050, 208, id="20k to bulk: 10 * 500 * 200 / (4500 + 200) = 212"),
        pytest.param(LOW, 200, 500, 136, id="20k to lowest: 10 * 40 * 200 / (360 + 200) = 142"),
        pytest.param(BULK, 500, 2624, 432, id="8k to low: 10 * 200 * 500 / (1800 + 500) = 434"),
        pytest.param(LOW, 480, 2519, 416, id="120 us to low: 10 * 200 * 480 / (1800 + 480) = 421"),
        pytest.param(LOWEST, 40, 109, 40, id="100k stays"),
        pytest.param(LOW, 200, 1049, 200, id="20k stays"),
        pytest.param(BULK, 500, 2625, 500, id="8k stays"),
    ],
)
def test_an_update_moves_the_rate_by_a_tenth(before: int, eitr: int, total_bytes: int, register: int) -> None:
    """ixgbe_set_itr; the register counts 2 us steps (mask 0xFF8)."""
    vector = moderation(IXGBE_ADAPTIVE, eitr, before)
    assert after_poll(vector, total_bytes) == register
    assert interval_ps(vector) == register * PS_PER_US // 4


def test_without_packets_nothing_changes() -> None:
    vector = moderation(IXGBE_ADAPTIVE, 480, BULK)
    assert after_poll(vector, 0, packets=0) == 480
    assert vector.itr_class == BULK


def test_a_vector_starts_at_20k_and_the_lowest_class() -> None:
    vector = replication(host__nic__moderation="adaptive").machine.nic.vectors[0].moderation
    assert interval_ps(vector) == 50 * PS_PER_US
    assert vector.itr_class == LOWEST


def test_the_way_from_20k_to_100k() -> None:
    """10 * 40 * o / (360 + o), cut to 2 us after every update: 142, 109, 89, 78, 66, 60, 53, 47."""
    vector = moderation(IXGBE_ADAPTIVE, 200)
    assert [after_poll(vector, 60) for _ in range(9)] == [136, 104, 88, 72, 64, 56, 48, 40, 40]


def test_bulk_stops_at_102_us() -> None:
    """From 408 on a tenth of the way is less than a step: 10 * 500 * 408 / (4500 + 408) = 415, which is 408 again."""
    vector = moderation(IXGBE_ADAPTIVE, 200, BULK)
    assert [after_poll(vector, 10**6) for _ in range(28)] == [*range(208, 409, 8), 408, 408]


def test_the_way_back_from_100k_is_barred() -> None:
    """10 * 200 * 40 / (1800 + 40) = 43 and 10 * 500 * 40 / (4500 + 40) = 44 are both 40 again."""
    vector = moderation(IXGBE_ADAPTIVE, 40)
    assert {after_poll(vector, 10**6) for _ in range(100)} == {40}
    assert vector.itr_class == BULK


# Interrupt moderation of igb.


@pytest.mark.parametrize(
    ("total_bytes", "packets", "us"),
    [
        pytest.param(60 * 64, 64, 49, id="64 B: 84 / 2 = 42, at most 20k"),
        pytest.param(508, 1, 49, id="512 B: 532 / 3 = 177, at most 20k"),
        pytest.param(1020, 1, 87, id="1024 B: 1044 / 3 = 348"),
        pytest.param(1176, 1, 150, id="1180 B: 1200 / 2 = 600"),
        pytest.param(1513, 1, 192, id="1517 B: 1537 / 2 = 768"),
        pytest.param(9000, 1, 375, id="jumbo: 3000 / 2 = 1500"),
        pytest.param(
            1514,
            1,
            192,
            id="1518 B: 1538 / 2 = 769, in the register 768",
        ),
    ],
)
def test_interval_of_igb(total_bytes: int, packets: int, us: int) -> None:
    """igb_update_ring_itr in mode 3; the register counts microseconds from bit 2 on."""
    vector = moderation(IGB_ADAPTIVE, 196)
    after_poll(vector, total_bytes, packets)
    assert interval_ps(vector) == us * PS_PER_US


def test_igb_writes_the_register_with_the_next_interrupt() -> None:
    vector = moderation(IGB_ADAPTIVE, 196)
    assert after_poll(vector, 9000) == 196
    interval_ps(vector)
    assert vector.eitr_written == 1500


def test_igb_starts_at_6k() -> None:
    assert NIC_MODELS["82576"].first_eitr == 648


# Vectors.


def test_a_vector_masks_itself_until_the_poll_is_complete() -> None:
    m = replication().machine
    vector, start = m.nic.vectors[0], int(m.link.arriving.arrival_ps)
    nic_fires(m, start - 1)
    assert vector.interrupts == 0
    nic_fires(m, start)
    assert (vector.interrupts, vector.masked, m.cpus[0].irr) == (1, 1, 1 << vector.number)
    assert m.agenda.due_ps[NIC] == NEVER
    later = start + 100 * PS_PER_US
    nic_fires(m, later)
    assert m.nic.port.queues[0].ring.filled == 101
    assert vector.interrupts == 1
    unmask(m, 0, later)
    assert m.agenda.due_ps[NIC] == later
    nic_fires(m, later)
    assert vector.interrupts == 2


def test_an_unmasked_vector_waits_for_its_interval() -> None:
    m = replication().machine
    vector, start = m.nic.vectors[0], int(m.link.arriving.arrival_ps)
    nic_fires(m, start)
    unmask(m, 0, start + 10 * PS_PER_US)
    again = start + 50 * PS_PER_US
    assert m.agenda.due_ps[NIC] == again
    nic_fires(m, again - 1)
    assert vector.interrupts == 1
    nic_fires(m, again)
    assert vector.interrupts == 2


def test_an_unmasked_vector_waits_for_a_frame() -> None:
    m = replication(host__nic__moderation_us=0).machine
    start = int(m.link.arriving.arrival_ps)
    nic_fires(m, start)
    finish_frame(m, m.napis[0], start)
    unmask(m, 0, start + 1)
    assert m.agenda.due_ps[NIC] == start + PS_PER_US


def test_moderation_limits_interrupts() -> None:
    made = replication(traffic__offered_kpps=100)
    made.run([10 * PS_PER_MS, 30 * PS_PER_MS])
    assert made.rows[2].interrupts - made.rows[1].interrupts == pytest.approx(20_000 * 0.02, abs=1)


def test_no_interrupts_while_polls_never_complete() -> None:
    made = replication(traffic__offered_kpps=14_000)
    made.run([10 * PS_PER_MS, 30 * PS_PER_MS])
    assert made.rows[2].interrupts == made.rows[1].interrupts > 0
    assert made.rows[2].polled_frames - made.rows[1].polled_frames > 64 * 100


# Refill.


def test_descriptors_go_back_in_batches_of_16() -> None:
    """IXGBE_RX_BUFFER_WRITE; what is left goes back when the ring is empty."""
    m = replication().machine
    queue, now = m.nic.port.queues[0], int(m.link.arriving.arrival_ps) + 39 * PS_PER_US
    admit(m, now)
    assert (queue.ring.filled, queue.posted) == (40, 511 - 40)
    posted = []
    for _ in range(40):
        finish_frame(m, m.napis[0], now)
        posted.append(int(queue.posted))
    assert posted == [471] * 15 + [487] * 16 + [503] * 9
    assert m.nic.vectors[0].moderation.total_bytes == 40 * 60
    m.napis[0].begun = 1
    assert poll_step(m, 0, now) == m.costs.napi_complete_ps
    assert queue.posted == 511


# PAUSE.


@pytest.mark.parametrize("honours", [False, True])
def test_pause_moves_the_loss_into_the_switch(honours: bool) -> None:
    made = replication(traffic__offered_kpps=12_000, traffic__switch_honours_pause=honours)
    made.run([30 * PS_PER_MS])
    row = made.rows[-1]
    lost = {"nic": int(row.nic_missed), "switch": int(row.switch_discarded)}
    where, elsewhere = ("switch", "nic") if honours else ("nic", "switch")
    assert lost[where] > 0.5 * row.offered
    assert lost[elsewhere] == 0
    assert row.offered == row.captured + lost[where] + row.in_flight
    assert row.offered == pytest.approx(12_000 * 30, rel=0.01)
