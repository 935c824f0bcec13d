"""Figures of the validation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

import simnet
from validation.claims import read_rows
from validation.paper import METHODS, RATE_ROWS, SIZES

mpl.use("Agg")

COLOURS = {"kernel_module": "#2166ac", "pf_packet": "#b2182b", "pf_ring": "#5aae61"}


def draw_paper(results: Mapping[Any, simnet.Result], file: Path) -> None:
    """Packet rates of the 36 cells, as the paper's Figure 7, with the measured points that are known."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for (method, monitor, flows, size), result in results.items():
        if size != SIZES[0]:
            continue
        estimates = [results[method, monitor, flows, s].captured.kpps for s in SIZES]
        axes.errorbar(
            SIZES,
            [e.mean for e in estimates],
            yerr=[e.ci95 or 0.0 for e in estimates],
            color=COLOURS[method],
            linestyle="-" if monitor == "null" else "--",
            marker="o" if flows == "single" else "s",
            markerfacecolor="none",
            label=f"{method}, {monitor}, {flows}",
        )
        del result
    known = {row.id: row.kpps or 0.0 for row in read_rows("paper")}
    for row, (method, _, _, size) in RATE_ROWS.items():
        if row.startswith("F"):
            axes.plot(size, known[row], marker="x", markersize=9, markeredgewidth=2, color=COLOURS[method], linestyle="none")
    axes.plot([], [], "kx", label="measured (null, single)")
    axes.set_xscale("log")
    axes.set_xticks(SIZES, [str(size) for size in SIZES])
    axes.minorticks_off()
    axes.set(
        xlabel="frame length (bytes with FCS)",
        ylabel="captured (kpps)",
        ylim=(0, None),
        title="ICCCN 2012, bare metal: model and measured points",
    )
    axes.legend(fontsize="x-small", ncols=2)
    assert set(COLOURS) == set(METHODS)
    figure.savefig(file, dpi=140)
