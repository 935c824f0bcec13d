"""simnet: where do the packets go?

A performance model of packet reception and capture on Linux hosts.

>>> import simnet
>>> scenario = simnet.load("paper/bare-metal", {"traffic.frame_bytes": 1518})
>>> result = simnet.run(scenario)
>>> round(result.captured.mbps_wire.mean / 1000)
10

Everything is imported when first used, so that `import simnet` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simnet.errors import UserError
    from simnet.experiment.compare import compare
    from simnet.experiment.design import built_in_designs
    from simnet.experiment.explain import explain
    from simnet.experiment.pin import pin
    from simnet.experiment.plan import expected_seconds
    from simnet.experiment.run import run
    from simnet.experiment.sweep import Sweep, sweep
    from simnet.experiment.trace import trace
    from simnet.params.schema import ParameterSet, built_in_sets, parameter_set
    from simnet.results.comparison import Comparison
    from simnet.results.explanation import Explanation
    from simnet.results.frames import cores_frame, drops_frame, samples_frame
    from simnet.results.ranking import Ranking
    from simnet.results.result import Result
    from simnet.results.statistics import Estimate
    from simnet.results.timeline import Timeline
    from simnet.scenario.loading import built_in_scenarios, load
    from simnet.scenario.schema import Scenario

_WHERE = {
    "UserError": "simnet.errors",
    "compare": "simnet.experiment.compare",
    "Comparison": "simnet.results.comparison",
    "explain": "simnet.experiment.explain",
    "Explanation": "simnet.results.explanation",
    "expected_seconds": "simnet.experiment.plan",
    "pin": "simnet.experiment.pin",
    "Ranking": "simnet.results.ranking",
    "run": "simnet.experiment.run",
    "Sweep": "simnet.experiment.sweep",
    "sweep": "simnet.experiment.sweep",
    "ParameterSet": "simnet.params.schema",
    "built_in_sets": "simnet.params.schema",
    "parameter_set": "simnet.params.schema",
    "cores_frame": "simnet.results.frames",
    "drops_frame": "simnet.results.frames",
    "samples_frame": "simnet.results.frames",
    "Result": "simnet.results.result",
    "Estimate": "simnet.results.statistics",
    "built_in_designs": "simnet.experiment.design",
    "built_in_scenarios": "simnet.scenario.loading",
    "load": "simnet.scenario.loading",
    "Scenario": "simnet.scenario.schema",
    "Timeline": "simnet.results.timeline",
    "trace": "simnet.experiment.trace",
}

__all__ = [
    "Comparison",
    "Estimate",
    "Explanation",
    "ParameterSet",
    "Ranking",
    "Result",
    "Scenario",
    "Sweep",
    "Timeline",
    "UserError",
    "built_in_designs",
    "built_in_scenarios",
    "built_in_sets",
    "compare",
    "cores_frame",
    "drops_frame",
    "expected_seconds",
    "explain",
    "load",
    "parameter_set",
    "pin",
    "run",
    "samples_frame",
    "sweep",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'simnet' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
