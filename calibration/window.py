"""One window: a lab is wired, loaded, looked at for a while, emptied and taken down; every packet is accounted for."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

from calibration.campaign import CampaignFile, Placement, Point
from calibration.capture import methods
from calibration.capture.program import Program
from calibration.collect import driver
from calibration.collect.counters import PLACES, Counters, Sample, processor_counts, thread_times
from calibration.collect.foreign_load import shares, usage
from calibration.collect.reference import Reference
from calibration.collect.tracepoints import watch_polls
from calibration.lab.topology import Lab
from calibration.load.generators import GENERATORS

_QUIET_S, _LONGEST_DRAIN_S = 0.2, 3.0

Row = dict[str, Any]
"""A window as a line of a record; the columns are those of `calibration.record.COLUMNS`."""


def measure(point: Point, settings: CampaignFile, generator: str, reference: Reference) -> Row:
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
        lab = stack.enter_context(closing(Lab(methods.METHODS[point.method].needs_tap)))
        lab.place(placement.softirq, placement.softirq_cpu)
        backend = methods.start(point.method, lab, placement.reader_cpu, settings)
        stack.callback(backend.close)
        program = backend if isinstance(backend, Program) and backend.counts_when_stopped else None
        load = GENERATORS[generator](lab.sender, lab.load_index, placement.load_cpu, point.frame_bytes, point.flows)
        stack.callback(load.close)
        counters = stack.enter_context(closing(Counters(lab, backend, load)))
        threads = {"load": load.worker.pid}
        if backend.worker is not None:
            threads["reader"] = backend.worker.pid
        if lab.napi_thread is not None:
            threads["napi"] = lab.napi_thread
        own = {os.getpid(), reference.pid, *threads.values()}

        if program is None:
            load.start(point.offered_kpps)
            time.sleep(window.warm_up_seconds)
        used, times = usage(placement.cpus, own), {name: thread_times(pid) for name, pid in threads.items()}
        before_cpus = processor_counts(placement.cpus)
        driver_before = driver.statistics(lab.receiver, lab.interface)
        first = counters.sample()
        if program is not None:
            load.start(point.offered_kpps)
        time.sleep(window.seconds)
        if program is not None:
            load.stop()
        last = counters.sample()
        moved = driver.changes(driver_before, driver.statistics(lab.receiver, lab.interface))
        after_cpus = processor_counts(placement.cpus)
        times_after = {name: thread_times(pid) for name, pid in threads.items()}
        foreign, stolen = shares(used, usage(placement.cpus, own), len(placement.cpus))
        if program is None:
            row |= _polls(placement, lab.interface, window.poll_trace_seconds)
        load.stop()
        whole = _drained(counters)
        running = load.worker.alive and (backend.worker is None or backend.worker.alive)
        if program is not None and running:
            program.stop()
            whole = counters.sample()
            last = replace(whole, at_ns=last.at_ns, took_ns=last.took_ns)

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
    kept_waiting = row["load_waited_s"] / seconds if placement.load_is_alone else 0.0
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


def _drained(counters: Counters) -> Sample:
    """Counts when nothing moves any more."""
    limit = time.monotonic() + _LONGEST_DRAIN_S
    last = counters.sample()
    while time.monotonic() < limit:
        time.sleep(_QUIET_S / 4 if last.in_flight else _QUIET_S / 8)
        sample = counters.sample()
        still = (sample.offered, sample.captured, sample.dropped) == (last.offered, last.captured, last.dropped)
        if still and (not sample.in_flight or sample.at_ns - last.at_ns > _QUIET_S * 1e9):
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
    }


def _rejected(
    settings: CampaignFile, foreign: float, stolen: float, kept_waiting: float, whole: Sample, running: bool
) -> str | None:
    """Why a window does not count."""
    limits = settings.reject
    if not running:
        return "a process of the lab ended"
    if whole.in_flight > 0:
        return f"{whole.in_flight} packets unaccounted for"
    if whole.in_flight < 0:
        return f"{-whole.in_flight} packets too many lost: another interface lost packets in the backlog, which counts for the whole machine"
    for share, limit, who in (
        (foreign, limits.foreign_share, "other processes took"),
        (stolen, limits.steal_share, "the hypervisor took"),
        (kept_waiting, limits.foreign_share, "the generator had to wait for"),
    ):
        if share > limit:
            return f"{who} {share:.0%} of the time"
    return None
