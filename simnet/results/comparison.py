"""What `simnet compare` finds out: what each scenario does, and what differs from the first one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from simnet.results.explanation import Explanation, StageCost
from simnet.results.stages import ORDER
from simnet.results.statistics import Estimate

SCHEMA = "simnet-comparison/1"


@dataclass(frozen=True)
class Changed:
    """A field that has another value than in the first scenario."""

    field: str
    first: Any
    value: Any


@dataclass(frozen=True)
class Loss:
    """Packets lost at a place, in kpps over the measured window of each scenario; None where there is no such place."""

    place: str
    counter: str
    kpps: Sequence[Estimate | None]


@dataclass(frozen=True)
class Difference:
    """A scenario less the first one, in kpps.

    Attributes
    ----------
    scenario
        Its number; the first one's is 0.
    changed, traffic
        Fields that differ, and those of the traffic among them, with the link that it comes over. Only the same traffic can be paired.
    paired
        Are these means of differences in the same replication, in which both see the same packets?
    seconds
        Length of the window in each replication; that which both have, if paired.
    captured, offered, dropped
        `dropped` by place.
    """

    scenario: int
    changed: Sequence[Changed]
    traffic: Sequence[Changed]
    paired: bool
    seconds: float
    offered: Estimate
    captured: Estimate
    dropped: Mapping[str, Estimate]


@dataclass(frozen=True)
class Comparison:
    """Scenarios side by side.

    Attributes
    ----------
    labels
        What each scenario was called.
    explanations
        What each one's own run shows; `explanations[i].result` is its result.
    losses
        By place, in the order in which packets get there.
    differences
        To the first scenario, one for each of the others.
    notes
        What a reader should know, in sentences.
    """

    labels: Sequence[str]
    explanations: Sequence[Explanation]
    losses: Sequence[Loss]
    differences: Sequence[Difference]
    notes: Sequence[str]

    def stages(self) -> list[tuple[StageCost, ...]]:
        """Stages that cost anything in some scenario, in the order of a packet's way: one entry a scenario."""
        found = [{(stage.side, stage.key): stage for stage in explanation.stages()} for explanation in self.explanations]
        keys = sorted(set(chain.from_iterable(found)), key=ORDER.index)
        return [tuple(stages.get(key, StageCost(key[1], key[0], 0.0, 0.0, {})) for stages in found) for key in keys]

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        results = [explanation.result for explanation in self.explanations]
        return {
            "schema": SCHEMA,
            "scenarios": list(self.labels),
            "seed": results[0].seed,
            "differences": [self._difference(difference) for difference in self.differences],
            "stages": [
                {"stage": row[0].key, "side": row[0].side, "cycles_per_captured": [stage.cycles for stage in row]}
                for row in self.stages()
            ],
            "busy_cycles_per_captured": [explanation.busy_cycles() for explanation in self.explanations],
            "dropped_kpps": [
                {"place": loss.place, "counter": loss.counter, "kpps": [None if e is None else e.as_json() for e in loss.kpps]}
                for loss in self.losses
            ],
            "bottlenecks": [explanation.bottleneck.as_json() for explanation in self.explanations],
            "notes": list(self.notes),
            "results": [result.as_json() for result in results],
        }

    def _difference(self, difference: Difference) -> dict[str, Any]:
        first, other = (self.explanations[i].result for i in (0, difference.scenario))
        return {
            "scenario": self.labels[difference.scenario],
            "to": self.labels[0],
            "changed": [asdict(changed) for changed in difference.changed],
            "traffic_differs": [asdict(changed) for changed in difference.traffic],
            "paired": difference.paired,
            "measured_seconds": difference.seconds,
            "offered_kpps": difference.offered.as_json(),
            "captured_kpps": difference.captured.as_json(),
            "dropped_kpps": {place: estimate.as_json() for place, estimate in difference.dropped.items()},
            "cores": [
                {"cpu": a.cpu, **{context: b.shares[context] - a.shares[context] for context in a.shares}}
                for a, b in zip(first.cores, other.cores, strict=False)
            ],
        }
