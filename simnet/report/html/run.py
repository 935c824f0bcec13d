"""The page of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simnet.experiment.load_curve import LoadCurve, point_of
from simnet.report.explain import SHOWN_SHARE, percent, setting, stage_title
from simnet.report.html import bars
from simnet.report.html.bars import Bar, Segment, scaled
from simnet.report.html.charts import curve_chart
from simnet.report.html.page import render, share, thin, whole, words
from simnet.report.html.sources import sources
from simnet.report.stored import StoredResult
from simnet.report.text import number, with_interval
from simnet.results.bottleneck import LOST
from simnet.results.explanation import Explanation, WhatIf


@dataclass(frozen=True)
class CoreBars:
    """Time of CPUs and vCPUs."""

    cores: list[Bar]
    vcpus: list[Bar]
    idle: list[int]
    legend: list[tuple[str, str]]


def waterfall(result: StoredResult, knobs: Mapping[str, str]) -> list[Bar]:
    """From offered to captured, a step for each place that loses packets."""
    packets = result.packets
    offered = left = packets.offered

    def bar(label: str, start: int, count: int, kind: str, **more: Any) -> Bar:
        segment = Segment(scaled(start, offered), scaled(count, offered), kind, f"{label}: {whole(count)}")
        return Bar(label, [segment], (whole(count), share(scaled(count, offered))), **more)

    rows = [bar("offered", 0, offered, "offered", strong=True)]
    for drop in packets.dropped:
        if drop.packets:
            left -= drop.packets
            knob = knobs.get(drop.place)
            note = f"{drop.reason}; to change it: {knob}" if knob else drop.reason
            rows.append(bar(f"lost: {words(drop.place)}", left, drop.packets, "lost", note=note, code=drop.counter))
    if packets.in_flight:
        rows.append(bar("in flight at the end", left - packets.in_flight, packets.in_flight, "waiting"))
    return [*rows, bar("captured", 0, packets.captured, "captured", strong=True)]


def core_bars(result: StoredResult) -> CoreBars:
    """Where the time of each CPU went; CPUs that do nothing are only counted."""
    shares = [core.shares for core in (*result.cores, *result.vcpus)]
    classes = bars.colours(shares)
    idle = [core.cpu for core in result.cores if core.shares.get("idle", 0) > 1 - bars.SHOWN]
    cores = [bars.stacked(f"cpu{core.cpu}", core.shares, classes) for core in result.cores if core.cpu not in idle]
    vcpus = [bars.stacked(f"vCPU {vcpu.vcpu}", vcpu.shares, classes, f"on cpu{vcpu.cpu}") for vcpu in result.vcpus]
    return CoreBars(cores, vcpus, idle, bars.used(shares, classes))


def stage_bars(explanation: Explanation) -> list[Bar]:
    """Cycles for a captured packet by stage, in the order of a packet's way; the last row is all busy time."""
    stages, total = explanation.stages(), explanation.busy_cycles()
    has_guest = bool(explanation.result.vcpus)
    most = max((stage.share for stage in stages), default=0.0)

    def bar(label: str, cycles: float | None, part: float, kind: str, aside: str = "") -> Bar:
        segments = [Segment(0, scaled(part, most), kind)] if part > 0 else []
        return Bar(label, segments, ("-" if cycles is None else thin(number(cycles)), share(max(part, 0.0))), aside=aside)

    def rest(label: str, part: float) -> Bar:
        return bar(label, None if total is None else part * total, part, "offered")

    rows, small = [], 0.0
    for stage in stages:
        if stage.share < SHOWN_SHARE:
            small += stage.share
        else:
            cpus = ", ".join(f"cpu{cpu}" for cpu, part in stage.cpus.items() if part >= SHOWN_SHARE)
            rows.append(bar(stage_title(stage, has_guest), stage.cycles, stage.share, stage.side, cpus))
    if small:
        rows.append(rest("stages below 0.05 % each", small))
    rows.append(rest("not attributed", explanation.ledger.unattributed()))
    return [*rows, Bar("busy, all cores", [], ("-" if total is None else thin(number(total)), share(1.0)), strong=True)]


def _gain_bar(what: WhatIf, most: float, label: str) -> Bar:
    kind = "captured" if what.gain.mean >= 0 else "lost"
    segment = Segment(0, min(scaled(abs(what.gain.mean), most), 1.0), kind)
    return Bar(label, [segment], (thin(percent(what.gain)),), code=setting(what.settings))


def advice_bars(explanation: Explanation) -> list[Bar]:
    """What would help most, each on top of those before it."""
    found = explanation.sensitivity
    if found is None:
        return []
    rows = [*found.advice, *([found.together] if found.together else [])]
    most = max((abs(what.gain.mean) for what in rows), default=0.0)
    labels = []
    for place, what in enumerate(found.advice, 1):
        then = "and then " if place > 1 and what.kind == "knob" else ""
        labels.append(f"{place}. {then}{what.title}" if what.kind == "knob" else f"{place}. no knob, but a cost: {what.title}")
    if found.together:
        labels.append("together")
    return [_gain_bar(what, most, label) for what, label in zip(rows, labels, strict=True)]


def answer(result: StoredResult, explanation: Explanation) -> list[str]:
    """What is captured of what is offered, what limits, what would help most: a sentence each."""
    offered, captured = result.offered.kpps, result.captured.kpps
    if not offered.mean:
        return ["No packets are offered in the measured time."]
    part = captured.mean / offered.mean
    rates = f"{thin(with_interval(captured))} of {thin(with_interval(offered))} kpps offered are captured"
    sentences = [f"{rates} ({share(min(part, 1.0))}).", explanation.bottleneck.text]
    found = explanation.sensitivity
    if found is not None and found.advice:
        best = found.advice[0]
        sentences.append(f"What would help most: {best.title} ({thin(percent(best.gain))}).")
    elif found is not None:
        sentences.append("Nothing that was tried would help: no knob and no cost surely gains half a percent.")
    return sentences


def knee_text(curve: LoadCurve) -> str:
    """Where the knee is, in a sentence."""
    if curve.overloaded is None:
        return f"No load that was tried loses more than {share(LOST)} of the packets, up to the last one shown."
    if curve.carried is None:
        return f"More than {share(LOST)} of the packets are lost at every load that was tried."
    low, high = (thin(number(point.offered.mean)) for point in (curve.carried, curve.overloaded))
    text = f"The knee is between {low} and {high} kpps: up to there at most {share(LOST)} of the packets are lost."
    fall = 1 - curve.overloaded.captured.mean / curve.carried.captured.mean if curve.carried.captured.mean else 0.0
    if fall > LOST:
        text += f" Just above it the captured rate falls by {share(fall)}."
    return text


def run_page(result: StoredResult, explanation: Explanation, curve: LoadCurve | None, quick: bool) -> str:
    """The page of a run.

    Parameters
    ----------
    result
        From the file.
    explanation
        Of the same scenario and seed, run again.
    curve
        None if there is none to show.
    quick
        Were further runs left out?
    """
    own = point_of(explanation.result)
    return render(
        "run.html",
        result=result,
        scenario=result.provenance.scenario,
        answer=answer(result, explanation),
        explanation=explanation,
        curve=curve,
        chart=curve_chart(curve, own) if curve else None,
        knee_text=knee_text(curve) if curve else None,
        waterfall=waterfall(result, {drop.place: drop.knob for drop in explanation.result.packets.dropped}),
        cores=core_bars(result),
        stages=stage_bars(explanation),
        advice=advice_bars(explanation),
        waste=explanation.waste(),
        quick=quick,
        sources=sources([result]),
    )
