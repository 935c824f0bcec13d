"""The memory system: what touching a cache line costs, from how much memory is in use.

A line of a footprint of F bytes that is touched at random is found in a cache of C bytes with probability C / F, level by level, and else in
memory; the same holds for translations in the TLBs, whose misses walk the page table, whose last-level entries have a footprint of
their own. The result is an expected value, so equal runs cost equal time. Left out: associativity and page colour, bandwidth limits, dirty
write-backs, hardware prefetch except where a caller states the share of a miss that stays exposed.
"""

from __future__ import annotations

from simnet.compiled import jit
from simnet.records import Record

LINE_BYTES = 64
PAGE_BYTES = 4096
PTE_BYTES = 8


class Memory(Record):
    """Sizes in bytes (TLBs: bytes that their entries reach with 4 KiB pages), access times in ps."""

    l1_bytes: float
    l2_bytes: float
    l3_bytes: float
    l1_ps: float
    l2_ps: float
    l3_ps: float
    dram_ps: float
    l1_tlb_bytes: float
    l2_tlb_bytes: float
    l2_tlb_ps: float
    page_walk_ps: float


@jit
def line_ps(memory: Memory, footprint_bytes: float) -> float:
    """Expected time to touch a random line of a footprint (above 0), translation not included."""
    in_l1 = min(memory.l1_bytes / footprint_bytes, 1.0)
    in_l2 = min(memory.l2_bytes / footprint_bytes, 1.0)
    in_l3 = min(memory.l3_bytes / footprint_bytes, 1.0)
    return in_l1 * memory.l1_ps + (in_l2 - in_l1) * memory.l2_ps + (in_l3 - in_l2) * memory.l3_ps + (1.0 - in_l3) * memory.dram_ps


@jit
def translation_ps(memory: Memory, page_footprint_bytes: float) -> float:
    """Expected time of TLB misses for a random access to a footprint of 4 KiB pages."""
    in_l1 = min(memory.l1_tlb_bytes / page_footprint_bytes, 1.0)
    in_l2 = min(memory.l2_tlb_bytes / page_footprint_bytes, 1.0)
    walk = memory.page_walk_ps + line_ps(memory, page_footprint_bytes / PAGE_BYTES * PTE_BYTES)
    return (in_l2 - in_l1) * memory.l2_tlb_ps + (1.0 - in_l2) * walk
