"""A traffic generator: trains of frames, limited in packets and in bits a second.

One description covers the usual sources. Frames leave in trains of `train_frames` (constant or geometric) at the line rate of the generator's
own port; the pause after a train is constant, exponential or uniform around the mean that keeps the generator at its long-term rate:

========  ===============  ============================
CBR       trains of 1      constant
Poisson   trains of 1      exponential
on-off    geometric trains exponential
pktgen    constant trains  uniform, +- `jitter`
========  ===============  ============================

A serial line cannot send two frames at once, so "Poisson" has the frame's own time on the line as its least distance. pktgen
(net/core/pktgen.c, 3.2) sends from one kernel thread: at small sizes the thread is the limit (packets/s), at large sizes the line (bits/s).
Left out: the generator's own cores and caches.
"""

from __future__ import annotations

from simnet.compiled import jit
from simnet.records import Array, Record, int64, many
from simnet.traffic.flows import FlowSource, next_flow
from simnet.traffic.frame import Frame, copy_frame
from simnet.traffic.sizes import MAX_SIZES, SizeMix, next_size
from simnet.traffic.stream import Stream, exponential, uniform

CONSTANT, EXPONENTIAL, UNIFORM = 0, 1, 2


class Generator(Record):
    """One generator. `next` is the frame whose last bit reaches the switch at `next.arrival_ps`.

    For each size of `sizes`: `on_line_ps` is a frame's time on the generator's line, `pause_ps` the mean pause after a train that ends with
    it. For geometric trains `train_scale` is the mean of the exponential whose integer part is one less than the train.
    """

    next: Frame
    prepared: Frame
    on_line_ps: Array[float] = many(float, MAX_SIZES)
    pause_ps: Array[float] = many(float, MAX_SIZES)
    spacing: int
    jitter: float
    train_frames: int
    train_scale: float
    train_left: int
    stream: Stream
    flows: FlowSource
    sizes: SizeMix


@jit
def new_train(generator: Generator) -> int:
    """Length of the train that starts now."""
    if generator.train_scale > 0.0:
        return 1 + int64(exponential(generator.stream) * generator.train_scale)
    return generator.train_frames


@jit
def pause_share(generator: Generator) -> float:
    """The pause after a train, as a share of its mean."""
    if generator.spacing == EXPONENTIAL:
        return exponential(generator.stream)
    if generator.spacing == UNIFORM:
        return 1.0 + generator.jitter * (2.0 * uniform(generator.stream) - 1.0)
    return 1.0


@jit
def prepare(generator: Generator) -> None:
    """Make the frame after the next one and say when it reaches the switch."""
    frame = generator.prepared
    size_index = next_size(generator.sizes)
    wait = generator.on_line_ps[size_index]
    generator.train_left -= 1
    if generator.train_left <= 0:
        generator.train_left = new_train(generator)
        wait += generator.pause_ps[size_index] * pause_share(generator)
    frame.arrival_ps += int64(wait)
    frame.frame_bytes = generator.sizes.frame_bytes[size_index]
    frame.flow = next_flow(generator.flows)


@jit
def advance(generator: Generator) -> None:
    """The prepared frame becomes the next one. Being one ahead keeps the random numbers out of the race between the generators."""
    copy_frame(generator.next, generator.prepared)
    prepare(generator)
