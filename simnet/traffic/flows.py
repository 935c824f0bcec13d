"""Which five-tuple a frame carries, as one number.

A synthetic flow is `host << 32 | k`: generator `host` sends UDP over IPv4 from source address 10.(16 + host).0.0 + (k mod 65536) and
source port 16384 xor (k div 65536) to one destination. *single* is flow 0 for every frame of every generator; *unique* (the paper's "multi")
counts k up so that no five-tuple comes twice (65536 addresses x 65536 ports: "over four billion", paper section III-E); otherwise each
generator draws uniformly from its share of N flows. Flows of a replayed capture are numbered in the order of their first packet.
"""

from __future__ import annotations

from simnet.compiled import jit
from simnet.records import Record, int64
from simnet.traffic.stream import Stream, uniform

SINGLE, UNIQUE, DRAWN = 0, 1, 2
HOST_SHIFT = 32
ADDRESS_BITS = 16
DESTINATION = (192 << 24) | (168 << 16) | (1 << 8) | 1
SOURCE_PORT, DESTINATION_PORT = 16384, 9


class FlowSource(Record):
    """Where a generator's flow numbers come from."""

    kind: int
    host: int
    flows: int
    sent: int
    stream: Stream


@jit
def next_flow(source: FlowSource) -> int:
    """Flow number of the generator's next frame."""
    if source.kind == SINGLE:
        return int64(0)
    if source.kind == UNIQUE:
        k = source.sent
        source.sent += 1
    else:
        k = int64(uniform(source.stream) * source.flows)
    return (source.host << HOST_SHIFT) | k


def source_address(flow: int) -> int:
    """IPv4 source address of a synthetic flow, as a number."""
    return (10 << 24) | ((16 + (flow >> HOST_SHIFT)) << 16) | (flow & ((1 << ADDRESS_BITS) - 1))


def source_port(flow: int) -> int:
    """UDP source port of a synthetic flow."""
    return SOURCE_PORT ^ (flow >> ADDRESS_BITS & 0xFFFF)
