"""What a host is, what it should be and why, as a table and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from calibration.host.access import AbsentError, Host, Value
from calibration.host.cpus import parse_cpus, receiving_cpus
from calibration.host.drivers import driver_of, losses
from calibration.host.operation import Finding, Operation, Wish
from calibration.host.routes import why_never
from calibration.host.tuning import Outcome
from simnet.errors import UserError, nearest

SCHEMA: Final = "simnet-capture-check/1"
INDENT: Final = "      "
COLUMN: Final = 32
"""Where a long value is cut off in the table."""


@dataclass(frozen=True)
class Check:
    """Everything about one interface and its host.

    Parameters
    ----------
    never_changed
        Why the interface must not be changed; empty if it may be.
    lost
        Frames lost so far at each place of the model's that the driver counts.
    """

    interface: str
    driver: str
    cpus: tuple[int, ...]
    never_changed: str
    findings: tuple[Finding, ...]
    lost: dict[str, int]

    @property
    def as_wanted(self) -> bool:
        """Whether nothing is left to change."""
        return all(finding.as_wanted for finding in self.findings)


def check(host: Host, interface: str, wish: Wish, chosen: Sequence[Operation]) -> Check:
    """Look at the host; changes nothing.

    Raises
    ------
    UserError
        If there is no such interface.
    """
    never = why_never(host, interface) or ""
    driver = driver_of(host, interface)
    try:
        lost = losses(driver, host.ethtool("statistics", interface))
    except AbsentError:
        lost = {}
    findings = tuple(finding for operation in chosen for finding in operation.check(host))
    return Check(interface, driver.name, receiving_cpus(host, interface, wish.cpus), never, findings, lost)


def choose(available: Sequence[Operation], only: str | None) -> list[Operation]:
    """The operations of a list of names, all of them without one.

    Raises
    ------
    UserError
        If there is no such operation.
    """
    if only is None:
        return list(available)
    names = [operation.name for operation in available]
    wanted = [name.strip() for name in only.split(",")]
    for name in wanted:
        if name not in names:
            raise UserError(f"--only {name}: no such setting; there are {', '.join(names)}{nearest(name, names)}")
    return [operation for operation in available if operation.name in wanted]


def cpus_of(text: str | None, online: Sequence[int]) -> tuple[int, ...]:
    """The CPUs of `--cpus`.

    Raises
    ------
    UserError
        If it is not a list of CPUs that are online.
    """
    if text is None:
        return ()
    try:
        cpus = parse_cpus(text)
    except ValueError:
        cpus = ()
    if not cpus:
        raise UserError(f"--cpus {text}: a list of CPUs such as 2-5,8")
    if absent := sorted(set(cpus) - set(online)):
        raise UserError(f"--cpus {text}: not online: {_list(absent)}; online are {_list(online)}")
    return cpus


def content(found: Check, outcomes: Sequence[Outcome] | None = None) -> dict[str, Any]:
    """The object that `--json` prints; with what came of `--apply`, if it was given."""
    applied = {} if outcomes is None else {"applied": [asdict(outcome) for outcome in outcomes]}
    return {
        "schema": SCHEMA,
        "interface": found.interface,
        "driver": found.driver,
        "cpus": list(found.cpus),
        "never_changed": found.never_changed,
        "as_wanted": found.as_wanted,
        "settings": [asdict(finding) for finding in found.findings],
        "lost": found.lost,
        **applied,
    }


def table(found: Check, width: int) -> str:
    """What is, what should be, and why, at most `width` columns wide; an exclamation mark where the two differ."""
    rows = [row for operation in _by_operation(found.findings) for row in _rows(operation)]
    widths = [max(len(row[column]) for row in [HEADS, *(cells for cells, _ in rows)]) for column in range(len(HEADS))]
    lines = [f"{found.interface}  ({found.driver or 'no driver'}), receiving CPUs {_list(found.cpus)}", ""]
    lines.append(_line(HEADS, widths))
    for cells, notes in rows:
        lines.append(_line(cells, widths))
        lines += [line for note in notes for line in textwrap.wrap(note, width, initial_indent=INDENT, subsequent_indent=INDENT)]
    lines.append("")
    differ = ", ".join(dict.fromkeys(finding.operation for finding in found.findings if not finding.as_wanted))
    lines.append(f"Not as it should be (!): {differ}." if differ else "Everything is as it should be.")
    if found.lost:
        lines.append(f"Lost so far: {', '.join(f'{count} in {place}' for place, count in found.lost.items())}.")
    if found.never_changed:
        lines += textwrap.wrap(f"{found.interface} is never changed, because {found.never_changed}.", width)
    return "\n".join(lines)


def outcomes_text(outcomes: Sequence[Outcome], done: str) -> str:
    """What came of changes: how many are `done`, and what stands in the way of the rest."""
    problems = [outcome for outcome in outcomes if outcome.problem]
    changed = sum(outcome.changed and not outcome.problem for outcome in outcomes)
    lines = [f"{changed} setting{'s' * (changed != 1)} {done}" + (f", {len(problems)} not:" if problems else ".")]
    lines += [f"  {' '.join(filter(None, (o.interface, o.operation, o.target)))} = {show(o.value)}: {o.problem}" for o in problems]
    return "\n".join(lines)


def show(value: Value | None) -> str:
    """A value as ethtool and the kernel print it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) if str(value) else "(empty)"


HEADS: Final = ("", "setting", "of", "is", "should be")


def _by_operation(findings: Sequence[Finding]) -> list[list[Finding]]:
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.operation, []).append(finding)
    return list(groups.values())


def _rows(findings: Sequence[Finding]) -> list[tuple[tuple[str, ...], list[str]]]:
    """The rows of one operation, targets that are alike in one, and below the last one what has to be said."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for finding in findings:
        mark = "" if finding.as_wanted else "!"
        wanted = finding.wanted if finding.wanted is not None or finding.missing else finding.now
        alike.setdefault((mark, show(finding.now), show(wanted)), []).append(finding.target)
    rows = []
    for (mark, now, wanted), targets in alike.items():
        of = targets[0] if len(targets) == 1 else f"{targets[0]} … {targets[-1]} ({len(targets)})"
        rows.append((mark, findings[0].operation, *(_cut(cell) for cell in (of, now, wanted))))
    notes = [finding.missing for finding in findings if finding.missing]
    if not all(finding.as_wanted for finding in findings):
        notes.append(findings[0].why)
    return [(row, notes if row is rows[-1] else []) for row in rows]


def _cut(cell: str) -> str:
    return cell if len(cell) <= COLUMN else f"{cell[: COLUMN - 1]}…"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _list(cpus: Sequence[int]) -> str:
    """CPUs the kernel's way: 0-3,8."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(f"{first}-{last}" if first != last else str(first) for first, last in runs)
