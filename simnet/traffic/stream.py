"""A named stream of random numbers: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), one 64-bit word of state.

Streams are seeded far apart by `engine.streams`; one belongs to each component and replication, so that two variants of a scenario see the
same traffic.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from simnet.compiled import jit
from simnet.records import Record, int64

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_11 = np.uint64(11)
_27 = np.uint64(27)
_30 = np.uint64(30)
_31 = np.uint64(31)
_2_POW_MINUS_53 = 2.0**-53


class Stream(Record):
    """State of one stream."""

    state: np.uint64


@jit
def next_word(stream: Stream) -> np.uint64:
    """The next 64 random bits."""
    stream.state = stream.state + _GOLDEN
    z = stream.state
    z = (z ^ (z >> _30)) * _MIX_1
    z = (z ^ (z >> _27)) * _MIX_2
    return z ^ (z >> _31)


@jit
def uniform(stream: Stream) -> float:
    """A number in [0, 1) with 53 random bits."""
    return float(next_word(stream) >> _11) * _2_POW_MINUS_53


def _ziggurat(layers: int, tail: float) -> tuple[NDArray[np.uint64], NDArray[np.float64], NDArray[np.float64]]:
    """Tables of the ziggurat method (Marsaglia, Tsang, J. Stat. Softw. 5:8, 2000) for exp(-x): acceptance limits, widths, heights."""
    area = tail * math.exp(-tail) + math.exp(-tail)
    edges = [area / math.exp(-tail), tail]
    while len(edges) < layers:
        edges.append(-math.log(area / edges[-1] + math.exp(-edges[-1])))
    edges.append(0.0)
    inside = [edges[i + 1] / edges[i] * 2.0**53 for i in range(layers)]
    return (
        np.array(inside, dtype=np.uint64),
        np.array(edges[:layers]) * _2_POW_MINUS_53,
        np.exp(-np.array(edges)),
    )


_LAYERS = 256
_TAIL = 7.69711747013104972
_LIMIT, _WIDTH, _HEIGHT = _ziggurat(_LAYERS, _TAIL)
_LAYER_BITS = np.uint64(_LAYERS - 1)


@jit
def exponential(stream: Stream) -> float:
    """A number of the exponential distribution with mean 1."""
    while True:
        word = next_word(stream)
        layer = int64(word & _LAYER_BITS)
        across = word >> _11
        x = float(across) * float(_WIDTH[layer])
        if across < _LIMIT[layer]:
            return x
        if layer == 0:
            return _TAIL - math.log(1.0 - uniform(stream))
        if _HEIGHT[layer] + (_HEIGHT[layer + 1] - _HEIGHT[layer]) * uniform(stream) < math.exp(-x):
            return x
