"""A guest under QEMU without KVM: the interrupts it takes a packet, fitted at two loads and predicted at all others.

The model is `lab/qemu-tcg`. A cycle of QEMU's main loop and of the guest's vCPU, which take turns on one CPU, has a part that every interrupt pays and one that every packet pays.
Two loads that the guest keeps up with tell the two apart, by interrupts a packet and by the main loop's share of the CPU: the factor of the vCPU goes into both parts, that of the main loop's system calls and of thread switches only into the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

import simnet
from calibration.cost_groups import costs_of
from calibration.observation import QUICK, of_the_kernel, ran_share
from simnet.errors import UserError

if TYPE_CHECKING:
    from calibration.record import Record

SCHEMA, SCENARIO, PRIOR = "simnet-guest-calibration/1", "lab/qemu-tcg", "lab-x86-64"
GROUPS: dict[str, tuple[str, ...]] = {
    "vCPU": ("tcg_slowdown", "tcg_access_cycles", "tcg_halt_cycles"),
    "turn of the main loop": ("select_cycles", "inject_cycles", "futex_cycles", "context_switch_cycles", "wake_up_cycles"),
}
"""What is scaled together: all that TCG makes of the guest, and what QEMU's main loop does a turn, whatever the number of packets."""
TARGET = 0.25
"""Largest error of a prediction that passes."""
LIGHT = 0.99
"""Share of the offered packets that is captured where the guest keeps up."""
BOUND, STEP = np.log(30.0), 0.1
STARTS = ((0.0, 0.0), (0.0, np.log(4.0)), (np.log(0.5), np.log(2.0)))
LEAST_INTERRUPTS = 1e-4
"""Least interrupts a packet that are told from none."""


@dataclass(frozen=True)
class GuestWindows:
    """Windows of one load, repetitions together: medians, and half the range of the interrupts a packet. `main_loop`: share of its CPU that QEMU's main loop had."""

    offered_kpps: float
    captured_kpps: float
    interrupts: float
    spread: float
    main_loop: float
    settings: Mapping[str, Any]

    @property
    def keeps_up(self) -> bool:
        """Is next to everything captured?"""
        return self.captured_kpps >= LIGHT * self.offered_kpps


@dataclass(frozen=True)
class GuestPrediction:
    """What the model says about a load; see `GuestWindows`."""

    captured_kpps: float
    interrupts: float
    main_loop: float


@dataclass(frozen=True)
class GuestFit:
    """Factors by group, and for every load whether it was fitted and what the model says."""

    factors: Mapping[str, float]
    windows: tuple[GuestWindows, ...]
    fitted: tuple[bool, ...]
    predictions: tuple[GuestPrediction, ...]

    def errors(self, fitted: bool) -> NDArray[np.float64]:
        """Signed relative errors of the interrupts a packet at the loads that were fitted, or predicted."""
        rows = zip(self.windows, self.predictions, self.fitted, strict=True)
        return np.array([p.interrupts / w.interrupts - 1 for w, p, used in rows if used == fitted])

    def saturation_kpps(self) -> float:
        """The least offered load that the guest did not keep up with; infinite if there is none."""
        return min((w.offered_kpps for w in self.windows if not w.keeps_up), default=np.inf)

    def report(self) -> str:
        """A table for people."""
        lines = ["Factors on the costs of the prior set"]
        lines += [f"  {name:<24}{factor:>8.3g}" for name, factor in self.factors.items()]
        lines += ["", "Interrupts of the guest for each captured packet"]
        lines.append(
            f"  {'offered':>8}{'measured':>10}{'repeats':>9}{'model':>9}{'off':>8}{'captured':>10}{'model':>8}{'main loop':>11}{'model':>8}"
        )
        limit = self.saturation_kpps()
        for w, p, used in zip(self.windows, self.predictions, self.fitted, strict=True):
            off = p.interrupts / w.interrupts - 1
            marks = ["fitted"] * used + ["saturated"] * (w.offered_kpps >= limit)
            if not used and abs(off) > TARGET:
                within = abs(p.interrupts - w.interrupts) <= 2 * w.spread
                marks.append(f"beyond {TARGET:.0%}" + ", within twice what the repetitions are apart" * within)
            lines.append(
                f"  {w.offered_kpps:>8.1f}{w.interrupts:>10.3f}{w.spread:>9.3f}{p.interrupts:>9.3f}{off:>+8.0%}{w.captured_kpps:>10.1f}{p.captured_kpps:>8.1f}"
                f"{w.main_loop:>11.1%}{p.main_loop:>8.1%}  {', '.join(marks)}".rstrip()
            )
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        rows = zip(self.windows, self.predictions, self.fitted, strict=True)
        return {
            "schema": SCHEMA,
            "prior": PRIOR,
            "scenario": SCENARIO,
            "factors": dict(self.factors),
            "costs": costs_of(self.factors, PRIOR, GROUPS),
            "windows": [
                {
                    "offered_kpps": w.offered_kpps,
                    "fitted": used,
                    "keeps_up": w.keeps_up,
                    "interrupts_per_packet": w.interrupts,
                    "spread": w.spread,
                    "model_interrupts_per_packet": p.interrupts,
                    "captured_kpps": w.captured_kpps,
                    "main_loop": w.main_loop,
                    "model_main_loop": p.main_loop,
                    "model_kpps": p.captured_kpps,
                }
                for w, p, used in rows
            ],
        }


def guest_windows(record: Record) -> list[GuestWindows]:
    """What a record says about guests, by load; rejected windows do not count.

    Raises
    ------
    UserError
        If it has guests in more than one placement or frame size, which one curve cannot show.
    """
    good = record.good
    good = good[good["method"] == "guest"]
    if len(good.groupby(["placement", "frame_bytes"])) > 1:
        raise UserError("a guest is fitted in one placement and with one frame size: the record has several")
    found = []
    for _, windows in good.groupby("target_kpps"):
        placement = record.about["campaign"]["placements"][str(windows["placement"].iloc[0])]
        offered, captured = (float((windows[name] / windows["seconds"] / 1000).median()) for name in ("offered", "captured"))
        interrupts = (windows["guest_interrupts"] / windows["captured"]).to_numpy(dtype=np.float64)
        settings: dict[str, Any] = {
            "traffic.offered_kpps": round(offered, 3),
            "traffic.frame_bytes": int(windows["frame_bytes"].iloc[0]),
            "host.nic.irq_cpus": placement["load_cpu"],
            "guest.vcpus": [placement["reader_cpu"]],
            "guest.io_cpus": placement["reader_cpu"],
            **of_the_kernel(record.host),
        }
        spread = float(np.ptp(interrupts)) / 2
        main_loop = float((windows["reader_ran_s"] / windows["seconds"]).median())
        found.append(
            GuestWindows(offered, captured, max(float(np.median(interrupts)), LEAST_INTERRUPTS), spread, main_loop, settings)
        )
    return sorted(found, key=lambda w: w.offered_kpps)


def predict_guest(settings: Mapping[str, Any], costs: Mapping[str, float]) -> GuestPrediction:
    """Run the model at one load with some costs (quantities of the parameter set by name)."""
    changed = {**QUICK, **settings, **{f"costs.{name}": value for name, value in costs.items()}}
    result = simnet.run(simnet.load(SCENARIO, changed), workers=1)
    captured = result.captured.kpps.mean
    return GuestPrediction(captured, float(result.rates["guest_interrupts"]) / max(captured * 1000, 1e-9), ran_share(result))


def informative(windows: Sequence[GuestWindows]) -> tuple[int, int]:
    """Numbers of the two loads to fit: of those that the guest keeps up with (`LIGHT`) the middle one and the greatest.

    Raises
    ------
    UserError
        If it keeps up with fewer than two.
    """
    found = [i for i, w in enumerate(windows) if w.keeps_up]
    if len(found) < 2:
        raise UserError(f"a guest is fitted to two loads of which it captures {LIGHT:.0%}: the record has {len(found)}")
    return found[(len(found) - 1) // 2], found[-1]


def fit_guest(windows: Sequence[GuestWindows], fitted: tuple[int, int] | None = None, workers: int | None = None) -> GuestFit:
    """Fit the two factors to two loads and predict all others.

    Parameters
    ----------
    windows
        See `guest_windows`.
    fitted
        Numbers of the loads to fit; see `informative` for those taken otherwise.
    workers
        Threads; does not change the result.
    """
    chosen = informative(windows) if fitted is None else fitted
    with ThreadPoolExecutor(workers) as pool:

        def model(logs: NDArray[np.float64], of: Sequence[GuestWindows]) -> list[GuestPrediction]:
            costs = costs_of(dict(zip(GROUPS, np.exp(logs).tolist(), strict=True)), PRIOR, GROUPS)
            return list(pool.map(lambda w: predict_guest(w.settings, costs), of))

        def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
            training = [windows[i] for i in chosen]
            found = []
            for w, p in zip(training, model(logs, training), strict=True):
                found.append(np.log(max(p.interrupts, LEAST_INTERRUPTS) / w.interrupts))
                found.append(np.log(max(p.captured_kpps, LEAST_INTERRUPTS) / w.captured_kpps))
                found.append(np.log(max(p.main_loop, LEAST_INTERRUPTS) / w.main_loop))
            return np.array(found)

        def slopes(logs: NDArray[np.float64]) -> NDArray[np.float64]:
            """Central differences over steps that a discrete-event model notices."""
            steps = np.eye(len(logs)) * STEP
            return np.array([(residuals(logs + step) - residuals(logs - step)) / (2 * STEP) for step in steps]).T

        solutions = [
            least_squares(residuals, np.array(start), jac=slopes, bounds=(-BOUND, BOUND), xtol=1e-3, ftol=1e-4, max_nfev=15)
            for start in STARTS
        ]
        best = min(solutions, key=lambda solution: float(solution.cost))
        predictions = tuple(model(best.x, windows))
    factors = dict(zip(GROUPS, np.exp(best.x).tolist(), strict=True))
    return GuestFit(factors, tuple(windows), tuple(i in chosen for i in range(len(windows))), predictions)
