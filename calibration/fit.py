"""Fit costs to a record, with the simulator as the model, and say what the record cannot tell.

Least squares over logarithms of factors on costs of the prior set, with a weak pull towards 1 and common random numbers, from the best of several starts. Fitted is only to windows under light load and to those whose reader has a CPU
of its own; all others are held back and predicted. Residuals are logarithms of captured rates and differences of busy shares, each over its own uncertainty.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import permutations
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, least_squares

from calibration.cost_groups import GROUPS, PAID_BY, costs_of
from calibration.headlines import Headline, headlines
from calibration.identification import BOUND, PRIOR_SPREAD, Parameter, judge
from calibration.observation import Modelled, Observation, Prediction, Wiring, predict

SCHEMA = "simnet-calibration/1"
LEAST_SPREAD, LEAST_KPPS = 0.02, 0.05
BUSY_ERROR, BUSY_SHARE = 0.02, 0.1
"""Uncertainty of a share of a CPU: absolute, or relative if that is more; a shared machine's speed drifts by more than that."""
OF_MEDIAN = 0.4
"""Standard error of the median of five repetitions, as a share of half their range (normal scatter)."""
STARTS = (-np.log(2.0), 0.0, np.log(2.0), np.log(4.0))
"""All factors alike, or those of the process unlike the others: which of both waits for the other decides how windows look. A descent is made from the best of the first kind, and of the second if the first leaves more than scatter."""
OF_THE_PROCESS = ("recv call", "read of the tap", "going to sleep")
STEP = 0.2
"""Of the slopes: small steps see the kinks where a reader just stops to sleep, not the slope."""


@dataclass(frozen=True)
class Fit:
    """A calibration: parameters, and for every observation whether it was used and what the model says now.

    `prior` is the parameter set that was scaled, `source` names the record, `model` is the scenario that the record makes of its host.
    """

    parameters: tuple[Parameter, ...]
    correlation: NDArray[np.float64]
    observations: tuple[Observation, ...]
    used: tuple[bool, ...]
    predictions: tuple[Prediction, ...]
    cost: float
    prior: str
    source: str = "measurements"
    model: Modelled | None = None

    def as_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        rows = zip(self.observations, self.predictions, self.used, strict=True)
        return {
            "schema": SCHEMA,
            "prior": self.prior,
            "model": None if self.model is None else self.model.as_json(),
            "parameters": [parameter.as_json() for parameter in self.parameters],
            "correlation": self.correlation.tolist(),
            "headlines": [headline.as_json() for headline in self.headlines()],
            "windows": [
                {
                    "method": o.method,
                    "placement": o.placement,
                    "used": used,
                    "offered_kpps": o.offered_kpps,
                    "captured_kpps": o.captured_kpps,
                    "spread_kpps": o.spread_kpps,
                    "busy": o.busy,
                    "model_kpps": p.captured_kpps,
                    "model_busy": p.busy,
                    "softirq": o.softirq,
                    "model_softirq": p.softirq,
                }
                for o, p, used in rows
            ],
        }

    def report(self) -> str:
        """Tables for people."""
        lines = [] if self.model is None else [self.model.report(), ""]
        lines.append("Parameters (factors on the costs of the prior set, 95 % intervals)")
        for each in self.parameters:
            lines.append(f"  {each.name:<16}{each.factor:>8.3g}  {each.low:.3g} to {each.high:.3g}   {each.verdict}")
        lines += [
            "",
            "Load curves",
            f"  {'method':<12}{'placement':<12}{'':<12}{'measured':>10}{'model':>10}{'off':>9}{'allowed':>9}",
        ]
        for row in self.headlines():
            off, within = (f"{row.off:+.1%}", f"{row.within:.0%}") if row.within is not None else ("", "")
            cells = f"{row.measured:>10.1f}{row.model:>10.1f}{off:>9}{within:>9}  {row.unit}"
            lines.append(f"  {row.method:<12}{row.placement:<12}{row.what:<12}{cells}{'' if row.holds else ', missed'}")
        head = f"  {'method':<12}{'placement':<12}{'offered':>10}{'measured':>10}{'model':>10}{'off':>9}{'repeats':>9}{'busy':>10}{'model':>8}{'softirq':>10}{'model':>8}"
        for used, title in (
            (False, "Held back and predicted"),
            (True, "Used for the fit (light load, or the reader on a CPU of its own)"),
        ):
            rows = zip(self.observations, self.predictions, self.used, strict=True)
            lines += ["", title, head, *(_line(o, p) for o, p, u in rows if u == used)]
            errors = self.errors(used)
            if len(errors):
                size = np.abs(errors)
                lines.append(
                    f"  error: mean {errors.mean():+.1%}, absolute mean {size.mean():.1%}, median {np.median(size):.1%}, 90th percentile {np.percentile(size, 90):.1%}"
                )
        return "\n".join(lines)

    def costs(self) -> dict[str, float]:
        """Fitted quantities by name."""
        return costs_of({parameter.name: parameter.factor for parameter in self.parameters}, self.prior)

    def headlines(self) -> list[Headline]:
        """What the load curves come to."""
        return headlines(self.observations, self.predictions)

    def errors(self, used: bool) -> NDArray[np.float64]:
        """Signed relative errors of the captured rates that were used, or held back."""
        pairs = zip(self.observations, self.predictions, self.used, strict=True)
        return np.array([p.captured_kpps / max(o.captured_kpps, LEAST_KPPS) - 1 for o, p, u in pairs if u == used])


def _line(o: Observation, p: Prediction) -> str:
    """One row of the report's tables."""
    off = p.captured_kpps / max(o.captured_kpps, LEAST_KPPS) - 1
    cells = f"{o.offered_kpps:>10.1f}{o.captured_kpps:>10.1f}{p.captured_kpps:>10.1f}{off:>+9.1%}{o.spread_kpps / max(o.captured_kpps, LEAST_KPPS):>9.1%}"
    for share, model in ((o.busy, p.busy), (o.softirq, p.softirq)):
        cells += " " * 18 if share is None else f"{share:>10.1%}{model:>8.1%}"
    return f"  {o.method:<12}{o.placement:<12}{cells}"


def _paid_in(observation: Observation) -> list[str]:
    """Groups of costs that an observation depends on: nothing else needs another run."""
    elsewhere = "driver and skb" if observation.by_backlog else "" if observation.by_interrupt else "interrupt"
    return [name for name in GROUPS if name != elsewhere and observation.method in PAID_BY.get(name, (observation.method,))]


def _residuals(observation: Observation, prediction: Prediction) -> list[float]:
    measured, model = max(observation.captured_kpps, LEAST_KPPS), max(prediction.captured_kpps, LEAST_KPPS)
    spread = max(OF_MEDIAN * observation.spread_kpps / measured, LEAST_SPREAD)
    found = [float(np.log(model / measured)) / spread]
    for share, predicted in ((observation.busy, prediction.busy), (observation.softirq, prediction.softirq)):
        if share is not None and predicted is not None:
            found.append((predicted - share) / max(BUSY_ERROR, BUSY_SHARE * share))
    return found


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def fit(observations: Sequence[Observation], wiring: Wiring, workers: int | None = None) -> Fit:
    """Fit the factors.

    Parameters
    ----------
    observations
        See `calibration.lab_model.observations` and `calibration.link_model.observations`.
    wiring
        Prior set and groups of costs that are paid.
    workers
        Processes (one a CPU if not given): most of a run this short is Python, and threads would wait for each other. Does not change the result.
    """
    names = [name for name in GROUPS if name in wiring.suggestions]
    used = tuple(o.is_simple for o in observations)
    training = [o for o, u in zip(observations, used, strict=True) if u]
    known: dict[tuple[Any, ...], Prediction] = {}
    with ProcessPoolExecutor(workers or os.cpu_count(), get_context("spawn"), _leave_interrupts_to_the_parent) as pool:

        def learn(points: Sequence[NDArray[np.float64]], of: Sequence[Observation]) -> list[list[tuple[Any, ...]]]:
            """Run what is not known at some points, all at once; the keys of what is known then, by point."""
            keys, missing = [], dict[tuple[Any, ...], dict[str, float]]()
            for logs in points:
                factors = dict(zip(names, np.exp(logs).tolist(), strict=True))
                costs = costs_of(factors, wiring.prior)
                keys.append([(o, *(factors[name] for name in _paid_in(o) if name in factors)) for o in of])
                missing |= {key: costs for key in keys[-1] if key not in known and key not in missing}
            known.update(zip(missing, pool.map(predict, [key[0] for key in missing], missing.values()), strict=True))
            return keys

        def model(logs: NDArray[np.float64], of: Sequence[Observation]) -> list[Prediction]:
            (keys,) = learn([logs], of)
            return [known[key] for key in keys]

        def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
            pairs = zip(training, model(logs, training), strict=True)
            return np.array(
                [*(r for observation, prediction in pairs for r in _residuals(observation, prediction)), *logs / PRIOR_SPREAD]
            )

        def slopes(logs: NDArray[np.float64]) -> NDArray[np.float64]:
            """Differences over steps that a discrete-event model notices."""
            steps = np.eye(len(logs)) * STEP
            learn([logs, *(logs + step for step in steps)], training)
            return np.array([(residuals(logs + step) - residuals(logs)) / STEP for step in steps]).T

        def descent(starts: Sequence[NDArray[np.float64]]) -> OptimizeResult:
            """From the best of some starts."""
            learn(starts, training)
            start = min(starts, key=lambda logs: float(residuals(logs) @ residuals(logs)))
            return least_squares(
                residuals, start, jac=slopes, bounds=(-BOUND, BOUND), x_scale="jac", xtol=1e-3, ftol=1e-3, max_nfev=12
            )

        alike = [np.full(len(names), start) for start in STARTS]
        unlike = [np.where(np.isin(names, OF_THE_PROCESS), own, others) for own, others in permutations(STARTS, 2)]
        best = descent(alike)
        if 2 * best.cost > len(best.fun) - len(names):  # more than scatter is left: the valley may be the wrong one
            best = min(best, descent(unlike), key=lambda solution: float(solution.cost))
        predictions = tuple(model(best.x, observations))
    measured = len(best.fun) - len(names)
    cost = float(best.fun[:measured] @ best.fun[:measured]) / 2
    parameters, correlation = judge(best.x, np.asarray(best.jac)[:measured], cost, wiring.suggestions)
    return Fit(parameters, correlation, tuple(observations), used, predictions, cost, wiring.prior)
