"""The last milliseconds of a replication, piece by piece: what `simnet trace` shows and its files are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from simnet.engine.activity import HALTED, STOLEN, Slice
from simnet.engine.packet_ways import CAPTURED, WIRE, Stored, Way
from simnet.kernel.core import CONTEXTS
from simnet.results.result import Packets
from simnet.units import PS_PER_MS

SCHEMA = "simnet-trace/1"
IN_FLIGHT = "in_flight"
SAMPLES = 32
"""Packets of each fate that are shown."""


@dataclass(frozen=True)
class CoreTrack:
    """The time of a CPU, or of a vCPU on a CPU, without gaps."""

    cpu: int
    vcpu: int | None
    slices: Sequence[Slice] = field(repr=False)

    @property
    def name(self) -> str:
        """What people call it."""
        return f"CPU {self.cpu}" if self.vcpu is None else f"vCPU {self.vcpu} (on CPU {self.cpu})"

    def paid_ps(self) -> dict[str, int]:
        """Time by context."""
        paid = dict.fromkeys(CONTEXTS if self.vcpu is None else (*CONTEXTS, HALTED, STOLEN), 0)
        for piece in self.slices:
            paid[piece.context] += piece.end_ps - piece.begin_ps
        return paid

    def shares(self) -> dict[str, float]:
        """Shares of the time by context; they add up to 1."""
        paid = self.paid_ps()
        return {context: amount / sum(paid.values()) for context, amount in paid.items()}


@dataclass(frozen=True)
class QueueTrack:
    """How many packets are in a queue: (time in ps, number) whenever that changes."""

    name: str
    levels: Sequence[tuple[int, int]] = field(repr=False)


@dataclass(frozen=True)
class Timeline:
    """A window of one replication.

    Attributes
    ----------
    packets
        Of the window: offered, captured, dropped by place, and the change of what is in flight, so that they add up.
    in_flight_at_start
        Packets on their way when the window began.
    ways
        Of all packets that were on their way at the start or arrived later, in order of arrival.
    stored
        What the program's capture file gets, in order of the time stamps.
    place_names
        Names of the places where packets are lost, by counter.
    replayed
        For a replay: the capture file, and which of its frames each stored packet is.
    """

    scenario: str
    seed: int
    replication: int
    start_ps: int
    end_ps: int
    cores: tuple[CoreTrack, ...]
    queues: tuple[QueueTrack, ...]
    packets: Packets
    in_flight_at_start: int
    method: str
    place_names: Mapping[str, str]
    ways: Sequence[Way] = field(repr=False)
    stored: Sequence[Stored] = field(repr=False)
    replayed: tuple[Path, Any] | None = field(default=None, repr=False)

    @cached_property
    def sampled(self) -> list[Way]:
        """Up to SAMPLES packets of each fate, evenly over the window, those of which the most was seen; in order of arrival."""
        chosen: list[Way] = []
        for fate in dict.fromkeys(way.fate for way in self.ways):
            same = [way for way in self.ways if way.fate == fate]
            whole = [way for way in same if way.sights[0].place == WIRE]
            candidates = whole or same
            step = max(len(candidates) / SAMPLES, 1.0)
            chosen += [candidates[int(i * step)] for i in range(min(SAMPLES, len(candidates)))]
        return sorted(chosen, key=lambda way: way.arrival_ps)

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints, without the files."""
        sampled = Counter(self.fate_name(way.fate) for way in self.sampled)
        return {
            "schema": SCHEMA,
            "scenario": self.scenario,
            "seed": self.seed,
            "replication": self.replication,
            "window_ms": {
                "start": self.start_ps / PS_PER_MS,
                "end": self.end_ps / PS_PER_MS,
                "length": (self.end_ps - self.start_ps) / PS_PER_MS,
            },
            "cores": [{"cpu": t.cpu, **t.shares()} for t in self.cores if t.vcpu is None],
            "vcpus": [{"vcpu": t.vcpu, "cpu": t.cpu, **t.shares()} for t in self.cores if t.vcpu is not None],
            "queues": [
                {"queue": q.name, "start": q.levels[0][1], "end": q.levels[-1][1], "most": max(level for _, level in q.levels)}
                for q in self.queues
            ],
            "packets": {
                **self.packets.as_json(),
                "in_flight_at_start": self.in_flight_at_start,
                "in_flight": self.in_flight_at_start + self.packets.in_flight,
                "stored": len(self.stored),  # what a capture file of the window has: stamped in it, read in it or later
            },
            "sampled": {"packets": sum(sampled.values()), "fates": dict(sampled)},
        }

    def fate_name(self, fate: str) -> str:
        """What became of a packet: *captured*, *in_flight*, or the place where it was lost."""
        return fate if fate == CAPTURED else self.place_names.get(fate, fate) if fate else IN_FLIGHT

    def none_from_wire_to_monitor(self) -> bool:
        """Did no packet of the window's arrivals get captured in it: is the latency longer than the window?"""
        return not any(way.fate == CAPTURED and way.sights[0].place == WIRE for way in self.ways)

    def seen_by_capture(self) -> dict[str, int]:
        """Packets as the capture counts them: received (dropped ones included), lost before, dropped because its ring was full, delivered to the monitor."""
        dropped = {place.place: place.packets for place in self.packets.dropped}
        full = dropped.pop(self.place_names.get("socket_dropped", ""), 0)
        lost = sum(dropped[place] for place in self.place_names.values() if place in dropped)
        return {"received": len(self.stored) + full, "lost_before": lost, "dropped": full, "delivered": self.packets.captured}

    def places_of(self, ways: Iterable[Way]) -> list[str]:
        """The places that were seen on some ways, in the order in which packets meet them: the wire, queues, and where ways end."""
        seen = {sight.place for way in ways for sight in way.sights}
        order = [WIRE, *(queue.name for queue in self.queues), CAPTURED, *self.place_names]
        return [place for place in order if place in seen]

    def place_title(self, place: str) -> str:
        """A place as people read it."""
        return f"lost: {self.place_names[place]}" if place in self.place_names else place
