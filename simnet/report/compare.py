"""A comparison as tables for people."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Any

from simnet.kernel.core import CONTEXTS
from simnet.report.explain import stage_title
from simnet.report.text import number, with_interval
from simnet.results.comparison import Changed, Comparison, Difference
from simnet.results.result import Result
from simnet.results.statistics import Estimate

NAME_WIDTH, WIDTH = 34, 18
SHOWN_SHARE = 0.005
"""Contexts and stages below this share in every scenario are left out."""
TELLING = 3
"""Stages that are named as the reason for other cycles a packet."""
MOST_LETTERS = 60


def letter(scenario: int) -> str:
    """What a scenario is called in a table: A, B, ... Z, then numbers."""
    return chr(ord("A") + scenario) if scenario < 26 else str(scenario + 1)


def signed(value: float) -> str:
    """A difference, with its sign."""
    return ("+" if value > 0 else "") + number(value)


def signed_interval(estimate: Estimate) -> str:
    """A difference with its sign and the half width of its interval."""
    return signed(estimate.mean) + ("" if estimate.ci95 is None else f" ± {number(estimate.ci95)}")


def _value(value: Any) -> str:
    """A field's value, short."""
    return textwrap.shorten(json.dumps(value), MOST_LETTERS, placeholder=" ...}") if value is not None else "none"


def change_text(changed: Changed) -> str:
    """A field, what it is in the first scenario, and what it is here."""
    return f"{changed.field} {_value(changed.first)} -> {_value(changed.value)}"


def _line(name: str, cells: Sequence[str], tail: str = "") -> str:
    return (f"  {name:<{NAME_WIDTH}}" + "".join(f"{cell:>{WIDTH}}" for cell in cells) + (f"   {tail}" if tail else "")).rstrip()


def _head(comparison: Comparison, title: str) -> str:
    """A table's first line: the scenarios, then the differences."""
    letters = [letter(i) for i in range(len(comparison.labels))]
    cells = [*letters, *(f"{letter(d.scenario)} - A" for d in comparison.differences)]
    return f"{title:<{NAME_WIDTH + 2}}" + "".join(f"{cell:>{WIDTH}}" for cell in cells)


def _legend(comparison: Comparison) -> list[str]:
    """Which letter is which scenario, and what was changed in it."""
    lines = []
    for i, label in enumerate(comparison.labels):
        changed = comparison.differences[i - 1].changed if i else ()
        lines.append(f"{letter(i)}  {label}")
        lines += [f"     {change_text(change)}" for change in changed]
    return lines


def _windows(comparison: Comparison) -> list[str]:
    """What the differences mean."""
    results = [explanation.result for explanation in comparison.explanations]
    seconds = ", ".join(f"{letter(i)} {number(result.measured_seconds)} s" for i, result in enumerate(results))
    lines = [
        f"seed {results[0].seed}, {len(results[0].replications)} replications, measured: {seconds}, "
        f"after {number(results[0].warmup_seconds)} s of warm-up; {results[0].wall_seconds:.2f} s of yours"
    ]
    paired = [d for d in comparison.differences if d.paired]
    if paired:
        spans = ", ".join(f"{letter(d.scenario)} - A over {number(d.seconds)} s" for d in paired)
        lines.append(f"the same packets in both: differences replication by replication, with 95 % intervals ({spans})")
    for d in comparison.differences:
        if not d.paired:
            changes = "; ".join(map(change_text, d.traffic))
            lines.append(f"{letter(d.scenario)} has other traffic than A, so {letter(d.scenario)} - A is not paired: {changes}")
    return lines


def _rate_lines(comparison: Comparison) -> list[str]:
    results = [explanation.result for explanation in comparison.explanations]
    differences = comparison.differences
    lines = [
        _line(
            name,
            [with_interval(e) for e in own] + [signed_interval(e) for e in changes],
        )
        for name, own, changes in (
            ("offered", [r.offered.kpps for r in results], [d.offered for d in differences]),
            ("captured", [r.captured.kpps for r in results], [d.captured for d in differences]),
        )
    ]
    for loss in comparison.losses:
        if any(estimate is not None and estimate.mean for estimate in loss.kpps):
            own = ["-" if estimate is None else with_interval(estimate) for estimate in loss.kpps]
            changes = [signed_interval(d.dropped[loss.place]) if loss.place in d.dropped else "-" for d in differences]
            lines.append(_line(f"lost: {loss.place.replace('_', ' ')}", own + changes, loss.counter))
    return lines


def _cores(result: Result) -> dict[tuple[int, str], float]:
    """Shares of time by CPU and context."""
    return {(core.cpu, context): share for core in result.cores for context, share in core.shares.items()}


def _core_lines(comparison: Comparison) -> list[str]:
    """Contexts of every CPU that some scenario uses; differences in percentage points."""
    shares = [_cores(explanation.result) for explanation in comparison.explanations]
    keys = dict.fromkeys(key for own in shares for key, share in own.items() if key[1] != "idle" and share >= SHOWN_SHARE)
    ordered = sorted(keys, key=lambda key: (key[0], CONTEXTS.index(key[1])))
    lines = []
    for key in ordered:
        own = [core.get(key, 0.0) for core in shares]
        cells = [f"{share:.1%}" for share in own] + [f"{(own[d.scenario] - own[0]) * 100:+.1f}" for d in comparison.differences]
        lines.append(_line(f"cpu{key[0]} {key[1]}", cells))
    busy = [sum(share for (_, context), share in own.items() if context != "idle") for own in shares]
    cells = [f"{cores:.2f}" for cores in busy] + [f"{busy[d.scenario] - busy[0]:+.2f}" for d in comparison.differences]
    return [*lines, _line("busy, in cores", cells)]


def has_guest(comparison: Comparison) -> bool:
    """Does any of the scenarios have a guest?"""
    return any(explanation.result.vcpus for explanation in comparison.explanations)


def _less(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _signed(value: float | None) -> str:
    return "-" if value is None else signed(value)


def _stage_lines(comparison: Comparison) -> list[str]:
    """Cycles of all cores for each captured packet."""
    guest, lines = has_guest(comparison), []
    for row in comparison.stages():
        if max(stage.share for stage in row) >= SHOWN_SHARE:
            cells = ["-" if stage.cycles is None else number(stage.cycles) for stage in row]
            cells += [_signed(_less(row[d.scenario].cycles, row[0].cycles)) for d in comparison.differences]
            lines.append(_line(stage_title(row[0], guest), cells))
    busy = [explanation.busy_cycles() for explanation in comparison.explanations]
    cells = ["-" if cycles is None else number(cycles) for cycles in busy]
    cells += [_signed(_less(busy[d.scenario], busy[0])) for d in comparison.differences]
    return [*lines, _line("busy", cells)]


def _answer(comparison: Comparison, difference: Difference) -> str:
    """In a sentence: how much, and which stages cost how many cycles more or less."""
    first, i = comparison.explanations[0].result.captured.kpps.mean, difference.scenario
    relative = f" ({difference.captured.mean / first:+.1%})" if first else ""
    gained = difference.captured
    told = gained.ci95 is not None and abs(gained.mean) > gained.ci95
    captured = f"{letter(i)} captures {signed_interval(gained)} kpps{relative}" + (
        "" if told else ": no difference that can be told"
    )
    before, after = (comparison.explanations[k].busy_cycles() for k in (0, i))
    if before is None or after is None:
        return f"{captured}."
    moved = [
        (stage_title(row[0], has_guest(comparison)), _less(row[i].cycles, row[0].cycles) or 0.0) for row in comparison.stages()
    ]
    most = sorted((move for move in moved if abs(move[1]) >= 0.01 * before), key=lambda move: -abs(move[1]))[:TELLING]
    reasons = f", most of it in {', '.join(f'{title} ({signed(cycles)})' for title, cycles in most)}" if most else ""
    return f"{captured}; a captured packet costs {number(after)} cycles of all cores, {signed(after - before)}{reasons}."


def comparison_text(comparison: Comparison) -> str:
    """The whole comparison."""
    return "\n".join(
        [
            *_legend(comparison),
            "",
            *_windows(comparison),
            "",
            "What changed",
            *[f"  {_answer(comparison, difference)}" for difference in comparison.differences],
            "",
            "What limits",
            *[f"  {letter(i)}  {explanation.bottleneck.text}" for i, explanation in enumerate(comparison.explanations)],
            "",
            _head(comparison, "Packets (kpps)"),
            *_rate_lines(comparison),
            "",
            _head(comparison, "Time (share of each CPU; points)"),
            *_core_lines(comparison),
            "",
            _head(comparison, "Cycles for each captured packet"),
            *_stage_lines(comparison),
            *(["", *comparison.notes] if comparison.notes else []),
        ]
    )
