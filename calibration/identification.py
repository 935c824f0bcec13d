"""What a fit knows of each cost, and what it does not: intervals, sums, and the measurement that would help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.cost_groups import GROUPS

BOUND = np.log(20.0)
"""Largest logarithm of a factor, either way."""
PRIOR_SPREAD = np.log(4.0)
"""How far a factor may well be from 1: what the record does not say stays near the prior, and factors that only their sum is known of move alike."""
UNKNOWN = np.log(1.6)
"""A parameter whose 95 % interval is wider than this factor either way is not identified."""
ALIKE = 0.95
"""Correlation from which two parameters are not told apart."""
IDENTIFIED = "identified"
"""How the verdicts begin of costs that a calibrated set takes over."""


@dataclass(frozen=True)
class Parameter:
    """A fitted factor on the costs of a group.

    `low` and `high`: 95 % interval, of the common factor if only the sum with other groups is known; `verdict` says if the record identifies it.
    """

    name: str
    factor: float
    low: float
    high: float
    verdict: str

    @property
    def is_informed(self) -> bool:
        """Does the record say more about it than the prior's spread does?"""
        return bool(np.log(self.high / self.low) < 2 * PRIOR_SPREAD)

    def as_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {
            "name": self.name,
            "quantities": GROUPS[self.name],
            "factor": self.factor,
            "low": self.low,
            "high": self.high,
            "verdict": self.verdict,
        }


def judge(
    logs: NDArray[np.float64], jacobian: NDArray[np.float64], cost: float, suggestions: Mapping[str, str]
) -> tuple[tuple[Parameter, ...], NDArray[np.float64]]:
    """Intervals from the Jacobian at the solution, without the prior, scaled by what the residuals are; and what cannot be told."""
    scale = max(2 * cost / max(len(jacobian) - len(logs), 1), 1.0)
    half, correlation = _intervals(jacobian, scale)
    names, found = [name for name in GROUPS if name in suggestions], []
    sums = _sums(jacobian, scale)
    for i, name in enumerate(names):
        members, of_sum = next((known for known in sums if i in known[0]), ((i,), half[i]))
        of_this = half[i]
        if abs(abs(logs[i]) - BOUND) < 1e-3:
            verdict = "at its bound"
        elif half[i] <= UNKNOWN:
            verdict = IDENTIFIED
        elif len(members) > 1:
            of_this = of_sum
            others = " and ".join(names[j] for j in members if j != i)
            verdict = f"{IDENTIFIED} only in sum with {others}; to tell them apart measure {suggestions[name]}"
        else:
            twin = next((names[j] for j in range(len(names)) if j != i and abs(correlation[i, j]) > ALIKE), None)
            like = f" (cannot be told from {twin})" if twin else ""
            verdict = f"not identifiable from this record{like}: measure {suggestions[name]}"
        low, high = np.exp(logs[i] - of_this), np.exp(logs[i] + of_this)
        found.append(Parameter(name, float(np.exp(logs[i])), float(low), float(high), verdict))
    return tuple(found), correlation


def _intervals(jacobian: NDArray[np.float64], scale: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Half of each 95 % interval, and the correlation; both of logarithms."""
    covariance = scale * np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-10)
    blind = np.linalg.norm(jacobian, axis=0) < 1e-3
    error = np.where(blind, np.inf, np.sqrt(np.maximum(np.diag(covariance), 0.0)))
    finite = np.where(np.isfinite(error) & (error > 0), error, 1.0)
    return np.minimum(1.96 * error, 2 * BOUND), covariance / np.outer(finite, finite)


def _sums(jacobian: NDArray[np.float64], scale: float) -> list[tuple[tuple[int, ...], float]]:
    """Parameters that are unknown each by itself, but known if they move alike, and half of the interval in which they do: what is too much of one is too little of another."""
    groups: list[tuple[int, ...]] = [(i,) for i in range(jacobian.shape[1])]
    while True:
        half, correlation = _intervals(np.array([jacobian[:, members].sum(axis=1) for members in groups]).T, scale)
        pairs = [(correlation[a, b], a, b) for a in range(len(groups)) for b in range(a) if min(half[a], half[b]) > UNKNOWN]
        strength, a, b = min(pairs, default=(0.0, 0, 0))
        if strength > -ALIKE:
            return [(members, of_sum) for members, of_sum in zip(groups, half.tolist(), strict=True) if of_sum <= UNKNOWN]
        groups[b] += groups.pop(a)
