"""What must hold for every scenario: each packet has a place, each core's time adds up, more work is never done with less."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simnet.agenda import TICKS
from simnet.engine.simulation import Simulation
from simnet.scenario.loading import load
from simnet.system.choices import resolve
from simnet.traffic.switch import draw
from simnet.units import PS_PER_MS, PS_PER_US

MS = PS_PER_MS
PLACES = ("captured", "switch_discarded", "nic_missed", "nic_no_descriptor", "socket_dropped", "in_flight")

some = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)

scenarios = st.fixed_dictionaries(
    {
        "host.kernel": st.sampled_from(["2.6.37", "3.2", "3.2-deferred"]),
        "host.hz": st.sampled_from([100, 250, 1000]),
        "host.c_states": st.booleans(),
        "host.nic.queues": st.sampled_from([1, 2, 8]),
        "host.nic.irq_cpus": st.sampled_from([0, 5, 7]),
        "host.nic.ring_descriptors": st.sampled_from([64, 512, 4096]),
        "host.nic.drop_en": st.booleans(),
        "host.nic.moderation": st.sampled_from(["adaptive", "fixed"]),
        "host.nic.moderation_us": st.sampled_from([0, 125]),
        "traffic.source": st.sampled_from(["pktgen", "cbr", "poisson", "on_off"]),
        "traffic.generators": st.integers(1, 5),
        "traffic.offered_kpps": st.sampled_from([100, 800, 3000, 8000]),
        "traffic.frame_bytes": st.sampled_from([64, 594, 1518, "imix"]),
        "traffic.flows": st.sampled_from(["single", "multi", 100]),
        "traffic.switch_buffer_kib": st.sampled_from([10, 1024]),
        "traffic.switch_honours_pause": st.booleans(),
        "pretend": st.just(True),
        "capture.method": st.sampled_from(["kernel_module", "pf_packet", "pf_ring", "recv", "tpacket_v3"]),
        "capture.monitor": st.sampled_from(["count", "null", "flow"]),
        "capture.cpu": st.sampled_from([1, 5, 7]),
        "capture.ring_frames": st.sampled_from([16, 4096]),
        "capture.watermark": st.sampled_from([1, 128]),
        "capture.blocks": st.sampled_from([1, 3]),
        "capture.block_bytes": st.sampled_from([4096, 131_072]),
        "capture.block_timeout_ms": st.sampled_from([1, 8]),
        "capture.flow_table.entries": st.just(1024),
        "capture.flow_table.period_s": st.sampled_from([0.001, 10.0]),
    }
)
ends = st.integers(1000, 5000).map(lambda us: us * PS_PER_US + 1)
seeds = st.integers(0, 1000)


OVERLOAD: dict[str, Any] = {"traffic.offered_kpps": 14_000, "traffic.frame_bytes": 64, "traffic.switch_honours_pause": False}
"""Several times what one core can do with 64-byte frames, so that every poll is full."""


def simulation(chosen: dict[str, Any], seed: int = 1, **changes: Any) -> Simulation:
    """A fresh machine for some settings and changes of them (`__` for dots)."""
    scenario = load("paper/bare-metal", {**chosen, **{path.replace("__", "."): value for path, value in changes.items()}})
    return Simulation(scenario, resolve(scenario), seed, replication=0)


def row_of(made: Simulation, *times_ps: int) -> Any:
    """Counters at the last of some times."""
    made.run(times_ps)
    return made.rows[-1]


def assert_every_packet_has_a_place(made: Simulation) -> None:
    """Whole, and between the link and the poll."""
    row, m = made.rows[-1], made.machine
    assert all(row[place] >= 0 for place in PLACES)
    assert row.offered == sum(int(row[place]) for place in PLACES)
    queues = [m.nic.port.queues[q] for q in range(m.nic.queues)]
    before_the_driver = int(m.nic.port.fifo.filled) + sum(int(queue.ring.filled) for queue in queues)
    taken = int(row.polled_frames) + sum(int(m.napis[q].work) for q in range(m.nic.queues))
    assert m.link.delivered == row.nic_missed + row.nic_no_descriptor + before_the_driver + taken
    for queue in queues:
        assert queue.ring.filled + queue.posted + queue.cleaned == queue.ring.slots - 1


@given(scenarios, seeds, ends)
@some
def test_every_packet_has_a_place(chosen: dict[str, Any], seed: int, end_ps: int) -> None:
    made = simulation(chosen, seed)
    row_of(made, end_ps)
    assert_every_packet_has_a_place(made)


@pytest.mark.parametrize(
    ("place", "changes"),
    [
        ("nic_missed", {}),
        ("nic_no_descriptor", {"host__nic__drop_en": True}),
        ("switch_discarded", {"traffic__switch_honours_pause": True, "traffic__switch_buffer_kib": 10}),
        (
            "socket_dropped",
            {"capture__method": "tpacket_v3", "capture__blocks": 1, "capture__block_bytes": 4096, "capture__cpu": 5},
        ),
        ("socket_dropped", {"capture__method": "pf_packet", "capture__ring_frames": 16, "capture__cpu": 5}),
    ],
)
def test_overload_loses_packets_where_the_settings_say(place: str, changes: dict[str, Any]) -> None:
    made = simulation({"host.kernel": "3.2", **OVERLOAD}, **changes)
    assert row_of(made, 5 * MS)[place] > 1000
    assert_every_packet_has_a_place(made)


@given(scenarios, seeds, ends)
@some
def test_what_is_received_is_what_was_sent(chosen: dict[str, Any], seed: int, end_ps: int) -> None:
    chosen = {**chosen, "traffic.switch_honours_pause": False}
    made = simulation(chosen, seed)
    row_of(made, end_ps)
    arrivals, lengths = np.empty(65_536, dtype=np.int64), np.empty(65_536, dtype=np.int64)
    draw(simulation(chosen, seed).machine.link, arrivals, lengths)
    there = arrivals <= end_ps
    assert not there[-1]
    assert made.machine.link.delivered == there.sum()
    assert made.machine.link.delivered_bytes == lengths[there].sum()


@given(scenarios, seeds, st.lists(ends, min_size=2, max_size=6, unique=True))
@some
def test_the_time_of_every_core_adds_up(chosen: dict[str, Any], seed: int, times: list[int]) -> None:
    made = simulation(chosen, seed)
    row_of(made, *sorted(times))
    paid = np.array([row.paid_ps for row in made.rows])[:, : made.machine.physical]
    assert (paid.sum(axis=2) == np.array(made.times_ps)[:, None]).all()
    assert (np.diff(paid, axis=0) >= 0).all()


@given(scenarios, seeds, ends, st.lists(ends, max_size=6))
@some
def test_looking_changes_nothing(chosen: dict[str, Any], seed: int, end_ps: int, looks: list[int]) -> None:
    often = sorted(look for look in looks if look < end_ps)
    assert row_of(simulation(chosen, seed), *often, end_ps) == row_of(simulation(chosen, seed), end_ps)


@given(scenarios, seeds)
@some
def test_the_same_seed_gives_the_same_and_another_does_not(chosen: dict[str, Any], seed: int) -> None:
    def state(other: int) -> bytes:
        made = simulation(chosen, other)
        return bytes(row_of(made, 4 * MS).tobytes() + np.array(made.machine.link.arriving.arrival_ps).tobytes())

    assert state(seed) == state(seed)
    assert state(seed) != state(seed + 1)


in_the_kernel = scenarios.map(
    lambda chosen: {**chosen, **OVERLOAD, "capture.method": "kernel_module", "host.nic.ring_descriptors": 512}
)


@given(in_the_kernel, seeds, st.floats(2.0, 3.0), st.floats(1.0, 1.5))
@some
def test_a_faster_cpu_captures_no_less_in_overload(chosen: dict[str, Any], seed: int, ghz: float, factor: float) -> None:
    slow, fast = (row_of(simulation(chosen, seed, costs__clock_ghz=clock), 3 * MS).captured for clock in (ghz, ghz * factor))
    assert 0 < slow <= fast


@given(in_the_kernel, seeds, st.sampled_from(["driver_cycles", "skb_cycles", "stack_cycles", "clone_cycles"]), st.integers(0, 500))
@some
def test_a_frame_that_costs_more_is_not_captured_more_often(chosen: dict[str, Any], seed: int, cost: str, more: int) -> None:
    now = {"costs." + cost: 200}
    then = {"costs." + cost: 200 + more}
    cheap, dear = (row_of(simulation({**chosen, **costs}, seed), 3 * MS).captured for costs in (now, then))
    assert cheap >= dear > 0


UNUSED = {
    "kernel_module": [
        "tpacket_cycles",
        "recv_cycles",
        "libpcap_read_cycles",
        "pfring_read_cycles",
        "pf_ring_cycles",
        "poll_call_cycles",
    ],
    "pf_packet": ["recv_cycles", "clone_cycles", "packet_rcv_cycles", "pf_ring_cycles", "pfring_read_cycles"],
    "pf_ring": ["recv_cycles", "clone_cycles", "tpacket_cycles", "tpacket_copy_cycles", "libpcap_read_cycles", "packet_rcv_cycles"],
    "recv": [
        "tpacket_cycles",
        "tpacket_copy_cycles",
        "libpcap_read_cycles",
        "pf_ring_cycles",
        "pfring_read_cycles",
        "timestamp_cycles",
    ],
}
"""Costs that a method of capture does not have."""


@given(scenarios, seeds, st.sampled_from([(method, cost) for method, costs in UNUSED.items() for cost in costs]))
@some
def test_a_cost_that_nothing_pays_changes_nothing(chosen: dict[str, Any], seed: int, unused: tuple[str, str]) -> None:
    method, cost = unused
    chosen = {**chosen, "capture.method": method}
    before = simulation(chosen, seed)
    after = simulation(chosen, seed, **{f"costs__{cost}": 777})
    assert row_of(before, 3 * MS) == row_of(after, 3 * MS)


PERMUTATIONS = st.permutations([1, 3, 5, 7])
"""CPUs of one socket, which differ in nothing but their numbers."""


def on_cpus(chosen: dict[str, Any], seed: int, cpus: list[int]) -> tuple[bytes, dict[int, list[int]]]:
    """Counters, and time by context of each CPU by its role: two receive into the kernel, or one for a process on another."""
    *receiving, reader = cpus[:3]
    if chosen["capture.method"] != "kernel_module":
        receiving, reader = [min(receiving)] * 2, max(receiving)
    made = simulation(chosen, seed, host__nic__queues=2, host__nic__irq_cpus=receiving, capture__cpu=reader)
    m = made.machine
    for c in range(m.physical):
        m.cores[c].next_tick_ps = m.boot_ps + m.rules[0].tick_ps
    m.agenda.due_ps[TICKS] = m.boot_ps + m.rules[0].tick_ps
    row = row_of(made, 4 * MS).copy()
    of_core = ("paid_ps", "halted_ps", "exits", "events")
    spent = {
        [*receiving, reader].index(int(m.cpus[c].number)): [row[name][c].tolist() for name in of_core] for c in range(m.physical)
    }
    for name in of_core:
        row[name][:] = 0
    return row.tobytes(), spent


@given(scenarios, seeds, PERMUTATIONS)
@some
def test_the_numbers_of_the_cpus_do_not_matter(chosen: dict[str, Any], seed: int, cpus: list[int]) -> None:
    """Given that all tick together. Cores that share a socket keep their order: of two due at one instant the lower goes first."""
    assert on_cpus(chosen, seed, cpus) == on_cpus(chosen, seed, [1, 3, 5, 7])


@pytest.mark.parametrize("method", ["kernel_module", "pf_packet"])
def test_all_cores_idle_without_traffic(method: str) -> None:
    made = simulation({"capture.method": method, "traffic.source": "cbr", "traffic.offered_kpps": 1e-6, "host.hz": 100}, seed=2)
    row = row_of(made, 9 * MS)
    assert row.offered == 0
    assert row.paid_ps[: made.machine.physical, 0].min() > 0.99 * 9 * MS
