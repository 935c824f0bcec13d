"""The page of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simnet.report.html.bars import Bar, Segment, scaled
from simnet.report.html.page import render, share, thin, words
from simnet.report.html.sources import sources
from simnet.report.stored import Label, StoredCell, StoredDesign, StoredFailure
from simnet.report.text import number

MOST_ROWS = 1000
"""Rows of the table; cells.parquet has all."""
GRID = 400
"""Dots closer than one of this many parts of the width are drawn once."""


@dataclass(frozen=True)
class Level:
    """A level of a factor: the captured rates of all its cells, in kpps."""

    label: str
    captured: Sequence[float]

    @property
    def mean(self) -> float:
        """Over the cells."""
        return sum(self.captured) / len(self.captured)


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    cell: StoredCell
    factors: Sequence[str]
    lost: float
    place: str


@dataclass(frozen=True)
class Sweep:
    """What the folder of a sweep holds: finished cells and failed ones, in the design's order; and the keys of those that are missing."""

    design: StoredDesign
    cells: Sequence[StoredCell]
    failed: Sequence[StoredFailure]
    missing: Sequence[str]

    @property
    def factors(self) -> list[str]:
        """All factors, those that only single cells set included."""
        return list(dict.fromkeys([*self.design.factors, *(name for cell in self.design.cells for name in cell.factors)]))


def text(label: Label) -> str:
    """A level as a user writes it."""
    if label is None or isinstance(label, bool):
        return {None: "", True: "true", False: "false"}[label]
    return label if isinstance(label, str) else f"{label:.10g}"


def effects(sweep: Sweep) -> dict[str, list[Level]]:
    """Levels of each factor that has more than one among the finished cells."""
    found = {}
    for name in sweep.factors:
        levels: dict[str, list[float]] = {}
        for cell in sweep.cells:
            if name in cell.factors:
                levels.setdefault(text(cell.factors[name]), []).append(cell.captured.kpps.mean)
        if len(levels) > 1:
            found[name] = [Level(label, captured) for label, captured in levels.items()]
    return found


def _level_bars(levels: Sequence[Level], most: float) -> list[Bar]:
    """A row a level: where its cells are, from the smallest to the largest, and their mean."""
    rows = []
    for level in levels:
        low, high = scaled(min(level.captured), most), scaled(max(level.captured), most)
        dots = sorted({round(scaled(value, most) * GRID) / GRID for value in level.captured})
        cells = f"{len(level.captured)} cell{'s' if len(level.captured) > 1 else ''}"
        values = (thin(number(level.mean)),)
        rows.append(
            Bar(level.label, [Segment(low, high - low, "span")], values, aside=cells, dots=dots, mark=scaled(level.mean, most))
        )
    return rows


def _settings(factors: Mapping[str, Label]) -> str:
    return ", ".join(f"{name} {text(label)}" for name, label in factors.items())


def answer(sweep: Sweep, found: Mapping[str, Sequence[Level]]) -> list[str]:
    """Between what the captured rate lies, and which factor moves it most."""
    ordered = sorted(sweep.cells, key=lambda cell: cell.captured.kpps.mean)
    low, high = (thin(number(cell.captured.kpps.mean)) for cell in (ordered[0], ordered[-1]))
    if low == high:
        return [f"{low} kpps are captured" + (" in every cell." if len(ordered) > 1 else ".")]
    sentences = [f"From {low} kpps captured to {high} kpps."]
    sentences.append(f"Most is captured with {_settings(ordered[-1].factors)}; least with {_settings(ordered[0].factors)}.")
    spread = {name: max(level.mean for level in levels) - min(level.mean for level in levels) for name, levels in found.items()}
    if spread:
        name = max(spread, key=lambda name: spread[name])
        least, best = min(found[name], key=lambda level: level.mean), max(found[name], key=lambda level: level.mean)
        means = f"{thin(number(least.mean))} kpps on average with {least.label}, {thin(number(best.mean))} with {best.label}"
        sentences.append(f"{name} moves it most: {means}.")
    return sentences


def table(sweep: Sweep) -> list[Row]:
    """A row a finished cell."""
    rows = []
    for cell in sweep.cells[:MOST_ROWS]:
        offered = max(cell.packets.offered, 1)
        worst = max(cell.packets.dropped, key=lambda drop: drop.packets, default=None)
        place = f"{words(worst.place)} {share(worst.packets / offered)}" if worst is not None and worst.packets else ""
        part = cell.captured.kpps.mean / cell.offered.kpps.mean if cell.offered.kpps.mean else 0.0
        rows.append(Row(cell, [text(cell.factors.get(name)) for name in sweep.factors], max(0.0, 1 - part), place))
    return rows


def sweep_page(sweep: Sweep) -> str:
    """The page of a sweep with at least one finished cell."""
    found = effects(sweep)
    most = max(cell.captured.kpps.mean for cell in sweep.cells)
    return render(
        "sweep.html",
        sweep=sweep,
        answer=answer(sweep, found),
        effects={name: _level_bars(levels, most) for name, levels in found.items()},
        most=most,
        rows=table(sweep),
        failed=[(failure, _settings(failure.factors)) for failure in sweep.failed],
        sets=sorted({cell.parameters for cell in sweep.cells}),
        sources=sources(sweep.cells),
        notes=list(dict.fromkeys(note for cell in sweep.cells for note in cell.notes)),
    )
