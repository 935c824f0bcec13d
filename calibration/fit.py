"""Fit costs to a record, with the simulator as the model, and say what the record cannot tell.

Least squares over logarithms of factors on costs of the prior set, with common random numbers, from several starts. Fitted is only to windows under light load and to those whose reader has a CPU
of its own; all others are held back and predicted. Residuals are logarithms of captured rates and differences of busy shares, each over its own uncertainty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

import simnet
from calibration.lab_model import Observation, Prediction, predict

SCHEMA, PRIOR = "simnet-calibration/1", "lab-x86-64"
GROUPS: dict[str, tuple[str, ...]] = {
    "receive path": ("driver_cycles", "skb_cycles", "stack_cycles", "packet_rcv_cycles", "ip_drop_cycles", "clone_cycles"),
    "recv call": ("recv_cycles",),
    "wake-up": ("wake_up_cycles",),
    "task switch": ("context_switch_cycles",),
    "interrupt": ("device_interrupt_cycles",),
}
"""Costs that are scaled together: a record of rates does not tell the parts of the receive path apart."""
SUGGESTIONS = {
    "receive path": "windows with the softirq on a CPU of its own above its saturation (placement inline, higher offered_kpps)",
    "recv call": "windows with the reader on a CPU of its own above its saturation",
    "wake-up": "windows at a few kpps, where the reader sleeps before every packet",
    "task switch": "windows with reader and NAPI thread on one CPU (placement threaded) at light load",
    "interrupt": "windows with RPS at light load, with the time of hard interrupts (irq tracepoints)",
}
BOUND = np.log(20.0)
LEAST_SPREAD, BUSY_ERROR, LEAST_KPPS = 0.02, 0.03, 0.05
STARTS = (0.0, np.log(2.0))
STEP = 0.05
UNKNOWN = np.log(1.6)
"""A parameter whose 95 % interval is wider than this factor either way is not identified."""
ALIKE = 0.95


@dataclass(frozen=True)
class Parameter:
    """A fitted factor on the costs of a group. `low` and `high`: 95 % interval; `verdict` says if the record identifies it."""

    name: str
    factor: float
    low: float
    high: float
    verdict: str

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


@dataclass(frozen=True)
class Fit:
    """A calibration: parameters, and for every observation whether it was used and what the model says now."""

    parameters: tuple[Parameter, ...]
    correlation: NDArray[np.float64]
    observations: tuple[Observation, ...]
    used: tuple[bool, ...]
    predictions: tuple[Prediction, ...]
    cost: float

    def as_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        rows = zip(self.observations, self.predictions, self.used, strict=True)
        return {
            "schema": SCHEMA,
            "prior": PRIOR,
            "parameters": [parameter.as_json() for parameter in self.parameters],
            "correlation": self.correlation.tolist(),
            "windows": [
                {
                    "placement": o.placement,
                    "used": used,
                    "offered_kpps": o.offered_kpps,
                    "captured_kpps": o.captured_kpps,
                    "spread_kpps": o.spread_kpps,
                    "busy": o.busy,
                    "model_kpps": p.captured_kpps,
                    "model_busy": p.busy,
                }
                for o, p, used in rows
            ],
        }

    def costs(self) -> dict[str, float]:
        """Fitted quantities by name."""
        return costs_of({parameter.name: parameter.factor for parameter in self.parameters})

    def errors(self, used: bool) -> NDArray[np.float64]:
        """Signed relative errors of the captured rates that were used, or held back."""
        pairs = zip(self.observations, self.predictions, self.used, strict=True)
        return np.array([p.captured_kpps / max(o.captured_kpps, LEAST_KPPS) - 1 for o, p, u in pairs if u == used])


def costs_of(factors: Mapping[str, float]) -> dict[str, float]:
    """Quantities of the prior set, scaled by group."""
    prior = simnet.parameter_set(PRIOR)
    return {name: prior[name] * factor for group, factor in factors.items() for name in GROUPS[group]}


def _residuals(observation: Observation, prediction: Prediction) -> list[float]:
    measured, model = max(observation.captured_kpps, LEAST_KPPS), max(prediction.captured_kpps, LEAST_KPPS)
    spread = max(observation.spread_kpps / measured, LEAST_SPREAD)
    found = [float(np.log(model / measured)) / spread]
    if observation.busy is not None:
        found.append((prediction.busy - observation.busy) / BUSY_ERROR)
    return found


def fit(observations: Sequence[Observation], workers: int | None = None) -> Fit:
    """Fit the factors.

    Parameters
    ----------
    observations
        See `calibration.lab_model.observations`.
    workers
        Threads; does not change the result.
    """
    used = tuple(o.apart or o.is_light for o in observations)
    training = [o for o, u in zip(observations, used, strict=True) if u]
    with ThreadPoolExecutor(workers) as pool:

        def model(logs: NDArray[np.float64], of: Sequence[Observation]) -> list[Prediction]:
            costs = costs_of(dict(zip(GROUPS, np.exp(logs).tolist(), strict=True)))
            return list(pool.map(lambda observation: predict(observation, costs), of))

        def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
            pairs = zip(training, model(logs, training), strict=True)
            return np.array([r for observation, prediction in pairs for r in _residuals(observation, prediction)])

        def slopes(logs: NDArray[np.float64]) -> NDArray[np.float64]:
            """Central differences over steps that a discrete-event model notices."""
            steps = np.eye(len(logs)) * STEP
            return np.array([(residuals(logs + step) - residuals(logs - step)) / (2 * STEP) for step in steps]).T

        solutions = [
            least_squares(
                residuals, np.full(len(GROUPS), start), jac=slopes, bounds=(-BOUND, BOUND), xtol=1e-3, ftol=1e-3, max_nfev=15
            )
            for start in STARTS
        ]
        best = min(solutions, key=lambda solution: float(solution.cost))
        predictions = tuple(model(best.x, observations))
    parameters, correlation = _judge(best.x, np.asarray(best.jac), float(best.cost), len(best.fun))
    return Fit(parameters, correlation, tuple(observations), used, predictions, float(best.cost))


def _judge(
    logs: NDArray[np.float64], jacobian: NDArray[np.float64], cost: float, count: int
) -> tuple[tuple[Parameter, ...], NDArray[np.float64]]:
    """Intervals from the Jacobian at the solution, scaled by what the residuals are; and what cannot be told."""
    scale = max(2 * cost / max(count - len(logs), 1), 1.0)
    covariance = scale * np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-10)
    blind = np.linalg.norm(jacobian, axis=0) < 1e-3
    error = np.where(blind, np.inf, np.sqrt(np.maximum(np.diag(covariance), 0.0)))
    finite = np.where(np.isfinite(error) & (error > 0), error, 1.0)
    correlation = covariance / np.outer(finite, finite)
    names, found = list(GROUPS), []
    for i, name in enumerate(names):
        half = min(1.96 * float(error[i]), 2 * BOUND)
        twin = next((names[j] for j in range(len(names)) if j != i and abs(correlation[i, j]) > ALIKE and half > UNKNOWN), None)
        if abs(abs(logs[i]) - BOUND) < 1e-3:
            verdict = "at its bound"
        elif half > UNKNOWN:
            like = f" (cannot be told from {twin})" if twin else ""
            verdict = f"not identifiable from this record{like}: measure {SUGGESTIONS[name]}"
        else:
            verdict = "identified"
        found.append(Parameter(name, float(np.exp(logs[i])), float(np.exp(logs[i] - half)), float(np.exp(logs[i] + half)), verdict))
    return tuple(found), correlation


def parameter_set_yaml(found: Fit, name: str, source: str) -> str:
    """The calibrated set as a file that `parameters:` of a scenario may name. Only identified costs are changed."""
    prior = simnet.parameter_set(PRIOR)
    lines = [
        f"name: {name}",
        f"title: {prior.title.split(' (')[0]}, calibrated",
        f"based_on: {PRIOR}",
        "quantities:",
        "  calibrated:",
    ]
    for parameter in found.parameters:
        if parameter.verdict != "identified":
            continue
        for quantity in GROUPS[parameter.name]:
            value = prior[quantity]
            lines.append(
                f"    {quantity}: {{value: {value * parameter.factor:.6g}, low: {value * parameter.low:.6g}, high: {value * parameter.high:.6g}, "
                f'unit: cycles, kind: calibrated, source: "{source}; {parameter.factor:.3g} times the prior, with {parameter.name}"}}'
            )
    return "\n".join(lines) + "\n"


def report_text(found: Fit) -> str:
    """Tables for people: parameters, then predictions of what was held back and of what was used."""
    lines = ["Parameters (factors on the costs of the prior set, 95 % intervals)"]
    for each in found.parameters:
        lines.append(f"  {each.name:<14}{each.factor:>8.3g}  {each.low:.3g} to {each.high:.3g}   {each.verdict}")
    for used, title in (
        (False, "Held back and predicted"),
        (True, "Used for the fit (light load, or the reader on a CPU of its own)"),
    ):
        lines += ["", title, f"  {'placement':<16}{'offered':>10}{'measured':>10}{'model':>10}{'off':>9}{'repeats':>9}"]
        for o, p, u in zip(found.observations, found.predictions, found.used, strict=True):
            if u == used:
                off = p.captured_kpps / max(o.captured_kpps, LEAST_KPPS) - 1
                lines.append(
                    f"  {o.placement:<16}{o.offered_kpps:>10.1f}{o.captured_kpps:>10.1f}{p.captured_kpps:>10.1f}{off:>+9.1%}{o.spread_kpps / max(o.captured_kpps, LEAST_KPPS):>8.1%}"
                )
        errors = np.abs(found.errors(used))
        if len(errors):
            lines.append(
                f"  mean absolute error {errors.mean():.1%}, median {np.median(errors):.1%}, 90th percentile {np.percentile(errors, 90):.1%}"
            )
    return "\n".join(lines)
