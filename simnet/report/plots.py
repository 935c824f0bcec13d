"""Plots of a result: throughput over time, where packets went, time per core, latency, frames a poll."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simnet.capture.monitor import bin_start_ps
from simnet.kernel.core import CONTEXTS
from simnet.results.result import Result
from simnet.units import PS_PER_US

mpl.use("Agg")

COLOURS = dict(zip(CONTEXTS, ("#e6e6e6", "#b2182b", "#ef8a62", "#fdae61", "#67a9cf", "#2166ac", "#5aae61", "#762a83"), strict=True))


def throughput(result: Result, axes: Axes) -> None:
    """Captured and offered rate of each replication over time."""
    for replication in result.replications:
        times = replication.times_s
        steps = np.diff(times)
        axes.stairs(np.diff(replication.captured) / steps / 1000, times, color="#2166ac", alpha=0.6)
        axes.stairs(np.diff(replication.offered) / steps / 1000, times, color="#999999", alpha=0.4)
    axes.axvspan(0, result.warmup_seconds, color="#eeeeee", label="warm-up")
    axes.plot([], [], color="#2166ac", label="captured")
    axes.plot([], [], color="#999999", label="offered")
    axes.set(xlabel="simulated time (s)", ylabel="kpps", title="Throughput over time", ylim=(0, None))
    axes.legend()


def waterfall(result: Result, axes: Axes) -> None:
    """From offered to captured, one step a place of loss."""
    left = result.packets.offered / 1e6
    names = ["offered"]
    axes.bar(0, left, color="#999999")
    for drop in result.packets.dropped:
        lost = drop.packets / 1e6
        axes.bar(len(names), lost, bottom=left - lost, color="#b2182b")
        left -= lost
        names.append(drop.place.replace("_", " "))
    waiting = result.packets.in_flight / 1e6
    axes.bar(len(names), waiting, bottom=left - waiting, color="#fdae61")
    axes.bar(len(names) + 1, result.packets.captured / 1e6, color="#2166ac")
    names += ["in flight", "captured"]
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
    axes.set(ylabel="million packets", title="Where the packets went")


def core_time(result: Result, axes: Axes) -> None:
    """Shares of each CPU's time by context."""
    names = [f"cpu{core.cpu}" for core in result.cores]
    left = np.zeros(len(names))
    for context in CONTEXTS:
        shares = np.array([core.shares[context] for core in result.cores])
        if shares.any():
            axes.barh(names, shares, left=left, color=COLOURS[context], label=context)
        left += shares
    axes.invert_yaxis()
    axes.set(xlabel="share of time", title="Where the time went", xlim=(0, 1))
    axes.legend(loc="lower right", fontsize="small")


def latency(result: Result, axes: Axes) -> None:
    """Histogram of the time from the NIC to the monitor."""
    counts = result.latency_histogram
    used = np.flatnonzero(counts)
    if len(used):
        span = range(int(used[0]), int(used[-1]) + 2)
        edges = np.array([bin_start_ps(i) for i in span]) / PS_PER_US
        axes.stairs(counts[span[0] : span[-1]], edges, fill=True, color="#67a9cf")
        axes.set_xscale("log")
    axes.set(xlabel="latency (us)", ylabel="packets", title="Latency, NIC to monitor")


def batches(result: Result, axes: Axes) -> None:
    """Histogram of frames a poll."""
    counts = result.batches
    used = np.flatnonzero(counts)
    last = int(used[-1]) if len(used) else 0
    axes.bar(range(last + 1), counts[: last + 1], color="#5aae61")
    axes.set(xlabel="frames a poll", ylabel="polls", title="Batch sizes of NAPI")


PLOTS: dict[str, Callable[[Result, Axes], None]] = {
    "throughput": throughput,
    "waterfall": waterfall,
    "cores": core_time,
    "latency": latency,
    "batches": batches,
}


def write_plot(result: Result, draw: Callable[[Result, Axes], None], file: Path) -> None:
    """Write one plot as a PNG."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    draw(result, figure.subplots())
    figure.suptitle(f"{result.scenario} · {result.parameters}", fontsize="small")
    figure.savefig(file, dpi=130, format="png")
