"""Rows of measured data and what the model makes of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

REPRODUCED, NOT_REPRODUCED, ERRATUM, INPUT, NOT_MODELLED = "reproduced", "not reproduced", "erratum", "input", "not modelled"


@dataclass(frozen=True)
class Row:
    """One row of `validation/data` (see the README there)."""

    id: str
    claim: str
    value: str
    unit: str
    kpps: float | None
    allowed: str
    role: str
    expected: str
    why: str
    where: str

    def share(self) -> float:
        """The allowed difference as a share, if it is one ('12 %')."""
        return float(self.allowed.removesuffix("%").strip()) / 100


@dataclass(frozen=True)
class Verdict:
    """What the model says about a row. `kpps` and `ci95` are the model's, where the row is a rate."""

    row: Row
    verdict: str
    kpps: float | None = None
    ci95: float | None = None
    text: str = ""

    @property
    def unexpected(self) -> bool:
        """Does the verdict differ from what the data file says of this model? Either way, that is news."""
        return {REPRODUCED: "no", NOT_REPRODUCED: "yes"}.get(self.verdict) == self.row.expected

    def as_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {**asdict(self.row), "verdict": self.verdict, "model_kpps": self.kpps, "model_ci95": self.ci95, "text": self.text}


def read_rows(name: str) -> list[Row]:
    """Rows of `validation/data/NAME.csv`."""
    text = resources.files("validation").joinpath("data", f"{name}.csv").read_text(encoding="utf-8")
    rows = []
    for entry in csv.DictReader(text.splitlines()):
        claim = entry.get("claim") or f"{entry['host'] or entry['source']}: {entry['setting']}"
        where = entry["where"] if "source" not in entry else f"{entry['source']}, {entry['year']}, {entry['where']}"
        kpps = float(entry["kpps"]) if entry["kpps"] else None
        rows.append(
            Row(
                entry["id"],
                claim,
                entry["value"],
                entry["unit"],
                kpps,
                entry["allowed"],
                entry["role"],
                entry["expected"],
                entry["why"],
                where,
            )
        )
    return rows


def without_model(row: Row) -> Verdict | None:
    """The verdict on a row that no run can decide."""
    if row.role == "later":
        return Verdict(row, NOT_MODELLED, text="needs parts of the model that do not exist yet")
    if row.role == "outside":
        return Verdict(row, NOT_MODELLED, text=row.why)
    if row.role == "erratum":
        return Verdict(row, ERRATUM, text=row.why)
    if row.role in ("input", "protocol") and row.expected != "yes":
        return Verdict(row, INPUT)
    return None


def table(title: str, verdicts: Sequence[Verdict]) -> str:
    """A table for people: measured and model side by side."""
    lines = [
        title,
        f"  {'row':<9}{'role':<12}{'verdict':<16}{'measured':>16}{'kpps':>9}{'model kpps':>20}{'off':>8}  {'allowed':<20}claim",
    ]
    for v in verdicts:
        row = v.row
        model = "" if v.kpps is None else f"{v.kpps:.1f}" + ("" if v.ci95 is None else f" ± {v.ci95:.2f}")
        off = f"{v.kpps / row.kpps - 1:+.1%}" if v.kpps is not None and row.kpps else ""
        measured = f"{row.value} {row.unit}" if row.unit != "ordering" else row.unit
        flag = "  UNEXPECTED" if v.unexpected else ""
        lines.append(
            f"  {row.id:<9}{row.role:<12}{v.verdict:<16}{measured[:16]:>16}{'' if row.kpps is None else f'{row.kpps:.1f}':>9}{model:>20}{off:>8}  {row.allowed[:19]:<20}{row.claim}{flag}"
        )
        text = v.text or (row.why if v.verdict == NOT_REPRODUCED else "")
        if text:
            lines.append(f"  {'':<9}{text}")
    return "\n".join(lines)
