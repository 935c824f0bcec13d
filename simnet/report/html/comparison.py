"""The page of a comparison."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simnet.report.explain import SHOWN_SHARE, TITLES, stage_title
from simnet.report.html.bars import Bar, Segment, scaled
from simnet.report.html.page import MINUS, render, share, thin, words
from simnet.report.html.run import CoreBars, core_bars, waterfall
from simnet.report.html.sources import sources
from simnet.report.stored import StoredComparison, StoredResult, StoredStage
from simnet.report.text import number, with_interval
from simnet.results.explanation import StageCost


@dataclass(frozen=True)
class Side:
    """One scenario: its letter, what it was called, what limits it, and its drawings."""

    letter: str
    label: str
    title: str
    limit: str
    result: StoredResult
    waterfall: list[Bar]
    cores: CoreBars


@dataclass(frozen=True)
class StageRow:
    """A stage: cycles for a captured packet in each scenario, and the same as shares of the largest on the page."""

    title: str
    cycles: tuple[float | None, ...]
    widths: tuple[float, ...]
    differences: tuple[str, ...]


def letter(i: int) -> str:
    """A, B, C and so on; AA after Z."""
    more, last = divmod(i, len(string.ascii_uppercase))
    return (letter(more - 1) if more else "") + string.ascii_uppercase[last]


def _value(value: Any) -> str:
    """A field's value as JSON, a section's line by line."""
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {_value(inner)}" for name, inner in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def changes(comparison: StoredComparison) -> dict[str, list[str | None]]:
    """Value of every field that differs, scenario by scenario; None where it is as in the first."""
    rows: dict[str, list[str | None]] = {}
    for i, difference in enumerate(comparison.differences, 1):
        for change in (*difference.changed, *difference.traffic_differs):
            row = rows.setdefault(change.field, [_value(change.first), *[None] * len(comparison.differences)])
            row[i] = _value(change.value)
    return rows


def answer(comparison: StoredComparison) -> list[str]:
    """How much more or less each scenario captures than the first, and whether that is the same traffic."""
    first = comparison.results[0].captured.kpps
    sentences = [f"A ({comparison.scenarios[0]}) captures {thin(with_interval(first))} kpps."]
    for i, difference in enumerate(comparison.differences, 1):
        captured, change = comparison.results[i].captured.kpps, difference.captured_kpps
        name = f"{letter(i)} ({comparison.scenarios[i]})"
        if abs(change.mean) <= (change.ci95 or 0.0):
            sentences.append(f"{name} captures {thin(number(captured.mean))} kpps: no difference that is surely one.")
            continue
        half = "" if change.ci95 is None else f" ± {number(change.ci95)}"
        amount = thin(f"{number(abs(change.mean))}{half}")
        part = f", {'+' if change.mean > 0 else MINUS}{share(abs(change.mean) / first.mean)}" if first.mean else ""
        more = "more" if change.mean > 0 else "less"
        sentences.append(f"{name} captures {thin(number(captured.mean))} kpps, {amount} kpps {more} than A{part}.")
    others = [letter(i) for i, difference in enumerate(comparison.differences, 1) if not difference.paired]
    if others:
        sentences.append(f"{', '.join(others)}: other traffic than A, so the difference is not paired.")
    return sentences


def _stage_name(stage: StoredStage, has_guest: bool) -> str:
    if stage.stage not in TITLES and not stage.stage.startswith("exit_"):
        return f"{stage.side}: {words(stage.stage)}"
    return stage_title(StageCost(stage.stage, stage.side, None, 0.0, {}), has_guest)


def _difference(a: float | None, b: float | None) -> str:
    if a is None or b is None:
        return "–"
    return thin(f"{'+' if b > a else ''}{number(b - a)}").replace("-", MINUS)


def _stage_row(title: str, cycles: tuple[float | None, ...], most: float) -> StageRow:
    widths = tuple(scaled(value or 0.0, most) for value in cycles)
    return StageRow(title, cycles, widths, tuple(_difference(cycles[0], value) for value in cycles[1:]))


def stages(comparison: StoredComparison) -> list[StageRow]:
    """Stages that take a share worth naming of some scenario's cycles, in the order of a packet's way; the last row is all busy cycles."""
    busy = comparison.busy_cycles_per_captured
    has_guest = any(result.vcpus for result in comparison.results)
    shown = [
        stage
        for stage in comparison.stages
        if any(
            value and value >= SHOWN_SHARE * (whole or 0.0) for value, whole in zip(stage.cycles_per_captured, busy, strict=True)
        )
    ]
    most = max((value or 0.0 for stage in shown for value in stage.cycles_per_captured), default=0.0)
    rows = [_stage_row(_stage_name(stage, has_guest), stage.cycles_per_captured, most) for stage in shown]
    return [*rows, _stage_row("busy, all cores", busy, 0.0)]


def captured_bars(comparison: StoredComparison) -> list[Bar]:
    """The captured rates on one scale; the mark is what is offered."""
    rates = [(result.captured.kpps, result.offered.kpps) for result in comparison.results]
    most = max(offered.mean for _, offered in rates)
    return [
        Bar(
            letter(i),
            [Segment(0, scaled(captured.mean, most), "captured")],
            (thin(with_interval(captured)),),
            aside=comparison.scenarios[i],
            mark=scaled(offered.mean, most),
        )
        for i, (captured, offered) in enumerate(rates)
    ]


def _sides(comparison: StoredComparison) -> list[Side]:
    return [
        Side(
            letter(i),
            comparison.scenarios[i],
            _title(result.provenance.scenario),
            comparison.bottlenecks[i].text,
            result,
            waterfall(result, {}),
            core_bars(result),
        )
        for i, result in enumerate(comparison.results)
    ]


def _title(scenario: Mapping[str, Any]) -> str:
    return str(scenario.get("title") or "")


def comparison_page(comparison: StoredComparison) -> str:
    """The page of a comparison."""
    return render(
        "comparison.html",
        comparison=comparison,
        answer=answer(comparison),
        sides=_sides(comparison),
        captured=captured_bars(comparison),
        losses=[loss for loss in comparison.dropped_kpps if any(lost and lost.mean for lost in loss.kpps)],
        changes=changes(comparison),
        stages=stages(comparison),
        sources=sources(comparison.results),
        notes=list(dict.fromkeys([*comparison.notes, *(note for result in comparison.results for note in result.notes)])),
    )
