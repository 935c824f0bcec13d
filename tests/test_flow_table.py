"""The PNA's flow tables against dictionaries and plain lists that remember whole flow numbers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

import simnet
from simnet.capture.flow_table import (
    D_LEFT,
    HOST_BITS,
    LEFT_FACTORS,
    MAX_ENTRIES,
    PROBING,
    REMAINDER_BITS,
    RIGHT_FACTORS,
    SLOTS,
    FlowTable,
    count_packet,
    left_mix,
    mix,
    recost,
    right_mix,
    rotate,
)
from simnet.engine.simulation import Simulation
from simnet.hardware.memory import Memory
from simnet.records import allocate, int64
from simnet.scenario.loading import load
from simnet.system.choices import resolve
from simnet.traffic.flows import HOST_SHIFT
from simnet.units import PS_PER_MS

HASH, COMPARE, UPDATE, INSERT = 1, 100, 10_000, 1_000_000
"""Costs as powers of a hundred: a sum says what was done how often. Memory is free."""
FREE_MEMORY = allocate(Memory)
NEVER_RECOST = 1 << 62


class Table:
    """A flow table of the model, empty at first. Its record is kept from failing assertions, which would print millions of entries."""

    def __init__(self, design: int, bucket_bits: int, limit: int = MAX_ENTRIES) -> None:
        record = self.record = cast(Any, allocate(FlowTable))
        record.design, record.bucket_bits, record.sample, record.limit, record.recost_at = (
            design,
            bucket_bits,
            1,
            limit,
            NEVER_RECOST,
        )
        record.hash_ps, record.compare_ps, record.update_ps, record.insert_ps = HASH, COMPARE, UPDATE, INSERT

    def __getattr__(self, counter: str) -> int:
        return int(getattr(self.record, counter))

    def count(self, flow: int) -> int:
        """Count a packet of a flow; returns the cost."""
        return int(count_packet(self.record, FREE_MEMORY, int64(flow)))

    def rotate(self) -> None:
        """The next, empty table takes over."""
        rotate(self.record, FREE_MEMORY)
        self.record.recost_at = NEVER_RECOST

    def occupancy(self) -> list[int]:
        """Entries in each bucket, left half first, or in each place."""
        if self.design == PROBING:
            return [int(key != 0) for key in np.array(self.record.keys[: 1 << self.bucket_bits])]
        used = np.array(self.record.buckets[: (2 << self.bucket_bits) * SLOTS]).reshape(-1, SLOTS) != 0
        return [int(entries) for entries in used.sum(axis=1)]


def synthetic(host: int, k: int) -> int:
    """Flow k of a generator (see `simnet.traffic.flows`)."""
    return host << HOST_SHIFT | k


class DLeft:
    """The d-left table as the PNA has it: lists of (fingerprint, flow), the whole flow compared when the fingerprint matches.

    Only the two hashes are the model's own.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.halves: tuple[list[list[tuple[int, int]]], ...] = tuple([[] for _ in range(1 << table.bucket_bits)] for _ in "LR")
        self.entries = self.refused = self.false_matches = 0

    def places(self, flow: int) -> list[tuple[list[tuple[int, int]], int]]:
        """Bucket and 8-bit fingerprint in each half."""
        hashes = (int(left_mix(self.table.record, int64(flow))), int(right_mix(self.table.record, int64(flow))))
        return [(half[h >> REMAINDER_BITS], h & 255) for half, h in zip(self.halves, hashes, strict=True)]

    def count(self, flow: int) -> int:
        """Count a packet of a flow; returns the cost."""
        cost = HASH
        places = self.places(flow)
        for bucket, fingerprint in places:
            for other_fingerprint, other in bucket:
                if other_fingerprint == fingerprint:
                    cost += COMPARE
                    if other == flow:
                        return cost + UPDATE
                    self.false_matches += 1
        if self.entries == self.table.limit:
            self.refused += 1
            return cost
        cost += HASH + INSERT
        bucket, fingerprint = min(places, key=lambda place: len(place[0]))  # the first of equals: left
        if len(bucket) == SLOTS:
            self.refused += 1
            return cost
        bucket.append((fingerprint, flow))
        self.entries += 1
        return cost

    def occupancy(self) -> list[int]:
        """Entries in each bucket, left half first."""
        return [len(bucket) for half in self.halves for bucket in half]

    def clear(self) -> None:
        """The next table."""
        for half in self.halves:
            for bucket in half:
                bucket.clear()
        self.entries = 0


class Probing:
    """The older table: an array of whole flows, probed quadratically 32 times from the model's first place."""

    def __init__(self, table: Table) -> None:
        self.size = 1 << table.bucket_bits
        self.slots: list[int | None] = [None] * self.size
        self.entries = self.refused = 0

    def count(self, flow: int) -> int:
        """Count a packet of a flow; returns the cost."""
        start = int(mix(int64(flow), 36, *LEFT_FACTORS))
        for tries in range(32):
            at = (start + tries * (tries + 1) // 2) % self.size
            if self.slots[at] == flow:
                return HASH + tries * COMPARE + UPDATE
            if self.slots[at] is None:
                self.slots[at] = flow
                self.entries += 1
                return HASH + tries * COMPARE + INSERT
        self.refused += 1
        return HASH + 32 * COMPARE

    def occupancy(self) -> list[int]:
        """Entries in each place."""
        return [int(slot is not None) for slot in self.slots]

    def clear(self) -> None:
        """The next table."""
        self.slots = [None] * self.size
        self.entries = 0


class Comparison(RuleBasedStateMachine):
    """Packets and rotations in any order; after each step model and lists have counted the same."""

    design = D_LEFT

    @initialize(bucket_bits=st.integers(1, 4), limit=st.integers(1, 200))
    def begin(self, bucket_bits: int, limit: int) -> None:
        if self.design == D_LEFT:
            self.table = Table(D_LEFT, bucket_bits, limit)
            self.lists: DLeft | Probing = DLeft(self.table)
        else:
            self.table = Table(PROBING, bucket_bits)
            self.lists = Probing(self.table)
        self.flows = 1 << (bucket_bits + REMAINDER_BITS - HOST_BITS)
        self.seen: list[int] = []

    def packet(self, flow: int) -> None:
        assert self.table.count(flow) == self.lists.count(flow)

    @rule(number=st.integers(0, (1 << 19) - 1))
    def packet_of_any_flow(self, number: int) -> None:
        self.seen.append(number % self.flows)
        self.packet(self.seen[-1])

    @rule(first=st.integers(0, (1 << 19) - 1), many=st.integers(1, 60))
    def packets_of_new_flows(self, first: int, many: int) -> None:
        for number in range(first, first + many):
            self.packet_of_any_flow(number)

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def packet_of_a_flow_seen_before(self, data: st.DataObject) -> None:
        self.packet(data.draw(st.sampled_from(self.seen)))

    @rule()
    def rotate(self) -> None:
        self.table.rotate()
        self.lists.clear()

    @invariant()
    def the_same_is_counted(self) -> None:
        assert self.table.entries == self.lists.entries == sum(self.lists.occupancy())
        assert self.table.refused == self.lists.refused
        assert self.table.occupancy() == self.lists.occupancy()
        if isinstance(self.lists, DLeft):
            assert self.table.false_matches == self.lists.false_matches


class ProbingComparison(Comparison):
    """The same for the older table."""

    design = PROBING


@pytest.mark.parametrize("comparison", [Comparison, ProbingComparison])
def test_the_table_does_what_plain_lists_do(comparison: type[Comparison]) -> None:
    run_state_machine_as_test(
        comparison, settings=settings(max_examples=40, stateful_step_count=30, deadline=None, derandomize=True)
    )


@pytest.mark.parametrize(("design", "bucket_bits"), [(D_LEFT, 11), (PROBING, 15)])
def test_as_long_as_there_is_room_the_table_is_a_dictionary(design: int, bucket_bits: int) -> None:
    rng = random.Random(3)
    table, flows = Table(design, bucket_bits), Counter[int]()
    known = 0
    for _ in range(20_000):
        flow = int(rng.paretovariate(0.3)) % (1 << 24)
        known += flow in flows
        flows[flow] += 1
        cost = table.count(flow)
        assert (cost % 1_000_000 // UPDATE, cost // INSERT) == ((1, 0) if flows[flow] > 1 else (0, 1))
    assert 0 < known < 20_000
    assert table.entries == len(flows)
    assert (table.refused, table.lookups) == (0, 20_000)


@given(bits=st.integers(16, 36), factors=st.sampled_from([LEFT_FACTORS, RIGHT_FACTORS]), flows=st.sets(st.integers(0), min_size=2))
@settings(deadline=None)
def test_different_flows_have_different_places_and_remainders(bits: int, factors: tuple[int, int], flows: set[int]) -> None:
    numbers = {flow % (1 << bits) for flow in flows}
    mixed = {int(mix(int64(number), bits, *factors)) for number in numbers}
    assert len(mixed) == len(numbers)
    assert all(0 <= number < 1 << bits for number in mixed)


def test_a_full_pair_array_refuses_before_it_hashes_again() -> None:
    table = Table(D_LEFT, 8, limit=2)
    assert [table.count(flow) for flow in (1, 2)] == [2 * HASH + INSERT] * 2
    assert table.count(3) == HASH
    assert table.count(1) == HASH + COMPARE + UPDATE
    assert (table.entries, table.refused) == (2, 1)


@pytest.mark.parametrize("design", [D_LEFT, PROBING])
def test_rotation_forgets_every_flow(design: int) -> None:
    table = Table(design, 8)
    before = [table.count(flow) for flow in range(100)]
    table.rotate()
    assert (table.entries, table.rotations) == (0, 1)
    assert sum(table.occupancy()) == 0
    assert [table.count(flow) for flow in range(100)] == before


@pytest.mark.parametrize(("overlap", "new", "known"), [(0.0, 2, 3), (1.0, 1, 2)])
def test_a_flow_touches_two_bucket_lines_and_a_known_one_its_pair(overlap: float, new: int, known: int) -> None:
    """The pair of a new flow is appended; of the two bucket lines the second may hide behind the first."""
    memory: Any = allocate(Memory)
    memory.dram_ps, memory.l1_tlb_bytes, memory.l2_tlb_bytes = 1000, 1e12, 1e12
    table = Table(D_LEFT, 21)
    table.record.overlap = overlap
    recost(table.record, memory)
    assert (table.new_ps, table.known_ps) == (new * 1000, known * 1000)


def test_a_single_flow_stays_in_the_first_cache() -> None:
    memory: Any = allocate(Memory)
    memory.l1_bytes = memory.l2_bytes = memory.l3_bytes = 32_768
    memory.l1_ps, memory.dram_ps = 4, 1000
    memory.l1_tlb_bytes, memory.l2_tlb_bytes = 64 * 4096, 512 * 4096
    table = Table(D_LEFT, 21)
    table.count(1)
    recost(table.record, memory)
    assert table.known_ps == 3 * 4


def test_two_flows_a_bucket_fill_four_or_five_of_its_eight_entries_at_most() -> None:
    """2^17 flows in 2^16 buckets, as 2^23 in 2^22: buckets never overflow, the pair array is the limit."""
    table = Table(D_LEFT, 15, limit=1 << 17)
    for k in range((1 << 17) + 100):
        table.count(k)
    assert max(table.occupancy()) in (4, 5)
    assert (table.entries, table.refused) == (1 << 17, 100)


def test_one_comparison_in_256_is_with_the_wrong_flow() -> None:
    """Of 2^15 known flows looked up, each is compared by fingerprint with what stands before it: a binomial number of false matches."""
    table = Table(D_LEFT, 13)
    lists = DLeft(table)
    for flow in range(1 << 15):
        lists.count(flow)
        table.count(flow)
    scanned = 0
    for flow in range(1 << 15):
        (left, _), (right, _) = lists.places(flow)
        order = [other for _, other in left + right]
        scanned += order.index(flow)
    inserted = table.false_matches
    for flow in range(1 << 15):
        table.count(flow)
    found = table.false_matches - inserted
    assert abs(found - scanned / 256) < 4 * (scanned / 256) ** 0.5


def test_the_older_table_still_takes_over_90_percent_of_its_size_in_flows() -> None:
    """pna v2.0: at most 32 tries, and more than 90 % of the flows find a place when as many come as there are places."""
    table = Table(PROBING, 14)
    for k in range(1 << 14):
        table.count(k)
    assert 0.9 < table.entries / (1 << 14) < 1
    assert table.entries + table.refused == 1 << 14


# In a running machine


def monitored(**flow_table: Any) -> Simulation:
    """A kernel module with a flow table on a host that is not overloaded; flows from one generator."""
    given_table = {f"capture.flow_table.{name}": value for name, value in flow_table.items()}
    traffic = {"traffic.generators": 1, "traffic.offered_kpps": 500, "traffic.flows": "multi", "capture.monitor": "flow"}
    scenario = load("paper/bare-metal", traffic | given_table)
    return Simulation(scenario, resolve(scenario), 1, 0)


def at(simulation: Simulation, times_ms: Iterable[float]) -> list[Any]:
    """Counters at some times."""
    simulation.run([round(ms * PS_PER_MS) for ms in times_ms])
    return simulation.rows[1:]


@pytest.mark.parametrize("design", ["d_left", "probing"])
def test_every_period_starts_with_an_empty_table(design: str) -> None:
    """4 ms at 500 kpps are 2000 new flows, in a table of 4096."""
    rows = at(monitored(design=design, entries=4096, period_s=0.004), [4, 8, 12, 14])
    looked_up = np.diff([0, *(int(row.table_lookups) for row in rows)]).tolist()
    assert [int(row.table_entries) for row in rows] == looked_up
    assert [int(row.table_rotations) for row in rows] == [0, 1, 2, 3]
    assert int(rows[-1].table_refused) == 0


def test_beyond_its_limit_the_table_refuses_flows_but_no_packet_is_lost() -> None:
    rows = at(monitored(entries=1024, period_s=0.004), [4, 8, 12])
    looked_up = np.diff([0, *(int(row.table_lookups) for row in rows)])
    refused = np.diff([0, *(int(row.table_refused) for row in rows)])
    assert [int(row.table_entries) for row in rows] == [1024] * 3
    assert refused.tolist() == (looked_up - 1024).tolist()
    assert 0 <= int(rows[-1].table_lookups) - int(rows[-1].captured) <= 1  # one may be in the monitor's hands


def test_an_entry_a_flow_of_all_generators() -> None:
    table = Table(D_LEFT, 21)
    flows = [synthetic(host, k) for host in range(16) for k in range(100)]
    for flow in flows * 2:
        table.count(flow)
    assert table.entries == len(flows)


def test_an_entry_a_flow_of_all_generators_in_a_small_table() -> None:
    scenario = load("paper/bare-metal", {"traffic.flows": 500, "capture.monitor": "flow", "capture.flow_table.entries": 1024})
    simulation = Simulation(scenario, resolve(scenario), 1, 0)
    simulation.run([20 * PS_PER_MS])
    assert int(simulation.rows[-1].table_entries) == 500


def test_a_full_table_knows_no_flow_of_another_generator() -> None:
    table = Table(PROBING, 4)
    for k in range(16):
        table.count(synthetic(0, k))
    table.count(synthetic(8, 0))
    assert (table.entries, table.refused) == (16, 1)


@pytest.mark.parametrize("method", ["kernel_module", "pf_packet"])
def test_a_part_of_a_table_stands_for_the_whole(method: str) -> None:
    """Set sampling: an eighth of the table, emptied eight times as often, is refused as often and costs as much as the whole."""

    def measured(table_period_s: float) -> simnet.Result:
        settings = {
            "capture.method": method,
            "capture.cpu": 5,
            "capture.monitor": "flow",
            "traffic.flows": "multi",
            "host.kernel": "3.2",
        }
        table = {
            "capture.flow_table.entries": 1 << 18,
            "capture.flow_table.period_s": 0.4,
            "measure.table_period_s": table_period_s,
        }
        return simnet.run(load("paper/bare-metal", {**settings, **table, "measure.replications": 2}))

    whole, part = measured(0.4), measured(0.05)
    assert (whole.table["simulated_one_in"], part.table["simulated_one_in"]) == (1, 8)
    assert part.captured.kpps.mean == pytest.approx(whole.captured.kpps.mean, rel=0.002)
    refused, refused_of_part = (result.table["refused"] / result.table["lookups"] for result in (whole, part))
    assert refused > 0.2
    assert refused_of_part == pytest.approx(refused, rel=0.02)


def test_the_papers_protocol_simulates_the_whole_table() -> None:
    scenario = load("paper/bare-metal", {"capture.monitor": "flow", "traffic.flows": "multi"})
    assert scenario.table_sample == 16
    assert load("paper/bare-metal", {"capture.monitor": "flow"}).table_sample == 1
    assert (
        load("paper/bare-metal", {"capture.monitor": "flow", "traffic.flows": "multi", "measure.protocol": "paper"}).table_sample
        == 1
    )
