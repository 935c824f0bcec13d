"""Line charts as numbers for a template: axes, ticks and paths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from simnet.experiment.load_curve import LoadCurve, Point
from simnet.report.html.page import THIN_SPACE

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 88, 700, 48, 330
TICKS = 6
WIDE = 8
"""From this ratio of the largest load to the knee on, axes are logarithmic."""


def _label(value: float) -> str:
    return f"{value:,.10g}".replace(",", THIN_SPACE)


@dataclass(frozen=True)
class Axis:
    """Maps `low` .. `high` to `start` .. `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Where a value stands, with one digit of a pixel."""
        if self.log:
            part = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return round(self.start + part * (self.end - self.start), 1)

    def _values(self) -> list[float]:
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if self.high / self.low < 100 else (1,)
            return [step * 10.0**decade for decade in decades for step in steps]
        least = (self.high - self.low) / TICKS
        unit = 10.0 ** math.floor(math.log10(least))
        step = next(unit * times for times in (1, 2, 5, 10) if unit * times >= least)
        return [i * step for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]

    def ticks(self) -> list[tuple[float, str]]:
        """Positions and labels of the ticks."""
        return [(self.at(v), _label(float(f"{v:.10g}"))) for v in self._values() if self.low <= v <= self.high * (1 + 1e-9)]


@dataclass(frozen=True)
class CurveChart:
    """A load curve, drawn: paths and positions in a picture of `WIDTH` x `HEIGHT`."""

    x: Axis
    y: Axis
    line: str
    everything: str
    dots: Sequence[tuple[float, float, str]]
    own: tuple[float, float]
    knee: tuple[float, float] | None
    log: bool
    size: tuple[int, int] = (WIDTH, HEIGHT)
    frame: tuple[int, int, int, int] = (LEFT, RIGHT, TOP, BOTTOM)


def _path(x: Axis, y: Axis, places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x.at(a)} {y.at(b)}" for a, b in places)


def curve_chart(curve: LoadCurve, own: Point) -> CurveChart:
    """Draw a load curve; `own` is the point of the run that is reported on."""
    offered = [point.offered.mean for point in curve.points]
    captured = [point.captured.mean for point in curve.points]
    knee = curve.carried.offered.mean if curve.carried else offered[0]
    log = curve.overloaded is not None and offered[-1] > WIDE * knee and min(captured) > 0
    if log:
        low = 10 ** math.floor(math.log10(min(*offered, *captured)))
        x = Axis(low, max(offered) * 1.1, LEFT, RIGHT, True)
        y = Axis(low, max(captured) * 1.4, BOTTOM, TOP, True)
    else:
        x = Axis(0, max(offered) * 1.04, LEFT, RIGHT)
        y = Axis(0, max(captured) * 1.1, BOTTOM, TOP)
    least, most = max(x.low, y.low), min(x.high, y.high)
    band = None
    if curve.carried and curve.overloaded:
        start = x.at(curve.carried.offered.mean)
        band = (start, max(x.at(curve.overloaded.offered.mean) - start, 2))
    dots = [
        (x.at(a), y.at(b), f"offered {_label(float(f'{a:.4g}'))} kpps, captured {_label(float(f'{b:.4g}'))} kpps")
        for a, b in zip(offered, captured, strict=True)
    ]
    return CurveChart(
        x=x,
        y=y,
        line=_path(x, y, list(zip(offered, captured, strict=True))),
        everything=_path(x, y, [(least, least), (most, most)]),
        dots=dots,
        own=(x.at(own.offered.mean), y.at(own.captured.mean)),
        knee=band,
        log=log,
    )
