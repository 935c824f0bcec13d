"""Run a scenario: the main thing simnet does."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np

from simnet.capture.monitor import bin_start_ps
from simnet.compiled import mark_compiled
from simnet.engine.simulation import Histograms
from simnet.experiment.guest_time import exit_rates, vcpu_times
from simnet.experiment.replicate import Ensemble, Progress, Window, replicate, silent
from simnet.kernel.core import CONTEXTS
from simnet.params.schema import ParameterSet
from simnet.results.places import Place, places
from simnet.results.result import CoreTime, Dropped, Packets, Rate, Replication, Result
from simnet.results.statistics import Estimate, quantile_bins, t_interval
from simnet.scenario.schema import Scenario
from simnet.system.choices import drop_en_of, generation_of, lacks, link_gbps, nic_model, read_capture, resolve
from simnet.system.topology import topology_of
from simnet.units import PS_PER_S, PS_PER_US, WIRE_OVERHEAD_BYTES

QUANTILES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
RATE_COLUMNS = ("interrupts", "polls", "wakeups", "context_switches", "time_squeezes")
GUEST_RATE_COLUMNS = ("guest_interrupts", "kicks", "tap_restarts", "mutex_contended")


def _rate(ensemble: Ensemble, name: str, window: Window) -> Rate:
    """A rate in all conventions; the mean frame length is the window's."""
    kpps = ensemble.estimate(name, window)
    counts = np.array(
        [[int(m.row_at(t)[c]) for c in (name, f"{name}_bytes")] for m in ensemble.members for t in (window.end_ps, window.start_ps)]
    )
    frames, octets = counts[::2].sum(axis=0) - counts[1::2].sum(axis=0)
    frame_bytes = octets / frames if frames else 0.0
    return Rate(kpps, kpps.scaled((frame_bytes + WIRE_OVERHEAD_BYTES) * 8 / 1000), kpps.scaled(frame_bytes * 8 / 1000))


def places_of(scenario: Scenario, params: ParameterSet) -> tuple[Place, ...]:
    """Where a scenario can lose packets, in the order in which they get there."""
    return places(scenario.capture.method, drop_en_of(scenario, nic_model(scenario, params)), scenario.has_tap)


def _packets(ensemble: Ensemble, scenario: Scenario, params: ParameterSet) -> Packets:
    """Totals of all replications from time 0; checks that every packet has a place.

    Raises
    ------
    AssertionError
        If packets do not add up: a mistake in the model.
    """
    last = [member.rows[-1] for member in ensemble.members]

    def total(column: str) -> int:
        return sum(int(row[column]) for row in last)

    dropped = tuple(
        Dropped(place.key, place.reason, place.counter, total(place.column), place.knob) for place in places_of(scenario, params)
    )
    packets = Packets(total("offered"), total("captured"), total("in_flight"), dropped)
    balance = packets.offered - packets.captured - packets.in_flight - sum(d.packets for d in dropped)
    if balance:
        raise AssertionError(f"{balance} packets have no place: {packets}")
    return packets


def _cores(ensemble: Ensemble, scenario: Scenario, params: ParameterSet, window: Window) -> tuple[CoreTime, ...]:
    topology = topology_of(scenario, params)
    used = topology.used
    paid = np.zeros((len(used), len(CONTEXTS)))
    for member in ensemble.members:
        difference = np.array(member.row_at(window.end_ps).paid_ps) - np.array(member.row_at(window.start_ps).paid_ps)
        paid += difference[: len(used)]
    shares = {cpu: dict(zip(CONTEXTS, (row / row.sum()).tolist(), strict=True)) for cpu, row in zip(used, paid, strict=True)}
    idle = {context: float(context == "idle") for context in CONTEXTS}
    return tuple(CoreTime(cpu, shares.get(cpu, idle)) for cpu in range(topology.cpus))


def _histograms(ensemble: Ensemble, window: Window) -> Histograms:
    """Histograms of the measured window (to the end of the run), all replications together."""
    parts = [(member.last, member.histograms[window.start_ps]) for member in ensemble.members]
    latency = sum(last.latency - first.latency for last, first in parts if last is not None)
    batches = sum(last.batches - first.batches for last, first in parts if last is not None)
    return Histograms(np.asarray(latency), np.asarray(batches))


def _latencies(histogram: Any) -> dict[str, float | None]:
    bins = quantile_bins(histogram, list(QUANTILES.values()))
    return {
        name: None if index is None else (bin_start_ps(index) + bin_start_ps(index + 1)) / 2 / PS_PER_US
        for name, index in zip(QUANTILES, bins, strict=True)
    }


def _table(ensemble: Ensemble, scenario: Scenario, window: Window) -> dict[str, float]:
    """Flow table per replication: entries at the end, and refused inserts and look-ups in the window."""
    if scenario.capture.monitor != "flow":
        return {}
    ends = [member.row_at(window.end_ps) for member in ensemble.members]
    starts = [member.row_at(window.start_ps) for member in ensemble.members]
    mean = {
        "entries_at_end": scenario.table_sample * float(np.mean([int(end.table_entries) for end in ends])),
        "limit": float(scenario.capture.flow_table.entries),
        "simulated_one_in": float(scenario.table_sample),
    }
    for name in ("refused", "lookups"):
        column = f"table_{name}"
        mean[name] = float(np.mean([int(end[column]) - int(start[column]) for end, start in zip(ends, starts, strict=True)]))
    return mean


def _notes(ensemble: Ensemble, scenario: Scenario, params: ParameterSet, window: Window, captured: Estimate) -> list[str]:
    notes = [f"Pretended: {reason}." for _, reason in lacks(scenario, params)]
    notes += [f"Hypothesis: {text}" for text in scenario.hypotheses]
    traffic = scenario.traffic
    gbps = link_gbps(scenario, nic_model(scenario, params))
    if traffic.offered_kpps is not None and not isinstance(traffic.frame_bytes, dict):
        most = gbps * 1e6 / ((traffic.frame_bytes + WIRE_OVERHEAD_BYTES) * 8)
        if traffic.offered_kpps > most * 1.000001:
            notes.append(f"The offered load is above what the link carries ({most:.0f} kpps): the switch discards the rest.")
    if ensemble.packets is not None and ensemble.packets.segmented:
        notes.append(
            f"{ensemble.packets.segmented} records of the capture file are longer than a frame (segmentation offload) and were cut into frames."
        )
    if window.stop_reason == "time_limit" and captured.ci95 is not None:
        notes.append(
            f"The limit of simulated time came before the precision: {captured.relative:.1%} of the mean instead of {scenario.measure.precision:.1%}."
        )
    return notes


@cache
def _versions() -> dict[str, str]:
    """Of what computes: reading them takes milliseconds."""
    return {name: metadata.version(name) for name in ("simnet-rx", "numpy", "numba")}


def provenance(scenario: Scenario, params: ParameterSet) -> dict[str, Any]:
    """Everything needed to run the same again, and where each cost comes from."""
    model = nic_model(scenario, params)
    generation = generation_of(scenario, params)
    return {
        "version": _versions()["simnet-rx"],
        "parameters": {
            q.name: {"value": q.value, "low": q.low, "high": q.high, "unit": q.unit, "kind": q.kind, "source": q.source}
            for q in params
        },
        "nic": {"model": model.name, "driver": model.driver, "source": model.source},
        "kernel": {"rules": generation.name, "source": generation.source},
        "scenario": scenario.model_dump(mode="json"),
        "host": {
            "machine": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
            "numpy": _versions()["numpy"],
            "numba": _versions()["numba"],
        },
    }


def run(
    scenario: Scenario,
    *,
    seed: int = 1,
    engine: str = "compiled",
    workers: int | None = None,
    progress: Progress | None = None,
    only: int | None = None,
) -> Result:
    """Simulate a scenario until its captured rate is known well enough.

    Parameters
    ----------
    scenario
        See `simnet.load`.
    seed
        Same scenario and seed: the same bytes, whatever the engine or the number of workers.
    engine
        `compiled`, or `simpy`: the same results, one SimPy event a transition.
    workers
        Threads; the number of processors if not given.
    progress
        Called with what is being done and the share that is done.
    only
        Report this replication alone, over the window that all of them together would have measured.

    Returns
    -------
    Result
        With exact packet counts and 95 % intervals over the replications.

    Raises
    ------
    UserError
        If the scenario asks for something that does not exist.
    """
    started = time.perf_counter()
    params = resolve(scenario)
    packets = read_capture(scenario, params)

    def ensemble_of(engine: str, numbers: Sequence[int] | None = None) -> Ensemble:
        return Ensemble(scenario, params, seed, engine, packets, workers, progress or silent, numbers)

    if only is None:
        ensemble = ensemble_of(engine)
        window = replicate(ensemble)
    else:
        window = replicate(ensemble_of("compiled"))
        ensemble = ensemble_of(engine, [only])
        with ensemble.running():
            ensemble.advance(f"replication {only}", window.pilot, window.later, {window.start_ps})
    mark_compiled()
    return summarise(ensemble, scenario, params, seed, engine, window, started)


def summarise(
    ensemble: Ensemble, scenario: Scenario, params: ParameterSet, seed: int, engine: str, window: Window, started: float
) -> Result:
    """The result of an ensemble that has been run; `started` is the time on the wall (`perf_counter`)."""
    offered, captured = _rate(ensemble, "offered", window), _rate(ensemble, "captured", window)
    histograms = _histograms(ensemble, window)
    columns = RATE_COLUMNS + (GUEST_RATE_COLUMNS if scenario.guest is not None else ())
    rates: Mapping[str, Any] = {
        **{c: t_interval([m.rate_kpps(c, window) for m in ensemble.members]).mean * 1000 for c in columns},
        "exits": exit_rates(ensemble, window) if scenario.guest is not None else {},
    }
    replications = [
        Replication(
            member.number,
            member.rate_kpps("offered", window),
            member.rate_kpps("captured", window),
            np.array(member.times_ps) / PS_PER_S,
            np.array([int(row.offered) for row in member.rows]),
            np.array([int(row.captured) for row in member.rows]),
            member.counts(window),
        )
        for member in ensemble.members
    ]
    return Result(
        scenario=scenario.name,
        parameters=params.name,
        seed=seed,
        engine=engine,
        warmup_seconds=window.start_ps / PS_PER_S,
        measured_seconds=(window.end_ps - window.start_ps) / PS_PER_S,
        simulated_seconds=ensemble.members[0].times_ps[-1] / PS_PER_S,
        wall_seconds=time.perf_counter() - started,
        stop_reason=window.stop_reason,
        offered=offered,
        captured=captured,
        packets=_packets(ensemble, scenario, params),
        cores=_cores(ensemble, scenario, params, window),
        vcpus=vcpu_times(ensemble, scenario, params, window),
        rates=rates,
        latency_us=_latencies(histograms.latency),
        replications=replications,
        table=_table(ensemble, scenario, window),
        notes=_notes(ensemble, scenario, params, window, captured.kpps),
        provenance=provenance(scenario, params),
        latency_histogram=histograms.latency,
        batches=histograms.batches,
    )
