"""Named random streams: one for each component and replication, so that variants of a scenario see the same traffic."""

from __future__ import annotations

import hashlib
from collections.abc import Callable


def seed_source(seed: int, replication: int) -> Callable[[str], int]:
    """A function from a component's name to the 64-bit seed of its stream.

    Seeds are cut from a SHA-256 of seed, replication and name, so a new component changes no other stream.
    """

    def seed_of(name: str) -> int:
        digest = hashlib.sha256(f"{seed}/{replication}/{name}".encode()).digest()
        return int.from_bytes(digest[:8], "little")

    return seed_of
