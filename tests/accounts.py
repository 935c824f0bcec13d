"""What holds for every result: each packet has a place, and each core's time a context."""

from __future__ import annotations

import pytest

import simnet


def check_accounts(result: simnet.Result) -> None:
    """Packets add up exactly, and the shares of every core and virtual core to one."""
    packets = result.packets
    places = {place.place: place.packets for place in packets.dropped}
    assert packets.offered == packets.captured + packets.in_flight + sum(places.values()), (packets, places)
    for shares in [core.shares for core in result.cores] + [vcpu.shares for vcpu in result.vcpus]:
        assert sum(shares.values()) == pytest.approx(1.0, abs=1e-9), shares
        assert min(shares.values()) >= -1e-12, shares
