"""A picture of a calibration: measured and modelled load curves, and by how much the model is off."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from calibration.fit import LEAST_KPPS

if TYPE_CHECKING:
    from calibration.fit import Fit

LEAST_DRAWN_KPPS = 0.01


def draw_residuals(found: Fit, file: Path) -> None:
    """One column a method and placement: captured against offered above, model over measured below. Hollow: held back."""
    groups = list(dict.fromkeys((o.method, o.placement) for o in found.observations))
    figure = Figure(figsize=(2.6 * len(groups), 5.2), layout="constrained")
    axes: Any = figure.subplots(2, len(groups), squeeze=False, sharex=True, sharey="row")
    for column, group in enumerate(groups):
        curve, off = axes[0][column], axes[1][column]
        rows = [
            row
            for row in zip(found.observations, found.predictions, found.used, strict=True)
            if (row[0].method, row[0].placement) == group
        ]
        offered = [o.offered_kpps for o, _, _ in rows]
        curve.plot(offered, [max(p.captured_kpps, LEAST_DRAWN_KPPS) for _, p, _ in rows], color="#888888", label="model")
        for o, p, used in rows:
            measured = max(o.captured_kpps, LEAST_DRAWN_KPPS)
            look = {"color": "#2166ac", "markerfacecolor": "#2166ac" if used else "none"}
            curve.errorbar(o.offered_kpps, measured, yerr=min(o.spread_kpps, 0.99 * measured), marker="o", **look)
            off.plot(o.offered_kpps, max(p.captured_kpps, LEAST_KPPS) / max(o.captured_kpps, LEAST_KPPS), marker="o", **look)
        off.axhline(1.0, color="#888888")
        curve.set(title=" ".join(group), xscale="log", yscale="log")
        off.set(xlabel="offered (kpps)", yscale="log")
    axes[0][0].set_ylabel("captured (kpps)")
    axes[1][0].set_ylabel("model / measured")
    axes[0][0].legend(fontsize="small")
    figure.savefig(file, dpi=120, format="png")
