"""One window: a lab is wired, loaded, looked at for a while, emptied and taken down; every packet is accounted for."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any, Protocol

from calibration.campaign import CampaignFile, Placement, Point
from calibration.capture import methods
from calibration.capture.methods import Backend
from calibration.capture.program import Program
from calibration.collect import driver, processor_events
from calibration.collect.counters import PLACES, Counters, Sample, processor_counts, thread_times
from calibration.collect.exits import kvm_exit, watch_exits
from calibration.collect.foreign_load import shares, usage
from calibration.collect.processor_events import ProcessorEvents
from calibration.collect.reference import Reference
from calibration.collect.tracepoints import watch_polls
from calibration.lab.topology import Lab
from calibration.load.generators import GENERATORS
from calibration.workers import Worker

_QUIET_S, _LONGEST_DRAIN_S = 0.2, 3.0

Row = dict[str, Any]
"""A window as a line of a record; the columns are those of `calibration.record.COLUMNS`."""


class Load(Protocol):
    """What offers packets and counts them; `worker` is its process, if it has one on this host."""

    @property
    def worker(self) -> Worker | None: ...

    def start(self, kpps: float) -> None: ...
    def stop(self) -> None: ...


class Counting(Protocol):
    """What counts packets at every place of a wiring at once."""

    def sample(self) -> Sample: ...


@dataclass(frozen=True)
class Wired:
    """What a window is measured on.

    `after` gives columns that are known only when everything has been counted; `quiet_s` is how long counters may lag behind.
    """

    lab: Lab
    backend: Backend
    load: Load
    counters: Counting
    after: Callable[[], Row] = dict
    quiet_s: float = _QUIET_S


Wire = Callable[[ExitStack, Point, CampaignFile], Wired]
"""Wires a place to measure a point on, to be taken down by the stack."""


def lab_wire(generator: str) -> Wire:
    """The lab of namespaces, with a generator of that name."""

    def wire(stack: ExitStack, point: Point, settings: CampaignFile) -> Wired:
        placement = point.placement
        lab = stack.enter_context(closing(Lab(methods.METHODS[point.method].needs_tap)))
        lab.place(placement.softirq, placement.softirq_cpu)
        backend = methods.start(point.method, lab, placement.reader_cpu, settings)
        stack.callback(backend.close)
        load = GENERATORS[generator](lab.sender, lab.load_index, placement.load_cpu, point.frame_bytes, point.flows)
        stack.callback(load.close)
        return Wired(lab, backend, load, stack.enter_context(closing(Counters(lab, backend, load))))

    return wire


def measure(point: Point, settings: CampaignFile, generator: str, reference: Reference, wire: Wire | None = None) -> Row:
    """Measure one window.

    A program that says only at its end what it has captured is looked at from the first packet to the last: without a warm-up, and without a trace of polls.

    Parameters
    ----------
    point
        What to measure.
    settings
        Window, limits and buffer of the campaign.
    generator
        Name of the generator.
    reference
        The benchmarks of this host, run before the lab is wired.
    wire
        What wires it; the lab of namespaces if None.

    Returns
    -------
    dict
        One row. `rejected` says why it must not be used, or is None.

    Raises
    ------
    UserError
        If the lab cannot be built.
    """
    row: Row = dict(reference.measure())
    placement, window = point.placement, settings.window
    with ExitStack() as stack:
        wired = (wire or lab_wire(generator))(stack, point, settings)
        lab, backend, load, counters = wired.lab, wired.backend, wired.load, wired.counters
        threads = {} if load.worker is None else {"load": load.worker.pid}
        program = backend if isinstance(backend, Program) and backend.counts_when_stopped else None
        if backend.worker is not None:
            threads["reader"] = backend.worker.pid
        if lab.napi_thread is not None:
            threads["napi"] = lab.napi_thread
        own = {os.getpid(), reference.pid, *threads.values()}
        events = stack.enter_context(closing(ProcessorEvents(placement.cpus)))

        if program is None:
            load.start(point.offered_kpps)
            time.sleep(window.warm_up_seconds)
        used, times = usage(placement.cpus, own), {name: thread_times(pid) for name, pid in threads.items()}
        before_cpus = processor_counts(placement.cpus)
        driver_before = driver.statistics(lab.receiver, lab.interface)
        events_before = events.read()
        first = counters.sample()
        if program is not None:
            load.start(point.offered_kpps)
        time.sleep(window.seconds)
        if program is not None:
            load.stop()
        last = counters.sample()
        row |= processor_events.columns(events_before, events.read())
        moved = driver.changes(driver_before, driver.statistics(lab.receiver, lab.interface))
        after_cpus = processor_counts(placement.cpus)
        times_after = {name: thread_times(pid) for name, pid in threads.items()}
        foreign, stolen = shares(used, usage(placement.cpus, own), len(placement.cpus))
        if program is None:
            row |= _polls(placement, lab.interface, window.poll_trace_seconds)
            if any(row.get(processor_events.KVM_EXITS, ())):
                row |= _exits(placement, window.poll_trace_seconds)
        load.stop()
        strays = settings.link.stray_packets if settings.link else 0
        whole = _drained(counters, wired.quiet_s, strays)
        running = all(worker is None or worker.alive for worker in (load.worker, backend.worker))
        if program is not None and running:
            program.stop()
            whole = counters.sample()
            last = replace(whole, at_ns=last.at_ns, took_ns=last.took_ns)
        row |= wired.after()

    seconds = (last.at_ns - first.at_ns) / 1e9
    row |= _packets(first, last, whole)
    row |= {name: after_cpus[name] - count for name, count in before_cpus.items()}
    for name, (ran, waited, sleeps) in times.items():
        ran_after, waited_after, sleeps_after = times_after[name]
        row |= {f"{name}_ran_s": (ran_after - ran) / 1e9, f"{name}_waited_s": (waited_after - waited) / 1e9}
        row[f"{name}_sleeps"] = sleeps_after - sleeps
    row |= {
        "seconds": seconds,
        "generator": generator,
        "driver_statistics": json.dumps(moved),
        "foreign_share": foreign,
        "steal_share": stolen,
    }
    kept_waiting = row["load_waited_s"] / seconds if placement.load_is_alone and load.worker is not None else 0.0
    row["rejected"] = _rejected(settings, foreign, stolen, kept_waiting, whole, running)
    return row


def _packets(first: Sample, last: Sample, whole: Sample) -> Row:
    """Counts of the window, and of the lab's whole life."""
    dropped = {f"dropped_{place}": last.dropped[place] - first.dropped[place] for place in PLACES if place in last.dropped}
    return {
        "offered": last.offered - first.offered,
        "captured": last.captured - first.captured,
        **dropped,
        **{name: count - first.counts[name] for name, count in last.counts.items()},
        "skipped": last.skipped - first.skipped,
        "in_flight_before": first.in_flight,
        "in_flight_after": last.in_flight,
        "edge_us": max(first.took_ns, last.took_ns) / 1e3,
        "whole_offered": whole.offered,
        "unaccounted": whole.in_flight,
    }


def _drained(counters: Counting, quiet_s: float, strays: int) -> Sample:
    """Counts when nothing moves any more."""
    limit = time.monotonic() + _LONGEST_DRAIN_S
    last = counters.sample()
    while time.monotonic() < limit:
        time.sleep(_QUIET_S / 4 if last.in_flight else _QUIET_S / 8)
        sample = counters.sample()
        still = (sample.offered, sample.captured, sample.dropped) == (last.offered, last.captured, last.dropped)
        if still and (abs(sample.in_flight) <= strays or sample.at_ns - last.at_ns > quiet_s * 1e9):
            return sample
        if not still:
            last = sample
    return counters.sample()


def _polls(placement: Placement, interface: str, seconds: float) -> Row:
    """Sizes of polls and time in softirqs, if the kernel has the tracepoints and the campaign wants them."""
    if not seconds:
        return {}
    try:
        polls = watch_polls(placement.cpus, interface, seconds, placement.softirq_runs_on)
    except OSError:
        return {}
    return {
        "polls_s": polls.seconds,
        "polls_of": list(polls.batches),
        "polls_lost": polls.lost,
        "polls_softirq_s": polls.softirq_s,
        "polls_softirq_events": polls.softirq_events,
    }


def _exits(placement: Placement, seconds: float) -> Row:
    """Exits of guests by reason, if the campaign wants a trace."""
    if not seconds:
        return {}
    try:
        exits = watch_exits(kvm_exit(), placement.cpus, seconds)
    except OSError:
        return {}
    return {"exits_s": exits.seconds, "exits_of": json.dumps(exits.reasons), "exits_lost": exits.lost}


def _rejected(
    settings: CampaignFile, foreign: float, stolen: float, kept_waiting: float, whole: Sample, running: bool
) -> str | None:
    """Why a window does not count."""
    limits = settings.reject
    if not running:
        return "a process of the lab ended"
    if abs(whole.in_flight) > (settings.link.stray_packets if settings.link else 0):
        if whole.in_flight > 0:
            return f"{whole.in_flight} packets unaccounted for"
        if settings.link:
            return (
                f"{-whole.in_flight} packets more than the generator's interface sent: something else sends on the link, "
                "or another interface lost packets in the backlog, which counts for the whole machine"
            )
        return f"{-whole.in_flight} packets too many lost: another interface lost packets in the backlog, which counts for the whole machine"
    for share, limit, who in (
        (foreign, limits.foreign_share, "other processes took"),
        (stolen, limits.steal_share, "the hypervisor took"),
        (kept_waiting, limits.foreign_share, "the generator had to wait for"),
    ):
        if share > limit:
            return f"{who} {share:.0%} of the time"
    return None
