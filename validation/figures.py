"""Figures of the validation: the paper's Figures 5, 6 and 7 redrawn, with the measured points that are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import simnet
from validation.claims import read_rows
from validation.paper import RATE_ROWS, SIZES

mpl.use("Agg")

COLOURS = {"kernel_module": "#2166ac", "pf_packet": "#b2182b", "pf_ring": "#5aae61"}
GUEST_ROWS = {"F37": 64, "F38": 256, "F39": 1518}
WIRE_BITS = {size: (size + 20) * 8 for size in SIZES}

Pick = Callable[[simnet.Result], simnet.Estimate]


def _lines(axes: Axes, results: Mapping[Any, simnet.Result], pick: Pick, **style: Any) -> None:
    """One line a setting, over the sizes."""
    for method, monitor, flows, size in results:
        if size != SIZES[0]:
            continue
        estimates = [pick(results[method, monitor, flows, s]) for s in SIZES]
        look = {
            "color": COLOURS[method],
            "linestyle": "-" if monitor == "null" else "--",
            "marker": "o" if flows == "single" else "s",
            "markerfacecolor": "none",
            "label": f"{method}, {monitor}, {flows}",
            **style,
        }
        axes.errorbar(SIZES, [e.mean for e in estimates], yerr=[e.ci95 or 0.0 for e in estimates], **look)


def _finish(figure: Figure, axes: Axes, title: str, ylabel: str, file: Path) -> None:
    axes.plot([], [], "kx", label="measured")
    axes.set_xscale("log")
    axes.set_xticks(SIZES, [str(size) for size in SIZES])
    axes.minorticks_off()
    axes.set(xlabel="frame length (bytes with FCS)", ylabel=ylabel, ylim=(0, None), title=title)
    axes.legend(fontsize="x-small", ncols=2)
    figure.savefig(file, dpi=140)


def _measured_bare_metal(axes: Axes, factor: Callable[[int], float]) -> None:
    known = {row.id: row.kpps or 0.0 for row in read_rows("paper")}
    for row, (method, _, _, size) in RATE_ROWS.items():
        if row.startswith("F"):
            axes.plot(size, known[row] * factor(size), "x", markersize=9, markeredgewidth=2, color=COLOURS[method])


def _measured_guest(axes: Axes, factor: Callable[[int], float]) -> None:
    known = {row.id: row.kpps or 0.0 for row in read_rows("paper")}
    for row, size in GUEST_ROWS.items():
        axes.plot(size, known[row] * factor(size), "kx", markersize=9, markeredgewidth=2)


def one(size: int) -> float:
    """The factor of a packet rate."""
    del size
    return 1.0


def _canvas() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 5), layout="constrained")
    return figure, figure.subplots()


def draw_figures(bare_metal: Mapping[Any, simnet.Result], guest: Mapping[Any, simnet.Result], folder: Path) -> None:
    """Write figure-5.png, figure-6.png and figure-7.png. Measured points of the guest are means over its 12 settings a size."""

    def mbps(result: simnet.Result) -> simnet.Estimate:
        return result.captured.mbps_wire

    def kpps(result: simnet.Result) -> simnet.Estimate:
        return result.captured.kpps

    figure, axes = _canvas()
    _lines(axes, bare_metal, mbps)
    _measured_bare_metal(axes, lambda size: WIRE_BITS[size] / 1000)
    _finish(
        figure,
        axes,
        "Bit rates on bare metal (the paper's Figure 5): model and measured points",
        "Mbit/s on the wire",
        folder / "figure-5.png",
    )

    figure, axes = _canvas()
    _lines(axes, guest, mbps)
    _measured_guest(axes, lambda size: WIRE_BITS[size] / 1000)
    _finish(
        figure, axes, "Bit rates in the guest (Figure 6); x: mean of the 12 settings", "Mbit/s on the wire", folder / "figure-6.png"
    )

    figure, axes = _canvas()
    _lines(axes, bare_metal, kpps)
    _lines(axes, guest, kpps, color="#999999", label=None)
    axes.plot([], [], color="#999999", label="guest, all 12 settings")
    _measured_bare_metal(axes, one)
    _measured_guest(axes, one)
    _finish(figure, axes, "Packet rates on bare metal and in the guest (Figure 7)", "kpps captured", folder / "figure-7.png")
