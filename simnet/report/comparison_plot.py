"""A comparison as one picture."""

from __future__ import annotations

import textwrap
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simnet.kernel.core import CONTEXTS
from simnet.report.compare import SHOWN_SHARE, has_guest, letter, signed_interval
from simnet.report.explain import stage_title
from simnet.report.plots import COLOURS
from simnet.results.comparison import Comparison
from simnet.results.explanation import StageCost

MOST_STAGES = 12
PLACES = ("#b2182b", "#ef8a62", "#fddbc7", "#762a83", "#c2a5cf", "#8c510a", "#999999")
SCENARIOS = ("#2166ac", "#ef8a62", "#5aae61", "#762a83", "#999999")


def _plot_captured(comparison: Comparison, axes: Axes) -> None:
    """Captured rates, with the difference to the first."""
    rates = [explanation.result.captured.kpps for explanation in comparison.explanations]
    positions = range(len(rates))
    axes.bar(positions, [r.mean for r in rates], yerr=[r.ci95 or 0.0 for r in rates], color="#2166ac", capsize=4)
    for d in comparison.differences:
        axes.annotate(signed_interval(d.captured), (d.scenario, rates[d.scenario].mean), ha="center", va="bottom", fontsize="small")
    axes.set_xticks(positions, [letter(i) for i in positions])
    axes.margins(y=0.15)
    axes.set(ylabel="kpps captured", title="Captured, and difference to A")


def _plot_packets(comparison: Comparison, axes: Axes) -> None:
    """Where the offered packets went."""
    results = [explanation.result for explanation in comparison.explanations]
    places = [loss.place for loss in comparison.losses]
    counts = [{d.place: d.packets for d in r.packets.dropped} for r in results]
    parts = {
        "captured": [r.packets.captured for r in results],
        **{place.replace("_", " "): [c.get(place, 0) for c in counts] for place in places},
        "in flight": [r.packets.in_flight for r in results],
    }
    left = np.zeros(len(results))
    for colour, (name, packets) in zip(cycle(PLACES), parts.items(), strict=False):
        shares = np.array(packets) / np.maximum([r.packets.offered for r in results], 1)
        if shares.any():
            axes.barh(
                [letter(i) for i in range(len(results))],
                shares,
                left=left,
                color=SCENARIOS[0] if name == "captured" else colour,
                label=name,
            )
        left += shares
    axes.invert_yaxis()
    axes.set(xlabel="share of offered packets", title="Where the packets went", xlim=(0, 1))
    axes.legend(fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=4)


def _plot_cores(comparison: Comparison, axes: Axes) -> None:
    """Time of each CPU that has work in some scenario, one bar a scenario."""
    results = [explanation.result for explanation in comparison.explanations]
    shares = [{core.cpu: core.shares for core in result.cores} for result in results]
    cpus = sorted({cpu for own in shares for cpu, contexts in own.items() if contexts["idle"] < 1 - SHOWN_SHARE})
    bars = [(cpu, i) for cpu in cpus for i in range(len(results))]
    names = [f"cpu{cpu} {letter(i)}" for cpu, i in bars]
    left = np.zeros(len(bars))
    for context in CONTEXTS:
        values = np.array([shares[i][cpu][context] if cpu in shares[i] else float(context == "idle") for cpu, i in bars])
        if values.any():
            axes.barh(names, values, left=left, color=COLOURS[context], label=context)
        left += values
    axes.invert_yaxis()
    axes.set(xlabel="share of time", title="Where the time went", xlim=(0, 1))
    axes.legend(fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4)


def _plot_stages(comparison: Comparison, axes: Axes) -> None:
    """Cycles for each captured packet, the largest stages."""

    def largest(row: tuple[StageCost, ...]) -> float:
        return max(stage.cycles or 0.0 for stage in row)

    rows = comparison.stages()
    shown = sorted(rows, key=largest, reverse=True)[:MOST_STAGES]
    rows = [row for row in rows if row in shown]
    height = 0.8 / len(comparison.labels)
    for i in range(len(comparison.labels)):
        positions = np.arange(len(rows)) + (i - (len(comparison.labels) - 1) / 2) * height
        cycles = [row[i].cycles or 0.0 for row in rows]
        axes.barh(positions, cycles, height=height, color=SCENARIOS[i % len(SCENARIOS)], label=letter(i))
    axes.set_yticks(range(len(rows)), [stage_title(row[0], has_guest(comparison)) for row in rows], fontsize="small")
    axes.invert_yaxis()
    axes.set(xlabel="cycles of all cores", title="Cycles for each captured packet, by stage")
    axes.legend(fontsize="small")


def write_comparison_plot(comparison: Comparison, file: Path) -> None:
    """Write the picture as a PNG: rates, packets, time and cycles."""
    figure = Figure(figsize=(13, 10), layout="constrained")
    panels = figure.subplots(2, 2)
    for draw, axes in zip((_plot_captured, _plot_packets, _plot_cores, _plot_stages), panels.flat, strict=True):
        draw(comparison, axes)
    legend = "   ".join(f"{letter(i)}: {label}" for i, label in enumerate(comparison.labels))
    figure.suptitle(textwrap.fill(legend, 150), fontsize="small")
    figure.savefig(file, dpi=110, format="png")
