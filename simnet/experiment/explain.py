"""Explain a scenario: where packets and cycles go, what limits, and what would help most."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from importlib import metadata

from simnet.engine.streams import seed_source
from simnet.experiment.again import Question
from simnet.experiment.replicate import Progress, silent
from simnet.experiment.run import run
from simnet.experiment.sensitivity import sensitivity, window_of
from simnet.results.bottleneck import find_bottleneck
from simnet.results.explanation import Explanation
from simnet.results.places import places
from simnet.results.result import Result
from simnet.results.stages import ledger_of, sum_ledgers
from simnet.scenario.schema import Scenario
from simnet.system.choices import drop_en_of, nic_model, read_capture, resolve
from simnet.system.topology import topology_of
from simnet.system.wiring import build
from simnet.units import PS_PER_S


def explain(scenario: Scenario, *, seed: int = 1, quick: bool = False, progress: Progress | None = None) -> Explanation:
    """Run a scenario and find out where packets and cycles went, and what would help.

    Parameters
    ----------
    scenario
        See `simnet.load`.
    seed
        Same scenario and seed: the same explanation.
    quick
        Leave out what needs further runs: elasticities, what-ifs and advice.
    progress
        Called with what is being done and the share that is done.

    Raises
    ------
    UserError
        If the scenario asks for something that does not exist.
    """
    return explain_question(Question(scenario, seed), quick=quick, progress=progress)


def explain_question(question: Question, *, quick: bool = False, progress: Progress | None = None) -> Explanation:
    """The same for a question that may come from a result (see `experiment.again`)."""
    scenario, seed, progress = question.scenario, question.seed, progress or silent
    params = resolve(scenario)
    result = run(scenario, seed=seed, progress=progress)
    explanation = explain_result(result, scenario)
    notes = [*question.compared(result, metadata.version("simnet-rx")), *question.notes, *explanation.notes]
    found = None
    if not quick:
        found = sensitivity(scenario, params, result, window_of(result, seed, read_capture(scenario, params)), progress)
        if found is None:
            notes.append("Nothing is captured, so nothing can be said about what would change it by how much.")
    return replace(explanation, sensitivity=found, notes=notes)


def explain_result(result: Result, scenario: Scenario) -> Explanation:
    """What the result of a scenario shows by itself: the limit and the cycles."""
    params = resolve(scenario)
    packets = read_capture(scenario, params)
    ledgers, io_cpus = [], Counter[int]()
    for replication in result.replications:
        m = build(scenario, params, seed_source(result.seed, replication.number), packets)
        ledgers.append(ledger_of(m, replication.counts, result.measured_seconds * PS_PER_S))
        if scenario.has_tap:
            io_cpus[int(m.cpus[m.tasks[m.backend.thread].core].number)] += 1
    io_cpu = io_cpus.most_common(1)[0][0] if io_cpus else None
    notes = []
    if len(io_cpus) > 1:
        notes.append(
            f"{topology_of(scenario, params).mover} is on another CPU in each replication ({sorted(io_cpus)}); the bottleneck is named for cpu{io_cpu}."
        )
    return Explanation(
        result=result,
        bottleneck=find_bottleneck(result, topology_of(scenario, params), io_cpu),
        ledger=sum_ledgers(ledgers),
        clock_ghz=params["clock_ghz"],
        socket_place=_socket_place(scenario, drop_en_of(scenario, nic_model(scenario, params))),
        sensitivity=None,
        notes=notes,
    )


def _socket_place(scenario: Scenario, drop_en: bool) -> str | None:
    """The place at which the capture's socket loses packets, if it has one."""
    found = [place.key for place in places(scenario.capture.method, drop_en) if place.column == "socket_dropped"]
    return found[0] if found else None
