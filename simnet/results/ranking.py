"""What `simnet pin` finds out: placements over the CPUs, best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simnet.results.result import Result
from simnet.results.statistics import Estimate

SCHEMA = "simnet-placement/1"


@dataclass(frozen=True)
class Ranked:
    """A placement and what it captures.

    Attributes
    ----------
    cpus
        CPUs of the host by what is there; `process` is the vCPU of the process in a guest.
    settings
        The fields that make it, by path.
    stands_for
        Placements that are the same but for the numbering of CPUs, itself included.
    yours
        Is it the scenario's own?
    commands
        What makes it so on a host.
    result
        Of its run.
    behind
        What it captures less than the best, in kpps: replication by replication, over the window that both have.
    behind_next
        What the next one in the ranking captures less than this one; None for the last.
    """

    cpus: Mapping[str, tuple[int, ...]]
    process: str | None
    settings: Mapping[str, Any]
    stands_for: int
    yours: bool
    commands: Sequence[str]
    result: Result
    behind: Estimate
    behind_next: Estimate | None

    @property
    def cores_used(self) -> int:
        """CPUs that have something placed on them."""
        return len({cpu for cpus in self.cpus.values() for cpu in cpus})

    @property
    def cores_busy(self) -> float:
        """Busy shares of all CPUs, added up."""
        return sum(1.0 - core.shares["idle"] for core in self.result.cores)

    def as_json(self, rank: int) -> dict[str, Any]:
        """As the command line prints it."""
        return {
            "rank": rank,
            "cpus": {name: list(cpus) for name, cpus in self.cpus.items()},
            "process": self.process,
            "settings": dict(self.settings),
            "stands_for": self.stands_for,
            "yours": self.yours,
            "captured_kpps": self.result.captured.kpps.as_json(),
            "measured_seconds": self.result.measured_seconds,
            "stop_reason": self.result.stop_reason,
            "behind_best_kpps": self.behind.as_json(),
            "told_from_best": surely_less(self.behind),
            "told_from_next": None if self.behind_next is None else surely_less(self.behind_next),
            "cores_used": self.cores_used,
            "cores_busy": self.cores_busy,
        }


def surely_less(behind: Estimate) -> bool:
    """Is the interval of a difference above 0?"""
    return behind.ci95 is not None and behind.mean - behind.ci95 > 0


@dataclass(frozen=True)
class Ranking:
    """Placements of a scenario, best first."""

    scenario: str
    parameters: str
    seed: int
    seconds: float
    placements: Sequence[Ranked]
    notes: Sequence[str]

    @property
    def yours(self) -> Ranked:
        """The scenario's own placement."""
        return next(ranked for ranked in self.placements if ranked.yours)

    @property
    def raw(self) -> int:
        """Placements that these stand for."""
        return sum(ranked.stands_for for ranked in self.placements)

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        best = self.placements[0]
        return {
            "schema": SCHEMA,
            "scenario": self.scenario,
            "parameters": self.parameters,
            "seed": self.seed,
            "replications": len(best.result.replications),
            "wall_seconds": self.seconds,
            "raw_placements": self.raw,
            "placements": [ranked.as_json(rank) for rank, ranked in enumerate(self.placements, 1)],
            "commands": list(best.commands),
            "notes": list(self.notes),
            "provenance": dict(self.yours.result.provenance),
        }
