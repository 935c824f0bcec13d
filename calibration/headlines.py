"""What a load curve is remembered by: how much a reader takes that has its CPU for itself, and of one that shares it, where its knee is and whether it collapses behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from calibration.observation import Observation, Prediction

DELIVERED = 0.95
"""The knee: the offered load above which a smaller share than this is captured."""
SATURATION_WITHIN, KNEE_WITHIN = 0.10, 0.15
"""How far a prediction may be off, if the repetitions are not half as far apart."""
COLLAPSE = 100.0
"""A reader has collapsed where the captured share has fallen by more than this."""
LEAST_SHARE = 1e-6

Curve = Sequence[tuple[float, float]]
"""Offered and captured rate, in kpps, by offered rate."""


@dataclass(frozen=True)
class Headline:
    """One number of a load curve, measured and modelled. `within` is the relative error that passes; None: both must be on the same side of `COLLAPSE`."""

    method: str
    placement: str
    what: str
    unit: str
    measured: float
    model: float
    within: float | None

    @property
    def off(self) -> float:
        """Signed relative error."""
        return self.model / self.measured - 1

    @property
    def holds(self) -> bool:
        """Is the model near enough?"""
        if self.within is None:
            return (self.measured > COLLAPSE) == (self.model > COLLAPSE)
        return abs(self.off) <= self.within

    def as_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {
            "method": self.method,
            "placement": self.placement,
            "what": self.what,
            "unit": self.unit,
            "measured": self.measured,
            "model": self.model,
            "within": self.within,
            "holds": self.holds,
        }


def knee_kpps(curve: Curve) -> float:
    """The offered load where the captured share first falls to `DELIVERED`, between two loads by their logarithms; NaN if it never does."""
    shares = [(offered, captured / offered) for offered, captured in curve]
    for (below, high), (above, low) in pairwise(shares):
        if high >= DELIVERED > low:
            part = (high - DELIVERED) / (high - low)
            return float(below * (above / below) ** part)
    return float("nan")


def collapse(curve: Curve) -> float:
    """How many times the captured share is smaller at the highest load than it is at best."""
    shares = [max(captured / offered, LEAST_SHARE) for offered, captured in curve]
    return max(shares) / shares[-1]


def headlines(observations: Sequence[Observation], predictions: Sequence[Prediction]) -> list[Headline]:
    """What the load curves of a record come to.

    Parameters
    ----------
    observations, predictions
        One for one. Where the curve of a method and a placement is not long enough for a number, there is none.
    """
    pairs = sorted(zip(observations, predictions, strict=True), key=lambda p: (p[0].method, p[0].placement, p[0].offered_kpps))
    return [
        headline
        for _, rows in groupby(pairs, key=lambda p: (p[0].method, p[0].placement))
        for headline in _of_curve(list(rows))
        if np.isfinite(headline.measured) and np.isfinite(headline.model)
    ]


def _of_curve(rows: list[tuple[Observation, Prediction]]) -> Iterator[Headline]:
    first = rows[0][0]
    if first.apart:
        if not all(o.is_light for o, _ in rows):
            best, _ = max(rows, key=lambda row: row[0].captured_kpps)
            model = max(p.captured_kpps for _, p in rows)
            within = max(SATURATION_WITHIN, 2 * best.spread_kpps / best.captured_kpps)
            yield Headline(first.method, first.placement, "saturation", "kpps", best.captured_kpps, model, within)
        return
    measured = [(o.offered_kpps, o.captured_kpps) for o, _ in rows]
    model_curve = [(o.offered_kpps, p.captured_kpps) for o, p in rows]
    knee = knee_kpps(measured)
    ends = [knee_kpps([(o.offered_kpps, o.captured_kpps + sign * o.spread_kpps) for o, _ in rows]) for sign in (-1, 1)]
    apart = float(np.nan_to_num(np.ptp(ends), nan=0.0))
    yield Headline(first.method, first.placement, "knee", "kpps", knee, knee_kpps(model_curve), max(KNEE_WITHIN, apart / knee))
    yield Headline(first.method, first.placement, "collapse", "times", collapse(measured), collapse(model_curve), None)
