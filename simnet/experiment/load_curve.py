"""The load curve: what a scenario captures at several offered loads, and the knee above which it loses packets.

Every load is a run of its own with the seed of the first (common random numbers), so that two loads see the same traffic, faster or slower.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from simnet.experiment.replicate import Progress
from simnet.experiment.run import run
from simnet.results.bottleneck import LOST
from simnet.results.result import Result
from simnet.results.statistics import Estimate
from simnet.scenario.loading import changed
from simnet.scenario.schema import Scenario
from simnet.system.choices import link_gbps, nic_model, resolve

PRECISION = 0.02
"""Of the captured rate at each load, if the scenario does not ask for less."""
WIDTH = 1.05
"""The search for the knee ends when the load that loses packets is this times the load that does not."""
LEAST_SHARE = 1e-3
"""Below this share of the highest load nobody looks for a knee."""
BELOW, ABOVE = (0.25, 0.5, 0.75), (1 / 4, 1 / 2, 3 / 4)
"""Further loads, for the shape: shares of the knee, and of the way (by ratio) from the knee to the highest load."""
RUNS = 14
"""About as many runs as a curve takes; only the progress bar asks."""


@dataclass(frozen=True)
class Point:
    """One load, in kpps: what is offered and captured, the share that is lost, and where most of it gets lost (None if nothing does)."""

    offered: Estimate
    captured: Estimate
    lost: float
    place: str | None

    @property
    def is_carried(self) -> bool:
        """Is next to nothing lost?"""
        return self.lost <= LOST

    def as_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return asdict(self)


@dataclass(frozen=True)
class LoadCurve:
    """What is captured of what is offered.

    Attributes
    ----------
    points
        By offered load.
    carried
        The highest load below which packets are not lost (at most `LOST` of them); None if there is none.
    overloaded
        The lowest load above that at which they are; None if even the link's line rate is captured. The knee is between the two.
    """

    points: tuple[Point, ...]
    carried: Point | None
    overloaded: Point | None

    def as_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {
            "points": [point.as_json() for point in self.points],
            "knee_kpps": {
                "carried": None if self.carried is None else self.carried.offered.mean,
                "overloaded": None if self.overloaded is None else self.overloaded.offered.mean,
            },
            "tolerated_loss": LOST,
        }


def point_of(result: Result) -> Point:
    """A run as a point of a load curve."""
    offered, captured = result.offered.kpps, result.captured.kpps
    worst = max(result.packets.dropped, key=lambda drop: drop.packets, default=None)
    lost = max(0.0, 1.0 - captured.mean / offered.mean) if offered.mean else 0.0
    return Point(offered, captured, lost, worst.place if worst is not None and worst.packets else None)


def line_kpps(scenario: Scenario, result: Result) -> float:
    """Packets of the result's mean size that the link carries, in thousands a second."""
    params = resolve(scenario)
    kbits = result.offered.mbps_wire.mean / result.offered.kpps.mean
    return link_gbps(scenario, nic_model(scenario, params)) * 1000 / kbits


class _Loads:
    """Runs loads and remembers them."""

    def __init__(self, scenario: Scenario, seed: int, progress: Progress | None) -> None:
        self.base = changed(scenario, self._measured(scenario))
        self.seed, self.progress = seed, progress
        self.points: dict[float, Point] = {}

    @staticmethod
    def _measured(scenario: Scenario) -> Mapping[str, Any]:
        return {"measure.protocol": "adaptive", "measure.precision": max(PRECISION, scenario.measure.precision)}

    def at(self, kpps: float) -> Point:
        """The point at a load."""
        kpps = float(f"{kpps:.4g}")
        if kpps not in self.points:
            if self.progress is not None:
                self.progress(f"load curve, {kpps:g} kpps", min(len(self.points) / RUNS, 0.99))
            self.points[kpps] = point_of(run(changed(self.base, {"traffic.offered_kpps": kpps}), seed=self.seed))
        return self.points[kpps]


def _bracket(loads: _Loads, top: Point) -> tuple[Point | None, Point | None]:
    """The knee between two loads: one that is carried, and one at most `WIDTH` times as high that is not."""
    if top.is_carried:
        return top, None
    above, guess = top, max(top.captured.mean, top.offered.mean * LEAST_SHARE)
    below = loads.at(guess)
    while not below.is_carried:
        above, guess = below, guess / 2
        if guess < top.offered.mean * LEAST_SHARE:
            return None, above
        below = loads.at(guess)
    low, high = below.offered.mean, above.offered.mean
    while high > low * WIDTH:
        middle = (low * high) ** 0.5
        point = loads.at(middle)
        if point.is_carried:
            below, low = point, middle
        else:
            above, high = point, middle
    return below, above


def load_curve(scenario: Scenario, result: Result, progress: Progress | None = None) -> LoadCurve | None:
    """Run a scenario at several offered loads.

    Parameters
    ----------
    scenario
        What was run.
    result
        Its result: one point of the curve, and the seed of all.
    progress
        Called with what is being done and about the share that is done.

    Returns
    -------
    LoadCurve or None
        None if there is nothing to turn: a capture file has its own pace, and no packets have no load.
    """
    if scenario.traffic.source == "pcap" or not result.packets.offered or not result.offered.kpps.mean:
        return None
    loads, own = _Loads(scenario, result.seed, progress), point_of(result)
    line = line_kpps(scenario, result)
    top = loads.at(line) if own.is_carried and own.offered.mean < line / WIDTH else own
    carried, overloaded = _bracket(loads, top)
    knee, most = (carried or top).offered.mean, top.offered.mean
    wanted = [knee * share for share in BELOW] if carried else []
    if most > knee * WIDTH**2:
        wanted += [knee * (most / knee) ** share for share in ABOVE]
    for kpps in wanted:
        loads.at(kpps)
    return LoadCurve(tuple(sorted((own, *loads.points.values()), key=lambda point: point.offered.mean)), carried, overloaded)
