"""Real traffic: the recording that comes with simnet, at its own speed and faster than the host can take."""

from __future__ import annotations

import json

import pytest

from simnet.cli import main

FRAMES, REPLICATIONS = 6340, 5


def replay(capsys: pytest.CaptureFixture[str], *settings: str) -> dict[str, object]:
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    assert main(["run", "replay/web-and-dns", "--json", *arguments]) == 0
    result: dict[str, object] = json.loads(capsys.readouterr().out)
    return result


def test_at_its_own_speed_nothing_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    result = replay(capsys)
    assert result["packets"] == {
        "offered": FRAMES * REPLICATIONS,
        "captured": FRAMES * REPLICATIONS,
        "in_flight": 0,
        "dropped": [{**place, "packets": 0} for place in result["packets"]["dropped"]],  # type: ignore[index]
    }
    assert 0 < result["latency_us"]["p50"] <= result["latency_us"]["p99"]  # type: ignore[index]


def test_faster_than_the_host_every_loss_has_a_place(capsys: pytest.CaptureFixture[str]) -> None:
    result = replay(capsys, "traffic.speed=1e6", "capture.ring_frames=64")
    packets = result["packets"]
    dropped = {place["place"]: place["packets"] for place in packets["dropped"]}  # type: ignore[index]
    assert packets["offered"] == FRAMES * REPLICATIONS  # type: ignore[index]
    assert packets["captured"] + sum(dropped.values()) + packets["in_flight"] == FRAMES * REPLICATIONS  # type: ignore[index]
    assert dropped["packet_ring"] > FRAMES * REPLICATIONS / 20
