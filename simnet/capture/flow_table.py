"""The flow tables of the PNA: what a five-tuple finds in them, and what that costs.

*d-left* (pna_hashmap, from January 2012): two halves of buckets with 8 entries of 32 bits (8-bit fingerprint, 24-bit index into an array of
44-byte pairs). A look-up reads both buckets and compares the full key on a fingerprint match; an insert appends a pair and puts its entry in
the emptier bucket, ties to the left (Voecking, J. ACM 50:4, 2003). Nothing is deleted; when the pair array is full an insert is refused before
it hashes. *Probing* (v2.0-2.2, the ANCS 2011 measurements): one array of 44-byte entries, quadratic probing, at most 32 tries. In both
the tables are used in turn, a reader empties the full one, every `period`.

A real d-left table takes 480 MiB. Here an entry is 16 bits: a mix of the flow number that is a bijection gives the bucket, and what is left over,
the remainder, is stored, so that equal remainders in a bucket mean equal flows (quotienting: Cleary, IEEE Trans. Comp. C-33:9, 1984). Occupancy,
fill and fingerprint collisions are those of the full table as long as each generator sends fewer than 2**(bucket_bits + 11) flows in a period.

A table that takes seconds to fill is sampled: one part in `sample` of it is simulated, with as many times fewer entries and as many times shorter a period, and its
lines and pages count `sample` times (set sampling: Kessler, Hill and Wood, IEEE Trans. Comp. C-43:6, 1994). Load of a bucket, refusals and fingerprint collisions depend on the
load factor alone and are those of the whole; a period stays long against everything else that happens.

Cost comes from lines and translations touched (`hardware.memory`), from hashing and from comparisons; which lines are cold follows from how
much of the table is in use. Left out: the cost of the reader that empties tables (it runs on another core).
"""

from __future__ import annotations

from simnet.compiled import cold_jit, jit, prefetch
from simnet.hardware.memory import LINE_BYTES, PAGE_BYTES, Memory, line_ps, translation_ps
from simnet.records import Array, Record, int64, many
from simnet.traffic.flows import HOST_SHIFT

D_LEFT, PROBING = 0, 1

SLOTS = 8
FALSE_BITS = 4
FALSE = (1 << FALSE_BITS) - 1
FOUND = 1 << 10
BUCKET_BYTES = 32
PAIR_BYTES = 44
REMAINDER_BITS = 15
OCCUPIED = 1 << REMAINDER_BITS
REMAINDER = OCCUPIED - 1
FINGERPRINT = 255
MAX_TRIES = 32
HOST_BITS = 4
MAX_BUCKETS = 1 << 22
MAX_ENTRIES = 1 << 23
LEFT_FACTORS = (0x1B87359, 0x0C2B2AF)
RIGHT_FACTORS = (0x19D699B, 0x05BD1E9)


class FlowTable(Record):
    """One table in use. `bucket_bits`: buckets a half (d-left) or entries (probing), as a power of two; `limit`: most entries; `sample`: it is one part in so many of
    the table that it stands for.

    Costs in ps: `hash_ps` a hash, `compare_ps` a full key comparison, `update_ps` counters of a known flow, `insert_ps` filling a new entry;
    `spent_ps` is what all look-ups cost together; `new_ps` and `known_ps` are the memory accesses of a flow that is not, or is, in the table. Of two independent misses the second
    exposes `1 - overlap` of its time.
    """

    design: int
    bucket_bits: int
    sample: int
    limit: int
    entries: int
    refused: int
    lookups: int
    spent_ps: int
    false_matches: int
    tries: int
    rotations: int
    period_ps: int
    hash_ps: int
    compare_ps: int
    update_ps: int
    insert_ps: int
    overlap: float
    new_ps: int
    known_ps: int
    pair_ps: int
    recost_at: int
    buckets: Array[int] = many("u2", MAX_BUCKETS * SLOTS)
    keys: Array[int] = many("u4", MAX_ENTRIES)


@jit
def squeeze(flow: int, bits: int) -> int:
    """A synthetic flow's number in fewer bits: the generator in the first four, its count in the rest."""
    return (flow >> HOST_SHIFT) << (bits - HOST_BITS) | flow & ((int64(1) << (bits - HOST_BITS)) - 1)


@jit
def mix(number: int, bits: int, first_factor: int, second_factor: int) -> int:
    """A bijection of the numbers below 2**bits that scatters them. Factors are odd and below 2**25."""
    mask = (int64(1) << bits) - 1
    half = (bits + 1) >> 1
    x = number & mask
    x ^= x >> half
    x = (x * first_factor) & mask
    x ^= x >> (half - 1)
    x = (x * second_factor) & mask
    return x ^ (x >> half)


@jit
def left_mix(table: FlowTable, flow: int) -> int:
    """Place of a flow in the left half."""
    bits = table.bucket_bits + REMAINDER_BITS
    return mix(squeeze(flow, bits), bits, LEFT_FACTORS[0], LEFT_FACTORS[1])


@jit
def right_mix(table: FlowTable, flow: int) -> int:
    """Place of a flow in the right half."""
    bits = table.bucket_bits + REMAINDER_BITS
    return mix(squeeze(flow, bits), bits, RIGHT_FACTORS[0], RIGHT_FACTORS[1])


@jit
def table_bytes(table: FlowTable) -> float:
    """Memory of the whole table that a random key may touch: the bucket array, or all entries."""
    if table.design == D_LEFT:
        return float((2 << table.bucket_bits) * BUCKET_BYTES * table.sample)
    return float((1 << table.bucket_bits) * PAIR_BYTES * table.sample)


@jit
def access_ps(memory: Memory, lines_in_use: float, region_bytes: float) -> float:
    """One random access to a region of which `lines_in_use` lines, each on a page of its own if there is room, are in use."""
    lines = min(lines_in_use * LINE_BYTES, region_bytes)
    pages = min(lines_in_use * PAGE_BYTES, region_bytes)
    return line_ps(memory, lines) + translation_ps(memory, pages)


@cold_jit
def recost(table: FlowTable, memory: Memory) -> None:
    """Work out what memory accesses cost at the present fill; again when the fill has grown by an eighth."""
    region = table_bytes(table)
    in_use = max(float(table.entries * table.sample), 1.0)
    cold = access_ps(memory, region, region)
    if table.design == D_LEFT:
        warm = access_ps(memory, 2.0 * in_use, region)
        pair = access_ps(memory, in_use, float(table.limit * table.sample * PAIR_BYTES))
        table.new_ps = int64(cold * (2.0 - table.overlap))
        table.known_ps = int64(warm * (2.0 - table.overlap) + pair)
        table.pair_ps = int64(pair)
    else:
        table.new_ps = int64(cold)
        table.known_ps = int64(access_ps(memory, in_use, region))
    table.recost_at = table.entries + (table.entries >> 3) + 1


@jit
def look_through(table: FlowTable, bucket: int, remainder: int) -> int:
    """Compare a bucket's entries. Returns the false fingerprint matches, plus FOUND if the flow is there, or else the number of entries
    shifted left by FALSE_BITS.
    """
    false = 0
    wanted = remainder | OCCUPIED
    for slot in range(SLOTS):
        entry = int64(table.buckets[bucket * SLOTS + slot])
        if entry == wanted:
            return FOUND + false
        if entry == 0:
            return (slot << FALSE_BITS) + false
        if (entry ^ wanted) & FINGERPRINT == 0:
            false += 1
    return (SLOTS << FALSE_BITS) + false


@jit
def d_left_update(table: FlowTable, flow: int) -> int:
    """Count a packet of `flow`, inserting the flow if it is new and there is room. Returns the cost in ps."""
    left, right = left_mix(table, flow), right_mix(table, flow)
    left_bucket = left >> REMAINDER_BITS
    right_bucket = (1 << table.bucket_bits) + (right >> REMAINDER_BITS)
    in_left = look_through(table, left_bucket, left & REMAINDER)
    in_right = int64(0)
    if in_left < FOUND:
        in_right = look_through(table, right_bucket, right & REMAINDER)
    false = (in_left & FALSE) + (in_right & FALSE)
    table.false_matches += false
    cost = table.hash_ps + false * (table.compare_ps + table.pair_ps)
    if in_left >= FOUND or in_right >= FOUND:
        return cost + table.known_ps + table.compare_ps + table.update_ps
    cost += table.new_ps
    if table.entries >= table.limit:
        table.refused += 1
        return cost
    cost += table.hash_ps + table.insert_ps
    entries_left, entries_right = in_left >> FALSE_BITS, in_right >> FALSE_BITS
    if entries_left <= entries_right:
        bucket, remainder, entries = left_bucket, left & REMAINDER, entries_left
    else:
        bucket, remainder, entries = right_bucket, right & REMAINDER, entries_right
    if entries == SLOTS:
        table.refused += 1
        return cost
    table.buckets[bucket * SLOTS + entries] = remainder | OCCUPIED
    table.entries += 1
    return cost


@cold_jit
def probing_update(table: FlowTable, flow: int) -> int:
    """The same for the older table: probe until the flow or an empty entry is found. Returns the cost in ps."""
    mask = (1 << table.bucket_bits) - 1
    at = mix(squeeze(flow, 36), 36, LEFT_FACTORS[0], LEFT_FACTORS[1]) & mask
    key = squeeze(flow, 31) + 1
    cost = table.hash_ps
    for k in range(MAX_TRIES):
        at = (at + k) & mask  # steps of 1, 2, 3, ...: quadratic
        table.tries += 1
        stored = int64(table.keys[at])
        if stored == key:
            return cost + table.known_ps + k * (table.compare_ps + table.new_ps) + table.update_ps
        if stored == 0:
            if table.entries >= table.limit:
                break
            table.keys[at] = key
            table.entries += 1
            return cost + table.new_ps + k * (table.compare_ps + table.new_ps) + table.insert_ps
    table.refused += 1
    return cost + (k + 1) * (table.compare_ps + table.new_ps)


@jit
def expect(table: FlowTable, flow: int) -> None:
    """A packet of `flow` will be counted soon: have the simulator's own memory ready. Changes no result."""
    if table.design == D_LEFT:
        prefetch(table.buckets, (left_mix(table, flow) >> REMAINDER_BITS) * SLOTS)
        prefetch(table.buckets, ((1 << table.bucket_bits) + (right_mix(table, flow) >> REMAINDER_BITS)) * SLOTS)


@jit
def count_packet(table: FlowTable, memory: Memory, flow: int) -> int:
    """Count a packet of `flow` in the table. Returns the cost in ps."""
    table.lookups += 1
    cost = d_left_update(table, flow) if table.design == D_LEFT else probing_update(table, flow)
    table.spent_ps += cost
    if table.entries >= table.recost_at:
        recost(table, memory)
    return cost


@cold_jit
def rotate(table: FlowTable, memory: Memory) -> None:
    """The next, empty table takes over."""
    if table.design == D_LEFT:
        table.buckets[: (2 << table.bucket_bits) * SLOTS] = 0
    else:
        table.keys[: 1 << table.bucket_bits] = 0
    table.entries = 0
    table.rotations += 1
    recost(table, memory)
