"""A sweep as a table for people."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from simnet.experiment.sweep import Sweep
from simnet.experiment.tables import DROPPED, Row
from simnet.report.text import number, with_interval
from simnet.results.statistics import Estimate

MOST_LINES, MOST_LETTERS = 200, 160


def _most_lost(row: Row) -> str:
    """The place where a cell lost most, with the share of the offered packets."""
    lost = {name.removeprefix(DROPPED).replace("_", " "): count for name, count in row.items() if name.startswith(DROPPED)}
    place = max(lost, key=lambda name: lost[name], default="")
    return f"{place} {lost[place] / max(row['packets_offered'], 1):.1%}" if place and lost[place] else "-"


def _cells(row: Row, factors: Sequence[str]) -> list[str]:
    return [
        row["cell"],
        *["" if row.get(name) is None else str(row[name]) for name in factors],
        number(row["offered_kpps"]),
        with_interval(Estimate(row["captured_kpps"], row["captured_kpps_ci95"])),
        _most_lost(row),
    ]


def sweep_table(sweep: Sweep) -> str:
    """One line a cell, then the cells that failed, and where everything is."""
    shown = [_cells(row, sweep.factors) for row in sweep.rows[:MOST_LINES]]
    lines = [["cell", *sweep.factors, "offered kpps", "captured kpps", "most lost at"], *shown]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    words = len(sweep.factors) + 1
    table = [
        "  ".join(
            cell.ljust(width) if i < words or i == len(widths) - 1 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    if len(sweep.rows) > MOST_LINES:
        table.append(f"and {len(sweep.rows) - MOST_LINES} more")
    kept = f", {sweep.kept} of them from before" if sweep.kept else ""
    table += [
        "",
        f"{sweep.design}, seed {sweep.seed}: {len(sweep.rows)} of {sweep.cells} cells{kept}, {sweep.seconds:.0f} s of computing; tables and results in {sweep.out}",
    ]
    for failure in sweep.failed:
        settings = ", ".join(f"{name}={label}" for name, label in failure.factors.items())
        reason = failure.error.strip().splitlines()[-1]
        table.append(f"failed: cell {failure.key} ({settings}): {textwrap.shorten(reason, MOST_LETTERS)}")
    return "\n".join(table)
