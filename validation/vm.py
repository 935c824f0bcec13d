"""The virtual-machine rows of ICCCN 2012, and how much the answer depends on what nobody wrote down.

The placement is the built-in scenario's hypothesis. What is not known is shown, not averaged: structural unknowns as variants side by side, costs as a band over
their ranges (Latin hypercube), where the I/O thread sits as a spread between boots. One cost is fitted, at 64 B with the kernel module (F37): what the I/O thread does for a packet,
its four parts (select, read, push, inject) each at the same share of its range. The built-in scenario carries the fit; everything else is at the middle of its range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import qmc

import simnet
from validation.cells import Question
from validation.claims import NOT_REPRODUCED, REPRODUCED, Row, Verdict
from validation.paper import METHODS, SIZES, Cell, all_cells, holds

PRECISION = 0.01
QUICK = {"measure.precision": 0.05, "measure.replications": 2, "measure.limit_s": 0.5}
COSTS = (
    "bridge_cycles",
    "tap_xmit_cycles",
    "net_tx_cycles",
    "select_cycles",
    "tap_read_cycles",
    "qemu_push_cycles",
    "futex_cycles",
    "inject_cycles",
    "exit_cycles",
    "apic_exit_cycles",
    "user_exit_cycles",
    "virtio_driver_cycles",
    "context_switch_cycles",
    "wake_up_cycles",
)
"""Costs of the way into the guest that are known only as ranges."""
DRAWS = 40
IO_THREAD_COSTS = ("select_cycles", "tap_read_cycles", "qemu_push_cycles", "inject_cycles")
FIT_SHARES, CENTRE = tuple(i / 8 for i in range(9)), 0.5
FITTED_KPPS = 67.1
"""F37: Figure 7 of the paper, the mean at 64 B."""
BOOTS = 5
ROWS = ("S14", "S15", "S16a", "S16b", "S16c", "S17", "S18", "S19", "S20", "S21", "F37", "F38", "F39")

Results = Mapping[Any, simnet.Result]


@dataclass(frozen=True)
class Variant:
    """One way in which the host may have been set up, or a mechanism taken away."""

    name: str
    settings: Mapping[str, Any]


VARIANTS = (
    Variant("as built in: kvm-83, one read a select, I/O thread on a core of its own", {}),
    Variant("drains the tap under the mutex", {"guest.reads": "drain"}),
    Variant("qemu-kvm-0.12 (MSI-X), one read a select", {"guest.backend": "qemu-kvm-0.12"}),
    Variant("qemu-kvm-0.12 (MSI-X), drains", {"guest.backend": "qemu-kvm-0.12", "guest.reads": "drain"}),
    Variant("guest clock acpi_pm: an exit to QEMU a time stamp", {"guest.clock": "acpi_pm"}),
    Variant("I/O thread on the other socket (cpu0)", {"guest.io_cpus": 0}),
    Variant("I/O thread on the vCPU's core (cpu5)", {"guest.io_cpus": 5}),
    Variant("I/O thread on the interrupts' core (cpu7)", {"guest.io_cpus": 7}),
    Variant("host HZ 100", {"host.hz": 100}),
    Variant("process on a vCPU of its own", {"capture.cpu": 1}),
    Variant("without the tap's stop and wake (IFF_ONE_QUEUE)", {"guest.one_queue": True}),
    Variant("task switches free", {"costs.context_switch_cycles": 0}),
    Variant("wake-ups free", {"costs.wake_up_cycles": 0}),
    Variant("EOI and APIC exits free", {"costs.apic_exit_cycles": 0}),
    Variant("exits to QEMU as cheap as others", {"costs.user_exit_cycles": 3971}),
    Variant("no C-states", {"host.c_states": False}),
    Variant(
        "sleep states end as late as their tables allow", {"costs.c1_exit_us": 3, "costs.c3_exit_us": 20, "costs.c6_exit_us": 200}
    ),
)
BRIDGE = (500, 650, 800, 1000, 1200)
RULES = ("3.2", "3.2-deferred")
LOADS = (5, 10, 20, 40, 60, 80, 120, 500)


def vm_question(cell: Cell, **settings: Any) -> Question:
    """The built-in scenario with the factors of a cell."""
    method, monitor, flows, size = cell
    factors = {"capture.method": method, "capture.monitor": monitor, "traffic.flows": flows, "traffic.frame_bytes": size}
    return "paper/vm", {**factors, "measure.precision": PRECISION, **settings}


def within_range(name: str, share: float) -> float:
    """A cost at a share of its range: 0 its low end, 1 its high one."""
    quantity = simnet.parameter_set("e5520-linux-3.2").quantity(name)
    return quantity.low + share * (quantity.high - quantity.low)


def io_thread_costs(share: float) -> dict[str, float]:
    """Settings that put what the I/O thread does for a packet at a share of its range."""
    return {f"costs.{name}": within_range(name, share) for name in IO_THREAD_COSTS}


def vm_questions() -> dict[tuple[Any, ...], Question]:
    """All runs but the sample of costs."""
    base: Cell = ("kernel_module", "null", "single", 64)
    questions: dict[tuple[Any, ...], Question] = {("vm", *cell): vm_question(cell) for cell in all_cells()}
    for variant in VARIANTS:
        for method, size in (*((METHODS[0], size) for size in SIZES), ("pf_packet", 64)):
            cell: Cell = (method, "null", "single", size)
            questions["variant", variant.name, method, size] = vm_question(cell, **QUICK, **variant.settings)
        questions["variant", variant.name, "centre"] = vm_question(base, **QUICK, **io_thread_costs(CENTRE), **variant.settings)
    for rule in RULES:
        for bridge in BRIDGE:
            settings = {"host.kernel": rule, "costs.bridge_cycles": bridge, **QUICK}
            questions["shared", rule, bridge] = ("paper/vm-shared-core", settings)
            questions["separate", rule, bridge] = vm_question(base, **settings)
    boots = {"guest.io_cpus": list(range(8)), "measure.replications": BOOTS, "measure.precision": 1.0, "measure.limit_s": 2.0}
    questions["boots",] = vm_question(base, **boots)
    for load in LOADS:
        questions["load", load] = vm_question(base, **QUICK, **{"traffic.source": "poisson", "traffic.offered_kpps": load})
    return questions | _cost_questions(base)


def _cost_questions(base: Cell) -> dict[tuple[Any, ...], Question]:
    """A Latin hypercube over the ranges of the costs, and steps of the one that may be fitted."""
    sample = qmc.LatinHypercube(len(COSTS), rng=np.random.default_rng(1)).random(DRAWS)
    questions: dict[tuple[Any, ...], Question] = {}
    for i, point in enumerate(sample):
        costs = {f"costs.{name}": within_range(name, float(share)) for name, share in zip(COSTS, point, strict=True)}
        questions["draw", i] = vm_question(base, **QUICK, **costs)
    for share in FIT_SHARES:
        for method in METHODS[:2]:
            questions["fit", method, share] = vm_question((method, *base[1:]), **QUICK, **io_thread_costs(share))
    for size in SIZES:
        questions["centre", size] = vm_question((*base[:3], size), **QUICK, **io_thread_costs(CENTRE))
    return questions


def guest_cells(results: Results) -> dict[Cell, simnet.Result]:
    """The 36 cells of the factorial design."""
    return {cell: results["vm", *cell] for cell in all_cells()}


def kpps(results: Results, *key: Any) -> float:
    """Captured rate of a run."""
    return results[key].captured.kpps.mean


def _of_size(results: Results, size: int) -> list[float]:
    return [kpps(results, "vm", *cell) for cell in all_cells() if cell[3] == size]


def differ(results: Results, size: int) -> list[str]:
    """Pairs of settings of one size whose 95 % intervals do not overlap: the paper's test of significance."""
    cells = [cell for cell in all_cells() if cell[3] == size]
    found = []
    for i, one in enumerate(cells):
        for other in cells[i + 1 :]:
            a, b = results["vm", *one].captured.kpps, results["vm", *other].captured.kpps
            if abs(a.mean - b.mean) > (a.ci95 or 0.0) + (b.ci95 or 0.0):
                found.append(f"{'/'.join(map(str, one[:3]))} and {'/'.join(map(str, other[:3]))}")
    return found


def _rates(row: Row, results: Results) -> Verdict | None:
    """Rows with a rate."""
    sizes = {"S16a": 64, "S16b": 256, "S16c": 1518, "F37": 64, "F38": 256, "F39": 1518}
    if row.id in sizes:
        found = _of_size(results, sizes[row.id])
        mean = sum(found) / len(found)
        assert row.kpps is not None
        verdict = REPRODUCED if abs(mean / row.kpps - 1) <= row.share() else NOT_REPRODUCED
        return Verdict(row, verdict, mean, None, f"mean of 12 settings, {min(found):.1f} to {max(found):.1f} kpps")
    if row.id == "S14":
        result = results["vm", "pf_ring", "null", "single", 1518]
        mbps = result.captured.mbps_wire.mean
        return holds(row, 460 <= mbps <= 2152, f"{mbps:.0f} Mbit/s; the paper's interval is 460 to 2152")
    if row.id == "S18":
        rates = [results["vm", *cell].captured.mbps_wire.mean for cell in all_cells() if cell[3] == 1518]
        return holds(
            row, 316 <= sum(rates) / len(rates) <= 3162, f"mean of 12 settings at 1518 B: {sum(rates) / len(rates):.0f} Mbit/s"
        )
    if row.id == "S21":
        most = max(results["vm", *cell].captured.mbps_wire.mean for cell in all_cells())
        return holds(row, most < 1400, f"at most {most:.0f} Mbit/s")
    return None


def _comparisons(row: Row, results: Results) -> Verdict | None:
    """Rows that compare settings."""
    if row.id == "S15":
        pairs = {size: differ(results, size) for size in SIZES}
        text = ", ".join(f"{len(found)} of 66 pairs differ at {size} B" for size, found in pairs.items())
        return holds(row, not any(pairs.values()), f"by non-overlapping 95 % intervals, within one placement: {text}")
    if row.id == "S17":
        ratios = [
            max(kpps(results, "vm", *cell[:3], size) for size in SIZES)
            / min(kpps(results, "vm", *cell[:3], size) for size in SIZES)
            for cell in all_cells()
            if cell[3] == 64
        ]
        return holds(row, max(ratios) <= 1.15, f"largest over smallest size at most {max(ratios):.3f} in every setting")
    if row.id in ("S19", "S20"):
        shared = {key[1:]: kpps(results, *key) for key in results if key[0] == "shared"}
        gains = [kpps(results, "separate", *key) / rate for key, rate in shared.items()]
        text = f"{min(shared.values()):.1f} to {max(shared.values()):.1f} kpps over bridge cost and rule set; separate cores are {min(gains):.1f} to {max(gains):.1f} times faster"
        within = any(7.45 <= rate <= 29.8 for rate in shared.values())
        return holds(row, within if row.id == "S19" else max(gains) >= 3, text)
    return None


def vm_verdict(row: Row, results: Results) -> Verdict | None:
    """The verdict on a row about the guest; None for other rows."""
    return (_rates(row, results) or _comparisons(row, results)) if row.id in ROWS else None


def variants_table(results: Results) -> str:
    """Structural unknowns and ablations side by side."""
    heads = [*(f"{size} B" for size in SIZES), "PF_PACKET 64 B", "64 B, centre"]
    lines = [
        "What nobody wrote down, and what each mechanism costs: captured kpps (kernel module, null, single; centre: with no cost fitted)",
        f"  {'':<76}" + "".join(f"{head:>16}" for head in heads),
    ]
    for variant in VARIANTS:
        row = [kpps(results, "variant", variant.name, METHODS[0], size) for size in SIZES]
        row += [kpps(results, "variant", variant.name, "pf_packet", 64), kpps(results, "variant", variant.name, "centre")]
        lines.append(f"  {variant.name:<76}" + "".join(f"{value:>16.1f}" for value in row))
    return "\n".join(lines)


def ignorance_table(results: Results) -> str:
    """Band over the ranges of the costs, the one fit, the spread between boots, the shared core, interrupts against load."""
    draws = np.array([kpps(results, *key) for key in results if key[0] == "draw"])
    low, middle, high = np.percentile(draws, [2.5, 50, 97.5])
    centre = [kpps(results, "centre", size) for size in SIZES]
    fits = {share: kpps(results, "fit", METHODS[0], share) for share in FIT_SHARES}
    best = min(fits, key=lambda share: abs(fits[share] - FITTED_KPPS))
    too_narrow = ", which is too narrow to reach it" if best in (FIT_SHARES[0], FIT_SHARES[-1]) else ""
    boots = results["boots",]
    each = ", ".join(f"{r.captured_kpps:.1f}" for r in boots.replications)
    spread = boots.captured.kpps
    lines = [
        "How sure is that? (64 B, kernel module, null, single)",
        f"  all costs at their centre              {centre[0]:.1f}, {centre[1]:.1f} and {centre[2]:.1f} kpps at {SIZES[0]}, {SIZES[1]} and {SIZES[2]} B: largest over smallest {max(centre) / min(centre):.2f}",
        f"  costs drawn from their ranges          {low:.0f} to {high:.0f} kpps (95 % of {DRAWS} draws, median {middle:.0f})",
        f"  one fit: the I/O thread's work         {fits[best]:.1f} kpps at {best:.3g} of its range is the nearest to the paper's {FITTED_KPPS}{too_narrow}",
        f"    at shares of its range               {'':<16}" + "".join(f"{share:>8.3g}" for share in FIT_SHARES),
        *(
            f"{'':<41}{method:<16}" + "".join(f"{kpps(results, 'fit', method, share):>8.1f}" for share in FIT_SHARES)
            for method in METHODS[:2]
        ),
        f"  I/O thread floating, {BOOTS} boots           {spread.mean:.0f} ± {spread.ci95 or 0:.0f} kpps ({spread.relative:.0%} of the mean): {each}",
        "",
        "Host receive and guest on one core, by cost of the bridge (cycles): captured kpps, and how much faster separate cores are",
        f"  {'':<16}" + "".join(f"{bridge:>16}" for bridge in BRIDGE),
    ]
    for rule in RULES:
        shared = [kpps(results, "shared", rule, bridge) for bridge in BRIDGE]
        gains = [kpps(results, "separate", rule, bridge) / rate for bridge, rate in zip(BRIDGE, shared, strict=True)]
        lines.append(f"  {rule:<16}" + "".join(f"{f'{a:.1f} ({b:.1f}x)':>16}" for a, b in zip(shared, gains, strict=True)))
    lines += [
        "",
        "Guest interrupts a packet against load (a prediction)",
        f"  {'offered kpps':<16}" + "".join(f"{load:>10}" for load in LOADS),
    ]
    per_packet = [results["load", load].rates["guest_interrupts"] / max(kpps(results, "load", load) * 1000, 1e-9) for load in LOADS]
    lines.append(f"  {'interrupts':<16}" + "".join(f"{value:>10.3f}" for value in per_packet))
    return "\n".join(lines)
