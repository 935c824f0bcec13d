"""The bare-metal rows of ICCCN 2012 and rows A01-A06 of ANCS 2011 against the model.

Fitted: the driver's cost to S03, the readers' to A02 and A03, the insert to A06 (`calibration.literature`). Everything else is a prediction. Where the
capturing process sat and what share of the core it got is not written in the paper; `alternatives` shows the candidates side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import simnet
from validation.cells import Question
from validation.claims import NOT_REPRODUCED, REPRODUCED, Row, Verdict, read_rows, without_model

METHODS = ("kernel_module", "pf_packet", "pf_ring")
MONITORS = ("null", "flow")
FLOWS = ("single", "multi")
SIZES = (64, 256, 1518)
PRECISION = 0.01

Cell = tuple[str, str, str, int]
Results = Mapping[Cell, simnet.Result]

RATE_ROWS: dict[str, Cell] = {
    "S01": ("pf_packet", "null", "single", 64),
    "S02": ("pf_ring", "null", "single", 64),
    "S03": ("kernel_module", "null", "single", 64),
    "S24": ("kernel_module", "null", "single", 1518),
    "F01": ("kernel_module", "null", "single", 64),
    "F02": ("kernel_module", "null", "single", 256),
    "F03": ("kernel_module", "null", "single", 1518),
    "F13": ("pf_packet", "null", "single", 64),
    "F14": ("pf_packet", "null", "single", 256),
    "F15": ("pf_packet", "null", "single", 1518),
    "F25": ("pf_ring", "null", "single", 64),
    "F26": ("pf_ring", "null", "single", 256),
    "F27": ("pf_ring", "null", "single", 1518),
}
USER_ROWS = tuple(row for row, cell in RATE_ROWS.items() if cell[0] != "kernel_module" and row.startswith("F"))

ANCS_ROWS: dict[str, dict[str, Any]] = {
    "A01": {},
    "A02": {"capture.method": "pf_packet", "capture.monitor": "count"},
    "A03": {"capture.method": "pf_ring", "capture.monitor": "count", "capture.transparent_mode": 0},
    "A04": {"traffic.flows": "multi"},
    "A05": {"capture.monitor": "flow"},
    "A06": {"capture.monitor": "flow", "traffic.flows": "multi"},
}


def cell_question(cell: Cell, **settings: Any) -> Question:
    """The built-in scenario with the factors of a cell."""
    method, monitor, flows, size = cell
    factors = {"capture.method": method, "capture.monitor": monitor, "traffic.flows": flows, "traffic.frame_bytes": size}
    return "paper/bare-metal", {**factors, "measure.precision": PRECISION, **settings}


def all_cells() -> list[Cell]:
    """The 36 bare-metal cells of the paper's design."""
    return [(method, monitor, flows, size) for method in METHODS for monitor in MONITORS for flows in FLOWS for size in SIZES]


def kpps(results: Results, *cell: Any) -> float:
    """Captured rate of a cell."""
    return results[cell].captured.kpps.mean


def wire_gbps(result: simnet.Result) -> float:
    """Captured rate in Gbit/s on the wire."""
    return result.captured.mbps_wire.mean / 1000


def rate_verdict(row: Row, result: simnet.Result) -> Verdict:
    """Is the model's rate within the allowed share of the measured one?"""
    estimate = result.captured.kpps
    assert row.kpps is not None
    within = abs(estimate.mean / row.kpps - 1) <= row.share()
    return Verdict(row, REPRODUCED if within else NOT_REPRODUCED, estimate.mean, estimate.ci95)


def holds(row: Row, condition: bool, text: str) -> Verdict:
    """A claim that is not one rate."""
    return Verdict(row, REPRODUCED if condition else NOT_REPRODUCED, text=text)


def _orderings(row: Row, r: Results) -> Verdict | None:
    """Claims about which is faster."""
    null = {size: [kpps(r, method, "null", "single", size) for method in METHODS] for size in SIZES}
    kernel, packet, ring = null[64]
    if row.id == "S04":
        return holds(
            row,
            packet < ring < kernel,
            f"{packet:.0f} < {ring:.0f} < {kernel:.0f} kpps; ratios 1 : {ring / packet:.2f} : {kernel / packet:.2f} (paper 1 : 1.18 : 3.20)",
        )
    if row.id == "S05":
        means = {method: [r[method, "flow", flows, 64].captured.kpps for flows in FLOWS] for method in METHODS}
        spread = max(e.mean for es in means.values() for e in es) / min(e.mean for es in means.values() for e in es)
        return holds(
            row,
            spread < 1.1,
            "; ".join(f"{method} {es[0].mean:.0f} single, {es[1].mean:.0f} multi" for method, es in means.items())
            + f" kpps. {row.why}",
        )
    if row.id == "S10":
        condition = kernel > max(packet, ring) and null[1518][0] >= max(null[1518][1:])
        return holds(
            row,
            condition,
            f"64 B: {kernel:.0f} against {packet:.0f} and {ring:.0f}; 1518 B: {null[1518][0]:.0f} against {null[1518][1]:.0f} and {null[1518][2]:.0f} kpps",
        )
    if row.id == "S11":
        ratio = null[256][0] / null[64][0]
        return holds(
            row,
            abs(ratio - 1) <= 0.05 and null[256][0] < 4528.98 * 0.9,
            f"256 B / 64 B = {ratio:.3f}; {null[256][0]:.0f} kpps of 4529 at line rate",
        )
    if row.id == "S27":
        most = max(result.captured.kpps.mean for cell, result in r.items() if cell[3] == 64)
        offered = r["kernel_module", "null", "single", 64].offered.kpps.mean
        return holds(row, most < offered, f"at most {most:.0f} of {offered:.0f} kpps")
    if row.id == "S28":
        offered = r["kernel_module", "null", "single", 64].offered.kpps.mean
        return holds(row, offered < 0.5 * 14880.95, f"{offered / 14880.95:.0%} of line rate")
    return None


def _bounds(row: Row, r: Results) -> Verdict | None:
    """Claims about at least, at most, all and most."""
    if row.id in ("S07", "S09"):
        rates = [wire_gbps(r["kernel_module", monitor, flows, 1518]) for monitor in MONITORS for flows in FLOWS]
        return holds(row, min(rates) >= 9.8 * 0.99, "four settings: " + ", ".join(f"{rate:.2f}" for rate in rates) + " Gbit/s")
    if row.id == "S08":
        core = next(c for c in r["kernel_module", "flow", "multi", 1518].cores if c.shares["idle"] < 0.9995)
        cycles = (1 - core.shares["idle"]) * 2.27e6 / r["kernel_module", "flow", "multi", 1518].captured.kpps.mean
        return holds(row, cycles < 2793, f"{cycles:.0f} cycles a packet, everything included")
    if row.id == "S12":
        fast = [cell for cell, result in r.items() if cell[3] == 1518 and wire_gbps(result) >= 9.0]
        return holds(row, len(fast) >= 7, f"{len(fast)} of 12. {row.why}")
    if row.id == "S13":
        widths = [result.captured.kpps.relative for result in r.values()]
        return holds(
            row,
            max(widths) <= 0.2,
            f"widest {max(widths):.2%} over {len(widths)} cells (five replications of the model differ only by seed)",
        )
    if row.id == "S43":
        rate = r["kernel_module", "flow", "multi", 64]
        return holds(
            row, wire_gbps(rate) >= 1.0, f"{wire_gbps(rate) * 1000:.0f} Mbit/s at 64 B, every packet a new flow; {row.why}"
        )
    if row.id == "F41":
        ratios = [kpps(r, "kernel_module", m, f, 256) / kpps(r, "kernel_module", m, f, 64) for m in MONITORS for f in FLOWS]
        return holds(
            row, all(abs(ratio - 1) <= 0.05 for ratio in ratios), "four settings: " + ", ".join(f"{ratio:.3f}" for ratio in ratios)
        )
    return None


def _arithmetic(row: Row, r: Results) -> Verdict | None:
    """Claims about the link and the generators."""
    if row.id == "S26":
        offered = r["kernel_module", "null", "single", 64].offered.mbps_wire
        return holds(row, abs(offered.mean / 3000 - 1) <= 0.01, f"{offered.mean:.0f} Mbit/s on the wire")
    if row.id == "S29" or row.id.startswith("S30"):
        gbps, size = (10, 64) if row.id == "S29" else (int(row.id.split("-")[1].removesuffix("G")), int(row.id.split("-")[2]))
        carried = gbps * 1e6 / ((size + 20) * 8)
        return holds(row, abs(carried / float(row.value) - 1) <= 1e-4, f"{gbps}e9 / ((size + 20) x 8) = {carried:.2f} kpps")
    return None


def paper_verdicts(results: Results, about_guest: Callable[[Row], Verdict | None]) -> list[Verdict]:
    """A verdict for every row of the paper; `about_guest` judges those about the virtual machine."""
    verdicts = []
    for row in read_rows("paper"):
        if row.id in RATE_ROWS:
            verdict: Verdict | None = rate_verdict(row, results[RATE_ROWS[row.id]])
        else:
            verdict = (
                without_model(row)
                or about_guest(row)
                or _orderings(row, results)
                or _bounds(row, results)
                or _arithmetic(row, results)
            )
        if verdict is None:
            raise LookupError(f"no rule for row {row.id}")
        verdicts.append(verdict)
    return verdicts


def ancs_verdicts(results: Mapping[str, simnet.Result]) -> list[Verdict]:
    """Verdicts on rows A01 to A06, and on the other reading of A02."""
    rows = {row.id: row for row in read_rows("published")}
    return [rate_verdict(row, results[name[:3]]) for name, row in rows.items() if name[:3] in ANCS_ROWS]


def udp_questions() -> dict[str, Question]:
    """A UDP receiver on the softirq's CPU and on another one, under the 3.2 rule, which later kernels have again (rows K01, K02)."""
    udp = {"capture.method": "udp", "capture.monitor": "count", "host.kernel": "3.2"}
    return {name: ("paper/bare-metal", {**udp, "capture.cpu": cpu}) for name, cpu in (("same", 7), ("other", 5))}


def udp_verdicts(udp: Mapping[str, simnet.Result]) -> dict[str, Verdict]:
    """Verdicts on rows K01 and K02."""
    rows = {row.id: row for row in read_rows("published")}
    same, other = udp["same"].captured.kpps.mean, udp["other"].captured.kpps.mean
    ring = sum(place.packets for place in udp["same"].packets.dropped if place.place == "receive_buffer")
    share = udp["same"].packets.captured / max(udp["same"].packets.captured + ring, 1)
    return {
        "K01": holds(rows["K01"], 0 < share <= 0.01, f"{share:.3%} of what the stack received is delivered (measured 0.10 %)"),
        "K02": holds(
            rows["K02"], 0 < same / other <= 0.01, f"{same:.2f} against {other:.0f} kpps: {same / other:.3%} (measured 0.21 %)"
        ),
    }


def published_verdicts(
    ancs: Mapping[str, simnet.Result], udp: Mapping[str, simnet.Result], about_backends: Callable[[Row], Verdict | None]
) -> list[Verdict]:
    """Verdicts on all published rows; most need hardware that is not modelled yet. `about_backends` judges those about vhost-net and virtual functions."""
    modelled = {verdict.row.id: verdict for verdict in ancs_verdicts(ancs)} | udp_verdicts(udp)
    verdicts = []
    for row in read_rows("published"):
        verdict = modelled.get(row.id) or about_backends(row) or without_model(row)
        assert verdict is not None
        verdicts.append(verdict)
    return verdicts


def ancs_questions() -> dict[str, Question]:
    """The settings of rows A01 to A06."""
    return {name: ("ancs2011/appliance", settings) for name, settings in ANCS_ROWS.items()}


def paper_questions() -> dict[Cell, Question]:
    """The 36 bare-metal cells."""
    return {cell: cell_question(cell) for cell in all_cells()}


@dataclass(frozen=True)
class Alternative:
    """A hypothesis about where the capturing process sat and what share it got."""

    name: str
    settings: Mapping[str, Any]


ALTERNATIVES = (
    Alternative("shared core, ideal halves", {"host.kernel": "3.2-deferred"}),
    Alternative("shared core, 3.2 rule, HZ 100", {"host.kernel": "3.2", "host.hz": 100}),
    Alternative("shared core, 3.2 rule, HZ 250", {"host.kernel": "3.2", "host.hz": 250}),
    Alternative("shared core, 3.2 rule, HZ 1000", {"host.kernel": "3.2", "host.hz": 1000}),
    Alternative("separate cores", {"host.kernel": "3.2", "capture.cpu": 5}),
)
KERNEL_PATH = (0.95, 1.0, 1.05)
"""Under the literal rule the share saws with the cost of ten rounds modulo the tick: means over the kernel path +-5 %."""
CURVE_KPPS = (300, 600, 1000, 1500, 2500, 4464)
QUICK = {"measure.precision": 0.05, "measure.replications": 2, "measure.limit_s": 0.5}


def alternative_questions() -> dict[tuple[Any, ...], Question]:
    """All runs behind the table of alternatives."""
    driver = simnet.parameter_set("e5520-linux-3.2")["driver_cycles"]
    questions: dict[tuple[Any, ...], Question] = {}
    for alternative in ALTERNATIVES:
        for row in USER_ROWS:
            for factor in KERNEL_PATH:
                path = 1445 * (factor - 1)  # the whole kernel path, through its driver part
                settings = {**alternative.settings, **QUICK, "costs.driver_cycles": driver + path}
                questions[alternative.name, row, factor] = cell_question(RATE_ROWS[row], **settings)
        packet = ("pf_packet", "null", "single", 64)
        for rate in CURVE_KPPS:
            questions[alternative.name, "curve", rate] = cell_question(
                packet, **{**alternative.settings, **QUICK, "traffic.offered_kpps": rate}
            )
        questions[alternative.name, "512", 64] = cell_question(
            packet, **{**alternative.settings, **QUICK, "capture.ring_frames": 512}
        )
    return questions


def alternatives_table(results: Mapping[tuple[Any, ...], simnet.Result]) -> str:
    """The candidates side by side: their misses, and what would tell them apart."""
    measured = {row.id: row.kpps or 0.0 for row in read_rows("paper")}
    head = f"  {'where the process sat':<34}" + "".join(f"{row:>16}" for row in USER_ROWS) + f"{'worst miss':>12}"
    lines = ["Alternatives for the user-space rows: captured kpps (miss), mean over the kernel path +-5 %", head]
    for alternative in ALTERNATIVES:
        cells, misses = "", []
        for row in USER_ROWS:
            mean = sum(results[alternative.name, row, factor].captured.kpps.mean for factor in KERNEL_PATH) / len(KERNEL_PATH)
            misses.append(mean / measured[row] - 1)
            cells += f"{f'{mean:.0f} ({misses[-1]:+.0%})':>16}"
        lines.append(f"  {alternative.name:<34}{cells}{max(misses, key=abs):>12.0%}")
    lines.append(f"  {'measured':<34}" + "".join(f"{measured[row]:>16.0f}" for row in USER_ROWS))
    lines += [
        "",
        "What would tell them apart (PF_PACKET, 64 B)",
        f"  {'':<34}" + "".join(f"{f'at {rate} kpps':>14}" for rate in CURVE_KPPS) + f"{'ring of 512':>14}{'late drops':>12}",
    ]
    for alternative in ALTERNATIVES:
        curve = "".join(f"{results[alternative.name, 'curve', rate].captured.kpps.mean:>14.0f}" for rate in CURVE_KPPS)
        small = results[alternative.name, "512", 64].captured.kpps.mean
        packets = results[alternative.name, "curve", CURVE_KPPS[-1]].packets
        ring = sum(d.packets for d in packets.dropped if d.place == "packet_ring") / max(sum(d.packets for d in packets.dropped), 1)
        lines.append(f"  {alternative.name:<34}{curve}{small:>14.0f}{ring:>12.0%}")
    lines.append("  late drops: share of all drops that happen at the ring, after driver and stack were paid")
    return "\n".join(lines)
