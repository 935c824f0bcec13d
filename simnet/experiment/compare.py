"""Compare scenarios: the same packets for all, and the differences replication by replication."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from simnet.compiled import mark_compiled
from simnet.errors import UserError
from simnet.experiment.explain import explain_result
from simnet.experiment.replicate import Ensemble, Progress, Window, replicate_side_by_side, silent
from simnet.experiment.run import places_of, summarise
from simnet.params.schema import ParameterSet
from simnet.results.comparison import Changed, Comparison, Difference, Loss
from simnet.results.places import Place
from simnet.results.statistics import Estimate, controlled_interval, t_interval
from simnet.scenario.schema import Scenario
from simnet.system.choices import link_gbps, nic_model, read_capture, resolve
from simnet.units import PS_PER_S

NOT_COMPARED = ("name", "title", "question", "hypotheses", "measure")
"""Fields that change nothing on the host, and how it is measured: as the first scenario says."""


@dataclass(frozen=True)
class Measured:
    """A scenario that has been replicated, and the window that counts."""

    ensemble: Ensemble
    window: Window


def window_of_both(a: Measured, b: Measured) -> Window:
    """The window that two scenarios have been measured over side by side: one's is the beginning of the other's."""
    return replace(a.window, end_ps=min(a.window.end_ps, b.window.end_ps))


def paired_difference(a: Measured, b: Measured, column_of_a: str | None, column_of_b: str | None) -> Estimate:
    """Rate of a counter of `b` less that of one of `a` in kpps, replication by replication, over the window that both have; None: nothing is counted.

    The offered count is the control variate as it is for the rates themselves, so that for equal windows this is the difference of their means.
    """
    window = window_of_both(a, b)
    numbers = len(a.ensemble.members)
    of_a = a.ensemble.rates_kpps(column_of_a, window) if column_of_a else [0.0] * numbers
    of_b = b.ensemble.rates_kpps(column_of_b, window) if column_of_b else [0.0] * numbers
    differences = [y - x for x, y in zip(of_a, of_b, strict=True)]
    if column_of_a == "offered":
        return t_interval(differences)
    return controlled_interval(differences, a.ensemble.rates_kpps("offered", window), a.ensemble.nominal_kpps)


def _unpaired_difference(a: Measured, b: Measured, column_of_a: str | None, column_of_b: str | None) -> Estimate:
    """The same of scenarios that see other packets: each over its own window, the half widths added as squares."""
    nothing = Estimate(0.0, 0.0)
    of_a = a.ensemble.estimate(column_of_a, a.window) if column_of_a else nothing
    of_b = b.ensemble.estimate(column_of_b, b.window) if column_of_b else nothing
    if of_a.ci95 is None or of_b.ci95 is None:
        return Estimate(of_b.mean - of_a.mean, None)
    return Estimate(of_b.mean - of_a.mean, math.hypot(of_a.ci95, of_b.ci95))


def traffic_of(scenario: Scenario, params: ParameterSet) -> dict[str, Any]:
    """What decides which packets come when: the traffic's fields, with the rate of the link even if it is the NIC's."""
    traffic = scenario.traffic.model_dump(mode="json")
    return {"traffic": {**traffic, "link_gbps": link_gbps(scenario, nic_model(scenario, params))}}


def changed_fields(first: Mapping[str, Any], other: Mapping[str, Any], path: str = "") -> Iterator[Changed]:
    """Fields with different values, in depth as far as both have them."""
    for key in dict.fromkeys([*first, *other]):
        a, b = first.get(key), other.get(key)
        name = f"{path}{key}"
        if isinstance(a, Mapping) and isinstance(b, Mapping) and key != "frame_bytes":
            yield from changed_fields(a, b, f"{name}.")
        elif a != b:
            yield Changed(name, a, b)


def _fields(scenario: Scenario) -> dict[str, Any]:
    return scenario.model_dump(mode="json", exclude=set(NOT_COMPARED))


def _measured_alike(scenarios: Sequence[Scenario], labels: Sequence[str]) -> tuple[list[Scenario], list[str]]:
    """The scenarios, all measured as the first one says, and a note if some said something else."""
    measure = scenarios[0].measure
    others = [label for label, scenario in zip(labels, scenarios, strict=True) if scenario.measure != measure]
    notes = [f"All are measured as {labels[0]} says; alone, {', '.join(others)} would be measured otherwise."] if others else []
    return [s if s.measure == measure else s.model_copy(update={"measure": measure}) for s in scenarios], notes


def compare(
    scenarios: Sequence[Scenario],
    *,
    labels: Sequence[str] | None = None,
    seed: int = 1,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Run scenarios side by side and find out what differs from the first one, and why.

    Random streams have names and are seeded by seed and replication alone, so scenarios with the same traffic see the same packets. They
    are measured from the same moment on, as the first one's `measure` says, each until its own captured rate is known; differences are
    taken in each replication over the window that both have.

    Parameters
    ----------
    scenarios
        Two or more (see `simnet.load`).
    labels
        What to call them; their names if not given.
    seed
        Same scenarios and seed: the same comparison.
    workers
        Threads; the number of processors if not given. Does not change results.
    progress
        Called with what is being done and the share that is done.

    Raises
    ------
    UserError
        If there are fewer than two, or one asks for something that does not exist.
    """
    started = time.perf_counter()
    if len(scenarios) < 2:
        raise UserError(f"a comparison needs at least two scenarios, not {len(scenarios)}")
    labels = labels or [scenario.name for scenario in scenarios]
    given, notes = _measured_alike(scenarios, labels)
    params = [resolve(scenario) for scenario in given]
    traffics = [traffic_of(s, p) for s, p in zip(given, params, strict=True)]
    measured: dict[int, Measured] = {}
    for same in _alike(traffics):
        ensembles = [
            Ensemble(given[i], params[i], seed, "compiled", read_capture(given[i], params[i]), workers, progress or silent)
            for i in same
        ]
        for i, ensemble, window in zip(same, ensembles, replicate_side_by_side(ensembles), strict=True):
            measured[i] = Measured(ensemble, window)
    mark_compiled()
    runs = [measured[i] for i in range(len(given))]
    explanations = [
        explain_result(summarise(run.ensemble, s, p, seed, "compiled", run.window, started), s)
        for run, s, p in zip(runs, given, params, strict=True)
    ]
    places = [{place.key: place for place in places_of(s, p)} for s, p in zip(given, params, strict=True)]
    differences = []
    for i in range(1, len(given)):
        traffic = tuple(changed_fields(traffics[0], traffics[i]))
        fields = tuple(changed_fields(_fields(given[0]), _fields(given[i])))
        differences.append(_difference(i, runs, places, fields, traffic))
    notes += [f"{label}: {note}" for label, explanation in zip(labels, explanations, strict=True) for note in explanation.notes]
    return Comparison(labels, explanations, _losses(runs, places), differences, notes)


def _alike(traffics: Sequence[Any]) -> list[list[int]]:
    """Numbers of the scenarios, those with the same traffic together."""
    groups: dict[str, list[int]] = {}
    for i, traffic in enumerate(traffics):
        groups.setdefault(json.dumps(traffic, sort_keys=True), []).append(i)
    return list(groups.values())


def _all_places(places: Sequence[Mapping[str, Place]]) -> dict[str, Place]:
    """Every place of any scenario, in the order in which packets get there: the longest way first, what others have besides after it."""
    found: dict[str, Place] = {}
    for way in sorted(places, key=len, reverse=True):
        found = {**found, **{key: place for key, place in way.items() if key not in found}}
    return found


def _losses(runs: Sequence[Measured], places: Sequence[Mapping[str, Place]]) -> list[Loss]:
    return [
        Loss(
            key,
            place.counter,
            [
                run.ensemble.estimate(own[key].column, run.window) if key in own else None
                for run, own in zip(runs, places, strict=True)
            ],
        )
        for key, place in _all_places(places).items()
    ]


def _difference(
    i: int,
    runs: Sequence[Measured],
    places: Sequence[Mapping[str, Place]],
    changed: Sequence[Changed],
    traffic: Sequence[Changed],
) -> Difference:
    """Scenario `i` less the first."""
    first, other = runs[0], runs[i]
    take = _unpaired_difference if traffic else paired_difference
    window = other.window if traffic else window_of_both(first, other)
    dropped = {
        key: take(first, other, *(own[key].column if key in own else None for own in (places[0], places[i])))
        for key in _all_places([places[0], places[i]])
    }
    return Difference(
        scenario=i,
        changed=changed,
        traffic=traffic,
        paired=not traffic,
        seconds=(window.end_ps - window.start_ps) / PS_PER_S,
        offered=take(first, other, "offered", "offered"),
        captured=take(first, other, "captured", "captured"),
        dropped=dropped,
    )
