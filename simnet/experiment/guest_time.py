"""Where a guest's time went, from the samples of all replications."""

from __future__ import annotations

import numpy as np

from simnet.experiment.replicate import Ensemble, Window
from simnet.kernel.core import CONTEXTS
from simnet.params.schema import ParameterSet
from simnet.results.result import VcpuTime
from simnet.scenario.schema import Scenario
from simnet.system.topology import topology_of
from simnet.units import PS_PER_S
from simnet.virt.vcpu import EXIT_REASONS

GUEST_CONTEXTS = ("hardirq", "softirq", "ksoftirqd", "system", "user")


def vcpu_times(ensemble: Ensemble, scenario: Scenario, params: ParameterSet, window: Window) -> tuple[VcpuTime, ...]:
    """Time of each vCPU that has work: its contexts, halted, and stolen (runnable but not in the guest: the host's work and the exits)."""
    topology = topology_of(scenario, params)
    if not topology.has_guest:
        return ()
    wall = float(window.end_ps - window.start_ps) * len(ensemble.members)
    times = []
    for v in topology.working:
        c = topology.working_core(v)
        paid, halted = np.zeros(len(CONTEXTS)), 0.0
        for member in ensemble.members:
            end, start = member.row_at(window.end_ps), member.row_at(window.start_ps)
            paid += np.array(end.paid_ps[c]) - np.array(start.paid_ps[c])
            halted += float(end.halted_ps[c] - start.halted_ps[c])
        shares = {context: float(paid[CONTEXTS.index(context)]) / wall for context in GUEST_CONTEXTS}
        shares["halted"] = halted / wall
        shares["stolen"] = 1.0 - sum(shares.values())
        times.append(VcpuTime(v, topology.pins[v], shares))
    return tuple(times)


def exit_rates(ensemble: Ensemble, window: Window) -> dict[str, float]:
    """Exits a second by reason, all vCPUs together, averaged over the replications."""
    seconds = (window.end_ps - window.start_ps) / PS_PER_S * len(ensemble.members)
    counts = sum(
        np.array(m.row_at(window.end_ps).exits, dtype=float) - np.array(m.row_at(window.start_ps).exits) for m in ensemble.members
    )
    return {name: float(count) / seconds for name, count in zip(EXIT_REASONS, np.asarray(counts), strict=True)}
