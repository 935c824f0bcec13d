"""Analysis of variance of a full factorial design with replications: which factors matter, and how much (Jain, chapters 18 to 23).

The design is balanced, so sums of squares of main effects and two-factor interactions come from means of the levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc


@dataclass(frozen=True)
class Effect:
    """One factor or interaction: its share of the variation (eta squared), F and the probability of such an F by chance."""

    name: str
    degrees: int
    share: float
    f: float
    p: float


def _centred_means(values: NDArray[np.float64], axes: tuple[int, ...]) -> NDArray[np.float64]:
    """Means over all but some axes, without what lower effects explain."""
    others = tuple(a for a in range(values.ndim) if a not in axes)
    means = values.mean(axis=others, keepdims=True)
    for order in range(len(axes)):
        for lower in combinations(axes, order):
            means = means - _centred_means(values, lower)
    return np.asarray(means)


def analyse(factors: Sequence[tuple[str, int]], cells: Mapping[tuple[int, ...], Sequence[float]]) -> list[Effect]:
    """Main effects and two-factor interactions.

    Parameters
    ----------
    factors
        Name and number of levels of each.
    cells
        Replications by level numbers; all cells, equally many replications (at least two).

    Returns
    -------
    list of Effect
        Largest share first; the last one is the error (within cells), with F and p of nan.
    """
    shape = tuple(levels for _, levels in factors)
    replications = len(next(iter(cells.values())))
    values = np.array([[cells[index] for index in np.ndindex(*shape)]]).reshape(*shape, replications)
    total = float(((values - values.mean()) ** 2).sum())
    error = float(((values - values.mean(axis=-1, keepdims=True)) ** 2).sum())
    error_degrees = int(np.prod(shape)) * (replications - 1)
    effects = []
    for axes in [c for order in (1, 2) for c in combinations(range(len(factors)), order)]:
        squares = float((_centred_means(values, axes) ** 2).sum()) * values.size / np.prod([shape[a] for a in axes])
        degrees = int(np.prod([shape[a] - 1 for a in axes]))
        f = squares / degrees / (error / error_degrees) if error > 0 else np.inf
        p = float(fdtrc(degrees, error_degrees, f))
        effects.append(Effect(" x ".join(factors[a][0] for a in axes), degrees, squares / total, float(f), p))
    effects.sort(key=lambda effect: -effect.share)
    return [*effects, Effect("within settings", error_degrees, error / total, float("nan"), float("nan"))]


def table(title: str, effects: Sequence[Effect]) -> str:
    """A table for people."""
    lines = [title, f"  {'effect':<28}{'df':>6}{'share of variation':>20}{'F':>12}{'p':>10}"]
    for e in effects:
        test = "" if np.isnan(e.f) else f"{e.f:>12.3g}{e.p:>10.2g}"
        lines.append(f"  {e.name:<28}{e.degrees:>6}{e.share:>20.2%}{test}")
    return "\n".join(lines)
