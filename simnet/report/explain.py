"""An explanation as text for people: what limits, the packets, the cycles, what would change it, what would help most."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any

from simnet.report.text import number, with_interval
from simnet.results.explanation import Elasticity, Explanation, Sensitivity, StageCost, WhatIf
from simnet.results.result import Result
from simnet.results.statistics import Estimate

TITLES = {
    "interrupts": "interrupts",
    "polls": "softirq rounds and polls",
    "driver": "driver and skb",
    "bridge": "bridge",
    "tap_transmit": "tap transmit",
    "net_tx": "NET_TX runs (tap restarts)",
    "tap_restart": "tap transmit after a restart",
    "select": "select",
    "tap_read": "read of the tap",
    "push": "copy and push to the guest",
    "inject": "interrupt injection",
    "capture": "capture, in the softirq",
    "copy": "capture, copy to the ring",
    "process": "capture, reading process",
    "blocks": "closing blocks",
    "poll_calls": "poll() with nothing there",
    "monitor": "monitor",
    "wakeups": "wake-ups",
    "futex": "futex wake-ups (mutex)",
    "reschedules": "rescheduling interrupts",
    "task_switches": "task switches",
    "ksoftirqd_switches": "task switches to ksoftirqd",
    "ticks": "timer ticks",
    "idle_loop": "idle loop, tick off and on",
}
SHOWN_SHARE = 0.0005
SHOWN_ELASTICITY = 0.005


def stage_title(stage: StageCost, has_guest: bool) -> str:
    """Name of a stage, with whose work it is where there is a guest."""
    exit_, _, reason = stage.key.partition("_")
    title = f"exit: {reason.replace('_', ' ')}" if exit_ == "exit" else TITLES[stage.key]
    return f"{stage.side}: {title}" if has_guest and exit_ != "exit" else title


def _waterfall(result: Result) -> list[str]:
    """Packets from offered to captured, place by place."""
    packets = result.packets
    left, offered = packets.offered, max(packets.offered, 1)

    def line(name: str, count: int) -> str:
        return f"  {name:<30}{_grouped(count):>16}{count / offered:>10.2%}"

    lines = [line("offered", left)]
    for drop in packets.dropped:
        if drop.packets:
            left -= drop.packets
            lost = line(f"- lost: {drop.place.replace('_', ' ')}", drop.packets)
            lines += [f"{lost}   {drop.counter}", line("  go on", left)]
    return [*lines, line("- in flight at the end", packets.in_flight), line("= captured", packets.captured)]


def _grouped(count: int) -> str:
    """A whole number in thin groups."""
    return f"{count:,}".replace(",", " ")


def _cycles(value: float | None) -> str:
    return "-" if value is None else number(value)


def _stage_lines(explanation: Explanation) -> list[str]:
    """Cycles for a captured packet by stage and CPU, and what is not attributed."""
    cpus = [cpu for cpu, busy in explanation.ledger.busy_ps.items() if busy]
    has_guest = bool(explanation.result.vcpus)
    lines = [f"  {'':<36}{'cycles':>10}{'of busy':>9}" + "".join(f"{f'cpu{cpu}':>9}" for cpu in cpus)]
    rest = 0.0
    for stage in explanation.stages():
        if stage.share < SHOWN_SHARE:
            rest += stage.share
            continue
        each = "".join(f"{stage.cpus[cpu]:>9.1%}" if stage.cpus.get(cpu, 0) >= SHOWN_SHARE else " " * 9 for cpu in cpus)
        lines.append(f"  {stage_title(stage, has_guest):<36}{_cycles(stage.cycles):>10}{stage.share:>9.1%}{each}")
    ledger, total = explanation.ledger, explanation.busy_cycles()

    def scaled(share: float) -> str:
        return _cycles(None if total is None else share * total)

    if rest:
        lines.append(f"  {'stages below 0.05 % each':<36}{scaled(rest):>10}{rest:>9.1%}")
    left = ledger.unattributed()
    lines.append(
        f"  {'not attributed':<36}{scaled(left):>10}{left:>9.1%}" + "".join(f"{ledger.unattributed(c):>9.1%}" for c in cpus)
    )
    busy = "".join(f"{ledger.busy_ps[cpu] / ledger.total_busy_ps():>9.1%}" for cpu in cpus)
    lines.append(f"  {'busy':<36}{_cycles(total):>10}{1:>9.1%}{busy}")
    return lines


def _waste_lines(explanation: Explanation) -> list[str]:
    rows = explanation.waste()
    if not rows:
        return ["  Wasted: nothing; no packet is lost after a core has worked on it."]
    return [
        f"  Wasted: {number(row.cycles_each)} cycles on each packet that is lost at the {row.place.replace('_', ' ')}, "
        f"{_cycles(row.cycles)} for each captured one, {row.share:.1%} of busy (contained in the stages above)."
        for row in rows
    ]


def setting(settings: Mapping[str, Any]) -> str:
    """Settings as they are typed."""

    def value(given: Any) -> str:
        if given is None or isinstance(given, bool):
            return {None: "null", True: "true", False: "false"}[given]
        return str(given).replace(" ", "")

    return " ".join(f"--set {shlex.quote(f'{path}={value(given)}')}" for path, given in settings.items())


def percent(gain: Estimate) -> str:
    """A relative change with its interval, in percent."""
    text = f"{gain.mean * 100:+.1f}"
    return f"{text} %" if gain.ci95 is None else f"{text} ± {gain.ci95 * 100:.1f} %"


def _elasticity_line(row: Elasticity) -> str:
    half = "" if row.estimate.ci95 is None else f" ± {row.estimate.ci95:.3f}"
    value = f"{number(row.value)} {row.unit}"
    return f"  {row.quantity:<30}{value:>16}{row.estimate.mean:>+12.3f}{half}"


def _sensitivity_lines(found: Sensitivity) -> list[str]:
    """Elasticities and what-ifs."""
    shown = [row for row in found.elasticities if abs(row.estimate.mean) >= max(SHOWN_ELASTICITY, row.estimate.ci95 or math.inf)]
    flat = len(found.elasticities) - len(shown)
    lines = [
        "",
        f"What the captured rate follows: its change in % for 1 % more (each quantity 10 % up and down, {number(found.seconds)} s a replication)",
        *map(_elasticity_line, shown),
        f"  {flat} others: within ±{SHOWN_ELASTICITY} (in one replication, then left) or within their interval of 0; "
        f"{len(found.untouched)} not tried: no cycles go there",
        "",
        "What if",
    ]
    lines += [f"  {what.title:<56}{percent(what.gain):>18}   {setting(what.settings)}" for what in found.what_ifs]
    return lines


def _advice_line(place: int, what: WhatIf) -> str:
    title = what.title if what.kind == "knob" else f"no knob, but a cost: {what.title}"
    if what.kind == "knob" and place > 1:
        title = f"and then {title}"
    return f"  {place}. {title}: {percent(what.gain)}   {setting(what.settings)}"


def _advice_lines(found: Sensitivity) -> list[str]:
    lines = ["", "What would help most (captured rate, 95 % interval of the replications)"]
    if not found.advice:
        return [*lines, "  Nothing that was tried: no knob and no cost surely gains half a percent."]
    lines += [_advice_line(place, what) for place, what in enumerate(found.advice, 1)]
    if not any(what.kind == "knob" for what in found.advice):
        lines.append("  No knob that was tried helps; these are costs that would have to fall.")
    elif len(found.advice) < 3:
        lines.append("  Nothing else that was tried surely gains half a percent.")
    if found.together is not None:
        lines.append(f"  together: {percent(found.together.gain)}   {setting(found.together.settings)}")
    return lines


def explanation_text(explanation: Explanation) -> str:
    """The whole explanation."""
    result = explanation.result
    captured = f"captured {with_interval(result.captured.kpps)} of {with_interval(result.offered.kpps)} kpps"
    lines = [
        f"{result.scenario}  ({result.parameters}, seed {result.seed}): {captured}",
        *explanation.notes,
        "",
        "What limits",
        f"  {explanation.bottleneck.text}",
        "",
        "Where the packets went (all replications, from time 0)",
        *_waterfall(result),
        "",
        f"Where the cycles went, for each captured packet ({explanation.clock_ghz:g} GHz; shares are of the busy time of all cores)",
        *_stage_lines(explanation),
        *_waste_lines(explanation),
    ]
    if explanation.sensitivity is not None:
        lines += [*_sensitivity_lines(explanation.sensitivity), *_advice_lines(explanation.sensitivity)]
    return "\n".join(lines)
