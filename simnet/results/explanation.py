"""What `simnet explain` finds out: the limit, the cycles by stage, what would change the captured rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simnet.results.bottleneck import Bottleneck
from simnet.results.result import Result
from simnet.results.stages import Ledger, wasted
from simnet.results.statistics import Estimate

SCHEMA = "simnet-explanation/1"
PLACES_OF_WASTE = {"qdisc_dropped": "tap_qdisc", "tap_dropped": "tap_queue"}
"""Place of loss by its counter; the socket's depends on the method."""


@dataclass(frozen=True)
class Elasticity:
    """How the captured rate follows one quantity: d ln(captured) / d ln(quantity).

    `changed_to` is the better of the two values that were tried and `gain` the relative change of the captured rate there. `tested` replications: all, or
    one if that one moved hardly at all, in which case there is no interval.
    """

    quantity: str
    unit: str
    value: float
    estimate: Estimate
    changed_to: float
    gain: Estimate
    tested: int

    def as_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {
            "quantity": self.quantity,
            "unit": self.unit,
            "value": self.value,
            "elasticity": self.estimate.as_json(),
            "replications": self.tested,
        }


@dataclass(frozen=True)
class WhatIf:
    """A change that a user could make, as settings by path, and the relative change of the captured rate that it brings."""

    title: str
    settings: Mapping[str, Any]
    gain: Estimate
    kind: str = "knob"

    def helps(self) -> bool:
        """Does it surely help, and by enough to be worth the while?"""
        return self.gain.ci95 is not None and self.gain.mean - self.gain.ci95 > 0 and self.gain.mean >= WORTHWHILE

    def as_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {"title": self.title, "kind": self.kind, "settings": dict(self.settings), "gain": self.gain.as_json()}


WORTHWHILE = 0.005
"""A gain below this is not advice."""


@dataclass(frozen=True)
class Sensitivity:
    """What was tried by running again.

    Attributes
    ----------
    seconds
        Simulated seconds of each replication that were measured for it.
    elasticities, what_ifs
        Largest first.
    untouched
        Quantities that were not tried, because no cycles go where they are spent.
    advice
        At most three: the best knob, the knob that is best on top of it and so on, each with its gain on top of those before; then costs, alone.
    together
        The advised knobs all at once; None for fewer than two.
    """

    seconds: float
    elasticities: Sequence[Elasticity]
    what_ifs: Sequence[WhatIf]
    untouched: Sequence[str]
    advice: Sequence[WhatIf]
    together: WhatIf | None

    def as_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {
            "measured_seconds": self.seconds,
            "elasticities": [e.as_json() for e in self.elasticities],
            "what_ifs": [w.as_json() for w in self.what_ifs],
            "untouched": list(self.untouched),
        }


@dataclass(frozen=True)
class StageCost:
    """Cycles of one stage for each captured packet (None if none was captured), its share of all busy cycles, and that share by CPU."""

    key: str
    side: str
    cycles: float | None
    share: float
    cpus: Mapping[int, float]

    def as_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {
            "stage": self.key,
            "side": self.side,
            "cycles_per_captured": self.cycles,
            "share_of_busy": self.share,
            "cpus": {str(cpu): share for cpu, share in self.cpus.items()},
        }


@dataclass(frozen=True)
class Waste:
    """Work on packets that were lost later: how many at which place, cycles spent on each of them, and all that per captured packet."""

    place: str
    packets: int
    cycles_each: float
    cycles: float | None
    share: float

    def as_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {
            "place": self.place,
            "packets": self.packets,
            "cycles_each": self.cycles_each,
            "cycles_per_captured": self.cycles,
            "share_of_busy": self.share,
        }


@dataclass(frozen=True)
class Explanation:
    """Where packets and cycles went, and what would help most.

    Attributes
    ----------
    result
        The run that is explained.
    ledger
        Its stages, all replications together; `clock_ghz` turns time into cycles.
    sensitivity
        None if only the first parts were asked for.
    notes
        What a reader should know, in sentences.
    """

    result: Result
    bottleneck: Bottleneck
    ledger: Ledger
    clock_ghz: float
    socket_place: str | None
    sensitivity: Sensitivity | None
    notes: Sequence[str]

    def _per_captured(self, ps: float) -> float | None:
        return ps * self.clock_ghz / 1000 / self.ledger.captured if self.ledger.captured else None

    def busy_cycles(self) -> float | None:
        """Cycles that all cores were busy for each captured packet."""
        return self._per_captured(self.ledger.total_busy_ps())

    def stages(self) -> list[StageCost]:
        """All CPUs together, in the order of a packet's way."""
        busy = self.ledger.total_busy_ps() or 1.0
        by_stage: dict[tuple[str, str], dict[int, float]] = {}
        for stage in self.ledger.stages:
            cpus = by_stage.setdefault((stage.key, stage.side), {})
            cpus[stage.cpu] = cpus.get(stage.cpu, 0.0) + stage.ps
        return [
            StageCost(
                key,
                side,
                self._per_captured(sum(cpus.values())),
                sum(cpus.values()) / busy,
                {c: ps / busy for c, ps in cpus.items()},
            )
            for (key, side), cpus in by_stage.items()
        ]

    def waste(self) -> list[Waste]:
        """Work that was for nothing, by place of loss."""
        busy = self.ledger.total_busy_ps() or 1.0
        rows = []
        for counter, ps in wasted(self.ledger).items():
            packets = self.ledger.dropped[counter]
            place = PLACES_OF_WASTE.get(counter) or self.socket_place or counter
            rows.append(Waste(place, packets, ps * self.clock_ghz / 1000 / packets, self._per_captured(ps), ps / busy))
        return rows

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        ledger, sensitivity = self.ledger, self.sensitivity
        return {
            "schema": SCHEMA,
            "scenario": self.result.scenario,
            "seed": self.result.seed,
            "bottleneck": self.bottleneck.as_json(),
            "packets": self.result.packets.as_json(),
            "cycles": {
                "per_captured_busy": self.busy_cycles(),
                "stages": [stage.as_json() for stage in self.stages()],
                "not_attributed_share": ledger.unattributed(),
                "not_attributed_share_by_cpu": {str(cpu): ledger.unattributed(cpu) for cpu in ledger.busy_ps},
                "wasted": [row.as_json() for row in self.waste()],
            },
            "sensitivity": None if sensitivity is None else sensitivity.as_json(),
            "advice": [] if sensitivity is None else [w.as_json() for w in sensitivity.advice],
            "together": sensitivity.together.as_json() if sensitivity and sensitivity.together else None,
            "notes": list(self.notes),
            "result": self.result.as_json(),
        }
