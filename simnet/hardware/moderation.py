"""Interrupt moderation: how long a vector waits before it may interrupt again, and how the drivers choose that time.

The interval register (EITR) counts quarters of a microsecond. It is read when the vector fires; the drivers rewrite it when a poll is complete,
never during overload.
"""

from __future__ import annotations

from simnet.compiled import cold_jit, jit
from simnet.records import Record

FIXED, IXGBE_ADAPTIVE, IGB_ADAPTIVE = 0, 1, 2

PS_PER_EITR = 250_000
LOWEST, LOW, BULK = 0, 1, 2
EITR_100K, EITR_20K, EITR_8K = 40, 200, 500
"""IXGBE_100K_ITR, IXGBE_20K_ITR and IXGBE_8K_ITR of ixgbe.h, Linux 3.2."""
IXGBE_MAX_EITR = 0xFF8
"""Bits of the interval in the register. The driver keeps what it wrote and goes on from there, so that rounding down accumulates: going up from
20 000 interrupts/s it ends at 9 800, and from 100 000 it does not get away (ixgbe_set_itr of 3.6.7-k)."""
IGB_LEAST = 196
"""igb's 20 000 interrupts/s, the most in mode 3 (igb_update_ring_itr, Linux 2.6.37)."""
IGB_START = 648
"""IGB_START_ITR: about 6 000 interrupts/s."""
IGB_EITR_MASK = 0x7FFC


class Moderation(Record):
    """State of one vector's moderation: `eitr` in quarters of a microsecond; bytes (without FCS) and packets since the last update."""

    algorithm: int
    eitr: int
    eitr_written: int
    itr_class: int
    total_bytes: int
    total_packets: int


@jit
def interval_ps(moderation: Moderation) -> int:
    """Time before the vector may fire again, as programmed now."""
    if moderation.algorithm == IGB_ADAPTIVE:  # igb writes the value it chose at the start of the next interrupt: igb_write_itr
        moderation.eitr_written = moderation.eitr & IGB_EITR_MASK
    return moderation.eitr_written * PS_PER_EITR


@jit
def ixgbe_update_itr(moderation: Moderation) -> None:
    """ixgbe_update_itr and ixgbe_set_itr (ixgbe_main.c, Linux 3.2): whole bytes per programmed microsecond move the class by one."""
    programmed_us = moderation.eitr >> 2
    above_10 = moderation.total_bytes >= 11 * programmed_us
    above_20 = moderation.total_bytes >= 21 * programmed_us
    if moderation.itr_class == LOWEST:
        if above_10:
            moderation.itr_class = LOW
    elif moderation.itr_class == LOW:
        if above_20:
            moderation.itr_class = BULK
        elif not above_10:
            moderation.itr_class = LOWEST
    elif not above_20:
        moderation.itr_class = LOW
    target = EITR_100K
    if moderation.itr_class == LOW:
        target = EITR_20K
    elif moderation.itr_class == BULK:
        target = EITR_8K
    if target != moderation.eitr:
        moderation.eitr = (10 * target * moderation.eitr) // (9 * target + moderation.eitr) & IXGBE_MAX_EITR
        moderation.eitr_written = moderation.eitr


@jit
def igb_update_ring_itr(moderation: Moderation) -> None:
    """igb_update_ring_itr (igb_main.c, Linux 2.6.37, mode 3): the interval follows the mean frame length."""
    wire = min(moderation.total_bytes // moderation.total_packets + 24, 3000)
    eitr = wire // 3 if wire > 300 and wire < 1200 else wire // 2
    moderation.eitr = max(eitr, IGB_LEAST)


@cold_jit
def update(moderation: Moderation) -> None:
    """The driver's choice of a new interval at the end of a complete poll."""
    if moderation.total_packets == 0:
        return
    if moderation.algorithm == IXGBE_ADAPTIVE:
        ixgbe_update_itr(moderation)
    elif moderation.algorithm == IGB_ADAPTIVE:
        igb_update_ring_itr(moderation)
    moderation.total_bytes = 0
    moderation.total_packets = 0
