"""Frame sizes: one size, or a mix such as IMIX drawn by weight."""

from __future__ import annotations

from simnet.compiled import jit
from simnet.records import Array, Record, int64, many
from simnet.traffic.stream import Stream, uniform

MAX_SIZES = 16


class SizeMix(Record):
    """`sizes` frame lengths (with FCS) and the cumulative share of frames up to each."""

    sizes: int
    frame_bytes: Array[int] = many(int, MAX_SIZES)
    cumulative: Array[float] = many(float, MAX_SIZES)
    stream: Stream


@jit
def next_size(mix: SizeMix) -> int:
    """Which of the sizes the next frame has, as an index."""
    at = int64(0)
    if mix.sizes > 1:
        u = uniform(mix.stream)
        while at < mix.sizes - 1 and u >= mix.cumulative[at]:
            at += 1
    return at
