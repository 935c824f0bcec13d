"""What a fit looks at: windows of a record that belong together, and what the model says about them, whatever they were wired to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

import simnet
from simnet.kernel.rules import generation_for
from simnet.scenario.schema import Scenario
from simnet.units import PS_PER_S

if TYPE_CHECKING:
    import pandas as pd

TICKS_HZ = (100, 250, 1000)
QUICK = {"measure.replications": 2, "measure.precision": 0.05}
SHORT_S, LONG_S = 0.1, 0.5
"""Simulated time at most: nothing takes turns where all goes well or the reader has a CPU of its own; elsewhere turns, and packets that come by the block, are tens of milliseconds."""
BY_BLOCK = ("tpacket_v3",)
"""Methods whose reader gets packets some milliseconds' worth at a time: it sleeps seldom, and its CPU idles all the same."""
LIGHT = 0.995
"""Share of the offered packets that a window under light load captures."""
ON_A_LINK, BY_BACKLOG = "link/", "-rps"
"""How the names of scenarios begin that have a NIC, and end in which RPS hands packets to another CPU."""


@dataclass(frozen=True)
class Wiring:
    """What a fit must know of the way that packets came.

    Attributes
    ----------
    prior
        The parameter set whose costs are scaled.
    suggestions
        The groups of costs that are paid there, and what to measure if a record does not identify one.
    """

    prior: str
    suggestions: Mapping[str, str]


@dataclass(frozen=True)
class Modelled:
    """A host as a scenario: the fields of it that a record decides about, and sentences on where the model is not that host."""

    scenario: str
    settings: Mapping[str, Any]
    hypotheses: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {"scenario": self.scenario, "settings": dict(self.settings), "hypotheses": self.hypotheses}

    def report(self) -> str:
        """For people: the command that runs it, with a calibrated set, and what is supposed."""
        fields = " ".join(f"--set {name}={str(value).lower()}" for name, value in self.settings.items())
        return "\n".join(
            [
                "Model of this host",
                f"  simnet run {self.scenario} --parameters SET {fields}",
                *(f"  {line}" for line in self.hypotheses),
            ]
        )


@dataclass(frozen=True, eq=False)
class Observation:
    """Windows of one method, placement and load, repetitions together: medians and half their range.

    Attributes
    ----------
    offered_kpps, captured_kpps, spread_kpps
        Rates, and how far the repetitions are apart.
    busy
        Run time of reader and NAPI thread, as schedstat has it, for each second: that of softirqs which interrupt them is theirs. None if there is no reader.
    softirq
        Share of its CPU that the softirq had which brings packets to the reader, by its entries and exits and less what tracing them cost; None if a thread does, nobody traced it, or it runs from the idle loop.
    scenario, settings
        What models it.
    """

    method: str
    placement: str
    apart: bool
    offered_kpps: float
    captured_kpps: float
    spread_kpps: float
    busy: float | None
    softirq: float | None
    scenario: str
    settings: Mapping[str, Any]

    @property
    def by_backlog(self) -> bool:
        """Do packets come through the backlog (RPS)?"""
        return self.scenario.endswith(BY_BACKLOG)

    @property
    def by_interrupt(self) -> bool:
        """Does a NIC interrupt for them?"""
        return self.scenario.startswith(ON_A_LINK)

    @property
    def is_light(self) -> bool:
        """Is everything captured?"""
        return self.captured_kpps >= LIGHT * self.offered_kpps

    @property
    def is_simple(self) -> bool:
        """Is it fitted to? Light load, or a reader with a CPU of its own; nothing competes there."""
        return self.apart or self.is_light


def observe(
    windows: pd.DataFrame, apart: bool, busy: float | None, softirq: float | None, scenario: str, settings: Mapping[str, Any]
) -> Observation:
    """The observation that the repetitions of one point make; see `Observation`."""
    offered = (windows["offered"] / windows["seconds"] / 1000).to_numpy()
    captured = (windows["captured"] / windows["seconds"] / 1000).to_numpy()
    return Observation(
        str(windows["method"].iloc[0]),
        str(windows["placement"].iloc[0]),
        apart,
        float(np.median(offered)),
        float(np.median(captured)),
        float(np.ptp(captured)) / 2,
        busy,
        softirq,
        scenario,
        {**settings, "traffic.offered_kpps": round(float(np.median(offered)), 3)},
    )


def median(values: pd.Series) -> float | None:
    """The middle of what was measured; None if nothing was."""
    middle = float(values.astype(float).median())
    return None if np.isnan(middle) else middle


def softirq_share(windows: pd.DataFrame) -> pd.Series:
    """Share of the traced time that softirqs had, without the events that the trace wrote meanwhile."""
    events_s = (windows["polls_softirq_events"] * windows["reference_event_ns"]).astype(float).fillna(0.0) / 1e9
    return (windows["polls_softirq_s"].astype(float) - events_s) / windows["polls_s"]


def of_the_kernel(host: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a scenario that a record's kernel decides about: its rules and HZ, as far as they are known."""
    rules = generation_for(str(host.get("kernel", "")))
    hz = host.get("configuration", {}).get("HZ", "")
    return ({"host.kernel": rules} if rules else {}) | ({"host.hz": int(hz)} if hz.isdecimal() and int(hz) in TICKS_HZ else {})


def ran_share(result: simnet.Result) -> float:
    """Run time, for each second, of the threads whose time a record has; as schedstat has it."""
    ran_ps = sum(int(replication.counts.threads_ran_ps) for replication in result.replications)
    return ran_ps / PS_PER_S / (result.measured_seconds * len(result.replications))


@dataclass(frozen=True)
class Prediction:
    """What the model says about an observation; see there."""

    captured_kpps: float
    busy: float | None
    softirq: float


@cache
def _scenario(name: str, settings: tuple[tuple[str, Any], ...]) -> Scenario:
    """A scenario, read once: a fit runs it with hundreds of costs."""
    return simnet.load(name, dict(settings))


def predict(observation: Observation, costs: Mapping[str, float]) -> Prediction:
    """Run the model with some costs (quantities of the parameter set by name)."""
    limit_s = SHORT_S if observation.is_simple and observation.method not in BY_BLOCK else LONG_S
    loaded = _scenario(observation.scenario, (*observation.settings.items(), ("measure.limit_s", limit_s)))
    scenario = loaded.model_copy(update={"costs": {**loaded.costs, **costs}})
    result = simnet.run(scenario, workers=1)
    cores = {core.cpu: core.shares for core in result.cores}
    softirq_cpu = scenario.host.nic.irq_cpus
    assert isinstance(softirq_cpu, int)
    softirqs = cores[softirq_cpu]["softirq"] + cores[softirq_cpu]["ksoftirqd"]
    return Prediction(result.captured.kpps.mean, None if scenario.capture.in_kernel else ran_share(result), softirqs)
