"""Capture methods: what a packet costs where, how many fit, who is woken when, and what is lost.

Most tests make everything free but a few pieces of work, so that a time says exactly what was done. Facts are those of Linux 3.2
(net/packet/af_packet.c), libpcap 1.1.1 (pcap-linux.c) and PF_RING (kernel/pf_ring.c).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from simnet.agenda import NEVER, NIC
from simnet.engine.simulation import Simulation
from simnet.kernel.core import CONTEXTS
from simnet.params.schema import parameter_set
from simnet.scenario.loading import load
from simnet.system.choices import resolve
from simnet.traffic.switch import REPLAYED, load_replay
from simnet.units import PS_PER_MS, PS_PER_NS, PS_PER_S

FREE = {f"costs.{q.name}": 0 for q in parameter_set("e5520-linux-3.2") if q.unit == "cycles"}
HOST: dict[str, Any] = {
    **FREE,
    "costs.clock_ghz": 1,
    "host.kernel": "3.2",
    "host.c_states": False,
    "host.nic.queues": 1,
    "host.nic.moderation": "fixed",
    "host.nic.moderation_us": 0,
    "capture.monitor": "count",
    "capture.cpu": 5,
}
"""One queue that interrupts cpu7 at once; the process is on another core of the same socket. One cycle is a nanosecond."""
START_PS = PS_PER_MS

MODULE = {"capture.method": "kernel_module"}
PF_PACKET = {"capture.method": "pf_packet"}
RECV = {"capture.method": "recv"}
PF_RING_0 = {"capture.method": "pf_ring", "capture.transparent_mode": 0}
PF_RING_2 = {"capture.method": "pf_ring", "capture.transparent_mode": 2}
TPACKET_V3 = {"capture.method": "tpacket_v3"}
SMALL = TPACKET_V3 | {"capture.block_bytes": 4096, "capture.blocks": 2, "capture.block_timeout_ms": 1000}
"""A block has a header of 48 B and room for 28 frames of 64 B: 60 B from byte 82 on, where the IP header is at a multiple of 16; and the next one at a multiple of 8, so 144 B each."""
EAGER = {"capture.watermark": 1}
SOCKETS = [
    pytest.param(PF_PACKET, id="pf_packet"),
    pytest.param(RECV, id="recv"),
    pytest.param(PF_RING_0, id="pf_ring 0"),
    pytest.param(PF_RING_2, id="pf_ring 2"),
    pytest.param(
        TPACKET_V3 | {"capture.blocks": 4, "capture.block_bytes": 8192, "costs.tpacket3_read_cycles": 4000}, id="tpacket_v3"
    ),
]

SOFTIRQ_WORK = (
    "wake_up",
    "driver",
    "stack",
    "ip_drop",
    "timestamp",
    "clone",
    "tpacket",
    "tpacket_copy",
    "packet_rcv",
    "pf_ring",
)
PROCESS_WORK = (
    "poll_call",
    "libpcap_read",
    "recv",
    "pfring_read",
    "core_to_core",
    "socket_to_socket",
    "block_read",
    "tpacket3_read",
)


def host(settings: dict[str, Any], **cycles: float) -> Simulation:
    """A host on which only the given work costs anything; nothing is sent to it."""
    costs = {f"costs.{name}_cycles": count for name, count in cycles.items()}
    scenario = load("paper/bare-metal", HOST | settings | costs)
    simulation = Simulation(scenario, resolve(scenario), 1, 0)
    m = simulation.machine
    m.link.source = REPLAYED
    m.link.arriving.arrival_ps = m.agenda.due_ps[NIC] = NEVER
    return simulation


def itemised(settings: dict[str, Any], work: Sequence[str]) -> Simulation:
    """A host on which each kind of work costs a power of ten, in units of 10 ps: the digits of a time say how often it was done."""
    return host(settings | {"costs.clock_ghz": 100}, **{name: 10**i for i, name in enumerate(work)})


def receive(simulation: Simulation, arrivals_ps: Sequence[int], frame_bytes: int = 64, run_ps: int = PS_PER_S) -> Any:
    """Let frames arrive and run to a time. Returns the counters."""
    if arrivals_ps:
        frames = np.full(len(arrivals_ps), frame_bytes)
        load_replay(simulation.machine.link, np.array(arrivals_ps), frames, np.zeros(len(frames), dtype=np.int64))
        simulation.machine.agenda.due_ps[NIC] = simulation.machine.link.arriving.arrival_ps
    simulation.run([run_ps])
    return simulation.rows[-1]


def burst(count: int) -> list[int]:
    """Frames that are all there at once."""
    return [START_PS] * count


def apart(count: int, gap_ps: int = 100 * PS_PER_MS) -> list[int]:
    """Frames that come one by one."""
    return [START_PS + i * gap_ps for i in range(count)]


def stall_reader(simulation: Simulation) -> None:
    """The process never gets done with its first packet."""
    simulation.machine.sockets[0].read_ps = 1000 * PS_PER_S


def spent_ps(row: Any, *contexts: str) -> int:
    """Time of all cores in some contexts."""
    return sum(int(row.paid_ps[:, CONTEXTS.index(context)].sum()) for context in contexts)


def items(time_ps: int, work: Sequence[str]) -> Counter[str]:
    """What an itemised host did in a time."""
    digits = reversed(f"{time_ps // 10:0{len(work)}d}")
    return Counter({name: int(digit) for name, digit in zip(work, digits, strict=True) if digit != "0"})


def reached_capture(simulation: Simulation) -> int:
    """Frames that the driver has passed on."""
    m = simulation.machine
    return sum(int(m.napis[q].packets + m.napis[q].work) for q in range(m.nic.queues))


# What is paid


@pytest.mark.parametrize(
    ("settings", "paid"),
    [
        pytest.param(MODULE, "driver stack timestamp clone ip_drop", id="kernel_module"),
        pytest.param(PF_PACKET, "driver stack tpacket tpacket_copy timestamp ip_drop wake_up", id="pf_packet"),
        pytest.param(RECV, "driver stack packet_rcv clone ip_drop wake_up", id="recv"),
        pytest.param(PF_RING_0 | EAGER, "driver stack pf_ring timestamp ip_drop wake_up", id="pf_ring 0"),
        pytest.param(PF_RING_2 | EAGER, "driver pf_ring timestamp wake_up", id="pf_ring 2: no stack, no IP"),
    ],
)
def test_what_a_packet_costs_the_softirq(settings: dict[str, Any], paid: str) -> None:
    row = receive(itemised(settings, SOFTIRQ_WORK), burst(1))
    assert items(spent_ps(row, "softirq"), SOFTIRQ_WORK) == Counter(paid.split())
    assert int(row.captured) == 1


def test_what_packets_cost_that_come_by_the_block() -> None:
    """One block, which the timer closes."""
    work = ("driver", "stack", "ip_drop", "timestamp", "tpacket", "tpacket3", "tpacket_copy", "block_close", "wake_up")
    row = receive(itemised(SMALL | {"capture.block_timeout_ms": 8}, work), burst(5))
    each = ["driver", "stack", "ip_drop", "timestamp", "tpacket3", "tpacket_copy"]
    assert items(spent_ps(row, "softirq"), work) == Counter(5 * each + ["block_close", "wake_up"])
    assert int(row.captured) == 5


@pytest.mark.parametrize(
    ("method", "paid"),
    [
        pytest.param("tc_count", "driver skb stack tc", id="tc: no handler of a protocol"),
        pytest.param("xdp_count", "driver xdp", id="XDP: no skb, no stack"),
    ],
)
def test_what_a_packet_costs_that_a_program_drops(method: str, paid: str) -> None:
    work = ("driver", "skb", "stack", "ip_drop", "clone", "tc", "xdp")
    row = receive(itemised({"host.kernel": "5.15", "capture.method": method}, work), burst(3))
    assert items(spent_ps(row, "softirq"), work) == Counter(3 * paid.split())
    assert (int(row.captured), spent_ps(row, "system", "user")) == (3, 0)


def test_xdp_touches_no_skb() -> None:
    """Of the lines that come round once a ring, only the one of the driver's own bookkeeping is left."""

    def lines(method: str) -> float:
        caches = {f"costs.{level}_cycles": 10 for level in ("l1", "l2", "l3", "dram")} | {
            "costs.descriptor_exposed": 0,
            "costs.data_exposed": 0,
        }
        row = receive(host({"host.kernel": "5.15", "capture.method": method} | caches), burst(1))
        return spent_ps(row, "softirq") / (10 * PS_PER_NS)

    assert (lines("tc_count"), lines("xdp_count")) == (7, 1)


@pytest.mark.parametrize(
    ("settings", "always", "if_it_fits"),
    [
        pytest.param(
            PF_PACKET | {"capture.ring_frames": 2}, "driver stack tpacket ip_drop", "tpacket_copy timestamp", id="pf_packet"
        ),
        pytest.param(RECV | {"capture.receive_buffer_bytes": 2 * 4352}, "driver stack packet_rcv ip_drop", "clone", id="recv"),
    ],
)
def test_a_packet_that_finds_no_room_has_paid_for_driver_and_stack(settings: dict[str, Any], always: str, if_it_fits: str) -> None:
    simulation = itemised(settings, SOFTIRQ_WORK)
    stall_reader(simulation)
    row = receive(simulation, burst(5))
    paid = Counter(5 * always.split() + 2 * if_it_fits.split() + ["wake_up"])
    assert items(spent_ps(row, "softirq"), SOFTIRQ_WORK) == paid
    assert int(row.socket_dropped) == 3


@pytest.mark.parametrize(
    ("settings", "context"),
    [
        pytest.param(MODULE, "softirq", id="kernel_module"),
        pytest.param(PF_PACKET, "user", id="pf_packet"),
        pytest.param(PF_RING_2 | EAGER, "user", id="pf_ring"),
    ],
)
@pytest.mark.parametrize(("monitor", "decoded"), [("count", 0), ("null", 3)])
def test_the_monitor_decodes_where_it_runs(settings: dict[str, Any], context: str, monitor: str, decoded: int) -> None:
    row = receive(host(settings | {"capture.monitor": monitor}, decode=7), burst(3))
    assert spent_ps(row, context) == decoded * 7 * PS_PER_NS
    assert (int(row.captured), int(row.captured_bytes)) == (3, 3 * 64)


@pytest.mark.parametrize(
    ("cpu", "lines"),
    [
        pytest.param(7, set(), id="same core"),
        pytest.param(5, {"core_to_core"}, id="same socket"),
        pytest.param(6, {"socket_to_socket"}, id="other socket"),
    ],
)
def test_the_process_fetches_the_ring_from_where_the_softirq_runs(cpu: int, lines: set[str]) -> None:
    """Even CPUs are on socket 0, odd ones on socket 1; the interrupts are on cpu7."""
    row = receive(itemised(PF_PACKET | {"capture.cpu": cpu}, PROCESS_WORK), burst(1))
    assert items(spent_ps(row, "user"), PROCESS_WORK).keys() == {"libpcap_read", *lines}


@pytest.mark.parametrize(
    ("settings", "frame_bytes", "lines"),
    [
        pytest.param(PF_PACKET, 64, 1, id="60 B"),
        pytest.param(PF_PACKET, 1518, 4, id="snaplen 256: room for 254 B"),
        pytest.param(PF_PACKET | {"capture.snaplen_bytes": 68}, 1518, 1, id="snaplen 68: room for 62 B"),
        pytest.param(PF_PACKET | {"capture.snaplen_bytes": 1518}, 1518, 24, id="whole frame"),
        pytest.param(PF_RING_2, 1518, 2, id="bucket of 128 B"),
    ],
)
def test_no_more_is_copied_into_the_ring_than_is_kept(settings: dict[str, Any], frame_bytes: int, lines: int) -> None:
    row = receive(host(settings, copy_line=1), burst(1), frame_bytes)
    assert spent_ps(row, "softirq") == lines * PS_PER_NS


# How many fit


@pytest.mark.parametrize(
    ("snaplen", "frames"),
    [(68, 16_384), (96, 13_100), (128, 10_920), (256, 6_552), (1514, 1_336), (1518, 1_322), (65_535, 31)],
)
def test_frames_in_the_ring_of_libpcap(snaplen: int, frames: int) -> None:
    """2 MiB of blocks of 4 KiB x 2^k that each hold whole frames of ALIGN16(snaplen + 32 + 20)."""
    simulation = host(PF_PACKET | {"capture.snaplen_bytes": snaplen})
    assert int(simulation.machine.sockets[0].queue.slots) == frames


@pytest.mark.parametrize(
    ("settings", "frame_bytes", "room"),
    [
        pytest.param(PF_PACKET, 64, 6552, id="pf_packet"),
        pytest.param(PF_PACKET, 1518, 6552, id="pf_packet, long frames"),
        pytest.param(PF_PACKET | {"capture.ring_frames": 100}, 64, 100, id="pf_packet, given ring"),
        pytest.param(RECV | {"capture.receive_buffer_bytes": 3 * 4352}, 64, 3, id="recv, three packets exactly"),
        pytest.param(RECV, 64, 49, id="recv, rmem_default"),
        pytest.param(RECV | {"costs.skb_truesize_bytes": 2304}, 1518, 93, id="recv, 2 KiB buffers"),
        pytest.param(PF_RING_2 | {"costs.pf_ring_header_bytes": 42}, 64, 4096 * 176 // 104, id="pf_ring is a byte ring"),
        pytest.param(PF_RING_0 | {"costs.pf_ring_header_bytes": 42}, 1518, 4096, id="pf_ring, full buckets"),
    ],
)
def test_how_many_packets_wait_for_a_process_that_does_not_come(settings: dict[str, Any], frame_bytes: int, room: int) -> None:
    simulation = host(settings)
    stall_reader(simulation)
    row = receive(simulation, apart(room + 50, PS_PER_NS), frame_bytes)
    assert int(simulation.machine.sockets[0].queue.filled) == room
    assert (int(row.captured), int(row.socket_dropped)) == (0, 50)


def test_a_place_is_free_again_when_its_packet_was_read() -> None:
    """Ring of two, read in 10 us each: of a frame every 3 us from 0, those at 0, 3, 12, 21 us and so on find room."""
    simulation = host(PF_PACKET | {"capture.ring_frames": 2}, libpcap_read=10_000)
    row = receive(simulation, apart(10, 3_000 * PS_PER_NS))
    assert (int(row.captured), int(row.socket_dropped)) == (4, 6)


# Who is woken when


@pytest.mark.parametrize(
    ("settings", "read"),
    [
        pytest.param(PF_PACKET, "libpcap_read", id="pf_packet"),
        pytest.param(RECV, "recv", id="recv"),
        pytest.param(PF_RING_2 | EAGER, "pfring_read", id="pf_ring"),
    ],
)
@pytest.mark.parametrize(
    ("arrivals_ps", "wakeups"), [pytest.param(burst(5), 1, id="burst"), pytest.param(apart(5), 5, id="one by one")]
)
def test_a_process_sleeps_only_when_nothing_is_left(
    settings: dict[str, Any], read: str, arrivals_ps: list[int], wakeups: int
) -> None:
    """It asks the kernel once at the start and once whenever it has found nothing more."""
    row = receive(itemised(settings | {"capture.poll_timeout_ms": 10_000}, PROCESS_WORK), arrivals_ps)
    done = items(spent_ps(row, "user", "system"), PROCESS_WORK)
    assert (done["poll_call"], done[read]) == (wakeups + 1, 5)
    assert int(row.wakeups) == wakeups


@pytest.mark.parametrize(
    ("settings", "context"),
    [
        pytest.param(PF_PACKET, "user", id="pf_packet"),
        pytest.param(RECV, "system", id="recv"),
        pytest.param(PF_RING_2, "user", id="pf_ring"),
    ],
)
def test_only_a_plain_socket_needs_a_system_call_a_packet(settings: dict[str, Any], context: str) -> None:
    enough = {"capture.receive_buffer_bytes": 1 << 20}
    row = receive(host(settings | enough, libpcap_read=100, recv=100, pfring_read=100), burst(128))
    assert spent_ps(row, context) == 128 * 100 * PS_PER_NS
    assert spent_ps(row, "user", "system") == spent_ps(row, context)


@pytest.mark.parametrize(
    ("settings", "polls"),
    [pytest.param(PF_PACKET, 3, id="pf_packet"), pytest.param(PF_RING_0, 3, id="pf_ring"), pytest.param(RECV, 1, id="recv")],
)
def test_poll_returns_after_its_time_out(settings: dict[str, Any], polls: int) -> None:
    """to_ms is 500: a quiet link is asked at 0, 0.5 and 1 s; recv() has no time-out."""
    row = receive(host(settings, poll_call=1), [], run_ps=1_200 * PS_PER_MS)
    assert spent_ps(row, "system") == polls * PS_PER_NS


@pytest.mark.parametrize(("sent", "at_once"), [(127, 0), (128, 128), (130, 130)])
def test_pf_ring_wakes_at_the_watermark_or_lets_poll_time_out(sent: int, at_once: int) -> None:
    simulation = host(PF_RING_2)
    assert int(receive(simulation, burst(sent), run_ps=400 * PS_PER_MS).captured) == at_once
    assert int(receive(simulation, [], run_ps=600 * PS_PER_MS).captured) == sent


@pytest.mark.parametrize(
    ("settings", "at_once"), [pytest.param(PF_PACKET, 1, id="pf_packet"), pytest.param(PF_RING_2, 0, id="pf_ring")]
)
def test_poll_returns_at_once_if_enough_came_while_it_was_called(settings: dict[str, Any], at_once: int) -> None:
    """The call takes 2 ms, the packet comes after one: readable for PF_PACKET, not yet for PF_RING with its watermark of 128."""
    simulation = host(settings, poll_call=2_000_000)
    row = receive(simulation, burst(1), run_ps=400 * PS_PER_MS)
    assert (int(row.captured), int(row.wakeups)) == (at_once, 0)
    assert int(receive(simulation, [], run_ps=600 * PS_PER_MS).captured) == 1


def test_pf_ring_below_the_watermark_is_read_while_the_process_is_awake() -> None:
    """128 packets wake it; 10 more come while it reads."""
    row = receive(host(PF_RING_2, pfring_read=1000), burst(128) + apart(10, PS_PER_NS), run_ps=400 * PS_PER_MS)
    assert (int(row.captured), int(row.wakeups)) == (138, 1)


# A ring of blocks


@pytest.mark.parametrize(
    ("block_bytes", "snaplen", "frame_bytes", "fit"),
    [
        pytest.param(4096, 256, 64, (4096 - 48) // 144, id="28 of 64 B"),
        pytest.param(131_072, 256, 64, (131_072 - 48) // 144, id="909 of 64 B"),
        pytest.param(4096, 65535, 1518, 2, id="whole frames: 1596 B, aligned to 1600"),
        pytest.param(131_072, 65535, 1518, 81, id="81 whole frames"),
        pytest.param(4096, 256, 1518, (4096 - 48) // 344, id="snaplen 256"),
        pytest.param(4096, 256, 98, 22, id="23 of 176 B fill it to the last byte, which is never used"),
        pytest.param(4096, 256, 90, 24, id="a byte beyond alignment less"),
    ],
)
def test_how_many_frames_a_block_holds(block_bytes: int, snaplen: int, frame_bytes: int, fit: int) -> None:
    simulation = host(SMALL | {"capture.block_bytes": block_bytes, "capture.blocks": 4, "capture.snaplen_bytes": snaplen})
    stall_reader(simulation)
    row = receive(simulation, apart(3 * fit + 1, PS_PER_NS), frame_bytes, run_ps=100 * PS_PER_MS)
    ring = simulation.machine.sockets[0].ring
    assert [int(ring.packets_of[block]) for block in range(3)] == [fit] * 3
    assert (int(ring.closed), int(ring.packets), int(row.socket_dropped)) == (3, 1, 0)


def test_the_largest_ring_of_the_shortest_frames_can_be_simulated() -> None:
    simulation = host(SMALL | {"capture.blocks": 1152, "capture.snaplen_bytes": 60})
    stall_reader(simulation)
    arrivals = apart(33_000, PS_PER_NS)
    receive(simulation, arrivals[:20_000], run_ps=2 * PS_PER_MS)
    row = receive(simulation, [2 * arrival for arrival in arrivals[20_000:]], run_ps=100 * PS_PER_MS)
    assert (int(row.in_flight), int(row.socket_dropped)) == (1152 * 28, 33_000 - 1152 * 28)


def test_the_reader_is_woken_once_a_block() -> None:
    """Five blocks are closed by the frame that does not fit; the last frame waits for its time."""
    row = receive(itemised(SMALL, PROCESS_WORK), apart(5 * 28 + 1, 1000 * PS_PER_NS), run_ps=900 * PS_PER_MS)
    assert (int(row.wakeups), int(row.captured), int(row.in_flight)) == (5, 5 * 28, 1)
    assert items(spent_ps(row, "user", "system"), PROCESS_WORK) == {"poll_call": 6, "block_read": 5, "core_to_core": 5}


def test_who_looks_into_packets_walks_through_the_block() -> None:
    row = receive(itemised(SMALL | {"capture.monitor": "null"}, PROCESS_WORK), apart(5, PS_PER_NS), run_ps=1_100 * PS_PER_MS)
    done = items(spent_ps(row, "user"), PROCESS_WORK)
    assert done == {"block_read": 1, "tpacket3_read": 5, "core_to_core": 1, "socket_to_socket": 1}  # 11 lines


@pytest.mark.parametrize(
    ("hz", "timeout_ms", "least_ms", "most_ms"),
    [
        pytest.param(1000, 8, 8, 9, id="eight jiffies"),
        pytest.param(250, 8, 8, 12, id="two jiffies"),
        pytest.param(250, 5, 8, 12, id="5 ms are two jiffies as well"),
        pytest.param(250, 4, 4, 8, id="one jiffy"),
        pytest.param(100, 4, 10, 20, id="one jiffy of 10 ms"),
    ],
)
@pytest.mark.parametrize("cpu", [5, 7])
def test_a_lonely_packet_waits_for_the_timer(hz: int, timeout_ms: int, least_ms: float, most_ms: float, cpu: int) -> None:
    """The timer runs on a tick, never early, and wakes a core that idles."""
    changes = {"host.hz": hz, "capture.block_timeout_ms": timeout_ms, "capture.cpu": cpu}
    simulation = host(TPACKET_V3 | changes)
    row = receive(simulation, burst(1), run_ps=50 * PS_PER_MS)
    m = simulation.machine
    waited = int(m.monitors[0].last_latency_ps)
    assert int(row.captured) == 1
    assert least_ms * PS_PER_MS < waited <= most_ms * PS_PER_MS
    assert (START_PS + waited - int(m.boot_ps)) % (PS_PER_S // hz) == 0


def test_packets_of_light_load_come_by_the_time_out() -> None:
    """10 kpps at HZ 1000 and 4 ms: a block is opened by the timer that closed the one before, so each lasts five ticks."""
    simulation = host(TPACKET_V3 | {"capture.block_timeout_ms": 4})
    row = receive(simulation, apart(2000, 100_000 * PS_PER_NS), run_ps=START_PS + 200 * PS_PER_MS)
    assert 39 <= int(row.wakeups) == int(row.socket_blocks) <= 40
    assert int(row.captured) >= 39 * 50
    assert int(row.latency_sum_ps) / int(row.captured) == pytest.approx(2.5 * PS_PER_MS, rel=0.05)


def test_a_frozen_queue_loses_what_comes() -> None:
    """Two blocks are full and the reader still at the first: the 57th frame freezes the queue."""
    simulation = host(SMALL)
    stall_reader(simulation)
    row = receive(simulation, apart(100, PS_PER_NS), run_ps=100 * PS_PER_MS)
    ring = simulation.machine.sockets[0].ring
    assert (int(row.socket_dropped), int(row.in_flight), int(ring.freezes)) == (44, 56, 1)


def test_the_next_frame_thaws_the_queue_when_a_block_was_handed_back() -> None:
    """One block, a frame each us; the 29th closes it and is lost, and so are those of the 10.5 us that the reader takes: 28 to 38."""
    simulation = host(SMALL | {"capture.blocks": 1}, block_read=10_500)
    row = receive(simulation, apart(39 + 28 + 1, 1000 * PS_PER_NS), run_ps=100 * PS_PER_MS)
    assert (int(row.captured), int(row.socket_dropped)) == (56, 11 + 1)
    assert (int(simulation.machine.sockets[0].ring.freezes), int(row.in_flight)) == (2, 0)


def test_the_timer_thaws_the_queue_when_no_frame_does() -> None:
    simulation = host(SMALL | {"capture.blocks": 1, "capture.block_timeout_ms": 10}, block_read=10_500)
    ring = simulation.machine.sockets[0].ring
    receive(simulation, apart(29, 1000 * PS_PER_NS), run_ps=START_PS + PS_PER_MS)
    assert (int(ring.is_open), int(ring.closed)) == (0, 0)
    receive(simulation, [], run_ps=100 * PS_PER_MS)
    assert int(ring.is_open) == 1


# Same core or another


@pytest.mark.parametrize("settings", [pytest.param(PF_PACKET, id="pf_packet"), pytest.param(PF_RING_0 | EAGER, id="pf_ring")])
@pytest.mark.parametrize(
    ("cpu", "last_us"), [pytest.param(7, 10 * 1 + 10 * 3, id="same core"), pytest.param(5, 1 + 10 * 3, id="another core")]
)
def test_a_process_on_the_receiving_core_waits_for_the_softirq(settings: dict[str, Any], cpu: int, last_us: int) -> None:
    """Ten frames at once, 1 us each in the softirq and 3 us each in the process: one after the other, or side by side."""
    simulation = host(settings | {"capture.cpu": cpu}, driver=1000, libpcap_read=3000, pfring_read=3000)
    receive(simulation, burst(10))
    assert int(simulation.machine.monitors[0].last_latency_ps) == last_us * 1000 * PS_PER_NS


# Overload


@pytest.mark.parametrize("kernel", ["3.2", "3.2-deferred"])
@pytest.mark.parametrize("cpu", [7, 5, 6])
@pytest.mark.parametrize("settings", SOCKETS)
def test_what_reaches_the_socket_is_captured_waiting_or_dropped_there(settings: dict[str, Any], cpu: int, kernel: str) -> None:
    overload = {"host.kernel": kernel, "capture.cpu": cpu, "capture.slots": 512, "traffic.flows": "multi"}
    scenario = load("paper/bare-metal", settings | overload)
    simulation = Simulation(scenario, resolve(scenario), 1, 0)
    simulation.run([50 * PS_PER_MS])
    row, socket = simulation.rows[-1], simulation.machine.sockets[0]
    assert int(row.captured + socket.queue.filled + socket.dropped) == reached_capture(simulation)
    assert int(row.socket_dropped) == int(socket.dropped) > 0
    assert int(row.nic_missed) > 0


def test_what_reaches_the_kernel_tap_is_captured() -> None:
    scenario = load("paper/bare-metal", {"traffic.flows": "multi"})
    simulation = Simulation(scenario, resolve(scenario), 1, 0)
    simulation.run([50 * PS_PER_MS])
    row = simulation.rows[-1]
    assert int(row.captured) == reached_capture(simulation)
    assert int(row.nic_missed) > 0
    assert spent_ps(row, "user") == 0


@pytest.mark.parametrize("settings", SOCKETS)
def test_a_process_on_a_core_of_its_own_captures_more(settings: dict[str, Any]) -> None:
    captured = {}
    for cpu in (5, 7):
        scenario = load("paper/bare-metal", settings | {"capture.cpu": cpu, "capture.monitor": "null"})
        simulation = Simulation(scenario, resolve(scenario), 1, 0)
        simulation.run([200 * PS_PER_MS])
        captured[cpu] = int(simulation.rows[-1].captured)
    assert captured[5] > captured[7] > 0
