"""Rank every placement over the CPUs: all of them coarsely, then the leaders until they are told apart."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from simnet.compiled import mark_compiled
from simnet.experiment.compare import Measured, paired_difference
from simnet.experiment.placements import placements
from simnet.experiment.plan import side_by_side
from simnet.experiment.replicate import Ensemble, Progress, Rule, Windows, replicate_by, silent
from simnet.experiment.run import summarise
from simnet.results.ranking import Ranked, Ranking, surely_less
from simnet.results.statistics import Estimate
from simnet.scenario.schema import Scenario
from simnet.system.choices import read_capture, resolve

COARSER = 2
"""The first look at a placement is this many times shorter than a run's; most are then out of the question."""


def _captured(measured: Measured) -> float:
    return measured.ensemble.estimate("captured", measured.window).mean


def _behind(better: Measured, other: Measured) -> Estimate:
    """How much less another one captures, in kpps."""
    return paired_difference(other, better, "captured", "captured")


def leaders(ensembles: Sequence[Ensemble], own: int, precision: float) -> Rule:
    """Which placements have to be looked at for longer.

    Those that cannot be told from the best one, unless the interval of that difference is already within the precision; the best while there are such, or
    while it is not known precisely; and the user's own until it is known.
    """

    def going_on(windows: Windows) -> list[int]:
        measured = [Measured(e, w) for e, w in zip(ensembles, windows, strict=True)]
        best = max(range(len(measured)), key=lambda i: _captured(measured[i]))
        enough = precision * _captured(measured[best])
        behind = {i: _behind(measured[best], measured[i]) for i in range(len(measured)) if i != best}
        open_ = {i for i, gap in behind.items() if not surely_less(gap) and (gap.ci95 is None or gap.ci95 > enough)}
        if open_ or not ensembles[best].is_known(windows[best]):
            open_.add(best)
        if not ensembles[own].is_known(windows[own]):
            open_.add(own)
        return sorted(open_)

    return going_on


def pin(scenario: Scenario, *, seed: int = 1, workers: int | None = None, progress: Progress | None = None) -> Ranking:
    """Simulate every placement of NIC vectors, I/O thread, vCPUs and process over the CPUs, and rank them by what they capture.

    Placements that differ only in the numbering of sockets, or of cores within one, are simulated once. All see the same packets from the
    same moment on; those that lead are looked at for longer, each twice as long as before, until they are told apart, or differ by no more than the
    scenario's precision, or its limit of simulated time is reached.

    Parameters
    ----------
    scenario
        See `simnet.load`. If it spreads the NIC's vectors over CPUs, or draws the I/O thread's, it is ranked as it is among placements with all of them
        on one CPU.
    seed
        Same scenario and seed: the same ranking.
    workers
        Threads; the number of processors if not given. Does not change results.
    progress
        Called with what is being done and the share that is done.

    Raises
    ------
    UserError
        If the scenario asks for something that does not exist, or has too many placements.
    """
    started = time.perf_counter()
    params = resolve(scenario)
    packets = read_capture(scenario, params)
    found = placements(scenario, params)
    ensembles = [Ensemble(p.scenario, params, seed, "compiled", packets, workers, progress or silent) for p in found]
    plan = side_by_side(ensemble.plan for ensemble in ensembles)
    coarse = plan if plan.period_ps else replace(plan, pilot_ps=plan.pilot_ps // COARSER)
    own = next(i for i, placement in enumerate(found) if placement.yours)
    windows = replicate_by(ensembles, coarse, leaders(ensembles, own, scenario.measure.precision), patient=False)
    mark_compiled()
    measured = [Measured(e, w) for e, w in zip(ensembles, windows, strict=True)]
    order = sorted(range(len(found)), key=lambda i: -_captured(measured[i]))
    ranked = []
    for place, i in enumerate(order):
        placement, following = found[i], order[place + 1 : place + 2]
        ranked.append(
            Ranked(
                placement.cpus,
                placement.process,
                placement.settings,
                placement.stands_for,
                placement.yours,
                placement.commands,
                summarise(ensembles[i], placement.scenario, params, seed, "compiled", windows[i], started),
                _behind(measured[order[0]], measured[i]) if place else Estimate(0.0, 0.0),
                _behind(measured[i], measured[following[0]]) if following else None,
            )
        )
    return Ranking(
        scenario.name,
        params.name,
        seed,
        time.perf_counter() - started,
        ranked,
        [f"Hypothesis: {text}" for text in scenario.hypotheses],
    )
