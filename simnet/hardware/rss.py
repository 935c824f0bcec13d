"""Receive-side scaling: which queue a frame goes to.

The NIC hashes header fields with the Toeplitz function under a secret key and looks up the low bits in an indirection table (RETA). The
82599 as ixgbe 3.2 programs it hashes the addresses of UDP over IPv4, not the ports (`ixgbe_setup_mrqc`: no UDP flag), so one pair of addresses
lands in one queue. The hash is linear over XOR, which makes the hash of a synthetic flow the XOR of three table entries.
"""

from __future__ import annotations

from simnet.compiled import jit
from simnet.records import Array, Record, int64, many
from simnet.traffic.flows import HOST_SHIFT
from simnet.traffic.switch import MAX_GENERATORS

RETA_ENTRIES = 128
MAX_QUEUES = 16
MAX_REPLAY_FLOWS = 1 << 20

IXGBE_SEED = (
    0xE291D73D,
    0x1805EC6C,
    0x2A94B30D,
    0xA54F2BEC,
    0xEA49AF7C,
    0xE214AD3D,
    0xB855AABE,
    0x6A3E67EA,
    0x14364D17,
    0x3BED200D,
)
"""Register values RSSRK(0..9) of ixgbe in Linux 3.2 (`ixgbe_setup_mrqc`)."""
IXGBE_KEY = b"".join(word.to_bytes(4, "little") for word in IXGBE_SEED)
MICROSOFT_KEY = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")
"""The key of the published verification vectors; stands in for the random key of igb."""


class Rss(Record):
    """Tables of one NIC: the hash of a synthetic flow is by_host ^ by_high_byte ^ by_low_byte ^ by_port; of a replayed one, by_flow."""

    replayed: int
    last_flow: int
    last_queue: int
    by_host: Array[int] = many(int, MAX_GENERATORS)
    by_high_byte: Array[int] = many(int, 256)
    by_low_byte: Array[int] = many(int, 256)
    by_port_high: Array[int] = many(int, 256)
    by_port_low: Array[int] = many(int, 256)
    reta: Array[int] = many(int, RETA_ENTRIES)
    by_flow: Array[int] = many("u4", MAX_REPLAY_FLOWS)


def toeplitz(key: bytes, data: bytes) -> int:
    """Toeplitz hash (32 bits) of `data`, most significant bit first, under `key`.

    Source: Microsoft, "RSS hashing functions"; 82599 datasheet, section 7.1.2.8.
    """
    bits = int.from_bytes(key, "big")
    width = len(key) * 8
    result = 0
    for i in range(len(data) * 8):
        if data[i // 8] >> (7 - i % 8) & 1:
            result ^= bits >> (width - 32 - i) & 0xFFFFFFFF
    return result


@jit
def hash_of(rss: Rss, flow: int) -> int:
    """RSS hash of a flow."""
    if rss.replayed:
        return int64(rss.by_flow[flow & (MAX_REPLAY_FLOWS - 1)])
    h = rss.by_host[flow >> HOST_SHIFT] ^ rss.by_high_byte[(flow >> 8) & 255] ^ rss.by_low_byte[flow & 255]
    return h ^ rss.by_port_high[(flow >> 24) & 255] ^ rss.by_port_low[(flow >> 16) & 255]


@jit
def rx_queue_of(rss: Rss, flow: int) -> int:
    """The receive queue of a flow; that of the last flow is remembered."""
    if flow != rss.last_flow:
        rss.last_flow = flow
        rss.last_queue = rss.reta[hash_of(rss, flow) & (RETA_ENTRIES - 1)]
    return rss.last_queue
