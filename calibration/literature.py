"""Which numbers of the built-in parameter sets are fitted, to what, and the fit itself.

    python -m calibration.literature

Each fitted quantity has one row of published data that it alone is fitted to, by secant steps on the model. Prints the value that the set
has, the fitted one, and where it lies in its plausible range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import simnet

TOLERANCE = 0.0005
MOST_STEPS = 12


@dataclass(frozen=True)
class Fit:
    """One quantity, and the captured rate in kpps that it is fitted to."""

    quantity: str
    row: str
    kpps: float
    scenario: str
    settings: Mapping[str, Any]


FITS = (
    Fit("driver_cycles", "S03", 1571.4, "paper/bare-metal", {}),
    Fit(
        "libpcap_read_cycles",
        "A02 (60 B a frame)",
        1033.1,
        "ancs2011/appliance",
        {"capture.method": "pf_packet", "capture.monitor": "count"},
    ),
    Fit(
        "pfring_read_cycles",
        "A03",
        1112.7,
        "ancs2011/appliance",
        {"capture.method": "pf_ring", "capture.monitor": "count", "capture.transparent_mode": 0},
    ),
    Fit("insert_cycles", "A06", 828.0, "ancs2011/appliance", {"capture.monitor": "flow", "traffic.flows": "multi"}),
)


def captured_kpps(fit: Fit, cycles: float) -> float:
    """The model's rate with one quantity at a value."""
    scenario = simnet.load(fit.scenario, {**fit.settings, f"costs.{fit.quantity}": cycles})
    return simnet.run(scenario).captured.kpps.mean


def solve(fit: Fit, start: float, clock_ghz: float) -> tuple[float, float]:
    """The value at which the model meets the row, and the rate there.

    A step assumes that one core is the bottleneck, so that a cycle more a packet costs what the clock rate says.
    """
    cycles = start
    for _ in range(MOST_STEPS):
        rate = captured_kpps(fit, cycles)
        if abs(rate / fit.kpps - 1) < TOLERANCE:
            break
        cycles += clock_ghz * 1e6 / fit.kpps - clock_ghz * 1e6 / rate
    return cycles, rate


def main() -> None:
    """Repeat every fit and print it."""
    params = simnet.parameter_set("e5520-linux-3.2")
    print(f"{'quantity':<24}{'row':<22}{'measured kpps':>14}{'model kpps':>12}{'in the set':>12}{'fitted':>10}  range")
    for fit in FITS:
        quantity = params.quantity(fit.quantity)
        cycles, rate = solve(fit, quantity.value, params["clock_ghz"])
        inside = "" if quantity.low <= cycles <= quantity.high else "  OUTSIDE ITS RANGE"
        print(
            f"{fit.quantity:<24}{fit.row:<22}{fit.kpps:>14.1f}{rate:>12.1f}{quantity.value:>12.0f}{cycles:>10.1f}  {quantity.low:.0f}..{quantity.high:.0f}{inside}"
        )
    print("update_cycles is not identifiable from A05: the model is limited by the 1 GbE link there, whatever a known flow costs.")


if __name__ == "__main__":
    main()
