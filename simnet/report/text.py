"""A result as a table for people."""

from __future__ import annotations

from simnet.kernel.core import CONTEXTS
from simnet.params.schema import ParameterSet, Quantity
from simnet.results.result import CoreTime, Rate, Result, VcpuTime
from simnet.results.statistics import Estimate
from simnet.scenario.schema import Scenario

BAR_CELLS = 40
BAR_MARKS = dict(zip(CONTEXTS, "·iskSUGX", strict=True))
STOP_REASONS = {
    "precision": "the interval is tight enough",
    "time_limit": "limit of simulated time",
    "paper_protocol": "the paper's protocol",
    "replay_end": "end of the capture file",
}


def number(value: float) -> str:
    """A number with about four digits and thin groups."""
    if value == 0:
        return "0"
    digits = max(0, 3 - len(str(int(abs(value)))) + 1)
    return f"{value:,.{digits}f}".replace(",", " ")


def with_interval(estimate: Estimate) -> str:
    """Mean and half width of the 95 % interval."""
    return number(estimate.mean) if estimate.ci95 is None else f"{number(estimate.mean)} ± {number(estimate.ci95)}"


def _rate_line(name: str, rate: Rate) -> str:
    return f"{name:<10}{with_interval(rate.kpps):>22}{with_interval(rate.mbps_wire):>22}{with_interval(rate.mbps_frame):>22}"


def bar(core: CoreTime) -> str:
    """A core's time as cells, one letter a context."""
    cells = ""
    carried = 0.0
    for context in CONTEXTS:
        carried += core.shares[context] * BAR_CELLS
        cells += BAR_MARKS[context] * (round(carried) - len(cells))
    return cells.ljust(BAR_CELLS, BAR_MARKS["idle"])


def _core_line(core: CoreTime) -> str:
    shares = sorted(((share, context) for context, share in core.shares.items() if share >= 0.0005), reverse=True)
    return f"  cpu{core.cpu:<3} {bar(core)}  " + ", ".join(f"{context} {share:.1%}" for share, context in shares)


def _vcpu_line(vcpu: VcpuTime) -> str:
    shares = sorted(((share, context) for context, share in vcpu.shares.items() if share >= 0.0005), reverse=True)
    return f"  vcpu{vcpu.vcpu} on cpu{vcpu.cpu}: " + ", ".join(f"{context} {share:.1%}" for share, context in shares)


def _drop_lines(result: Result) -> list[str]:
    packets = result.packets
    offered = max(packets.offered, 1)
    lines = [f"  {'captured':<22}{packets.captured / offered:>8.2%}{packets.captured:>16,}".replace(",", " ")]
    for drop in packets.dropped:
        if drop.packets:
            lines.append(
                f"  {drop.place.replace('_', ' '):<22}{drop.packets / offered:>8.2%}{drop.packets:>16,}".replace(",", " ")
                + f"  {drop.counter}"
            )
            lines.append(f"  {'':<22}{'':>24}  {drop.reason}; to change it: {drop.knob}")
    lines.append(f"  {'in flight at the end':<22}{packets.in_flight / offered:>8.2%}{packets.in_flight:>16,}".replace(",", " "))
    lines.append(f"  {'offered':<22}{1:>8.2%}{packets.offered:>16,}".replace(",", " "))
    return lines


def result_table(result: Result) -> str:
    """Rates, drops by place, time by core and context, latency, notes."""
    idle = [core.cpu for core in result.cores if core.shares["idle"] >= 0.9995]
    latency = result.latency_us
    lines = [
        f"{result.scenario}  ({result.parameters}, seed {result.seed}, {result.engine})",
        f"{len(result.replications)} replication{'s' if len(result.replications) > 1 else ''} of {number(result.measured_seconds)} s after {number(result.warmup_seconds)} s of warm-up; "
        f"stopped: {STOP_REASONS[result.stop_reason]}; {result.wall_seconds:.2f} s of yours",
        "",
        f"{'':<10}{'kpps':>22}{'Mbit/s on the wire':>22}{'Mbit/s of frames':>22}",
        _rate_line("offered", result.offered),
        _rate_line("captured", result.captured),
        "",
        "Where the packets went (all replications, from time 0)",
        *_drop_lines(result),
        "",
        "Where the time went  ("
        + ", ".join(f"{mark} {context}" for context, mark in BAR_MARKS.items() if result.vcpus or context not in ("guest", "exits"))
        + ")",
        *[_core_line(core) for core in result.cores if core.cpu not in idle],
    ]
    lines += [_vcpu_line(vcpu) for vcpu in result.vcpus]
    if idle:
        lines.append(f"  idle: cpu {', '.join(map(str, idle))}")
    lines += ["", "  ".join(f"{name.replace('_', ' ')} {number(rate)}/s" for name, rate in result.rates.items() if name != "exits")]
    exits = {reason: rate for reason, rate in result.rates["exits"].items() if rate}
    if exits:
        lines.append("exits: " + ", ".join(f"{reason.replace('_', ' ')} {number(rate)}/s" for reason, rate in exits.items()))
    if latency["p50"] is not None:
        lines.append(
            "latency, NIC to monitor: " + ", ".join(f"{name} {number(value or 0.0)} us" for name, value in latency.items())
        )
    if result.table:
        table = result.table
        lines.append(
            f"flow table: {number(table['entries_at_end'])} of {number(table['limit'])} entries at the end, {number(table['refused'])} of {number(table['lookups'])} look-ups refused"
        )
    if result.notes:
        lines += ["", *result.notes]
    return "\n".join(lines)


def _quantity_line(quantity: Quantity) -> str:
    spread = f"{number(quantity.low)}..{number(quantity.high)}"
    return f"  {quantity.name:<28}{number(quantity.value):>12} {quantity.unit:<8}{spread:>22}  {quantity.kind:<11}{quantity.source}"


def parameter_table(params: ParameterSet) -> str:
    """A parameter set: each number with range, unit, kind and source."""
    head = [f"{params.name}: {params.title}", *[f"  {key}: {value}" for key, value in params.host.items()], ""]
    return "\n".join(
        [*head, f"  {'quantity':<28}{'value':>12} {'unit':<8}{'range':>22}  {'kind':<11}source", *map(_quantity_line, params)]
    )


def scenario_table(scenario: Scenario, params: ParameterSet, structure: list[tuple[str, str]]) -> str:
    """A resolved scenario: every field, what was derived from it, and the cost of everything with its source."""

    def fields(value: object, indent: str) -> list[str]:
        lines: list[str] = []
        for key, item in value.items() if isinstance(value, dict) else ():
            if isinstance(item, dict) and item:
                lines += [f"{indent}{key}:", *fields(item, indent + "  ")]
            elif isinstance(item, list) and item and isinstance(item[0], str):
                lines += [f"{indent}{key}:", *[f"{indent}  - {text}" for text in item]]
            else:
                lines.append(f"{indent}{key}: {item}")
        return lines

    derived = [f"  {name:<28}{text}" for name, text in structure]
    return "\n".join([*fields(scenario.model_dump(mode="json"), ""), "", "resolved", *derived, "", parameter_table(params)])
