"""Fit costs to a record, with the simulator as the model, and say what the record cannot tell.

Least squares over logarithms of factors on costs of the prior set, with a weak pull towards 1 and common random numbers, from the best of several starts. Fitted is only to windows under light load and to those whose reader has a CPU
of its own; all others are held back and predicted. Residuals are logarithms of captured rates and differences of busy shares, each over its own uncertainty.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import permutations
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, least_squares

import simnet
from calibration.headlines import Headline, headlines
from calibration.observation import Modelled, Observation, Prediction, Wiring, predict
from simnet.errors import UserError

SCHEMA, PRIOR = "simnet-calibration/1", "lab-x86-64"
GROUPS: dict[str, tuple[str, ...]] = {
    "driver and skb": ("driver_cycles", "skb_cycles"),
    "stack": ("backlog_cycles", "stack_cycles", "packet_rcv_cycles", "ip_drop_cycles", "clone_cycles", "tpacket3_cycles"),
    "bridge and tap": ("bridge_cycles", "tap_xmit_cycles"),
    "recv call": ("recv_cycles",),
    "read of the tap": ("tap_read_cycles",),
    "wake-up": ("wake_up_cycles",),
    "telling an idle CPU": ("send_ipi_cycles",),
    "coming out of idle": ("c1_exit_us", "c3_exit_us", "c6_exit_us"),
    "going to sleep": ("poll_call_cycles", "context_switch_cycles"),
    "interrupt": ("device_interrupt_cycles", "reschedule_interrupt_cycles", "ipi_latency_us"),
}
"""Costs that are scaled together: a record of rates and shares does not tell their parts apart."""
PAID_BY: dict[str, tuple[str, ...]] = {
    "stack": ("recv", "tpacket_v3", "tap_reader", "tc_count"),
    "bridge and tap": ("tap_reader",),
    "recv call": ("recv",),
    "read of the tap": ("tap_reader",),
}
"""Methods that a group matters to, where it is not all."""
SUGGESTIONS = {
    "driver and skb": "methods tc_count and xdp_count with placement inline and time in softirqs (as lab/counters has them)",
    "stack": "methods recv and tc_count with placement inline, or recv with placement rps under light load, with time in softirqs (window.poll_trace_seconds above 0)",
    "bridge and tap": "method tap_reader with placement rps under light load, with time in softirqs",
    "recv call": "method recv with a CPU of its own (placement inline)",
    "read of the tap": "method tap_reader with a CPU of its own (placement inline)",
    "wake-up": "placement threaded at loads of a few kpps: the NAPI thread wakes the reader for every packet, on its own CPU",
    "telling an idle CPU": "loads of a few kpps with placement inline and with time in softirqs: the softirq wakes the reader for every packet",
    "coming out of idle": "loads of 10 to 100 kpps with placement inline: how many packets a wake-up finds",
    "going to sleep": "loads of a few kpps, where the reader sleeps before every packet",
    "interrupt": "placement rps at loads just below the one where packets get lost: there interrupts meet a running reader",
}
LAB = Wiring(PRIOR, SUGGESTIONS)
BOUND = np.log(20.0)
LEAST_SPREAD, LEAST_KPPS = 0.02, 0.05
BUSY_ERROR, BUSY_SHARE = 0.02, 0.1
"""Uncertainty of a share of a CPU: absolute, or relative if that is more; a shared machine's speed drifts by more than that."""
OF_MEDIAN = 0.4
"""Standard error of the median of five repetitions, as a share of half their range (normal scatter)."""
STARTS = (-np.log(2.0), 0.0, np.log(2.0), np.log(4.0))
"""All factors alike, or those of the process unlike the others: which of both waits for the other decides how windows look. A descent is made from the best of the first kind, and of the second if the first leaves more than scatter."""
OF_THE_PROCESS = ("recv call", "read of the tap", "going to sleep")
PRIOR_SPREAD = np.log(4.0)
"""How far a factor may well be from 1: what the record does not say stays near the prior, and factors that only their sum is known of move alike."""
STEP = 0.2
"""Of the slopes: small steps see the kinks where a reader just stops to sleep, not the slope."""
UNKNOWN = np.log(1.6)
"""A parameter whose 95 % interval is wider than this factor either way is not identified."""
ALIKE = 0.95
"""Correlation from which two parameters are not told apart."""
FACTS = {"kernel": "host.kernel", "nic": "host.nic.model"}
"""What a parameter set says of its host, and the fields of a scenario that say it, too."""
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
    prior: str = PRIOR
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
        return report_text(self)

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


def costs_of(factors: Mapping[str, float], prior: str = PRIOR) -> dict[str, float]:
    """Quantities of the prior set, scaled by group."""
    costs = simnet.parameter_set(prior)
    return {name: costs[name] * factor for group, factor in factors.items() for name in GROUPS[group]}


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


def fit(observations: Sequence[Observation], wiring: Wiring = LAB, workers: int | None = None) -> Fit:
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
    parameters, correlation = _judge(best.x, np.asarray(best.jac)[:measured], cost, wiring.suggestions)
    return Fit(parameters, correlation, tuple(observations), used, predictions, cost, wiring.prior)


def _judge(
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


def parameter_set_yaml(found: Fit, name: str) -> str:
    """The calibrated set as a file that `parameters:` of a scenario may name; kernel and NIC are the host's, if they are known.

    In it is what the record says more about than the prior does (`Parameter.is_informed`), identified or not: what several costs come to may be known well, and is lost if one of them keeps its prior.

    Raises
    ------
    UserError
        If none is identified.
    """
    if not any(parameter.verdict.startswith(IDENTIFIED) for parameter in found.parameters):
        raise UserError(
            "no cost is identified by this record, so there is no parameter set to write; the report says what to measure"
        )
    prior = simnet.parameter_set(found.prior)
    lines = [f"name: {name}", f"title: {prior.title.split(' (')[0]}, calibrated", f"based_on: {found.prior}"]
    settings = found.observations[0].settings if found.model is None else found.model.settings
    facts = [f'  {fact}: "{settings[field]}"' for fact, field in FACTS.items() if field in settings]
    lines += [*(["host:"] if facts else []), *facts, "quantities:", "  calibrated:"]
    for parameter in found.parameters:
        if not parameter.is_informed:
            continue
        sure = parameter.verdict.startswith(IDENTIFIED)
        known = parameter.verdict.removeprefix(IDENTIFIED).split(";")[0] if sure else ", not identified"
        for quantity in GROUPS[parameter.name]:
            value = prior[quantity]
            lines.append(
                f"    {quantity}: {{value: {value * parameter.factor:.6g}, low: {value * parameter.low:.6g}, high: {value * parameter.high:.6g}, "
                f'unit: {prior.quantity(quantity).unit}, kind: calibrated, source: "{found.source}; {parameter.factor:.3g} times the prior, with {parameter.name}{known}"}}'
            )
    return "\n".join(lines) + "\n"


def _line(o: Observation, p: Prediction) -> str:
    """One row of the report's tables."""
    off = p.captured_kpps / max(o.captured_kpps, LEAST_KPPS) - 1
    cells = f"{o.offered_kpps:>10.1f}{o.captured_kpps:>10.1f}{p.captured_kpps:>10.1f}{off:>+9.1%}{o.spread_kpps / max(o.captured_kpps, LEAST_KPPS):>9.1%}"
    for share, model in ((o.busy, p.busy), (o.softirq, p.softirq)):
        cells += " " * 18 if share is None else f"{share:>10.1%}{model:>8.1%}"
    return f"  {o.method:<12}{o.placement:<12}{cells}"


def report_text(found: Fit) -> str:
    """Tables for people: parameters, then predictions of what was held back and of what was used."""
    lines = [] if found.model is None else [found.model.report(), ""]
    lines.append("Parameters (factors on the costs of the prior set, 95 % intervals)")
    for each in found.parameters:
        lines.append(f"  {each.name:<16}{each.factor:>8.3g}  {each.low:.3g} to {each.high:.3g}   {each.verdict}")
    lines += ["", "Load curves", f"  {'method':<12}{'placement':<12}{'':<12}{'measured':>10}{'model':>10}{'off':>9}{'allowed':>9}"]
    for row in found.headlines():
        off, within = (f"{row.off:+.1%}", f"{row.within:.0%}") if row.within is not None else ("", "")
        cells = f"{row.measured:>10.1f}{row.model:>10.1f}{off:>9}{within:>9}  {row.unit}"
        lines.append(f"  {row.method:<12}{row.placement:<12}{row.what:<12}{cells}{'' if row.holds else ', missed'}")
    head = f"  {'method':<12}{'placement':<12}{'offered':>10}{'measured':>10}{'model':>10}{'off':>9}{'repeats':>9}{'busy':>10}{'model':>8}{'softirq':>10}{'model':>8}"
    for used, title in (
        (False, "Held back and predicted"),
        (True, "Used for the fit (light load, or the reader on a CPU of its own)"),
    ):
        rows = zip(found.observations, found.predictions, found.used, strict=True)
        lines += ["", title, head, *(_line(o, p) for o, p, u in rows if u == used)]
        errors = found.errors(used)
        if len(errors):
            size = np.abs(errors)
            lines.append(
                f"  error: mean {errors.mean():+.1%}, absolute mean {size.mean():.1%}, median {np.median(size):.1%}, 90th percentile {np.percentile(size, 90):.1%}"
            )
    return "\n".join(lines)
