"""What a run says: rates with intervals, packets by place, time by context, latency, and where the numbers come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simnet.results.statistics import Estimate

SCHEMA = "simnet-result/1"


@dataclass(frozen=True)
class Rate:
    """A packet rate in the conventions that bit rates are quoted in (see `simnet.units`)."""

    kpps: Estimate
    mbps_wire: Estimate
    mbps_frame: Estimate

    def as_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {"kpps": self.kpps.as_json(), "mbps_wire": self.mbps_wire.as_json(), "mbps_frame": self.mbps_frame.as_json()}


@dataclass(frozen=True)
class Dropped:
    """Packets lost at one place."""

    place: str
    reason: str
    counter: str
    packets: int
    knob: str


@dataclass(frozen=True)
class Packets:
    """Where all packets of all replications went, from time 0. `offered` is the sum of the rest."""

    offered: int
    captured: int
    in_flight: int
    dropped: tuple[Dropped, ...]

    def as_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {
            "offered": self.offered,
            "captured": self.captured,
            "in_flight": self.in_flight,
            "dropped": [{"place": d.place, "reason": d.reason, "counter": d.counter, "packets": d.packets} for d in self.dropped],
        }


@dataclass(frozen=True)
class CoreTime:
    """Shares of one CPU's time by context; they add up to 1."""

    cpu: int
    shares: Mapping[str, float]


@dataclass(frozen=True)
class VcpuTime:
    """Shares of one vCPU's time by context, halted and stolen (exits included); they add up to 1."""

    vcpu: int
    cpu: int
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Replication:
    """One replication's measured window: rates in kpps, and samples of its counters."""

    number: int
    offered_kpps: float
    captured_kpps: float
    times_s: NDArray[np.float64] = field(repr=False)
    offered: NDArray[np.int64] = field(repr=False)
    captured: NDArray[np.int64] = field(repr=False)


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes
    ----------
    warmup_seconds, measured_seconds, simulated_seconds
        Of each replication: what was dropped, what counts, and their sum (less samples dropped at the end).
    stop_reason
        *precision*, *time_limit*, *paper_protocol* or *replay_end*.
    table
        Of the flow monitor: entries, refused inserts, look-ups, per replication, at the end; empty for other monitors.
    batches
        Frames a poll: histogram over the measured window, all queues; index is the number of frames.
    notes
        What a reader should know, in sentences.
    """

    scenario: str
    parameters: str
    seed: int
    engine: str
    warmup_seconds: float
    measured_seconds: float
    simulated_seconds: float
    wall_seconds: float
    stop_reason: str
    offered: Rate
    captured: Rate
    packets: Packets
    cores: tuple[CoreTime, ...]
    vcpus: tuple[VcpuTime, ...]
    rates: Mapping[str, Any]
    latency_us: Mapping[str, float | None]
    replications: Sequence[Replication]
    table: Mapping[str, float]
    notes: Sequence[str]
    provenance: Mapping[str, Any]
    latency_histogram: NDArray[np.int64] = field(repr=False)
    batches: NDArray[np.int64] = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints: the contract of the command line."""
        return {
            "schema": SCHEMA,
            "scenario": self.scenario,
            "parameters": self.parameters,
            "seed": self.seed,
            "engine": self.engine,
            "replications": len(self.replications),
            "simulated_seconds": self.simulated_seconds,
            "warmup_seconds": self.warmup_seconds,
            "measured_seconds": self.measured_seconds,
            "wall_seconds": self.wall_seconds,
            "stop_reason": self.stop_reason,
            "offered": self.offered.as_json(),
            "captured": self.captured.as_json(),
            "packets": self.packets.as_json(),
            "cores": [{"cpu": core.cpu, **core.shares} for core in self.cores],
            "vcpus": [{"vcpu": v.vcpu, "cpu": v.cpu, **v.shares} for v in self.vcpus],
            "rates": dict(self.rates),
            "latency_us": dict(self.latency_us),
            "flow_table": dict(self.table),
            "by_replication": [
                {"replication": r.number, "offered_kpps": r.offered_kpps, "captured_kpps": r.captured_kpps}
                for r in self.replications
            ],
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
        }
