"""One comparison of the model with what is known, and how a list of them is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

PASSED, FAILED = "ok", "FAILED"


@dataclass(frozen=True)
class Check:
    """A value found by the model against the one expected.

    `allowed` is the largest difference, as the check states it; `ci95` the half width of the found value's interval.
    """

    name: str
    what: str
    expected: float
    found: float
    unit: str
    passed: bool
    ci95: float | None = None
    allowed: str = ""
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return asdict(self)


def table(title: str, checks: Sequence[Check]) -> str:
    """A table for people."""
    lines = [title, f"  {'':<8}{'check':<34}{'expected':>12}{'found':>12} {'± 95 %':>10}  {'unit':<12}{'allowed':<18}what"]
    for check in checks:
        interval = "" if check.ci95 is None else f"{check.ci95:.3g}"
        lines.append(
            f"  {PASSED if check.passed else FAILED:<8}{check.name:<34}{check.expected:>12.5g}{check.found:>12.5g} {interval:>10}  {check.unit:<12}{check.allowed:<18}{check.what}"
        )
        if check.note:
            lines.append(f"  {'':<8}{check.note}")
    return "\n".join(lines)
